"""Thinning a query's scored candidates: up to 2048 -> 256 -> 64, for all queries of a chunk at once.

The first cut keeps every positive, the hardest negatives, and of the other negatives one from each of as many equally
filled strata of the teacher's score range as places are left (quantile-stratified sampling, after arXiv 2604.04734). The
second keeps the head of the score-sorted list and as many again from a declared band further down.

Every draw is a hash of (seed, query, place): it depends neither on the other queries of the chunk nor on their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recipes.declare import Sampling

PLACES = 20  # bits for the place of a candidate in its list: lists of up to a million
NOBODY = np.uint64(2**64 - 1)


def thin(
    starts: np.ndarray, scores: np.ndarray, positive: np.ndarray, keys: np.ndarray, plan: Sampling, seed: int
) -> np.ndarray:
    """Both cuts: the rows to keep, int64, query after query, by falling score.

    Args:
        starts: Where each query's rows begin, and the end: int64 of shape (queries + 1,).
        scores: The teacher's scores, float32 of shape (rows,).
        positive: Which rows are judged relevant, bool of shape (rows,).
        keys: A number that names each query in the draws, uint64 of shape (queries,).
        plan: How many to keep.
        seed: Names the draw.

    Raises:
        ValueError: A score is NaN; the message names the row.
    """
    rows, counts = first_cut(starts, scores, positive, keys, plan, seed)
    inner = np.concatenate([[0], np.cumsum(counts)])
    kept, _ = second_cut(inner, scores[rows], keys, plan, seed)
    return rows[kept]


def first_cut(
    starts: np.ndarray, scores: np.ndarray, positive: np.ndarray, keys: np.ndarray, plan: Sampling, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """All positives, the hardest negatives, the rest stratified: rows to keep and how many of each query.

    A query keeps min(rows, max(candidates, positives)) rows; equal scores count in the order of the rows.
    """
    lengths = np.diff(starts)
    table = _ranked(starts, scores, ~positive)
    positives = np.add.reduceat(np.append(positive, False), starts[:-1]).astype(np.int64) * (lengths > 0)
    wanted = np.minimum(lengths, np.maximum(plan.candidates, positives))
    certain = np.minimum(positives + plan.hardest, wanted)
    places = np.arange(max(wanted.max(initial=0), 1))
    strata = np.maximum(wanted - certain, 1)[:, None]
    left = (lengths - certain)[:, None]
    edges = np.maximum(np.arange(len(places) + 1) - certain[:, None], 0) * left // strata
    low, high = edges[:, :-1], edges[:, 1:]
    drawn = certain[:, None] + low + _draw(seed, keys, places, np.maximum(high - low, 1))
    return _take(table, np.where(places < certain[:, None], places, drawn), wanted, starts)


def second_cut(
    starts: np.ndarray, scores: np.ndarray, keys: np.ndarray, plan: Sampling, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `head` best and `keep - head` from the band: rows to keep and how many of each query, min(rows, keep).

    A band that reaches past a short list slides up until it holds enough.
    """
    lengths = np.diff(starts)
    table = _ranked(starts, scores, np.zeros(len(scores), bool))
    wanted = np.minimum(lengths, plan.keep)
    head = np.minimum(plan.head, wanted)
    end = np.minimum(lengths, plan.band[1])
    end = np.maximum(end, wanted)
    begin = np.maximum(np.minimum(plan.band[0], end - (wanted - head)), head)
    slots = np.arange(max((end - begin).max(initial=0), 1))
    luck = _hash(seed + 1, keys, slots) & ~np.uint64(2**PLACES - 1) | slots.astype(np.uint64)
    luck = np.sort(np.where(slots < (end - begin)[:, None], luck, NOBODY), axis=1)
    banded = begin[:, None] + (luck & np.uint64(2**PLACES - 1)).astype(np.int64)
    places = np.arange(max(wanted.max(initial=0), 1))
    inside = np.clip(places - head[:, None], 0, banded.shape[1] - 1)
    chosen = np.where(places < head[:, None], places, np.take_along_axis(banded, inside, axis=1))
    return _take(table, chosen, wanted, starts)


def _ranked(starts: np.ndarray, scores: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Each query's rows, best first, rows marked `later` behind the others.

    Mark, score and place are packed into one integer, so that one sort of plain integers orders everything: ties by place.

    Returns:
        uint64 of shape (queries, longest list), the place in the lowest bits; what lies behind a shorter list is meaningless
    """
    if np.isnan(scores).any():
        raise ValueError(f"the score of row {int(np.isnan(scores).argmax())} is NaN")
    lengths = np.diff(starts)
    width = max(lengths.max(initial=0), 1)
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0 makes -0.0 equal to 0.0
    # Floats' falling order as unsigned integers: of what is negative the sign bit stays, of the rest all others turn.
    packed = (bits ^ (~(bits >> 31) & np.int32(0x7FFFFFFF))).view(np.uint32).astype(np.uint64)
    packed |= later.astype(np.uint64) << np.uint64(32)
    packed <<= np.uint64(PLACES)
    if (lengths == width).all():
        table = packed.reshape(-1, width)
    else:
        table = np.full((len(lengths), width), NOBODY)
        table[np.arange(width) < lengths[:, None]] = packed
    table |= np.arange(width, dtype=np.uint64)  # NOBODY stays what it is
    table.sort(axis=1)
    return table


def _take(
    table: np.ndarray, places: np.ndarray, wanted: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows behind ranked `places`, the first `wanted` of each query."""
    inside = np.arange(places.shape[1]) < wanted[:, None]
    found = np.take_along_axis(table, np.where(inside, places, 0), axis=1) & np.uint64(2**PLACES - 1)
    return (found.astype(np.int64) + starts[:-1, None])[inside], wanted


def _draw(seed: int, keys: np.ndarray, places: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A whole number from 0 up to `below`, for each query and place."""
    high = (_hash(seed, keys, places) >> np.uint64(32)).astype(np.int64)
    return (high * below) >> 32


def _hash(seed: int, keys: np.ndarray, places: np.ndarray) -> np.ndarray:
    """64 scattered bits for each (query, place): splitmix64 over both."""
    with np.errstate(over="ignore"):
        base = scatter(keys.astype(np.uint64) ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64))
        return scatter(base[:, None] + places.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def scatter(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 on uint64."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
