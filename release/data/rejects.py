"""Rows that no teacher can read: empty, endless or broken texts. Mixing leaves them out, scoring sets them aside, by one rule."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LONGEST = 200_000  # characters: beyond this a document is no document but an accident


def reject_reasons(table: pa.Table) -> dict[int, str]:
    """Row -> why it cannot be scored, for the rows of `table` (query, document, ...) that cannot."""
    suspects = np.zeros(table.num_rows, bool)
    for name in ("query", "document"):
        column = table[name].combine_chunks()
        try:
            column.validate(full=True)  # whether it is UTF-8
        except pa.ArrowInvalid:
            suspects[:] = True
            continue
        length = pc.fill_null(pc.binary_length(column), 0)
        blank = pc.fill_null(pc.utf8_is_space(column), True)
        suspects |= np.asarray(pc.or_(blank, pc.or_(pc.equal(length, 0), pc.greater(length, LONGEST))))
    rows = np.flatnonzero(suspects)
    some = table.select(["query", "document"]).take(pa.array(rows, pa.int64()))
    texts = [column.cast(pa.large_binary()).to_pylist() for column in some.columns]
    reasons = {int(row): reject_reason(*pair) for row, pair in zip(rows, zip(*texts, strict=True), strict=True)}
    return {row: reason for row, reason in reasons.items() if reason}


def reject_reason(query: bytes | None, document: bytes | None) -> str | None:
    """Why a pair cannot be scored, or None. A lone surrogate, for one, is no UTF-8 and reaches no tokenizer."""
    for name, raw in (("query", query), ("document", document)):
        try:
            text = (raw or b"").decode()
        except UnicodeDecodeError:
            return f"invalid unicode in the {name}"
        if not text.strip():
            return f"empty {name}"
        if len(text) > LONGEST:
            return f"{name} of {len(text)} characters"
    return None


def kind_of(reason: str) -> str:
    """The reason without its number, to be counted by."""
    return re.sub(r" of \d+ characters", " too long", reason)
