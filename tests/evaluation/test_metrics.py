"""NDCG@10, recall and the bootstrap against other implementations than the one inside: scikit-learn's, scipy's, the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import ndcg_score

from release.evaluation import metrics

DOCUMENTS = [f"d{number}" for number in range(14)]
queries = st.sampled_from(["q1", "q2", "q3"])
runs = st.dictionaries(
    queries, st.dictionaries(st.sampled_from(DOCUMENTS), st.sampled_from([0.0, -1.5, 0.1, 0.5, 0.5000000001, 2.0]))
)  # few scores, so that many tie; some only in double precision
judged = st.dictionaries(
    queries, st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(-2, 4), min_size=1), min_size=1
)


def ranked(scores: dict[str, float]) -> list[str]:
    """trec_eval's order by the definition: falling score in single precision, equal ones by falling id."""
    return [name for _, name in sorted(((float(np.float32(score)), name) for name, score in scores.items()))[::-1]]


def by_scikit_learn(order: list[str], relevance: dict[str, int]) -> float:
    """NDCG@10 over all documents; what was not retrieved ranks after ten documents that nobody judged."""
    gains = {name: max(grade, 0) for name, grade in relevance.items()}
    names = [*order, *(f"nothing {number}" for number in range(10)), *(name for name in gains if name not in order)]
    return ndcg_score([[gains.get(name, 0) for name in names]], [[-rank for rank in range(len(names))]], k=10)


@settings(deadline=None, max_examples=300)
@given(runs, judged)
def test_ndcg_is_scikit_learns_with_ties_missing_queries_and_grades_below_zero(
    run: dict[str, dict[str, float]], judgements: dict[str, dict[str, int]]
) -> None:
    measured = metrics.ndcg(metrics.ranking(run), judgements)
    expected = [by_scikit_learn(ranked(run.get(query, {})), grades) for query, grades in judgements.items()]
    assert measured == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(runs, judged, st.integers(1, 14))
def test_recall_is_its_definition(
    run: dict[str, dict[str, float]], judgements: dict[str, dict[str, int]], top_k: int
) -> None:
    shares = [
        sum(grades[name] > 0 for name in ranked(run.get(query, {}))[:top_k] if name in grades)
        / sum(grade > 0 for grade in grades.values())
        for query, grades in judgements.items()
        if any(grade > 0 for grade in grades.values())
    ]
    expected = sum(shares) / len(shares) if shares else 0.0
    assert metrics.recall(metrics.ranking(run, top_k), judgements) == pytest.approx(expected)


def test_a_collection_of_one_document_is_measured() -> None:
    assert metrics.ndcg({"q": ["d"]}, {"q": {"d": 1}}) == pytest.approx([1.0])
    assert metrics.ndcg({"q": []}, {"q": {"d": 1}}).tolist() == metrics.ndcg({}, {"q": {"d": 1}}).tolist() == [0.0]
    assert metrics.ndcg({"q": ["d"]}, {"q": {"d": 0}}).tolist() == [0.0]


def test_the_interval_is_scipys() -> None:
    gains = np.random.default_rng(3).normal(0.02, 0.2, 300)
    low, high = metrics.interval(metrics.bootstrap(gains))
    theirs = stats.bootstrap((gains,), np.mean, n_resamples=10_000, method="percentile", rng=4).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.0015)
