"""BM25: the formula that mteb's has, over a collection and for single pairs."""

from __future__ import annotations

import numpy as np
import pytest

from release.bm25 import CorpusStatistics

DOCUMENTS = [
    "Return the sorted copy of an array.",
    "Open a file and return a stream of bytes.",
    "Compute the inverse of a square matrix, if it has one.",
    "The quick brown fox jumps over the lazy dog.",
]
PAIRS = [
    ("sort an array", DOCUMENTS[0]),
    ("sort an array", DOCUMENTS[3]),
    ("read a file", DOCUMENTS[1]),
    ("matrix inverse", DOCUMENTS[2] * 20),
    ("", DOCUMENTS[0]),
    ("sort", ""),
]


def test_bm25_over_the_querys_idf_is_between_zero_and_one_and_fixed_by_the_statistics() -> None:
    statistics = CorpusStatistics.of(DOCUMENTS)
    found = statistics.relevance(PAIRS)
    assert ((found >= 0) & (found < 1)).all()
    assert found[0] > found[1]
    assert found[4] == found[5] == 0
    assert statistics.relevance(PAIRS[:1])[0] == found[0]
    assert CorpusStatistics.of(reversed(DOCUMENTS * 2)).sha256 == statistics.sha256


def test_bm25_is_the_formula() -> None:
    statistics = CorpusStatistics.of(["a a b", "b c", "c c c c"])
    idf = {word: np.log1p((3 - df + 0.5) / (df + 0.5)) for word, df in {"a": 1, "b": 2, "z": 0}.items()}
    shrink = 1.5 * (1 - 0.75 + 0.75 * 3 / 3)
    wanted = (idf["a"] * 2 / (2 + shrink) + idf["b"] * 1 / (1 + shrink)) / sum(idf.values())
    assert statistics.relevance([("A, b z", "a a b")])[0] == pytest.approx(wanted)


def test_without_documents_there_are_no_statistics() -> None:
    with pytest.raises(ValueError, match="at least one document"):
        CorpusStatistics.of([])
