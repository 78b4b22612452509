"""How long one query waits on a CPU for the export in its fastest engines, by the protocol of `make speed`: the same texts,
cut at the same length, and as many documents."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from release import console, mode
from release.export import portable
from release.export.pairs import Pair
from release.family import Family
from release.results.engines import EngineLatency
from release.runtime import cpu_engines
from release.speed.latency import latencies
from release.speed.pairs import MOST, REHEARSED, draw

ENGINES = ("openvino", "onnxruntime")  # of cpu_engines: in bf16 where the CPU has it, and in fp32


def measure(export: Path, family: Family) -> tuple[EngineLatency, ...]:
    """Each engine that runs here with all cores, alone on the machine.

    A process of its own for each: in one that ran OpenVINO before, two threads in ONNX Runtime waited for ever
    (OpenVINO 2026.4.1, ONNX Runtime 1.32.0).

    Raises:
        ReleaseError: The family's pairs are not here and cannot be fetched.
    """
    pool = draw(family, mode.amount(MOST, REHEARSED))
    limit = min(family.speed.max_length, portable.max_length(export))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        running = {name: processes.submit(of_engine, name, export, pool, limit) for name in ENGINES}
        rows = []
        for name, row in running.items():
            try:
                rows.append(row.result())
            except Exception as error:  # it is not installed, or cannot run here: each engine raises its own
                console.say(f"latency of {name}: not measured, {type(error).__name__}: {error}"[:200])
        return tuple(rows)


def of_engine(name: str, export: Path, pool: list[Pair], max_length: int) -> EngineLatency:
    """A row: loading is not in it, tokenizing is. At most `max_length` tokens of a pair are read."""
    engine = getattr(cpu_engines, name)(export)
    engine.tokenizer.enable_truncation(max_length)

    def seconds(pairs: list[Pair]) -> float:
        started = time.perf_counter()
        engine.predict(pairs)
        return time.perf_counter() - started

    return EngineLatency(engine.name, engine.threads, latencies(seconds, pool))
