"""Sampling a query's scored candidates: up to 2048 -> 256 -> 64, for all queries of a chunk at once.

The first cut keeps every positive, the hardest negatives, and of the other negatives one from each of as many equally
filled strata of the teacher's score range as places are left (quantile-stratified sampling, after arXiv 2604.04734). The
second keeps the head of the score-sorted list and as many again from below it: the positives there, and a draw from a band
of ranks. The strata are equal in candidates, not in score.

Every draw is a hash of (seed, query, position): it depends neither on the other queries of the chunk nor on their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from release.spec import SamplingSpec

POSITION_BITS = 20  # for the position of a candidate in its list: lists of up to a million
POSITION_MASK = 2**POSITION_BITS - 1
BEFORE_ALL = 2 ** (32 + POSITION_BITS)  # more than any two packed scores lie apart
EMPTY = 2**63 - 1
QUERIES_AT_ONCE = 64  # the tables of 2048 candidates each stay within the processor's caches


@dataclass(frozen=True)
class RankedCandidates:
    """Ranked candidates of some queries.

    Score and position are packed into one integer, so that one sort of plain integers orders everything: ties by position.

    Attributes:
        packed: int64 of shape (queries, longest list), best first; EMPTY after the end of a shorter list.
        lengths: int64 of shape (queries,).
    """

    packed: np.ndarray
    lengths: np.ndarray

    @property
    def positions(self) -> np.ndarray:
        """The candidates' positions in the lists that were ranked: int64 of the shape of `packed`."""
        return self.packed & POSITION_MASK

    @property
    def filled(self) -> np.ndarray:
        """Where there is a candidate: bool of the shape of `packed`."""
        return np.arange(self.packed.shape[1]) < self.lengths[:, None]

    def pick(self, ranks: np.ndarray, sizes: np.ndarray) -> RankedCandidates:
        """The candidates of these ranks, int64 of shape (queries, at least the largest size), the first `sizes` of each query."""
        padding = np.arange(ranks.shape[1]) >= sizes[:, None]
        picked = np.take_along_axis(self.packed, np.where(padding, 0, ranks), axis=1)
        picked[padding] = EMPTY
        return RankedCandidates(picked, sizes)


def sample_candidates(
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
        ValueError: A score is NaN (the message names the row), or a list is too long.
    """
    if np.diff(starts).max(initial=0) > POSITION_MASK:
        raise ValueError(f"a list has more than {POSITION_MASK:,} candidates")
    if np.isnan(scores).any():
        raise ValueError(f"the score of row {int(np.isnan(scores).argmax())} is NaN")
    chosen = [np.zeros(0, np.int64)]
    for begin in range(0, len(keys), QUERIES_AT_ONCE):
        some, edges = keys[begin : begin + QUERIES_AT_ONCE], starts[begin : begin + QUERIES_AT_ONCE + 1]
        rows = slice(edges[0], edges[-1])
        lists = first_cut(edges - edges[0], scores[rows], positive[rows], some, plan, seed)
        lists = second_cut(lists, _marked(lists, positive[rows], edges - edges[0]), some, plan, seed)
        chosen.append((lists.positions + edges[:-1, None])[lists.filled])
    return np.concatenate(chosen)


def first_cut(
    starts: np.ndarray, scores: np.ndarray, positive: np.ndarray, keys: np.ndarray, plan: SamplingSpec, seed: int
) -> RankedCandidates:
    """All positives, the hardest negatives, the rest stratified: min(rows, max(candidates, positives)) of each query."""
    judged = np.flatnonzero(positive)
    lists = rank(starts, scores, judged)
    positives = np.diff(np.searchsorted(judged, starts))
    sizes = np.minimum(lists.lengths, np.maximum(plan.candidates, positives))
    certain = np.minimum(positives + plan.hardest, sizes)[:, None]
    ranks = np.arange(sizes.max(initial=0))
    # The edges of the strata; a certain rank's stratum is itself.
    strata, left = np.maximum(sizes[:, None] - certain, 1), lists.lengths[:, None] - certain
    edges = np.arange(len(ranks) + 1) - certain
    edges = np.where(edges > 0, edges * left // strata, edges) + certain
    drawn = edges[:, :-1] + _draw(seed, keys, ranks, np.diff(edges, axis=1))
    chosen = lists.pick(drawn, sizes)
    chosen.packed[ranks < positives[:, None]] += BEFORE_ALL
    chosen.packed.sort(axis=1)
    return chosen


def second_cut(
    lists: RankedCandidates, positive: np.ndarray, keys: np.ndarray, plan: SamplingSpec, seed: int
) -> RankedCandidates:
    """The `head` best, and `keep - head` of the others: min(candidates, keep) of each query.

    Of the others the positives come first, the best of them where there are too many, wherever they rank; the rest is drawn
    from the band. A band that reaches past a short list slides up until it holds enough.

    Args:
        positive: Which candidates are judged relevant, bool of the shape of `lists.packed`.
    """
    sizes = np.minimum(lists.lengths, plan.keep)
    head = np.minimum(plan.head, sizes)
    end = np.maximum(np.minimum(lists.lengths, plan.band[1]), sizes)
    begin = np.maximum(np.minimum(plan.band[0], end - (sizes - head)), head)
    every = np.arange(max(lists.packed.shape[1], 1))
    slots = every - begin[:, None]
    draws = _hash(seed + 1, keys, slots) & ~np.uint64(POSITION_MASK) | every.astype(np.uint64)
    draws[(slots < 0) | (every >= end[:, None])] = np.uint64(2**64 - 1)
    below = np.pad(positive, ((0, 0), (0, len(every) - positive.shape[1]))) & (every >= head[:, None])
    draws = np.where(below, every.astype(np.uint64), draws)
    draws.sort(axis=1)
    lucky = (draws & np.uint64(POSITION_MASK)).astype(np.int64)
    ranks = np.arange(sizes.max(initial=0))
    inside = np.clip(ranks - head[:, None], 0, lucky.shape[1] - 1)
    chosen = lists.pick(np.where(ranks < head[:, None], ranks, np.take_along_axis(lucky, inside, axis=1)), sizes)
    chosen.packed.sort(axis=1)
    return chosen


def _marked(lists: RankedCandidates, positive: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Which candidates of `lists` are positive, bool of the shape of `packed`; `positive` is that of the rows that were ranked."""
    rows = np.where(lists.filled, lists.positions + starts[:-1, None], 0)
    return positive[rows] & lists.filled if len(positive) else lists.filled


def rank(starts: np.ndarray, scores: np.ndarray, first: np.ndarray) -> RankedCandidates:
    """Each query's rows, best first, the rows named by `first` before the others. No score may be NaN."""
    lengths = np.diff(starts)
    width = lengths.max(initial=0)
    bits = (np.float32(0) - scores.astype(np.float32, copy=False)).view(np.int32)  # 0 - x makes -0.0 equal to 0.0
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)  # now the integers have the order of the numbers
    packed = bits.astype(np.int64)
    packed <<= POSITION_BITS
    packed[first] -= BEFORE_ALL
    if (lengths == width).all():
        table = packed.reshape(len(lengths), width)
    else:
        table = np.full((len(lengths), width), EMPTY)
        table[np.arange(width) < lengths[:, None]] = packed
    table |= np.arange(width)  # EMPTY stays what it is
    table.sort(axis=1)
    return RankedCandidates(table, lengths)


def _draw(seed: int, keys: np.ndarray, positions: np.ndarray, below: np.ndarray) -> np.ndarray:
    """A whole number from 0 up to `below`, for each query and position."""
    high = (_hash(seed, keys, positions) >> np.uint64(32)).astype(np.int64)
    return (high * below) >> 32


def _hash(seed: int, keys: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """64 scattered bits for each (query, position): splitmix64 over both."""
    with np.errstate(over="ignore"):
        base = scatter(keys.astype(np.uint64) ^ np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64))
        return scatter(base[:, None] + positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def scatter(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 on uint64."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
