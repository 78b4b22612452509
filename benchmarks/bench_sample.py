"""Sampling candidates 2048 -> 256 -> 64: all queries at once against one query at a time in plain Python.

Both sides sort by score and draw what the declaration asks; the plain one draws with Python's own generator, which is its fastest
way, so only the drawn rows differ. (That the fast version equals a readable one draw for draw is a test.)
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time

import numpy as np

from release.console import print_json, table
from release.data import sampling
from release.data.spec import SamplingSpec

CANDIDATES, GOAL = 2048, 30
PLAN = SamplingSpec(candidates=256, hardest=16, keep=64, head=32, band=(32, 256))


def plain(starts: list[int], scores: list[float], positive: list[bool], plan: SamplingSpec) -> list[int]:
    """Rows to keep, query after query, as one would write it by hand."""
    draw, kept = random.Random(12), []
    for begin, end in itertools.pairwise(starts):
        order = sorted(range(begin, end), key=lambda row: (not positive[row], -scores[row]))
        certain = min(sum(positive[begin:end]) + plan.hardest, len(order))
        rest, strata = order[certain:], plan.candidates - certain
        first = order[:certain]
        for number in range(strata):
            first.append(rest[draw.randrange(number * len(rest) // strata, (number + 1) * len(rest) // strata)])
        first.sort(key=lambda row: -scores[row])
        low, high = plan.band
        kept += first[: plan.head] + sorted(
            draw.sample(first[low:high], plan.keep - plan.head), key=lambda row: -scores[row]
        )
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    words = parser.parse_args()
    draw = np.random.default_rng(12)
    rows = words.queries * CANDIDATES
    starts = np.arange(words.queries + 1, dtype=np.int64) * CANDIDATES
    scores, positive = draw.normal(0, 5, rows).astype(np.float32), draw.random(rows) < 2 / CANDIDATES
    keys = sampling.scatter(np.arange(1, words.queries + 1).astype(np.uint64))
    lists = (starts.tolist(), scores.tolist(), positive.tolist())
    seconds: dict[str, list[float]] = {"plain": [], "vectorised": []}
    for _ in range(words.rounds):  # in turn, so that both sides meet the same machine
        began = time.perf_counter()
        slow = plain(*lists, PLAN)
        seconds["plain"].append(time.perf_counter() - began)
        began = time.perf_counter()
        fast = sampling.sample_candidates(starts, scores, positive, keys, PLAN, 12)
        seconds["vectorised"].append(time.perf_counter() - began)
    if len(slow) != len(fast) or len(fast) != words.queries * PLAN.keep:
        raise SystemExit(f"error: {len(slow)} and {len(fast)} rows were kept, not {words.queries * PLAN.keep}")
    rate = {side: words.queries / statistics.median(found) for side, found in seconds.items()}
    ratio = rate["vectorised"] / rate["plain"]
    shown = [[side, f"{value:,.0f}", f"{value / rate['plain']:.1f}"] for side, value in rate.items()]
    table(f"Sampling {PLAN.keep} of {CANDIDATES} candidates", ["", "queries/s", "times as fast"], shown)
    line = {"ratio": round(ratio, 2), "goal": GOAL, "reached": ratio >= GOAL, "unit": "queries/s"}
    print_json(line | {side: round(value, 1) for side, value in rate.items()})


if __name__ == "__main__":
    main()
