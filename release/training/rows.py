"""Looks at every training row before the first step: what a loss cannot use is one line, not a traceback after hours."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from release.errors import ReleaseError

PATTERN = re.compile(r"[*?\[\]]")
COLUMNS = ("query", "document", "label")
LARGEST = 1e9  # of a label: its squared error, summed over any batch, stays finite in float32
HINT = "make score writes `query`, `document` (strings) and `label` (a finite number) for every row"


def check_files(data: Path, validation: str) -> None:
    """Check a folder CONFIG/{train,validation}-*.parquet: its configs' names, and the columns by its files' schemas.

    Args:
        validation: The config whose split `validation`, where there is one, gives the evaluation loss.

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
    if validation not in names:
        hint = f"`validation` in [data] of the family file is one of {', '.join(sorted(names))}"
        raise ReleaseError(f"no config {validation!r}, whose held-out pairs are evaluated", where=str(data), hint=hint)


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


def check_rows(rows: Dataset, configs: dict[str, int], split: str = "train") -> None:
    """Refuse texts that are missing or no UTF-8, and labels that no loss can use, reading one memory-mapped chunk at a time.

    Args:
        rows: All configs one after the other, as the training reads them.
        configs: Config -> its number of rows, in that order, to name the config and its row.
    """
    table = rows.data.table if rows._indices is None else rows.with_format("arrow")[:]
    check_schema(table.schema, "the training data")
    for name in COLUMNS:
        first = 0
        for chunk in table.column(name).chunks:
            bad = _bad_labels(chunk) if name == "label" else _bad_texts(chunk)
            if (row := pc.index(bad, True).as_py()) >= 0:
                row_of_all = first + row
                if rows._indices is not None:  # a smoke test reads some rows in another order
                    row_of_all = rows._indices.column(0)[row_of_all].as_py()
                _fail(name, chunk.slice(row, 1), _place(row_of_all, configs, split))
            first += len(chunk)


def _bad_labels(labels: pa.Array) -> pa.Array:
    """Which labels are missing, NaN, infinite, or so large that a squared error of them is infinite in float32."""
    size = pc.abs(labels.cast(pa.float64(), safe=False))
    return pc.invert(pc.fill_null(pc.less_equal(size, LARGEST), False))  # a NaN is not less than anything


def _bad_texts(texts: pa.Array) -> pa.Array:
    bad = pc.is_null(texts)
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        bad = pa.array([not _is_text(value) for value in texts.cast(pa.large_binary()).to_pylist()])
    return bad


def _is_text(value: bytes | None) -> bool:
    try:
        return value is not None and isinstance(value.decode(), str)
    except UnicodeDecodeError:
        return False


def _place(row: int, configs: dict[str, int], split: str) -> str:
    for config, count in configs.items():
        if row < count:
            return f"config {config}, row {row} of split {split}"
        row -= count
    raise IndexError(row)


def _fail(name: str, value: pa.Array, where: str) -> None:
    if name == "label":
        label = value[0].as_py()
        large = "" if label is None or not math.isfinite(label) else f", beyond {LARGEST:,.0f}"
        what = "missing" if label is None else f"{label}{large}"
    else:
        what = "missing" if value.null_count else "no UTF-8"
    raise ReleaseError(f"the {name} is {what}", where=where, hint=HINT)
