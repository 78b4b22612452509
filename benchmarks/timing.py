"""What the benchmarks measure time with: wall and CPU seconds side by side, and rounds in which every side has its turn.

CPU seconds (user and system, of this process and of those that it has waited for) count work; wall seconds also count
waiting for what else the machine does. With other work on the host, ratios of CPU seconds move far less.
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from release.console import table


def positive(text: str) -> int:
    """A number of rounds, pairs or threads on the command line: a whole one above 0."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


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


@dataclass(frozen=True)
class SideTimings:
    """Sides measured with one thread and with all: `taken[threads][side]` holds a cost per round, the plain side first.

    The judge is CPU seconds with one thread: neither other work on the host nor threads that wait for each other count.
    """

    taken: dict[int, dict[str, list[Cost]]]
    load_before: float

    def times(self, side: str, seconds: str = "cpu", *, threads: int = 1, against: str | None = None) -> float:
        """How many times as fast as the plain side, or as another one."""
        costs = self.taken[threads]
        return ratio(costs[against or next(iter(costs))], costs[side], seconds)

    def show(self, title: str, items: int, unit: str) -> None:
        """A table for people; `items` are what one round of a side gets through."""
        rows = []
        for count, costs in self.taken.items():
            for side in costs:
                cost = median(costs[side])
                rates = [f"{items / cost.wall:,.1f}", f"{cost.wall:.2f}", f"{cost.cpu:.2f}"]
                times = [f"{self.times(side, seconds, threads=count):.2f}" for seconds in ("wall", "cpu")]
                rows.append([side, count, *rates, *times])
        table(title, ["", "threads", f"{unit}/s", "wall s", "CPU s", "x wall", "x CPU"], rows)

    def as_json(self, side: str, items: int, unit: str) -> dict[str, Any]:
        """`ratio` and the rates of `side` and the plain one, by CPU seconds with one thread; all else beside them."""
        plain, most = next(iter(self.taken[1])), max(self.taken)
        return {
            "ratio": round(self.times(side), 2),
            "ratio_wall": round(self.times(side, "wall"), 2),
            "ratio_all_threads": round(self.times(side, threads=most), 2),
            "ratio_wall_all_threads": round(self.times(side, "wall", threads=most), 2),
            "ours": round(items / median(self.taken[1][side]).cpu, 2),
            "theirs": round(items / median(self.taken[1][plain]).cpu, 2),
            "unit": f"{unit} per CPU second, one thread",
            "seconds": {
                count: {
                    name: {"wall": round(median(each).wall, 4), "cpu": round(median(each).cpu, 4)}
                    for name, each in costs.items()
                }
                for count, costs in self.taken.items()
            },
            "rounds": len(self.taken[1][plain]),
            "threads": most,
            "load_before": round(self.load_before, 2),
        }


def compare(sides: dict[str, Callable[[], object]], count: int, most: int | None = None) -> SideTimings:
    """Measure all sides `count` times in turns, after a round to warm up, with one thread and then with all (or `most`)."""
    load = os.getloadavg()[0]
    taken = {}
    for number in sorted({1, most or len(os.sched_getaffinity(0))}):
        with threads(number):
            rounds(sides, 1)
            taken[number] = rounds(sides, count)
    return SideTimings(taken, load)


@contextmanager
def threads(count: int) -> Generator[None]:
    """torch with `count` threads, and a tokenizer that takes one thread if that is one; as before afterwards."""
    import torch  # late: what has nothing to do with it shall not carry its 300 MB while memory is measured

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


def _cpu_seconds() -> float:
    waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + waited_for.ru_utime + waited_for.ru_stime


def _wait_for_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.synchronize()
