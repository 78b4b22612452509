"""Scoring in several processes, through datatrove: on this machine, on Slurm or on Ray, with the same command.

The shards themselves are the checkpoint: each worker takes every n-th shard that is not there yet, so a run that was killed goes on
wherever it stopped, with any number of workers and on any executor.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from recipes.declare import refuse
from recipes.label import Job, score_shard
from recipes.teacher import Teacher

logger.disable("datatrove")  # its log would drown the progress bar; tasks' errors reach the caller as exceptions


@dataclass
class ScoreShards:
    """One worker's part of the shards, as a step of a datatrove pipeline.

    Attributes:
        jobs: All shards that are still to be scored.
        identity: What the teacher must be; another one on another machine is refused.
        make: Loads the teacher, in the worker.
        threads: CPU threads of each worker, 0 for torch's own choice.
        boss: The process that started the workers on this machine, or 0: when it is killed, they die with it.
    """

    jobs: list[Job]
    identity: dict[str, Any]
    make: Callable[[], Teacher]
    threads: int = 0
    boss: int = 0

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        if self.boss and self.boss != os.getpid():
            threading.Thread(target=_die_with, args=(self.boss,), daemon=True).start()
        if self.threads:
            import torch

            torch.set_num_threads(self.threads)
        teacher = self.make()
        if teacher.identity != self.identity:
            differs = [key for key in self.identity if teacher.identity.get(key) != self.identity[key]]
            refuse(
                f"this worker's teacher has another {', '.join(differs)}",
                where=f"worker {rank}",
                mend="give every worker the same machine, packages and model",
            )
        for job in self.jobs[rank::world_size]:
            score_shard(teacher, job)


def score_with_workers(
    step: ScoreShards,
    *,
    executor: str,
    workers: int,
    folder: Path,
    options: dict[str, Any],
    finished: Callable[[], int],
    advance: Callable[[int], None],
) -> None:
    """Run `step` with `workers` tasks; while they work on this machine, `advance` follows what `finished` counts.

    Raises:
        ReleaseError: A worker stopped with an error, or the executor cannot be used here.
    """
    common = {"pipeline": [step], "tasks": workers, "logging_dir": str(folder), "skip_completed": False}
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(stop, finished, advance), daemon=True)
    follower.start()
    try:
        with _forks_die_with_us():
            _executor(executor, {**common, "workers": workers, **options}).run()
    finally:
        stop.set()
        follower.join()


def _executor(name: str, arguments: dict[str, Any]) -> Any:
    try:
        if name == "local":
            from datatrove.executor import LocalPipelineExecutor

            return LocalPipelineExecutor(**arguments)
        if name == "slurm":
            from datatrove.executor import SlurmPipelineExecutor

            return SlurmPipelineExecutor(**{"job_name": "score", **arguments})
        from datatrove.executor import RayPipelineExecutor

        return RayPipelineExecutor(**arguments)
    except (TypeError, ImportError) as error:
        refuse(
            f"the executor {name!r} cannot be used ({error})",
            mend="pass what it needs with --option NAME=VALUE, such as --option partition=gpu --option time=24:00:00",
        )


@contextmanager
def _forks_die_with_us() -> Iterator[None]:
    """A process forked in here is killed when this one is: datatrove's manager would live on for ever and keep our lock."""
    active = True

    def tie() -> None:
        if active and sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG

    os.register_at_fork(after_in_child=tie)
    try:
        yield
    finally:
        active = False


def _follow(stop: threading.Event, finished: Callable[[], int], advance: Callable[[int], None]) -> None:
    seen = 0
    while not stop.wait(0.5):
        now = finished()
        advance(now - seen)
        seen = now


def _die_with(boss: int) -> None:
    """Wait for the end of the process `boss`, even where nobody has asked for its status yet, then end this one."""
    if hasattr(os, "pidfd_open"):  # Linux
        with suppress(ProcessLookupError):  # it is gone already
            select.select([os.pidfd_open(boss)], [], [])
        os._exit(1)
