"""Sampling candidates 2048 -> 256 -> 64: all queries at once against one query at a time in plain Python.

Both sides sort by score and draw what the declaration asks; the plain one draws with Python's own generator, which is its fastest
way, so only the drawn rows differ. (That the fast version equals a readable one draw for draw is a test.)
"""

from __future__ import annotations

import argparse
import itertools
import random

import numpy as np

from benchmarks.timing import compare, positive
from release.console import print_json
from release.data import sampling
from release.spec import SamplingSpec

CANDIDATES, GOAL = 2048, 30
PLAN = SamplingSpec(candidates=256, hardest=16, keep=64, head=32, band=(32, 256))


def plain(starts: list[int], scores: list[float], positive: list[bool], plan: SamplingSpec) -> list[int]:
    """Rows to keep, query after query, as one would write it by hand."""
    draw, selected = random.Random(12), []
    for begin, end in itertools.pairwise(starts):
        order = sorted(range(begin, end), key=lambda row: (not positive[row], -scores[row]))
        certain = min(sum(positive[begin:end]) + plan.hardest, len(order))
        rest, strata = order[certain:], plan.candidates - certain
        first = order[:certain]
        for number in range(strata):
            first.append(rest[draw.randrange(number * len(rest) // strata, (number + 1) * len(rest) // strata)])
        first.sort(key=lambda row: -scores[row])
        low, high = plan.band
        selected += first[: plan.head] + sorted(
            draw.sample(first[low:high], plan.keep - plan.head), key=lambda row: -scores[row]
        )
    return selected


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=positive, default=2000)
    parser.add_argument("--rounds", type=positive, default=3)
    options = parser.parse_args(argv)
    draw = np.random.default_rng(12)
    rows = options.queries * CANDIDATES
    starts = np.arange(options.queries + 1, dtype=np.int64) * CANDIDATES
    scores, marked = draw.normal(0, 5, rows).astype(np.float32), draw.random(rows) < 2 / CANDIDATES
    keys = sampling.scatter(np.arange(1, options.queries + 1).astype(np.uint64))
    lists = (starts.tolist(), scores.tolist(), marked.tolist())
    square = scores.reshape(options.queries, CANDIDATES)
    counts: dict[str, int] = {}
    sides = {
        "plain": lambda: counts.update(plain=len(plain(*lists, PLAN))),
        "vectorised": lambda: counts.update(
            vectorised=len(sampling.sample_candidates(starts, scores, marked, keys, PLAN, 12))
        ),
        "sorting alone": lambda: np.argsort(square),
    }
    measured = compare(sides, options.rounds, most=1)  # neither side has threads
    if set(counts.values()) != {options.queries * PLAN.keep}:
        raise SystemExit(f"error: {counts} rows were kept, not {options.queries * PLAN.keep}")
    measured.show(f"Sampling {PLAN.keep} of {CANDIDATES} candidates", options.queries, "queries")
    line = measured.as_json("vectorised", options.queries, "queries")
    share = measured.times("vectorised") / measured.times("sorting alone")
    line |= {"goal": GOAL, "reached": line["ratio"] >= GOAL, "share": round(share, 3)}
    print_json(line | {"share_of": "sorting every query's scores once with numpy"})


if __name__ == "__main__":
    main()
