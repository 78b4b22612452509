"""Looks at every training row before the first step: what a loss cannot use is one line, not a traceback after hours."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from release.errors import ReleaseError

PATTERN = re.compile(r"[*?\[\]]")
COLUMNS = ("query", "document", "label")
HINT = "make score writes `query`, `document` (strings) and `label` (a finite number) for every row"


def check_files(data: Path) -> None:
    """Check a folder CONFIG/{train,validation}-*.parquet: its configs' names, and the columns by its files' schemas.

    Raises:
        ReleaseError: No such file, a name that `datasets` reads otherwise, or a file that lacks a column or has a column of
            another type; the file is named.
    """
    files = sorted(data.glob("*/*.parquet"))
    if not any(file.name.startswith("train-") for file in files):
        raise ReleaseError("no training data", where=str(data), hint="make score, or pass --data FOLDER_OR_HUB_ID")
    names = {file.parent.name for file in files}
    for name in sorted(names):
        if PATTERN.search(name) or (name == "default" and len(names) > 1):
            what = f"a config cannot be called {name!r}: `datasets` takes it for a pattern or for all configs"
            raise ReleaseError(what, where=str(data), hint="rename its folder with letters, digits, '_', '-' and '.'")
    for file in files:
        try:
            check_schema(pq.read_schema(file), str(file))
        except (OSError, pa.ArrowException) as error:
            raise ReleaseError(f"unreadable parquet ({error})", where=str(file), hint="make score") from error


def check_schema(schema: pa.Schema, where: str) -> None:
    """Refuse rows that lack a column, or whose columns are not strings, strings and numbers."""
    for name in COLUMNS:
        if name not in schema.names:
            raise ReleaseError(f"no column {name}", where=where, hint=HINT)
        kind = schema.field(name).type
        texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        numbers = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        if not (numbers if name == "label" else texts):
            expected = "numbers" if name == "label" else "strings"
            raise ReleaseError(f"the column {name} holds {kind}, not {expected}", where=where, hint=HINT)


def check_rows(rows: Dataset, configs: dict[str, int]) -> None:
    """Refuse missing texts and labels that are missing, NaN or infinite, reading one memory-mapped chunk at a time.

    Args:
        rows: All configs one after the other, as the training reads them.
        configs: Config -> its number of rows, in that order, to name the config and its row.
    """
    table = rows.data.table if rows._indices is None else rows.with_format("arrow")[:]
    check_schema(table.schema, "the training data")
    for name in COLUMNS:
        first = 0
        for chunk in table.column(name).chunks:
            bad = pc.is_null(chunk)
            if name == "label" and pa.types.is_floating(chunk.type):
                bad = pc.invert(pc.fill_null(pc.is_finite(chunk), False))
            if (row := pc.index(bad, True).as_py()) >= 0:
                _fail(name, chunk[row].as_py(), first + row, configs)
            first += len(chunk)


def _fail(name: str, value: object, row: int, configs: dict[str, int]) -> None:
    where = f"row {row}"
    if sum(configs.values()) > row:  # the rows of a smoke test are other ones
        for config, count in configs.items():
            if row < count:
                where = f"config {config}, row {row} of split train"
                break
            row -= count
    raise ReleaseError(f"the {name} is {'missing' if value is None else value}", where=where, hint=HINT)
