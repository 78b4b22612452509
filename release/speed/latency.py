"""Latency: how long one query waits for the scores of some documents."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from release import mode
from release.results.speed import Latency

DOCUMENTS = (10, 50, 100)  # for one query
REHEARSED = (4,)
REPEATS = 20
SECONDS = 6.0  # and fewer repeats where they would take longer than this
Pairs = list[tuple[str, str]]


def latencies(seconds: Callable[[Pairs], float], pool: Pairs) -> tuple[Latency, ...]:
    """By the number of documents, those of a rehearsal in one.

    Args:
        seconds: Scores pairs; returns how long it took.
        pool: What queries and documents are taken from.
    """
    return tuple(latency(seconds, pool, documents) for documents in (REHEARSED if mode.active() else DOCUMENTS))


def latency(seconds: Callable[[Pairs], float], pool: Pairs, documents: int) -> Latency:
    """Of `documents` documents: the median and the 95th percentile of the repeats, after two to warm up."""
    texts = [document for _, document in pool]
    taken: list[float] = []
    for trial in range(-2, REPEATS):
        start = (trial * documents) % len(texts)
        chosen = (texts[start:] + texts)[:documents] if len(texts) >= documents else (texts * documents)[:documents]
        query = pool[trial % len(pool)][0]
        taken.append(seconds([(query, text) for text in chosen]))
        if trial >= 4 and sum(taken) > SECONDS:
            break
    p50, p95 = np.quantile(taken[2:], [0.5, 0.95]) * 1000
    return Latency(documents, float(p50), float(p95), len(taken) - 2)
