"""Sampling candidates: the fast version equals the readable one, loses no positive, and gives exact sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.data import sampling
from release.spec import SamplingSpec

PLAN = SamplingSpec(candidates=256, hardest=16, keep=64, head=32, band=(32, 256))
SMALL = SamplingSpec(candidates=12, hardest=3, keep=7, head=3, band=(4, 10))


def readable_first(scores: list[float], positive: list[bool], key: int, plan: SamplingSpec, seed: int) -> list[int]:
    """All positives, the hardest negatives, and one candidate from each stratum of the other negatives."""
    order = sorted(range(len(scores)), key=lambda row: (not positive[row], -scores[row], row))
    positives = sum(positive)
    size = min(len(scores), max(plan.candidates, positives))
    certain = min(positives + plan.hardest, size)
    rest, strata = order[certain:], size - certain
    drawn = []
    for number in range(strata):
        low, high = number * len(rest) // strata, (number + 1) * len(rest) // strata
        drawn.append(rest[low + luck(seed, key, certain + number, high - low)])
    return sorted(order[:certain] + drawn, key=lambda row: (-scores[row], row))


def readable_second(order: list[int], positive: list[bool], key: int, plan: SamplingSpec, seed: int) -> list[int]:
    """The head of the list, the positives below it, and a draw without replacement from the band."""
    size = min(len(order), plan.keep)
    head = min(plan.head, size)
    end = max(min(len(order), plan.band[1]), size)
    begin = max(min(plan.band[0], end - (size - head)), head)
    certain = [rank for rank in range(head, len(order)) if positive[order[rank]]]
    slots = sorted(range(end - begin), key=lambda slot: (bits(seed + 1, key, slot) >> sampling.POSITION_BITS, slot))
    drawn = [begin + slot for slot in slots if begin + slot not in certain]
    return order[:head] + [order[rank] for rank in sorted((certain + drawn)[: size - head])]


def bits(seed: int, key: int, slot: int) -> int:
    return int(sampling._hash(seed, np.array([key], np.uint64), np.array([slot]))[0, 0])


def luck(seed: int, key: int, slot: int, below: int) -> int:
    return (bits(seed, key, slot) >> 32) * below >> 32


@st.composite
def queries(draw: st.DrawFn) -> list[tuple[list[float], list[bool]]]:
    """Lists of candidates: empty to long, with many ties and any number of positives."""
    score = st.one_of(st.sampled_from([0.0, -0.0, 1.5, -3.0]), st.floats(-20, 20, width=32))
    candidate_lists = []
    for _ in range(draw(st.integers(1, 4))):
        scores = draw(st.lists(score, max_size=40))
        candidate_lists.append((scores, draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))))
    return candidate_lists


def flat(lists: list[tuple[list[float], list[bool]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    lengths = [len(scores) for scores, _ in lists]
    scores = np.array([value for values, _ in lists for value in values], np.float32)
    positive = np.array([mark for _, marks in lists for mark in marks], bool)
    keys = sampling.scatter(np.arange(1, len(lists) + 1).astype(np.uint64))
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), scores, positive, keys


@settings(deadline=None, max_examples=150)
@given(queries(), st.sampled_from([SMALL, PLAN]), st.integers(0, 2**32))
def test_the_fast_version_is_the_readable_one(
    lists: list[tuple[list[float], list[bool]]], plan: SamplingSpec, seed: int
) -> None:
    starts, scores, positive, keys = flat(lists)
    first = sampling.first_cut(starts, scores, positive, keys, plan, seed)
    marked = sampling._marked(first, positive, starts)
    second = sampling.second_cut(first, marked, keys, plan, seed)
    for number, (values, marks) in enumerate(lists):
        expected = readable_first(values, marks, int(keys[number]), plan, seed)
        assert first.positions[number][: first.lengths[number]].tolist() == expected
        expected = readable_second(expected, marks, int(keys[number]), plan, seed)
        assert second.positions[number][: second.lengths[number]].tolist() == expected


@settings(deadline=None, max_examples=150)
@given(queries(), st.integers(0, 1000))
def test_sizes_are_exact_no_positive_is_lost_and_nothing_comes_twice(
    lists: list[tuple[list[float], list[bool]]], seed: int
) -> None:
    starts, scores, positive, keys = flat(lists)
    first = sampling.first_cut(starts, scores, positive, keys, SMALL, seed)
    for (values, marks), row_numbers, filled in zip(lists, first.positions, first.filled, strict=True):
        rows = row_numbers[filled].tolist()
        assert len(set(rows)) == len(rows) == min(len(values), max(SMALL.candidates, sum(marks)))
        assert {row for row, mark in enumerate(marks) if mark} <= set(rows)
    sample = sampling.sample_candidates(starts, scores, positive, keys, SMALL, seed)
    assert len(set(sample.tolist())) == len(sample) == sum(min(len(values), SMALL.keep) for values, _ in lists)


def test_the_hardest_negatives_and_the_head_always_stay() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=2048).astype(np.float32)
    positive = np.zeros(2048, bool)
    positive[rng.choice(2048, 5, replace=False)] = True
    starts, keys = np.array([0, 2048]), np.array([7], np.uint64)
    (rows,) = sampling.first_cut(starts, scores, positive, keys, PLAN, 12).positions
    assert len(rows) == 256
    negatives = [row for row in np.argsort(-scores) if not positive[row]]
    assert set(negatives[:16]) <= set(rows.tolist())
    assert (np.diff(scores[rows]) <= 0).all()
    assert scores[rows[-1]] < np.quantile(scores, 0.02)  # the strata reach down to the easiest ones
    sample = sampling.sample_candidates(starts, scores, positive, keys, PLAN, 12)
    assert sample[:32].tolist() == rows[:32].tolist()
    assert set(sample[32:].tolist()) <= set(rows[32:].tolist())
    assert (np.diff(scores[sample]) <= 0).all()


def test_a_lone_positive_stays_wherever_the_teacher_ranks_it() -> None:
    """The published sentence keeps positives; a draw of 32 from 224 ranks alone would lose six of seven."""
    scores, keys = np.arange(2048, 0, -1).astype(np.float32), np.arange(1, 201).astype(np.uint64)
    positive = np.zeros(2048, bool)
    positive[1500] = True
    starts = np.arange(201) * 2048
    sample = sampling.sample_candidates(starts, np.tile(scores, 200), np.tile(positive, 200), keys, PLAN, 12)
    assert len(sample) == 200 * 64
    assert (np.bincount(sample // 2048, weights=sample % 2048 == 1500) == 1).all()


def test_a_querys_draw_depends_on_no_other_query() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=3 * 500).astype(np.float32)
    positive = rng.random(1500) < 0.01
    keys = np.array([11, 22, 33], np.uint64)
    together = sampling.sample_candidates(np.array([0, 500, 1000, 1500]), scores, positive, keys, PLAN, 3)
    alone = sampling.sample_candidates(np.array([0, 500]), scores[500:1000], positive[500:1000], keys[1:2], PLAN, 3)
    assert (together[64:128] - 500).tolist() == alone.tolist()
    assert sampling.sample_candidates(np.array([0, 500]), scores[:500], positive[:500], keys[:1], PLAN, 4).tolist() != (
        together[:64].tolist()
    )


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 63, 64, 65, 255, 256, 257, 2048])
def test_fewer_candidates_than_asked_are_all_kept(length: int) -> None:
    scores = np.zeros(length, np.float32)  # all tied
    starts, keys = np.array([0, length]), np.array([5], np.uint64)
    sample = sampling.sample_candidates(starts, scores, np.zeros(length, bool), keys, PLAN, 0)
    assert len(sample) == len(set(sample.tolist())) == min(length, 64)


def test_nan_is_refused() -> None:
    scores = np.array([1.0, math.nan, 2.0], np.float32)
    with pytest.raises(ValueError, match="row 1 is NaN"):
        sampling.sample_candidates(np.array([0, 3]), scores, np.zeros(3, bool), np.array([1], np.uint64), PLAN, 0)


def test_infinite_scores_and_signed_zeros_are_ordered_as_numbers() -> None:
    scores = np.array([0.0, np.inf, -np.inf, -0.0, 1e-30], np.float32)
    starts = np.array([0, 5])
    assert sampling.rank(starts, scores, np.zeros(0, int)).positions.tolist() == [[1, 4, 0, 3, 2]]
    assert sampling.rank(starts, scores, np.array([2, 3])).positions.tolist() == [[3, 2, 1, 4, 0]]
