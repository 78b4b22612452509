"""The stand-in teacher: one number per pair that nothing else in the batch can change."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from release.bm25 import CorpusStatistics
from release.teachers import hybrid, minilm

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
installed = pytest.mark.skipif(
    importlib.util.find_spec(minilm.PACKAGE) is None, reason="the extra `demo` is not installed"
)


@pytest.fixture(scope="module")
def teacher() -> hybrid.HybridStandIn:
    return hybrid.HybridStandIn(CorpusStatistics.of(DOCUMENTS), max_length=64)


@installed
def test_relevant_pairs_score_above_unrelated_ones(teacher: hybrid.HybridStandIn) -> None:
    scores = teacher.predict(PAIRS, batch_size=2, show_progress_bar=False)
    assert scores.dtype == np.float32
    assert scores.shape == (6,)
    assert scores[0] > 0 > scores[1]
    assert np.isfinite(scores).all()


@installed
def test_a_pairs_score_is_the_same_whatever_else_is_asked(teacher: hybrid.HybridStandIn) -> None:
    together = teacher.predict(PAIRS)
    alone = []
    for pair in reversed(PAIRS):
        teacher.minilm._known.clear()
        alone.append(teacher.predict([pair])[0])
    assert alone[::-1] == together.tolist()


@installed
def test_its_identity_names_all_that_decides_a_score(teacher: hybrid.HybridStandIn) -> None:
    other = hybrid.HybridStandIn(CorpusStatistics.of(DOCUMENTS[:2]), max_length=64, dtype=teacher.minilm.dtype)
    assert {key for key in other.identity if other.identity[key] != teacher.identity[key]} == {"statistics_sha256"}
    assert teacher.identity["kind"] == "stand-in"
