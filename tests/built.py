"""A build folder as the earlier stages leave it: a tiny trained model, real text with labels, hand-made records."""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from release import records
from release.family import Family, load

DEMO = Path(__file__).resolve().parent.parent / "recipes/demo.toml"
SIZE = "mini"


def family() -> Family:
    """The embedded family; its build folder is relative, so tests work in a folder of their own."""
    return load(DEMO)


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


def write_mixture(folder: Path) -> None:
    """`data/mixture` with one config and two splits; labels are word overlaps."""
    rows = docstrings()
    labels = [float(len(set(query.split()) & set(document.split()))) for query, document in rows]
    shards = {}
    for split, part in (("train", slice(0, None)), ("validation", slice(0, 80))):
        path = folder / "mixture/docstrings" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {"query": [row[0] for row in rows[part]], "document": [row[1] for row in rows[part]]}
        parquet.write_table(pa.table(columns | {"label": pa.array(labels[part], pa.float32())}), path)
        shards[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()


def write_model(folder: Path, reranker: Path) -> str:
    """`<size>/model`, a copy of the tiny reranker; returns its hash."""
    shutil.copytree(reranker, folder / "model")
    return records.model_hash(folder / "model")


def manifest(folder: Path) -> dict[str, Any]:
    """The mixture's manifest."""
    return json.loads((folder / "mixture/manifest.json").read_text(encoding="utf-8"))
