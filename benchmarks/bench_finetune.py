"""Fine-tuning on human judgements: NDCG@10 on SciFact's test claims, and on Cranfield what was forgotten.

    python -m benchmarks.bench_finetune [--base FOLDER or minilm] [--queries 100] [--embedders bm25]

Optional: both collections lie in one folder (--collections: `scifact` with its train claims, and `cranfield`); without them
the benchmark skips with one line. One training gives every row: the base, the fine-tuned model, and its merges with the base. The
released one is what finetune.py would choose, by held-out train claims and the embedded guard set; Cranfield is only measured.
What was measured is kept under --output, so the same command goes on where it was stopped. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks import minilm_reranker
from release.console import print_json, table
from release.evaluation import first_stage, judged_pairs, tasks, two_stage
from release.evaluation.paired import candidates, choose, compare, scored
from release.files import write_atomic, write_json
from release.finetuning import guard, lora, merge, prepare, report
from release.finetuning import model as models
from release.finetuning.candidates import RATIOS, MergeNdcg
from release.finetuning.finetune import FinetuneOptions, training_options
from release.finetuning.measure import DevEvaluator, QueryNdcg
from release.finetuning.train import train

COLLECTIONS = Path("../shared/data/collections")
BASE = "build/docstring-reranker/mini/repo"
EMBEDDERS = {"bm25": "BM25", "sentence-transformers/all-MiniLM-L6-v2": "MiniLM"}
TASKS = ("scifact", "cranfield")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", type=Path, default=COLLECTIONS)
    parser.add_argument("--base", default=BASE, help="a released model, or minilm: one of its size is distilled first")
    parser.add_argument("--negatives", type=int, default=7, help="that BM25 finds for each train claim")
    parser.add_argument("--top-k", type=int, default=judged_pairs.TOP_K)
    parser.add_argument("--queries", type=int, help="of each set, the first ones; all if left out")
    parser.add_argument("--embedders", nargs="+", choices=list(EMBEDDERS), default=list(EMBEDDERS))
    parser.add_argument("--epochs", type=int, default=FinetuneOptions.epochs)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--loss", default=None, choices=["info-nce", "bce"])
    parser.add_argument("--lora", type=int)
    parser.add_argument("--only-dev", action="store_true", help="stop before anything of the test is measured")
    parser.add_argument("--output", type=Path, default=Path("build/bench-finetune"))
    options = parser.parse_args(argv)
    folders = [options.collections / name for name in TASKS]
    if absent := [str(folder) for folder in folders if not folder.is_dir()]:
        print(f"skipped: no collection {absent[0]}")
        return
    if options.base == "minilm":
        options.base = str(minilm_reranker.make(options.output / "minilm-reranker"))
    if not Path(options.base, "modules.json").is_file():
        parser.exit(1, f"error: no model; in {options.base}; hint: make demo, or --base FOLDER\n")
    run(options)


class Kept:
    """Results in a folder, each computed once; CPU seconds are added up over all starts of the benchmark."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def value(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` gives, which JSON can hold."""
        path = self.folder / f"{name}.json"
        if not path.is_file():
            started = time.process_time()
            value = compute()
            write_json(path, {"value": value, "cpu_seconds": time.process_time() - started})
            print(f"{time.process_time() - started:7.0f} CPU s  {name}", flush=True)
        return json.loads(path.read_text(encoding="utf-8"))["value"]

    def cpu_minutes(self) -> float:
        """Of everything that is kept."""
        seconds = [json.loads(path.read_text(encoding="utf-8"))["cpu_seconds"] for path in self.folder.glob("*.json")]
        return round(sum(seconds) / 60, 1)


def run(options: argparse.Namespace) -> None:
    """Train once and measure every share of the result."""
    data = options.output / "data"
    if not (data / "prepared.json").is_file():
        prepare.prepare(options.collections / "scifact", data, negatives=options.negatives, drop_leaks=True)
    about, known = prepare.load(data), models.find(options.base)
    chosen = FinetuneOptions(
        loss=options.loss, learning_rate=options.learning_rate, lora=options.lora, epochs=options.epochs
    )
    training = training_options(chosen, known, about)
    cache = Kept(
        options.output
        / "-".join(
            [
                Path(options.base).parent.name if Path(options.base).name == "repo" else Path(options.base).name,
                training.loss,
                f"{training.learning_rate:g}",
                f"{training.epochs}-epochs",
            ]
            + ([f"lora-{training.lora}"] if training.lora else [])
            + ([f"{options.queries}-queries"] if options.queries else [])
        )
    )
    model, scorer = models.load(known.folder), models.load(known.folder)
    model[0].max_seq_length = scorer[0].max_seq_length = known.max_length  # ty: ignore[invalid-assignment]
    base_weights, runs = lora.folded(scorer), options.output / "runs"
    few: Any = {"top_k": options.top_k, "queries": options.queries}
    dev = QueryNdcg(judged_pairs.from_folder(data / "dev", runs, **few))
    guarded = QueryNdcg(guard.load(None, options.output, **few))

    def ndcg(name: str, ratio: float, judged: QueryNdcg) -> np.ndarray:
        def measure() -> list[float]:
            scorer.load_state_dict(merge.blend(base_weights, tuned(), ratio) if ratio else base_weights)
            return judged(scorer).tolist()

        return np.array(cache.value(f"{name}-{ratio:g}", measure))

    def tuned() -> dict[str, torch.Tensor]:
        def training_run() -> dict[str, Any]:
            made = train(model, data / "train.parquet", cache.folder, DevEvaluator(dev, scorer, base.dev), training)
            save_file(
                {name: tensor.contiguous() for name, tensor in made.weights.items()}, cache.folder / "tuned.safetensors"
            )
            return {"best_step": made.best_step, "steps": made.steps, "seconds": made.seconds, "dev": made.dev_history}

        cache.value("training", training_run)
        return load_file(cache.folder / "tuned.safetensors")

    base = MergeNdcg(0.0, ndcg("dev", 0.0, dev), ndcg("guard", 0.0, guarded))
    tuned()
    shares = [MergeNdcg(ratio, ndcg("dev", ratio, dev), ndcg("guard", ratio, guarded)) for ratio in (*RATIOS, 1.0)]
    sets = {
        name: scored(one.judged, {share.ratio: getattr(share, name) for share in (base, *shares)})
        for name, one in (("dev", dev), ("guard", guarded))
    }
    rows = candidates(sets["dev"], sets["guard"])
    released = choose(rows)
    table(
        "Held-out train claims, and the embedded guard set",
        ["share", "dev", "guard", "forgets"],
        [[f"{one.ratio:g}", one.dev, one.guard, str(one.forgets)] for one in rows],
    )
    by_run: dict[str, dict[str, Any]] = {}
    shown = []
    for task in () if options.only_dev else TASKS:
        for embedder in options.embedders:
            ranked = (
                None if embedder == "bm25" else minilm_run(options.collections / task, options.output, options.top_k)
            )
            judged = judged_pairs.from_folder(options.collections / task, runs, run=ranked, **few)
            name, query_ndcg = f"{task}, {EMBEDDERS[embedder]}", QueryNdcg(judged)
            before = ndcg(f"{task}-{EMBEDDERS[embedder]}", 0.0, query_ndcg)
            for ratio in sorted({1.0, released, *RATIOS}, reverse=True):
                after = ndcg(f"{task}-{EMBEDDERS[embedder]}", ratio, query_ndcg)
                one = compare(after, before, judged.first_stage_ndcg())
                by_run.setdefault(name, {})[f"{ratio:g}"] = asdict(one) | {"verdict": one.verdict}
                shown.append([f"{ratio:g}{' (released)' if ratio == released else ''}", *report.row(name, one)])
    table("NDCG@10 by the share of the fine-tuned weights", ["share", *report.COLUMNS], shown)
    print_json(
        {
            "base": known.name,
            "train": about.train,
            "dev": about.dev,
            "left_out": about.left_out,
            "loss": training.loss,
            "learning_rate": training.learning_rate,
            "lora": training.lora,
            "training": cache.value("training", dict),
            "candidates": [asdict(one) for one in rows],
            "released": released,
            "found": by_run,
            "cpu_minutes": cache.cpu_minutes(),
            "threads": torch.get_num_threads(),
            "load": os.getloadavg()[0],
        }
    )


def minilm_run(collection: Path, output: Path, top_k: int) -> Path:
    """The ranking of all-MiniLM-L6-v2 from the installed package, which needs no Hub, in TREC's form."""
    path = output / f"{collection.name}-minilm.run"
    if not path.is_file():
        task = tasks.from_folder(collection)
        best = two_stage.candidates(
            task, first_stage.retrieve(first_stage.packaged_minilm(), task, output / "runs").ranking, top_k
        )
        lines = [
            f"{query} Q0 {document} {rank} {-rank} minilm\n"
            for query, documents in best.items()
            for rank, document in enumerate(documents, 1)
        ]
        write_atomic(path, "".join(lines))
    return path


if __name__ == "__main__":
    main()
