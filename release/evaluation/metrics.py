"""Ranking measures over runs and judgements, and paired bootstrap intervals. Pure functions of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from release.results.evaluation import Quality

Judgements = Mapping[str, Mapping[str, int]]  # query -> document -> relevance; above 0 is relevant
Scores = Mapping[str, Mapping[str, float]]  # query -> document -> score
Ranking = dict[str, list[str]]  # query -> documents, best first

RESAMPLES = 10_000
SEED = 12
# Indices drawn at once: half a megabyte stays in a core's cache, and the draws are the same whatever it is.
_BLOCK = 65_536
_EQUAL = 1e-9  # two NDCG values of one query nearer than this are the same


def ranking(scores: Scores, top_k: int | None = None) -> Ranking:
    """Documents by falling score, equal scores by falling document id as trec_eval breaks ties, cut at `top_k`.

    Scores are compared in single precision, because trec_eval does.
    """
    return {
        query: sorted(documents, key=lambda name: (np.float32(documents[name]), name), reverse=True)[:top_k]
        for query, documents in scores.items()
    }


def rerank(first: Ranking, scores: Scores) -> Ranking:
    """`first` by falling score; equal scores keep the order of `first`, as a stable sort does."""
    return {
        query: sorted(documents, key=lambda name: -np.float32(scores[query][name]))
        for query, documents in first.items()
    }


def oracle(first: Ranking, judgements: Judgements) -> Ranking:
    """The best order that any reranker can give the candidates in `first`."""
    return {
        query: sorted(documents, key=lambda name: -judgements.get(query, {}).get(name, 0))
        for query, documents in first.items()
    }


def ndcg(ranked: Ranking, judgements: Judgements, k: int = 10) -> np.ndarray:
    """NDCG@k of every judged query, in the order of `judgements`, normalised over ALL its judged positives.

    A query without candidates scores 0. Shape (queries,), values 0 to 1.
    """
    import pytrec_eval

    # A grade below 0 gains nothing, as 0 does; trec_eval counts it outside its table, and the process may end there.
    gains = {query: {name: max(grade, 0) for name, grade in grades.items()} for query, grades in judgements.items()}
    evaluator = pytrec_eval.RelevanceEvaluator(gains, {f"ndcg_cut.{k}"})
    run = {
        query: {name: float(len(ranked[query]) - rank) for rank, name in enumerate(ranked[query])}
        for query in judgements
        if ranked.get(query)
    }
    measured = evaluator.evaluate(run)
    return np.array([measured.get(query, {}).get(f"ndcg_cut_{k}", 0.0) for query in judgements])


def recalls(ranked: Ranking, judgements: Judgements) -> np.ndarray:
    """The share of each query's judged positives that is among its candidates, NaN without any. Shape (queries,)."""
    shares = []
    for query, documents in judgements.items():
        positives = {name for name, relevance in documents.items() if relevance > 0}
        retrieved = len(positives.intersection(ranked.get(query, ())))
        shares.append(retrieved / len(positives) if positives else np.nan)
    return np.array(shares, dtype=float)


def recall(ranked: Ranking, judgements: Judgements) -> float:
    """The mean of `recalls` over queries that have positives, 0 without any."""
    return _mean_of_numbers(recalls(ranked, judgements))


def _mean_of_numbers(values: np.ndarray) -> float:
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else 0.0


def bootstrap(differences: np.ndarray, *, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Means of `differences` (queries,) over `resamples` draws of the queries with replacement, shape (resamples,).

    The draws depend on `seed` and the number of queries only, so runs over the same queries are resampled alike.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // max(1, len(differences)))
    means = [
        differences[generator.integers(0, len(differences), (min(rows, resamples - start), len(differences)))].mean(1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(means)


def interval(means: np.ndarray) -> tuple[float, float]:
    """The central 95 % of bootstrapped means."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@dataclass(frozen=True)
class QueryMeasures:
    """A reranking over its first stage, query by query: NDCG@10, and recall (NaN without relevant documents); shape (queries,)."""

    first_stage_ndcg: np.ndarray
    reranked_ndcg: np.ndarray
    oracle_ndcg: np.ndarray
    recalls: np.ndarray

    @property
    def recall(self) -> float:
        """The mean over queries that have relevant documents."""
        return _mean_of_numbers(self.recalls)

    @property
    def gains(self) -> np.ndarray:
        return self.reranked_ndcg - self.first_stage_ndcg

    def quality(self) -> Quality:
        """Means over the queries, with the gain's 95 % interval."""
        low, high = interval(bootstrap(self.gains))
        return Quality(
            first_stage_ndcg=float(self.first_stage_ndcg.mean()),
            reranked_ndcg=float(self.reranked_ndcg.mean()),
            oracle_ndcg=float(self.oracle_ndcg.mean()),
            gain=float(self.gains.mean()),
            ci_low=low,
            ci_high=high,
        )

    def counts(self) -> tuple[int, int, int]:
        """How many queries the reranking helped, hurt and left unchanged."""
        helped, hurt = int((self.gains > _EQUAL).sum()), int((self.gains < -_EQUAL).sum())
        return helped, hurt, len(self.gains) - helped - hurt


def compare(first: Ranking, scores: Scores, judgements: Judgements) -> QueryMeasures:
    """Rerank the candidates in `first` by `scores` and measure both, and a perfect order, against all judgements."""
    return QueryMeasures(
        first_stage_ndcg=ndcg(first, judgements),
        reranked_ndcg=ndcg(rerank(first, scores), judgements),
        oracle_ndcg=ndcg(oracle(first, judgements), judgements),
        recalls=recalls(first, judgements),
    )


def macro(gains: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """The mean over tasks of their mean gains, with its 95 % interval (queries resampled within each task)."""
    low, high = interval(np.mean([bootstrap(each) for each in gains], axis=0))
    return float(np.mean([each.mean() for each in gains])), low, high
