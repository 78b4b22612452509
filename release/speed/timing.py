"""Timing a scorer: passes of which the median counts, and batch sizes doubled from the first one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from release.errors import CannotRun
from release.results.speed import BatchSpeed
from release.runtime.memory import free, is_out_of_memory, peak_memory_mb, reset_peak
from release.speed.pairs import MOST

CLEARLY = 0.9  # on a CPU, below this share of the best rate, larger batches are not tried
LEAST = 128  # pairs
Pairs = list[tuple[str, str]]
Predict = Callable[[Pairs, int], np.ndarray]


def pairs_for(predict: Predict, pool: Pairs, batch: int, seconds: float) -> int:
    """A power of two of pairs that one pass of the slowest configuration gets through in about `seconds`."""
    sample = pool[: max(batch * 4, 32)]
    predict(sample, batch)  # warm-up
    started = time.perf_counter()
    predict(sample, batch)
    rate = len(sample) / (time.perf_counter() - started)
    count = 2 ** round(np.log2(max(rate * seconds, 1)))
    return int(min(max(count, LEAST), MOST, len(pool)))


def rates(predict: Predict, pairs: Pairs, batch: int, passes: int) -> list[float]:
    """Pairs per second of each pass, after a warm-up at this size."""
    predict(pairs[: 2 * batch], batch)
    return [len(pairs) / seconds(lambda: predict(pairs, batch)) for _ in range(passes)]


def batches(
    predict: Predict, pairs: Pairs, first: int, passes: int, *, until_memory_ends: bool
) -> tuple[list[BatchSpeed], str]:
    """Rates and peak memory by batch size, doubled from the first one, and why no larger one was tried.

    Args:
        until_memory_ends: Double until memory runs out, as published, or a batch holds every pair. Otherwise (on a CPU,
            whose memory the whole machine needs) until the rate falls clearly or a batch is half of the pairs.

    Raises:
        CannotRun: Memory is out at the first size.
    """
    tried: list[BatchSpeed] = []
    batch, most = first, max(first, len(pairs) if until_memory_ends else len(pairs) // 2)
    while batch <= most:
        free()
        reset_peak()
        try:
            each = rates(predict, pairs, batch, passes)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if not tried:
                raise CannotRun(f"out of memory at {batch} pairs", hint="a smaller first_batch") from error
            return tried, f"out of memory at {batch:,} pairs"
        tried.append(BatchSpeed(batch, statistics.median(each), tuple(each), peak_memory_mb()))
        best = max(speed.pairs_per_second for speed in tried)
        if not until_memory_ends and tried[-1].pairs_per_second < CLEARLY * best:
            return tried, f"our rule: the rate fell below {CLEARLY} of the best"
        batch *= 2
    return tried, f"our rule: a batch is at most {'all' if until_memory_ends else 'half'} of the pairs"


def seconds(work: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()  # the scores arrive in main memory, which waits for the GPU
    return time.perf_counter() - started
