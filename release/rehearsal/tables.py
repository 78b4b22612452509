"""Datasets as the Hub holds them: files of rows, and a card whose front matter names each config's files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml


@dataclass(frozen=True)
class Table:
    """The rows of one config and split, in one file or several; `path` ends in .parquet or .jsonl."""

    config: str
    split: str
    path: str
    rows: pa.Table


def write(folder: Path, tables: Sequence[Table], *, license: str = "apache-2.0", **front: Any) -> Path:
    """Write the files of a dataset and its card; `front` holds more keys of the front matter."""
    for table in tables:
        path = folder / table.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(table.rows, path)
        else:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in table.rows.to_pylist())
            path.write_text("".join(lines), encoding="utf-8")
    card = {"license": license, **front, "configs": list(_configs(tables))}
    text = yaml.safe_dump(card, sort_keys=False, allow_unicode=True)
    (folder / "README.md").write_text(f"---\n{text}---\n\nA stand-in, made for a rehearsal.\n", encoding="utf-8")
    return folder


def _configs(tables: Iterable[Table]) -> Iterable[dict[str, Any]]:
    files: dict[str, dict[str, list[str]]] = {}
    for table in tables:
        files.setdefault(table.config, {}).setdefault(table.split, []).append(table.path)
    for config, splits in files.items():
        yield {"config_name": config, "data_files": [{"split": name, "path": paths} for name, paths in splits.items()]}
