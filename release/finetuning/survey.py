"""One pass over the user's pairs before anything is written: what the labels are, and which queries are held out."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass

import numpy as np

from release.errors import ReleaseError
from release.finetuning.leaks import normalized, same_query
from release.finetuning.pairs import PairSource
from release.results.finetuning import FEWEST_MEASURED

HIGHEST_GRADE = 10  # judgements are whole grades up to this; anything else is a score
SKETCH = 5_000  # queries that are looked at to hold some out
HELD_OUT_SHARE, MOST_HELD_OUT = 0.15, 500  # of the queries, for `dev` and for `test` each
FEWEST_QUERIES = 30
POOL = 50_000  # documents that a held-out query is searched in, beside its own


def text_hash(text: str) -> int:
    """64 bits that stand for a text and are the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


class LowestHashes:
    """The texts with the `size` lowest hashes of all that were added: a sample that depends on no order and on no seed."""

    def __init__(self, size: int) -> None:
        self.size, self._texts = size, dict[int, str]()
        self._limit = 2**64
        self.more = False  # whether there were more than `size` distinct texts

    def add(self, key: str, text: str) -> None:
        """Take `text` into account under `key`."""
        if (number := text_hash(key)) < self._limit:
            self._texts.setdefault(number, text)
            if len(self._texts) > 2 * self.size:
                self._shrink()

    def _shrink(self) -> None:
        lowest = sorted(self._texts)[: self.size]
        self.more |= len(self._texts) > len(lowest)
        self._texts = {number: self._texts[number] for number in lowest}
        self._limit = lowest[-1] + 1 if self.more else 2**64

    def texts(self) -> list[str]:
        """At most `size` texts, the lowest hash first."""
        self._shrink()
        return list(self._texts.values())


@dataclass(frozen=True)
class Survey:
    """What was seen of a source.

    Attributes:
        pairs: All rows; `repeated` of them were there before with the same label.
        queries: A sample of the distinct queries; `more_queries` says whether there are others.
        pool: A sample of the distinct documents.
        lowest, highest: The labels' range; `grades` says whether all are whole numbers from 0 up, as judgements are.
    """

    pairs: int
    repeated: int
    queries: list[str]
    more_queries: bool
    pool: list[str]
    lowest: float
    highest: float
    grades: bool


def survey(source: PairSource) -> Survey:
    """Read a source once; 16 bytes a row stay in memory, and the samples.

    Raises:
        ReleaseError: A row is damaged, there is none, or one pair has two labels.
    """
    queries, pool = LowestHashes(SKETCH), LowestHashes(POOL)
    keys, labelled = array("Q"), array("Q")
    lowest, highest, grades = np.inf, -np.inf, True
    for query, document, label, _ in source.pairs():
        queries.add(normalized(query), query)
        pool.add(document, document)
        key = same_query(query)
        keys.append(text_hash(f"{key}\0{document}"))
        labelled.append(text_hash(f"{key}\0{document}\0{label!r}"))
        lowest, highest = min(lowest, label), max(highest, label)
        grades &= label % 1 == 0 and 0 <= label <= HIGHEST_GRADE
    if not keys:
        raise ReleaseError(
            "no pairs", where=str(source.path), hint="the file is empty; references/data.md shows the forms"
        )
    distinct = _distinct(labelled)
    if _distinct(keys) < distinct:
        _show_conflict(source)
    texts = queries.texts()
    return Survey(len(keys), len(keys) - distinct, texts, queries.more, pool.texts(), lowest, highest, grades)


def _distinct(numbers: array) -> int:
    """How many different ones there are, at least one; they are sorted in place, so that millions are not copied."""
    values = np.frombuffer(numbers, np.uint64)
    values.sort()
    return 1 + int(np.count_nonzero(values[1:] != values[:-1]))


def _show_conflict(source: PairSource) -> None:
    """Find the first pair with two labels, in a second pass."""
    labels: dict[int, tuple[float, int]] = {}
    for query, document, label, row in source.pairs():
        before, first = labels.setdefault(text_hash(f"{same_query(query)}\0{document}"), (label, row))
        if before != label:
            what = f"one pair has the label {before:g} in row {first} and {label:g} in row {row}: {query[:60]!r}"
            raise ReleaseError(what, where=str(source.path), hint="keep one of the two rows")


def held_out(seen: Survey, where: str, *, parts: int) -> list[list[str]]:
    """The queries of `parts` held-out sets of equal size, by the lowest hashes.

    Raises:
        ReleaseError: There are too few queries to hold any out.
    """
    if len(seen.queries) < FEWEST_QUERIES:
        what = f"{len(seen.queries)} queries are too few to train on and to measure with"
        raise ReleaseError(what, where=where, hint=f"give at least {FEWEST_QUERIES} queries, better some hundred")
    share = max(FEWEST_MEASURED, int(len(seen.queries) * HELD_OUT_SHARE))
    each = MOST_HELD_OUT if seen.more_queries else min(MOST_HELD_OUT, share)
    return [seen.queries[part * each : (part + 1) * each] for part in range(parts)]
