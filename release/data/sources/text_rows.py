"""Rows of CSV, TSV and JSONL files in batches. Every row is read on its own: a mistake has a row, and no type is guessed."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from release.data.sources.base import BATCH_ROWS, Batch
from release.errors import ReleaseError
from release.text_files import ending, json_rows, lines, number

TYPES = {
    "query": pa.string(),
    "document": pa.string(),
    "label": pa.float64(),
    "drop": pa.bool_(),
    "duplicate": pa.bool_(),
}
DELIMITERS = {".csv": ",", ".tsv": "\t"}
csv.field_size_limit(2**24)  # characters: an open quote does not swallow the rest of a large file


def batches(path: Path, names: Mapping[str, str], header: list[str]) -> Iterator[Batch]:
    """The declared columns of all rows, 16,384 at a time.

    `duplicate` becomes true or null: only whether there is a value counts.

    Args:
        names: What the columns are for -> what the file calls them.
        header: Filled with the names of all columns that the file has.

    Raises:
        ReleaseError: A row is damaged, or a value is not of its column's type; file and row are named.
    """
    read, parse = (csv_rows, _from_text) if ending(path) in DELIMITERS else (_json_rows, _from_json)
    numbers: list[int] = []
    rows: list[list[Any]] = []
    for row_number, row in read(path, header):
        try:
            rows.append([parse(role, row.get(name)) for role, name in names.items()])
        except (ValueError, OverflowError) as error:
            what = f"damaged row ({error})"
            raise ReleaseError(what, where=f"{path} row {row_number}", hint="correct or remove it") from error
        numbers.append(row_number)
        if len(rows) == BATCH_ROWS:
            yield _batch(path, names, numbers, rows)
            numbers, rows = [], []
    if rows:
        yield _batch(path, names, numbers, rows)


def _json_rows(path: Path, header: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    seen: set[str] = set()
    for row_number, row in json_rows(path):
        if not seen.issuperset(row):
            header += [name for name in row if name not in seen]
            seen.update(row)
        yield row_number, row


def csv_rows(path: Path, header: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows by the names in the first one; a quoted value may hold line ends, and the number is that of its last line."""
    delimiter = DELIMITERS[kind := ending(path)]
    separator = {",": "commas", "\t": "tabs"}[delimiter]
    reader = csv.reader((line for _, line in lines(path)), strict=True, delimiter=delimiter)
    before = 0  # the last line of the row before
    try:
        for row in reader:
            where, before = f"{path} row {reader.line_num}", reader.line_num
            if not row:
                continue
            if not header:
                if len(row) == 1 and (others := set(",;\t|") & set(row[0])):
                    what = f"one column called {row[0][:80]!r}"
                    hint = f"a {kind} file separates values by {separator}, not by {sorted(others)[0]!r}"
                    raise ReleaseError(what, where=where, hint=hint)
                if twice := [name for index, name in enumerate(row) if name in row[:index]]:
                    raise ReleaseError(f"two columns are called {twice[0]!r}", where=where, hint="remove or rename one")
                header += row
                continue
            if len(row) != len(header):
                what = f"damaged row ({len(row)} values in {len(header)} columns)"
                raise ReleaseError(what, where=where, hint=f"values with {separator} need quotes")
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        rows = f"row {before + 1}" + (f" to {reader.line_num}" if reader.line_num > before + 1 else "")
        hint = "a quote is left open there, or stands inside a quoted value and is not doubled"
        raise ReleaseError(f"damaged row ({error})", where=f"{path} {rows}", hint=hint) from error


def _from_json(role: str, value: Any) -> Any:
    """A value of a JSON row for the column."""
    if value is None:
        return None
    if role == "duplicate":
        return True
    good = {"label": int | float, "drop": bool}.get(role, str)
    if not isinstance(value, good) or (role == "label" and isinstance(value, bool)):
        expected = {"label": "a number", "drop": "true or false"}.get(role, "text")
        raise ValueError(f"{role} is a {type(value).__name__}, not {expected}")
    return float(value) if role == "label" else value


def _from_text(role: str, value: str | None) -> Any:
    """A cell of a CSV row for the column; outside the texts an empty cell holds nothing."""
    if role in ("query", "document") or value is None:
        return value
    if not value.strip():
        return None
    if role == "label":
        return number(value)
    if role == "drop":
        if value.strip().lower() not in ("true", "false", "1", "0"):
            raise ValueError(f"drop is {value[:40]!r}, not true or false")
        return value.strip().lower() in ("true", "1")
    return True


def _batch(path: Path, names: Mapping[str, str], numbers: list[int], rows: list[list[Any]]) -> Batch:
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return Batch(str(path), numbers, {role: _array(list(values), TYPES[role]) for role, values in columns})


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # a lone surrogate: it goes on as invalid UTF-8, which is set aside as such further on
        encoded = [None if value is None else value.encode(errors="surrogatepass") for value in values]
        return pa.array(encoded, pa.binary()).view(pa.string())
