"""`make demo`: every stage through make, for the embedded default; then publish, verify, download and rerank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule

from release import bm25, records, results
from release.console import print_json, say, table
from release.errors import ReleaseError
from release.family import Family, load
from release.files import exclusive_lock
from release.localhub import running_hub
from release.mode import ORGANIZATION
from release.results.evaluation import TaskResult
from release.stages import STAGES

FAMILY, SIZE = Path("recipes/demo.toml"), "mini"  # the embedded default is this one family and size
ROOT = Path("build/hub")
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}  # so that the ranking is what people see

# What any user does, in a process of its own that knows nothing of this project.
RERANK = """
import json, sys
from sentence_transformers import CrossEncoder
model = CrossEncoder(sys.argv[1])
for query, documents in json.load(sys.stdin):
    print(f"\\n{query}")
    for hit in model.rank(query, documents, top_k=3, return_documents=True):
        print(f"  {hit['score']:7.2f}  {hit['text'][:100]}")
"""


def command() -> None:
    """Run what is not done yet, publish to the embedded Hub over build/hub, and show the result."""
    if not Path("Makefile").is_file():
        raise ReleaseError("the demo runs its stages by make", where=str(Path.cwd()), hint="run it in a checkout")
    os.environ.pop(ORGANIZATION, None)  # the embedded Hub knows the demo's own organisation
    family = load(FAMILY)
    seconds: dict[str, float] = {}
    with exclusive_lock(Path("build/demo")):
        for stage in STAGES[:-2]:  # publish and verify need the embedded Hub
            _make(stage.name, seconds)
        with running_hub(ROOT) as (endpoint, token):
            client = {"HF_ENDPOINT": endpoint, "HF_HOME": str(Path("build/hf-home").resolve())}
            _make("verify", seconds, PUSH="1", **client, HF_TOKEN=token)
            _heading("download and rerank")
            started = time.monotonic()
            _rerank(family, client)
            seconds["rerank"] = round(time.monotonic() - started, 1)
        _show(family, seconds)


def _make(stage: str, seconds: dict[str, float], **environment: str) -> None:
    """One make target, as `make release` would run it; its output is shown as it comes."""
    _heading(stage)
    started = time.monotonic()
    arguments = ["make", "--no-print-directory", stage, f"FAMILY={FAMILY}", f"SIZE={SIZE}"]
    arguments += [f"PUSH={environment.pop('PUSH')}"] if "PUSH" in environment else []
    # make passes its own flags down through the environment; a stage must not inherit a `-n` or a job server
    inherited = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    status = subprocess.run(arguments, env=inherited | environment).returncode
    if status:
        again = "see the line above; what is done stays done: make demo continues"
        raise ReleaseError(f"the stage {stage!r} stopped with status {status}", hint=again)
    seconds[stage] = round(time.monotonic() - started, 1)


def _rerank(family: Family, client: dict[str, str]) -> None:
    """Three held-out summaries with BM25's ten best bodies each, through the published model, without a token."""
    folder = family.build / "data/collections" / family.evaluation.collections[0]
    corpus = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line)["text"] for line in (folder / "queries.jsonl").read_text().splitlines()[:3]]
    scored = bm25.Bm25Index(corpus).scores(queries)
    candidates = [
        (query, [corpus[row] for row in bm25.best(scores, 10)]) for query, scores in zip(queries, scored, strict=True)
    ]
    environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"} | client | QUIET
    program = [sys.executable, "-c", RERANK, family.model_id(SIZE)]
    if subprocess.run(program, input=json.dumps(candidates), text=True, env=environment).returncode:
        raise ReleaseError("the published model cannot be used", where=family.model_id(SIZE), hint="make demo")


def _show(family: Family, seconds: dict[str, float]) -> None:
    """What was published, the card's headline numbers, what to do next, and the line for programs."""
    folder = family.folder(SIZE) / "records"
    rows = records.read(folder, results.EVALUATE).measured.tasks
    speed = records.read(folder, results.SPEED).measured.best
    _heading("done")
    columns = ["", "queries", "first stage", "reranked", "gain", "95 % interval"]
    table("NDCG@10 on held-out queries", columns, [_cells(row) for row in rows])
    published = {
        "model": family.model_id(SIZE),
        "dataset": family.data_id,
        "collection": f"{family.about.organization}/{family.about.collection}",
    }
    say(f"speed: {speed.pairs_per_second:.0f} pairs/s ({speed.name})")
    print("published to the embedded Hub:", *published.values(), sep="\n  ")
    say(f"the card: {family.folder(SIZE) / 'repo/README.md'}; make hub shows it as a page")
    print("next, for real: make plan SIZE=68m, then make release SIZE=68m PUSH=1")
    quality = _quality(rows[0])
    print_json(
        {
            "seconds": seconds,
            "published": published,
            "ndcg@10": quality,
            "queries": quality["queries"],
            "pairs_per_second": speed.pairs_per_second,
        }
    )


def _cells(row: TaskResult) -> list[Any]:
    interval = f"{row.ci_low:+.4f} to {row.ci_high:+.4f}"
    name = f"top {row.top_k} of {row.first_stage}"
    return [name, row.queries, row.first_stage_ndcg, row.reranked_ndcg, f"{row.gain:+.4f}", interval]


def _quality(row: TaskResult) -> dict[str, Any]:
    return {
        "first_stage": row.first_stage_ndcg,
        "reranked": row.reranked_ndcg,
        "gain": row.gain,
        "ci_low": row.ci_low,
        "ci_high": row.ci_high,
        "queries": row.queries,
    }


def _heading(text: str) -> None:
    Console().print(Rule(text, align="left"))
