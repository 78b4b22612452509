"""A build folder as the earlier stages leave it: a tiny trained model, real text with labels, hand-made records."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from release import records
from release.export import checkpoint
from release.family import Family, load

DEMO = Path(__file__).resolve().parent.parent / "recipes/demo.toml"
SIZE = "mini"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def family() -> Family:
    """The embedded family; its build folder is relative, so tests work in a folder of their own."""
    return load(DEMO)


def renamed(path: Path, name: str) -> Family:
    """The embedded family, written to `path` with another version, dataset and collection: a release of its own."""
    text = DEMO.read_text(encoding="utf-8")
    for old, new in (
        ('version = "v1"', f'version = "{name}"'),
        ('"docstring-reranker-data"', f'"docstring-data-{name}"'),
        ('"Docstring Rerankers"', f'"Docstring Rerankers {name}"'),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return load(path)


def docstrings() -> list[tuple[str, str]]:
    """Real pairs on every machine: (first line, rest) of the standard library's docstrings."""
    import argparse
    import pathlib
    import statistics
    import tarfile

    pairs = {}
    for module in (argparse, pathlib, statistics, tarfile):
        for name, value in [*inspect.getmembers(module), *inspect.getmembers(getattr(module, "TarFile", module))]:
            line, _, rest = (inspect.getdoc(value) or "").partition("\n")
            if callable(value) and line and not name.startswith("__"):
                pairs[line] = rest.strip() or name
    return sorted(pairs.items())


def write_mixture(data: Path) -> None:
    """`data/mixture` with one config of two splits, and its manifest; labels are word overlaps."""
    rows = docstrings()
    labels = [float(len(set(query.split()) & set(document.split()))) for query, document in rows]
    shards = []
    for split, part in (("train", slice(80, None)), ("validation", slice(0, 80))):
        path = data / "mixture/docstrings" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns: dict[str, Any] = {"query": [row[0] for row in rows[part]], "document": [row[1] for row in rows[part]]}
        columns["label"] = pa.array(labels[part], pa.float32())
        parquet.write_table(pa.table(columns), path)
        found = {"name": path.name, "split": split, "rows": len(labels[part]), "bytes": path.stat().st_size}
        found["bytes_in_memory"] = pa.table(columns).nbytes
        shards.append(found | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    entry = {
        "source": {"kind": "docstrings"},
        "license": "other",
        "license_link": None,
        "license_note": "docstrings keep the licences of their packages",
        "cap": None,
        "overlaps_declared": [],
        "overlap": {"docstrings": {"queries": 1, "documents": 2, "query_share": 0.01, "document_share": 0.02}},
        "packages": {"numpy": "2.0.0"},
        "revision": "numpy 2.0.0",
        "rows_in": len(rows) + 3,
        "dropped": {"duplicate": 2},
        "quarantined": 1,
        "label": {"min": min(labels), "max": max(labels), "mean": sum(labels) / len(labels)},
        "shards": shards,
    }
    manifest = {"name": "docstring-reranker-data", "title": "Docstrings", "overlap": "report"}
    manifest |= {"declaration": "docstring-reranker-data.yaml", "declaration_sha256": "d" * 64}
    manifest |= {"teacher": {"model": "bm25-minilm-hybrid", "template_sha256": "e" * 64, "max_length": 256}}
    manifest["configs"] = {"docstrings": entry}
    (data / "mixture/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def write_collection(folder: Path) -> None:
    """Docstrings in BEIR's form: each line's own text is its answer."""
    rows = docstrings()[:80]
    folder.mkdir(parents=True)
    corpus = [json.dumps({"_id": f"d{place}", "title": "", "text": text}) for place, (_, text) in enumerate(rows)]
    queries = [json.dumps({"_id": f"q{place}", "text": text}) for place, (text, _) in enumerate(rows)]
    judged = ["query-id\tcorpus-id\tscore", *(f"q{place}\td{place}\t1" for place in range(len(rows)))]
    for name, lines in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels.tsv", judged)):
        (folder / name).write_text("\n".join(lines) + "\n")


def write_model(folder: Path, reranker: Path) -> str:
    """`<size>/model`, a copy of the tiny reranker; returns its hash."""
    shutil.copytree(reranker, folder / "model")
    return records.model_hash(folder / "model")


def row(stage: str, first: float, reranked: float, low: float, high: float) -> dict[str, Any]:
    """One row of the record "evaluate"."""
    quality = {"first_stage": first, "reranked": reranked, "gain": reranked - first, "ci_low": low, "ci_high": high}
    return {
        "task": "docstrings",
        "task_revision": "0" * 40,
        "first_stage": stage,
        "top_k": 20,
        "ndcg@10": quality | {"oracle": 0.91357},
        "recall@20": 0.87531,
        "helped": 123,
        "hurt": 45,
        "equal": 332,
        "queries": 500,
        "pairs": 10_000,
        "in_domain": False,
        "seconds": 12.5,
    }


def measurements() -> dict[str, dict[str, Any]]:
    """`measured` of each record that the card needs beside the export's, with odd figures that are easy to find."""
    rows = [
        row("bm25", 0.57913, 0.60127, 0.00811, 0.03619),
        row(MINILM, 0.61234, 0.60911, -0.01512, 0.00866),
    ]
    mean = {"first_stage": 0.59574, "reranked": 0.60519, "gain": 0.00945, "ci_low": -0.00213, "ci_high": 0.0209}
    mean |= {"oracle": 0.91357, "rows": 2, "queries": 1000}
    setting = {"name": "fp32, unpadded", "dtype": "float32", "attention": "unpadded", "padded": False, "batch": 64}
    setting |= {"pairs_per_second": 432.1, "peak_memory_mb": 876.5, "max_score_difference": 0.0}
    latency = [{"documents": 100, "p50_ms": 149.6, "p95_ms": 194.7}]
    return {
        "run": {
            "steps": 617,
            "examples": 39_488,
            "seconds": 283.4,
            "pairs_per_second": 139.3,
            "released": "best",
            "energy": {"kwh": 0.0617, "co2_kg": 0.0239},
            "parameters": {"encoder": 4_123_456, "head": 66_305},
        },
        "choice": {
            "candidates": {
                "best": {"step": 493, "nano": 0.71234, "ndcg@10": 0.60519},
                "last": {"step": 617, "nano": 0.70917, "ndcg@10": 0.60308},
            },
            "released": "best",
        },
        "evaluate": {
            "tasks": rows,
            "mean": {"all": mean, "first_stages": {name: mean for name in ("bm25", MINILM)}},
            "teacher": [row("bm25", 0.57913, 0.64321, 0.05, 0.08)],
            "nano": {"sets": {"NanoDocstrings": 0.7123}, "mean": 0.7123, "base": 0.5, "protocol": "100 candidates"},
            "calibration": {
                "temperature": 0.813,
                "offset": 1.29,
                "pairs_fitted": 500,
                "pairs_measured": 501,
                "brier": 0.0321,
                "brier_sigmoid": 0.0987,
                "brier_constant": 0.0654,
            },
        },
        "speed": {
            "best": setting,
            "settings": [setting],
            "latency": latency,
            "lengths": {"mean": 97.4},
            "pairs": 2_048,
        },
    }


def write_records(found: Family, sha256: str) -> None:
    """The records "data", "run", "choice", "evaluate" and "speed" of the embedded family's only size."""
    folder = found.folder(SIZE)
    manifest = found.build / "data/mixture/manifest.json"
    subject = {
        "encoder": "recipes/encoder",
        "data": str(manifest.parent),
        "data_revision": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "learning_rate": 4e-4,
        "global_batch_size": 64,
        "warmup": 0.03,
        "precision": "bf16",
        "max_length": 256,
        "pairs": "docstrings",
        "first_batch": 8,
        "passes": 3,
    }
    name = found.about.name
    records.write(records.new("data", family=name, measured={"rows": 100}), found.build / "records")
    for kind, measured in measurements().items():
        of = records.new(kind, family=name, size=SIZE, model_sha256=sha256, measured=measured, subject=subject)
        records.write(of, folder / "records")


def write_comparison(found: Family, *, compared: int = 3, device: str = "NVIDIA H100 80GB HBM3") -> None:
    """Records of every size of `found`, of the teacher's speed, and of the first `compared` public rerankers.

    No model lies beside them. All figures are made up and differ from each other, so that each is found where it belongs.
    """
    made = records.new("run", family=found.about.name, measured={}, device=device)
    sizes = {size: (found.folder(size), size) for size in found.sizes}
    others = {name: (found.compared_folder(name), "") for name in found.evaluation.compared[:compared]}
    for place, (name, (folder, size)) in enumerate((sizes | others).items()):
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        of = dataclasses.replace(made, size=size, model_sha256=sha256)
        if size:
            counted = {"encoder": 17_000_001 * 2**place, "head": 66_305}
            records.write(dataclasses.replace(of, measured={"parameters": counted}), folder / "records")
        measured, subject = compared_evaluation(found, place, size)
        evaluate = dataclasses.replace(of, kind="evaluate", measured=measured, subject=subject)
        records.write(evaluate, folder / "records")
        measured = compared_speed(8_001 / (place + 1))
        speed = dataclasses.replace(of, kind="speed", measured=measured, subject=protocol(found))
        records.write(speed, folder / "records")
    speed = dataclasses.replace(made, kind="speed", measured=compared_speed(387.4), subject=protocol(found))
    records.write(speed, found.build / "teacher/records")


def compared_speed(rate: float) -> dict[str, Any]:
    """`measured` of a speed record, as far as comparing needs it."""
    return {"best": {"name": "bf16", "dtype": "bfloat16", "pairs_per_second": rate}}


def protocol(found: Family) -> dict[str, Any]:
    """The subject of a speed record."""
    wanted = found.speed
    return {
        "pairs": wanted.pairs,
        "max_length": wanted.max_length,
        "first_batch": wanted.first_batch,
        "passes": wanted.passes,
    }


def compared_evaluation(found: Family, place: int, size: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """`measured` and `subject` of an evaluation whose figures depend on the model's place in the order."""
    wanted = found.evaluation
    tasks = (*wanted.tasks, *wanted.collections)

    def quality(number: int, gain: float) -> dict[str, Any]:
        first = 0.34951 + 0.05017 * number
        value = {"first_stage": first, "reranked": first + gain, "gain": gain, "oracle": 0.9}
        return value | {"ci_low": gain - 0.01003, "ci_high": gain + 0.01107, "rows": 60, "queries": 12_345}

    def mean(level: float) -> dict[str, Any]:
        stages = {name: quality(number, level - 0.03 * number) for number, name in enumerate(wanted.embedders)}
        parts = {part: quality(2, level - fall) for part, fall in (("all", 0.0), ("in_domain", -0.02))}
        return parts | {"out_of_domain": quality(2, level - 0.013), "first_stages": stages}

    rows = [
        row(stage, 0.5, 0.6, 0.05, 0.15) | {"task": task, "top_k": wanted.top_k}
        for task in tasks
        for stage in wanted.embedders
    ]
    level = 0.10123 + 0.01371 * place if size else 0.15511 - 0.00713 * (place - len(found.sizes))
    sets = dict.fromkeys(wanted.nano_sets, 0.67461 + 0.00937 * place)
    measured = {"tasks": rows, "mean": mean(level), "nano": {"sets": sets, "mean": 0.67461 + 0.00937 * place}}
    measured["parameters"] = 150_000_007 * (place + 1)
    if size:
        measured |= {"teacher_mean": mean(0.18037), "teacher_parameters": 1_543_714_305}
    subject = {"dtype": "bfloat16", "top_k": wanted.top_k, "tasks": dict.fromkeys(tasks, "0" * 40)}
    return measured, subject | {"first_stages": dict.fromkeys(wanted.embedders, "1" * 40)}


@functools.cache
def template(reranker: Path) -> Path:
    """A folder with everything up to the records, made once per process: exporting takes seconds."""
    root = Path(tempfile.mkdtemp(prefix="built-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    with contextlib.chdir(root):
        found = family()
        write_mixture(found.build / "data")
        write_records(found, write_model(found.folder(SIZE), reranker))
        checkpoint.export(found, SIZE)
    return root


def workspace(folder: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A copy of the template as the working folder; returns the family whose build folder it holds."""
    shutil.copytree(template(reranker), folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    return family()


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place, through a new file: staged folders share their files with the build folder."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.unlink()
    path.write_text(json.dumps(value), encoding="utf-8")
