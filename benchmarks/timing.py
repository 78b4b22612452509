"""What the benchmarks measure time with: wall and CPU seconds side by side, and rounds in which every side has its turn.

CPU seconds (user and system, of this process and of those that it has waited for) count work; wall seconds also count
waiting for what else the machine does. With other work on the host, ratios of CPU seconds move far less.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Cost:
    """Seconds that some work took: `wall` on the clock, `cpu` of all cores together."""

    wall: float
    cpu: float


def cost(work: Callable[[], object]) -> Cost:
    """Run `work` once; a GPU is waited for before and after."""
    _wait_for_gpu()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    work()
    _wait_for_gpu()
    return Cost(time.perf_counter() - wall, _cpu_seconds() - cpu)


def rounds(sides: dict[str, Callable[[], object]], count: int) -> dict[str, list[Cost]]:
    """Measure every side once per round, in turns, so that what else the machine does hits all of them."""
    taken: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(count):
        for name, work in sides.items():
            taken[name].append(cost(work))
    return taken


def median(costs: list[Cost]) -> Cost:
    """The median of the wall seconds and that of the CPU seconds."""
    return Cost(statistics.median(each.wall for each in costs), statistics.median(each.cpu for each in costs))


def ratio(theirs: list[Cost], ours: list[Cost], seconds: str = "cpu") -> float:
    """How many times as much theirs costs: the median over the rounds, by `cpu` or `wall` seconds."""
    return statistics.median(
        getattr(slow, seconds) / getattr(fast, seconds) for slow, fast in zip(theirs, ours, strict=True)
    )


@contextmanager
def threads(count: int) -> Generator[None]:
    """torch with `count` threads, and a tokenizer that takes one thread if that is one; as before afterwards."""
    before, parallel = torch.get_num_threads(), os.environ.get("TOKENIZERS_PARALLELISM")
    torch.set_num_threads(count)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if parallel is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = parallel


def load_average() -> float:
    """Processes that ran or waited for a core in the last minute: what else the machine did."""
    return os.getloadavg()[0]


def _cpu_seconds() -> float:
    waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + waited_for.ru_utime + waited_for.ru_stime


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
