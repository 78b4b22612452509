"""Thinning a query's scored candidates: up to 2048 -> 256 -> 64, for all queries of a chunk at once.

The first cut keeps every positive, the hardest negatives, and of the other negatives one from each of as many equally
filled strata of the teacher's score range as places are left (quantile-stratified sampling, after arXiv 2604.04734). The
second keeps the head of the score-sorted list and as many again from a declared band further down.

Every draw is a hash of (seed, query, place): it depends neither on the other queries of the chunk nor on their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from release.data.spec import SamplingSpec

PLACES = 20  # bits for the place of a candidate in its list: lists of up to a million
PLACE = 2**PLACES - 1
AHEAD = 2 ** (32 + PLACES)  # more than any two packed scores lie apart
NOBODY = 2**63 - 1
AT_ONCE = 64  # queries: the tables of 2048 candidates each stay within the processor's caches


@dataclass(frozen=True)
class Lists:
    """Ranked candidates of some queries.

    Score and place are packed into one integer, so that one sort of plain integers orders everything: ties by place.

    Attributes:
        packed: int64 of shape (queries, longest list), best first; NOBODY behind a shorter list.
        lengths: int64 of shape (queries,).
    """

    packed: np.ndarray
    lengths: np.ndarray

    @property
    def places(self) -> np.ndarray:
        """The candidates' places in the lists that were ranked: int64 of the shape of `packed`."""
        return self.packed & PLACE

    @property
    def filled(self) -> np.ndarray:
        """Where there is a candidate: bool of the shape of `packed`."""
        return np.arange(self.packed.shape[1]) < self.lengths[:, None]

    def pick(self, ranks: np.ndarray, wanted: np.ndarray) -> Lists:
        """The candidates of these ranks, int64 of shape (queries, at least the most wanted), the first `wanted` of each query."""
        behind = np.arange(ranks.shape[1]) >= wanted[:, None]
        found = np.take_along_axis(self.packed, np.where(behind, 0, ranks), axis=1)
        found[behind] = NOBODY
        return Lists(found, wanted)


def thin(
    starts: np.ndarray, scores: np.ndarray, positive: np.ndarray, keys: np.ndarray, plan: SamplingSpec, seed: int
) -> np.ndarray:
    """Both cuts: the rows to keep, int64, query after query, by falling score; equal scores in the order of the rows.

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
    if np.isnan(scores).any():
        raise ValueError(f"the score of row {int(np.isnan(scores).argmax())} is NaN")
    kept = [np.zeros(0, np.int64)]
    for begin in range(0, len(keys), AT_ONCE):
        some, edges = keys[begin : begin + AT_ONCE], starts[begin : begin + AT_ONCE + 1]
        rows = slice(edges[0], edges[-1])
        lists = first_cut(edges - edges[0], scores[rows], positive[rows], some, plan, seed)
        lists = second_cut(lists, some, plan, seed)
        kept.append((lists.places + edges[:-1, None])[lists.filled])
    return np.concatenate(kept)


def first_cut(
    starts: np.ndarray, scores: np.ndarray, positive: np.ndarray, keys: np.ndarray, plan: SamplingSpec, seed: int
) -> Lists:
    """All positives, the hardest negatives, the rest stratified: min(rows, max(candidates, positives)) of each query."""
    judged = np.flatnonzero(positive)
    lists = rank(starts, scores, judged)
    positives = np.diff(np.searchsorted(judged, starts))
    wanted = np.minimum(lists.lengths, np.maximum(plan.candidates, positives))
    certain = np.minimum(positives + plan.hardest, wanted)[:, None]
    ranks = np.arange(wanted.max(initial=0))
    # The edges of the strata; a certain rank's stratum is itself.
    strata, left = np.maximum(wanted[:, None] - certain, 1), lists.lengths[:, None] - certain
    edges = np.arange(len(ranks) + 1) - certain
    edges = np.where(edges > 0, edges * left // strata, edges) + certain
    drawn = edges[:, :-1] + _draw(seed, keys, ranks, np.diff(edges, axis=1))
    kept = lists.pick(drawn, wanted)
    kept.packed[ranks < positives[:, None]] += AHEAD
    kept.packed.sort(axis=1)
    return kept


def second_cut(lists: Lists, keys: np.ndarray, plan: SamplingSpec, seed: int) -> Lists:
    """The `head` best and `keep - head` from the band: min(candidates, keep) of each query.

    A band that reaches past a short list slides up until it holds enough.
    """
    wanted = np.minimum(lists.lengths, plan.keep)
    head = np.minimum(plan.head, wanted)
    end = np.maximum(np.minimum(lists.lengths, plan.band[1]), wanted)
    begin = np.maximum(np.minimum(plan.band[0], end - (wanted - head)), head)
    slots = np.arange((end - begin).max(initial=1))
    luck = _hash(seed + 1, keys, slots) & ~np.uint64(PLACE) | slots.astype(np.uint64)
    luck[slots >= (end - begin)[:, None]] = np.uint64(2**64 - 1)
    luck.sort(axis=1)
    banded = begin[:, None] + (luck & np.uint64(PLACE)).astype(np.int64)
    ranks = np.arange(wanted.max(initial=0))
    inside = np.clip(ranks - head[:, None], 0, banded.shape[1] - 1)
    kept = lists.pick(np.where(ranks < head[:, None], ranks, np.take_along_axis(banded, inside, axis=1)), wanted)
    kept.packed.sort(axis=1)
    return kept


def rank(starts: np.ndarray, scores: np.ndarray, first: np.ndarray) -> Lists:
    """Each query's rows, best first, the rows named by `first` before the others. No score may be NaN."""
    lengths = np.diff(starts)
    width = lengths.max(initial=0)
    bits = (np.float32(0) - scores.astype(np.float32, copy=False)).view(np.int32)  # 0 - x makes -0.0 equal to 0.0
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # now the integers have the order of the numbers
    packed = bits.astype(np.int64)
    packed <<= PLACES
    packed[first] -= AHEAD
    if (lengths == width).all():
        table = packed.reshape(len(lengths), width)
    else:
        table = np.full((len(lengths), width), NOBODY)
        table[np.arange(width) < lengths[:, None]] = packed
    table |= np.arange(width)  # NOBODY stays what it is
    table.sort(axis=1)
    return Lists(table, lengths)


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
