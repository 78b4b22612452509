"""Sources that are tables: parquet on the Hub, and people's own parquet, CSV, TSV and JSONL files, the latter ones gzipped or not.

A source is read twice: once to count the rows that the filters leave out, and once for the rows. Of parquet the first pass reads
only the columns that decide. Columns are called by what they are for: query, document, label, drop, duplicate.
"""

from __future__ import annotations

import glob
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from release.console import say
from release.data.sources import parquet_rows, text_rows
from release.data.sources.base import Batch, Source, as_rows, fingerprint, where
from release.data.sources.hub import parquet_files
from release.errors import ReleaseError
from release.spec import ConfigSpec, FileSource, HubSource
from release.text_files import ending

KINDS = {
    ".parquet": "parquet",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".jsonl": "JSONL",
    ".json": "JSONL",
    ".ndjson": "JSONL",
}
ROW = ("query", "document", "label")  # the others only leave rows out
# (what the columns are for, those to read only from files that may hold nulls in them) -> all rows in order
Reader = Callable[[Sequence[str], Sequence[str]], Iterator[Batch]]


def open_hub(config: ConfigSpec, source: HubSource) -> Source:
    """Parquet files of a dataset on the Hub, streamed from one commit."""
    files = parquet_files(source, where(config))
    rows = _source(config, _parquet_reader(config, files.filesystem, files.names), files.commit)
    return replace(rows, license=files.license)


def open_files(config: ConfigSpec, source: FileSource, root: Path) -> Source:
    """A file, every table in a folder, or the files that match a glob; all of one kind.

    Raises:
        ReleaseError: There is none, or a file is damaged or lacks a column; file and row are named.
    """
    files = _files(config, root / source.path)
    revision = source.revision or fingerprint(files)
    if ending(files[0]) == ".parquet":
        return _source(config, _parquet_reader(config, fs.LocalFileSystem(), list(map(str, files))), revision)
    return _source(config, partial(_read_text, config, files), revision)


def _files(config: ConfigSpec, path: Path) -> list[Path]:
    if path.is_dir():
        files = _files_below(config, path)
    elif path.is_file():  # a name with brackets is a name first, and a pattern only where there is no such file
        files = [path]
    else:
        files = [Path(name) for name in sorted(glob.glob(str(path)))]  # noqa: PTH207 - the pattern may be absolute
    if not files:
        raise ReleaseError(f"no file at {path}", where=f"config {config.name}", hint="correct source.path")
    if unknown := [file.name for file in files if ending(file) not in KINDS]:
        what = f"unknown kind of file {unknown[0]}"
        raise ReleaseError(what, where=f"config {config.name}", hint=f"one of {', '.join(KINDS)}")
    if odd := [file for file in files if not file.is_file()]:  # reading a pipe or a device would never end
        raise ReleaseError("no file, but something else or a link to nothing", where=str(odd[0]), hint="remove it")
    kinds = {KINDS[ending(file)]: file for file in files}
    if len(kinds) > 1:
        names = " beside ".join(file.name for file in kinds.values())
        what = f"several kinds of files: {names}"
        raise ReleaseError(what, where=where(config), hint="give each kind a config of its own")
    return files


def _files_below(config: ConfigSpec, folder: Path) -> list[Path]:
    """The tables in a folder; hidden files are none, and what else is left out is said."""
    below = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    seen = [path for path in below if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if other := [path.name for path in seen if ending(path) not in KINDS]:
        what = f"{len(other):,} files of {folder} are of no kind that is read, such as {other[0]}"
        say(f"note: config {config.name}: {what}", sys.stderr)
    return [path for path in seen if ending(path) in KINDS]


def columns_of(config: ConfigSpec) -> dict[str, str]:
    """What the declared columns are for -> what the source calls them."""
    names, filters = config.columns, config.filters
    label = names.label if config.labels == "source" else None
    every = {"query": names.query, "document": names.document, "label": label, **vars(filters)}
    return {role: name for role, name in every.items() if role in (*ROW, "drop", "duplicate") and name}


def _check_names(config: ConfigSpec, there: Sequence[str], path: str) -> None:
    """Refuse a file that lacks a declared column, or has it twice."""
    for role, name in columns_of(config).items():
        if there.count(name) != 1:
            absent = f"no column {name!r} (there are: {', '.join(there)})"
            raise ReleaseError(
                f"two columns {name!r}" if name in there else absent,
                where=f"{where(config)}, file {Path(path).name}",
                hint=f"correct {'columns' if role in ROW else 'filters'}.{role}, or the file",
            )


def _check_types(config: ConfigSpec, schema: pa.Schema, path: str) -> None:
    """Refuse a parquet file with a column of another type than it is declared for."""
    for role, name in columns_of(config).items():
        kind = schema.field(name).type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        text = pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value)
        number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if not {"label": number, "drop": pa.types.is_boolean(kind), "duplicate": True}.get(role, text):
            expected = {"label": "numbers", "drop": "true or false"}.get(role, "text")
            raise ReleaseError(
                f"column {name!r} holds {kind}, not {expected}",
                where=f"{where(config)}, file {Path(path).name}",
                hint=f"correct {role}, or the source",
            )


# --- Readers ----------------------------------------------------------------------------------------------------------


def _parquet_reader(config: ConfigSpec, filesystem: Any, files: list[str]) -> Reader:
    names = columns_of(config)

    def read(roles: Sequence[str], unless_null: Sequence[str] = ()) -> Iterator[Batch]:
        for path in files:
            with parquet_rows.opened(path, filesystem, where(config)) as file:
                _check_names(config, file.schema_arrow.names, path)
                _check_types(config, file.schema_arrow, path)
                maybe = [role for role in unless_null if parquet_rows.may_be_null(file, names[role])]
                yield from parquet_rows.batches(
                    file, path, {role: names[role] for role in [*roles, *maybe]}, where(config)
                )

    return read


def _read_text(config: ConfigSpec, files: list[Path], *_: Sequence[str]) -> Iterator[Batch]:
    """All declared columns, whatever is asked for: a row of text is read as a whole."""
    for path in files:
        header: list[str] = []
        yield from text_rows.batches(path, columns_of(config), header)
        if header or ending(path) in text_rows.DELIMITERS:  # a JSONL file without rows has no names to check
            _check_names(config, header, str(path))


def _source(config: ConfigSpec, read: Reader, revision: str) -> Source:
    """Count what the filters leave out, and stream the rest."""
    names = columns_of(config)
    row, marks = [role for role in ROW if role in names], [role for role in names if role not in ROW]
    rows, dropped = 0, Counter[str]()
    for batch in read(marks, ["query", "document"]):
        rows += len(batch.rows)
        dropped.update({reason: int(met.sum()) for reason, met in _left_out(batch).items()})

    def stream() -> Iterator[pa.Table]:
        for batch in read([*row, *marks], []):
            keep = ~np.logical_or.reduce(list(_left_out(batch).values()))
            table = pa.table({role: batch.columns[role] for role in row})
            if keep.any():
                numbers = np.asarray(batch.rows)[keep]
                yield as_rows(config, table if keep.all() else table.filter(pa.array(keep)), batch.file, numbers)

    counts = {reason: count for reason, count in dropped.items() if count}
    return Source(rows, rows - dropped.total(), counts, revision, stream)


def _left_out(batch: Batch) -> dict[str, np.ndarray]:
    """Reason -> which rows it leaves out, bool of shape (rows,); a row counts for the first reason. Only present columns count."""
    columns, seen = batch.columns, np.zeros(len(batch.rows), bool)
    reasons = {"no text": seen.copy()}
    for role in {"query", "document"} & columns.keys():
        if columns[role].null_count:
            reasons["no text"] |= _flags(pc.is_null(columns[role]))
    if "drop" in columns:
        reasons["drop"] = _flags(pc.fill_null(columns["drop"], False))
    if "duplicate" in columns:
        reasons["duplicate"] = _flags(pc.is_valid(columns["duplicate"]))
    for reason, met in reasons.items():
        reasons[reason] = met & ~seen
        seen = seen | met
    return reasons


def _flags(values: pa.Array) -> np.ndarray:
    return values.to_numpy(zero_copy_only=False)
