"""Pairs that a config repeats: the first one counts, and the others are left out. At most 16 bytes a row, 32 with labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from release.data.sampling import scatter

REASON = "repeated pair"
OTHERWISE = "repeated pair with another label"


def distinct(tables: Iterator[pa.Table], rows: int, counts: Counter[str]) -> Iterator[pa.Table]:
    """The same tables without the pairs of query and document that came before; `counts` says how many under REASON and OTHERWISE.

    Args:
        rows: At most so many come.
    """
    seen, labelled = SeenHashes(rows), None
    for table in tables:
        fresh = seen.add(hashes := pair_hashes(table))
        other = np.zeros(len(fresh), bool)
        if "label" in table.column_names:
            labelled = labelled or SeenHashes(rows)
            other = labelled.add(scatter(hashes) ^ _bits(table["label"])) & ~fresh
        if not fresh.all():
            repeated = {REASON: int((~fresh & ~other).sum()), OTHERWISE: int(other.sum())}
            counts.update({reason: count for reason, count in repeated.items() if count})
            table = table.filter(pa.array(fresh))
        if table.num_rows:
            yield table


def pair_hashes(table: pa.Table) -> np.ndarray:
    """A hash of each pair of query and document, uint64 of shape (rows,). It differs between versions of polars: never keep it."""
    query, document = (pl.Series(values=table[name]).hash().to_numpy() for name in ("query", "document"))
    return scatter(query) ^ document


def _bits(labels: pa.ChunkedArray) -> np.ndarray:
    """The labels' float32 as numbers that differ where they do; 0 and -0 are one."""
    return (np.asarray(labels, np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64) << np.uint64(1)


class SeenHashes:
    """Which hashes came before: a table with open addressing, filled a batch at a time.

    It tells hashes apart by 63 bits: with 100 million pairs one of them is left out wrongly in one of 1,800 mixtures.

    Args:
        most: So many hashes at most.
    """

    def __init__(self, most: int) -> None:
        size = 1 << (max(2 * most, 2).bit_length() - 1)  # more than hashes, at most twice as many
        self._table = np.zeros(size, np.uint64)  # zero for none
        self._mask = np.uint64(len(self._table) - 1)

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Which of `hashes`, uint64 of shape (rows,), are new and the first of their kind: bool of the same shape."""
        distinct, first = np.unique(hashes | np.uint64(1), return_index=True)
        fresh = np.zeros(len(hashes), bool)
        slots = scatter(distinct) & self._mask
        while len(distinct):
            there = self._table[slots]
            empty = there == 0
            self._table[slots[empty]] = distinct[empty]  # of several for one slot the last one stays
            won = empty & (self._table[slots] == distinct)
            fresh[first[won]] = True
            left = ~won & (there != distinct)
            distinct, first, slots = distinct[left], first[left], (slots[left] + np.uint64(1)) & self._mask
        return fresh
