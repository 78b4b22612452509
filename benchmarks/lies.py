"""`make lies`: every lie is told to a copy of a finished build, and a gate must catch it before anything is published.

A record is edited and sealed again as this project would write it, so that the edit alone does not show; then the folders are
staged anew and checked. Staged files are edited where they lie, and a released repository on an embedded Hub
(benchmarks/hub_lies.py). What no arithmetic can tell, told by somebody who seals the record anew, is a lie that nobody catches but
who measures again: machine, memory, latency, calibration, versions. The last line is JSON: `told`, `caught`, and `missed` by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import data_lies, finetuned_lies, hub_lies, signed_lies
from release import records
from release.console import print_json, table
from release.errors import ReleaseError
from release.family import Family, load
from release.hub import checks, publish, stage, state
from release.localhub import Account, running_hub

FAMILY, SIZE = Path("recipes/demo.toml"), "mini"
Change = Callable[[dict[str, Any]], object]


def _at(*keys: str | int, to: Any) -> Change:
    """Let the value under `keys` be `to`, or what `to` makes of it."""

    def change(value: Any) -> None:
        for key in keys[:-1]:
            value = value[key]
        value[keys[-1]] = to(value[keys[-1]]) if callable(to) else to

    return change


def _row(key: str, to: Any) -> Change:
    return _at("measured", "tasks", 0, key, to=to)


def _faster(value: dict[str, Any]) -> None:
    best = value["measured"]["best"]
    for speed in (best, *value["measured"]["configurations"]):
        if speed["name"] == best["name"]:
            speed["pairs_per_second"] *= 10


def _moved_to_head(value: dict[str, Any]) -> None:
    parameters = value["measured"]["parameters"]
    parameters |= {"encoder": parameters["encoder"] - 1_000, "head": parameters["head"] + 1_000}


RECORDS: dict[str, tuple[str, Change]] = {
    "NDCG@10 of 7.5": ("evaluate", _row("reranked_ndcg", 7.5)),
    "a better NDCG@10": ("evaluate", _row("reranked_ndcg", lambda old: old + 0.01)),
    "a gain that is no difference": ("evaluate", _row("gain", 0.3)),
    "an interval without its gain": ("evaluate", _row("ci_low", 0.9)),
    "a narrower interval": ("evaluate", _row("ci_low", lambda old: old + 0.001)),
    "a better first stage": ("evaluate", _row("first_stage_ndcg", lambda old: old - 0.01)),
    "a higher recall": ("evaluate", _row("recall", 0.999)),
    "a higher oracle": ("evaluate", _row("oracle_ndcg", 0.999)),
    "more queries helped": ("evaluate", _row("helped", lambda old: old + 1)),
    "more queries": ("evaluate", _row("queries", lambda old: old + 100)),
    "a better mean": ("evaluate", _at("measured", "means", "all", "reranked_ndcg", to=0.99)),
    "a worse teacher": ("evaluate", _at("measured", "teacher", "tasks", 0, "reranked_ndcg", to=0.1)),
    "a nano mean that is none": ("evaluate", _at("measured", "nano", "mean", to=0.99)),
    "fewer parameters": ("evaluate", _at("measured", "parameters", to=1_000_000)),
    "other scores of queries": ("evaluate", _at("measured", "queries_sha256", to="0" * 64)),
    "speed times ten": ("speed", _faster),
    "the best is none of the rows": ("speed", _at("measured", "best", "pairs_per_second", to=99_999.0)),
    "more passes": ("speed", _at("subject", "passes", to=30)),
    "a latency of nothing": ("speed", _at("measured", "latency", 0, "p50_ms", to=0.0)),
    "another device": ("speed", _at("machine", "device", to="NVIDIA H100 80GB HBM3")),
    "a difference above its tolerance": ("export", _at("measured", "forms", 2, "max_score_difference", to=1.0)),
    "a wider tolerance": ("export", _at("measured", "forms", 2, "tolerance", to=1.0)),
    "a form that was not compared": ("export", _at("measured", "forms", to=lambda old: old[:1])),
    "another export": ("export", _at("measured", "sha256", to="0" * 64)),
    "another model": ("run", _at("model_sha256", to="0" * 64)),
    "a better checkpoint": ("run", _at("measured", "best", "score", to=0.99)),
    "more steps": ("run", _at("measured", "steps", to=lambda old: old + 1000)),
    "more rows trained on": ("run", _at("subject", "data_rows", to=143_393_475)),
    "the other checkpoint": ("choice", _at("measured", "released", to="last")),
    "more candidates in the protocol": ("evaluate", _at("subject", "top_k", to=100)),
    "more candidates in a row": ("evaluate", _row("top_k", 100)),
    "longer texts read": ("evaluate", _at("subject", "max_length", to=8192)),
    "another model evaluated": ("evaluate", _at("subject", "model", to="local/other")),
    "a better known teacher": ("evaluate", _at("measured", "teacher", "name", to="mxbai-rerank-large-v2")),
    "a task out of domain": ("evaluate", _row("in_domain", lambda old: not old)),
    "the device of the family": ("speed", _at("subject", "required_device", to="NVIDIA H100")),
    "another speed protocol": ("speed", _at("subject", "max_length", to=8192)),
    "a longer context": ("export", _at("measured", "max_length", to=8192)),
    "more layers": ("export", _at("measured", "architecture", "layers", to=99)),
    "fewer bytes to download": ("export", _at("measured", "forms", 0, "bytes", to=1_000)),
    "a form of another file": ("export", _at("measured", "forms", 1, "file", to="better.safetensors")),
    "parameters moved to the head": ("run", _moved_to_head),
    "a faster training": ("run", _at("measured", "pairs_per_second", to=1e6)),
    "a shorter training": ("run", _at("measured", "seconds", to=1.0)),
    "more pairs seen": ("run", _at("measured", "examples", to=10**9)),
    "a lower loss": ("run", _at("measured", "loss_last", to=0.0)),
    "a lower loss on held-out pairs": ("run", _at("measured", "eval_loss", to=0.0)),
    "a better score of the saved model": ("run", _at("measured", "score", to=0.99)),
    "a worse start": ("run", _at("measured", "baseline", to=0.0)),
    "another encoder": ("run", _at("subject", "encoder", to="jhu-clsp/ettin-encoder-68m")),
    "another teacher of the training": ("run", _at("subject", "teacher", to="mxbai-rerank-large-v2")),
    "another loss": ("run", _at("subject", "loss", to="mse")),
    "another learning rate": ("run", _at("subject", "learning_rate", to=1e-9)),
    "a larger batch": ("run", _at("subject", "global_batch_size", to=4096)),
    "more epochs": ("run", _at("subject", "epochs", to=30)),
    "another revision of the data": ("run", _at("subject", "data_revision", to="0" * 64)),
    "a smoke test": ("run", _at("subject", "smoke", to=True)),
    "the checkpoints over more candidates": ("choice", _at("subject", "top_k", to=100)),
    "the checkpoints over one first stage": ("choice", _at("subject", "first_stages", to=["bm25"])),
    "an engine that is not equal": ("engines", _at("measured", "engines", 0, "max_score_difference", to=1.0)),
    "a wider tolerance of engines": ("engines", _at("measured", "allowed", to=1.0)),
    "engines of another export": ("engines", _at("subject", "export_sha256", to="0" * 64)),
    "labels by a teacher that reads more": ("data", _at("subject", "teacher", "max_length", to=8192)),
    "year 2031": ("run", _at("created", to="2031-01-01T00:00:00+00:00")),
    "before the training": ("speed", _at("created", to="2025-06-01T00:00:00+00:00")),
    "no commit": ("speed", _at("commit", to="unknown")),
    "more labelled rows": ("data", _at("measured", "rows", to=10**9)),
    "another family": ("evaluate", _at("family", to="other")),
    "another kind of record": ("choice", _at("kind", to="run")),
    "a line of the card in a machine's name": ("speed", _at("machine", "cpu", to="CPU\n\n## Best of all")),
    "HTML in a machine's name": ("speed", _at("machine", "cpu", to="CPU <img src=x onerror=alert(1)>")),
    "a letter that nobody sees": ("evaluate", _at("machine", "system", to="Linux\u202e x86_64")),
    "a cell more in a table": ("engines", _at("measured", "engines", 0, "title", to="Sentence Transformers | equal")),
    "a snippet that runs more": (
        "engines",
        _at("measured", "engines", 0, "snippet", to=lambda old: f"{old}\nimport os"),
    ),
    "an engine that is no core one": ("engines", _at("measured", "engines", 0, "core", to=False)),
    "an engine twice": ("engines", _at("measured", "engines", to=lambda old: [old[0], *old])),
    "engines left out": ("engines", _at("measured", "engines", to=lambda old: old[1:])),
    "another revision of a task in one row": ("evaluate", _row("task_revision", "0" * 40)),
    "the teacher on other candidates": ("evaluate", _at("measured", "teacher", "tasks", 0, "top_k", to=10)),
    "another revision of the nano sets": ("evaluate", _at("measured", "nano", "revision", to="0" * 40)),
    "a trained teacher": ("evaluate", _at("measured", "teacher", "kind", to="cross-encoder")),
    "a better figure of the training log": ("run", _at("measured", "nano", 1, "all_positives", to=0.99)),
    "another seed of the trainer": ("run", _at("measured", "hyperparameters", "seed", to=1)),
    "a file in 8 bits that is not said to be there": ("export", _at("measured", "int8", "released", to=False)),
    "longer texts at full length": ("speed", _at("measured", "full_length", "batch", to=4096)),
    "faster labels": ("data", _at("measured", "pairs_per_second", to=1e6)),
    "another teacher of the labels": ("data", _at("subject", "teacher", "model", to="mxbai-rerank-large-v2")),
}
UNSEALED: dict[
    str, tuple[str, Change]
] = {  # what no arithmetic can tell: caught as an edit by hand, not where it is sealed anew
    "a larger machine": ("speed", _at("machine", "cores", to=64)),
    "a later time": ("evaluate", _at("created", to="2026-12-01T00:00:00+00:00")),
    "another command": ("evaluate", _at("command", to="python -m release evaluate --dtype float64")),
    "a better calibration": ("evaluate", _at("measured", "calibration", "brier", to=0.0001)),
    "a lower latency": ("speed", _at("measured", "latency", 0, "p50_ms", to=0.001)),
    "less memory": ("speed", _at("measured", "best", "peak_memory_mb", to=1.0)),
    "a faster engine": ("engines", _at("measured", "speed", "pairs_per_second", to=1e6)),
    "more pairs compared": ("export", _at("measured", "pairs", to=10**6)),
    "another version": ("run", _at("versions", "torch", to="9.9")),
}


def _text(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(old, new, 1) if old in text else text + new, encoding="utf-8")

    return change


def _flip(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last[0] ^ 1]))


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


STAGED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a headline": ("model/README.md", _text("→ 0.", "→ 0.9")),
    "a licence": ("model/README.md", _text("license: apache-2.0", "license: mit")),
    "a base model": ("model/README.md", _text("license: apache-2.0", "base_model: org/other\nlicense: apache-2.0")),
    "no snippet": ("model/README.md", _text("```python", "```text")),
    "a record in the folder": ("model/records/speed.json", _text("pairs_per_second", "pairs_per_hour")),
    "scores of queries": ("model/records/queries.json", _text("0.", "1.")),
    "foreign code": ("model/config.json", _text("{", '{"auto_map": {"AutoModel": "x--y.Z"},')),
    "a max length": ("model/tokenizer_config.json", _text("model_max_length", "model_max_len")),
    "a vocabulary": ("model/tokenizer.json", _text('"the"', '"teh"')),
    "a bit of the weights": ("model/model.safetensors", _flip),
    "a bit of the graph": ("model/onnx/model.onnx", _flip),
    "a link": ("model/sentence_bert_config.json", _link),
    "a file more": ("model/notes.json", lambda path: path.write_text("{}") and None),
    "a pickle": ("model/pytorch_model.bin", lambda path: path.write_bytes(b"\x80\x04.") and None),
    "a manifest of other data": ("data/manifest.json", _text("bm25-minilm-hybrid", "mxbai-rerank-large-v2")),
    "a card of the data": ("data/README.md", _text("pairs", "thousand pairs")),
    "a hash in release.json": ("model/release.json", _text('"sha256": "', '"sha256": "0')),
    "a file that release.json does not name": ("model/release.json", _text('"README.md"', '"READ.md"')),
    "another repository in release.json": ("model/release.json", _text("reranker-mini", "reranker-large")),
    "no release.json": ("data/release.json", lambda path: path.unlink()),
    "another family file": ("model/records/family.json", _text("apache-2.0", "mit")),
    "another size's record": ("model/records/evaluate.json", _text('"size": "mini"', '"size": "large"')),
    "other data than it was trained on": ("model/records/mixture.json", _text('"rows"', '"raws"')),
    "a note of the collection": ("collection.yaml", _text("parameters", "million parameters")),
}


def tell(family: Family, size: str, only: set[str] | None = None) -> dict[str, str | None]:
    """Tell every lie, or those in `only`, to the staged build in the working folder; name -> what caught it, None if nothing did.

    Raises:
        ReleaseError: The build has a problem before anything was said.
    """
    _stage(family, size)
    checks.raise_problems(family, size)
    caught: dict[str, str | None] = {}
    for sealed, lies in ((True, RECORDS), (False, UNSEALED)):
        for name, (kind, change) in lies.items():
            if only is None or name in only:
                path = (family.build if kind == "data" else family.folder(size)) / f"records/{kind}.json"
                caught[name] = _tell_record(family, size, path, change, sealed)
    _stage(family, size)
    folders = {"model": stage.model_repo(family, size), "data": stage.dataset_repo(family)}
    for name, (where, alter) in STAGED.items():
        if only is None or name in only:
            root, _, rest = where.partition("/")
            path = folders[root] / rest if rest else family.folder(size) / where
            caught[name] = _tell_staged(family, size, path, alter)
    return caught


def _stage(family: Family, size: str) -> None:
    stage.stage_dataset(family)
    stage.stage_model(family, size)


def _tell_record(family: Family, size: str, path: Path, change: Change, sealed: bool) -> str | None:
    before = path.read_bytes()
    value = json.loads(before)
    change(value)
    path.write_text(json.dumps(records.sealed(value) if sealed else value), encoding="utf-8")
    try:
        _stage(family, size)
        return next((f"check: {line}" for line in checks.problems(family, size)), None)
    except ReleaseError as error:
        return f"stage: {error}"
    finally:
        path.write_bytes(before)


def _tell_staged(family: Family, size: str, path: Path, alter: Callable[[Path], None]) -> str | None:
    before = path.read_bytes() if path.is_file() else None
    alter(path)
    try:
        return next((f"check: {line}" for line in checks.problems(family, size)), None)
    finally:
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)


def _on_hub(family: Family, size: str, family_file: str) -> dict[str, str | None]:
    """Release what is staged to an embedded Hub of its own, without loading the model, and tell every lie there."""
    token = "hf_" + "loopback" * 4
    with running_hub(Path("hub"), [Account("maker", token, (family.about.organization,))]) as (endpoint, _):
        os.environ["HF_TOKEN"] = token
        publish.publish(family, size, endpoint)
        api = state.connect(endpoint)
        repos = state.desired_repos(family, size)
        commits = {repo.id: state.remote_repo(api, repo).commit or "" for repo in repos}
        publish.finish(family, size, api, commits)
        caught = data_lies.tell_on_hub(api, family, size)  # first: the others leave main elsewhere
        caught |= finetuned_lies.tell_on_hub(api, family, size)
        caught |= hub_lies.tell(api, family.model_id(size), stage.model_repo(family, size).resolve())
        caught |= signed_lies.tell(api, family_file, size)
        _stage(family, size)
        return caught | hub_lies.tell_more(api, family, size)


def main() -> None:
    """Tell them all to a copy of the demo's build."""
    family = load(FAMILY)
    if not (family.folder(SIZE) / "records/export.json").is_file():
        raise ReleaseError("no finished build to lie about", where=str(family.build), hint="make demo")
    with tempfile.TemporaryDirectory(prefix="lies-") as scratch:
        text = FAMILY.read_text(encoding="utf-8")
        shutil.copytree(family.build, Path(scratch) / family.build, ignore=shutil.ignore_patterns("checkpoints"))
        with contextlib.chdir(scratch):
            caught = tell(family, SIZE) | data_lies.tell(family, SIZE)
            caught |= finetuned_lies.tell(finetuned_lies.release_of(family, SIZE, Path("own")))
            _stage(family, SIZE)
            caught |= _on_hub(family, SIZE, text)
    table("Lies", ["lie", "caught by"], [[name, (line or "NOBODY")[:110]] for name, line in caught.items()])
    missed = [name for name, line in caught.items() if line is None]
    print_json({"told": len(caught), "caught": len(caught) - len(missed), "missed": missed})
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
