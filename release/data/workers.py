"""Scoring in several processes, through datatrove: on this machine, on Slurm or on Ray, with the same command.

The shards themselves are the checkpoint: each worker takes every n-th shard that is not there yet, so a run that was killed goes on
wherever it stopped, with any number of workers and on any executor.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from loguru import logger

from release.data.score_shard import Job, score_shard
from release.errors import ReleaseError
from release.teachers.cross_encoder import Teacher

logger.disable("datatrove")  # its log would drown the progress bar; tasks' errors reach the caller as exceptions
AGAIN = "run the same command again, finished shards are kept"


@dataclass
class ScoreShards:
    """One worker's part of the shards, as a step of a datatrove pipeline.

    Attributes:
        jobs: All shards that are still to be scored.
        identity: What the teacher must be; another one on another machine is refused.
        make: Loads the teacher, in the worker.
        threads: CPU threads of each worker, 0 for torch's own choice.
    """

    jobs: list[Job]
    identity: dict[str, Any]
    make: Callable[[], Teacher]
    threads: int = 0

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        if self.threads:
            import torch

            torch.set_num_threads(self.threads)
        teacher = self.make()
        if teacher.identity != self.identity:
            differs = [key for key in self.identity if teacher.identity.get(key) != self.identity[key]]
            raise ReleaseError(
                f"this worker's teacher has another {', '.join(differs)}",
                where=f"worker {rank}",
                hint="give every worker the same machine, packages and model",
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
        ReleaseError: A worker stopped with an error or was killed, or the executor cannot be used here.
    """
    arguments = {"pipeline": [step], "tasks": workers, "logging_dir": str(folder), "skip_completed": False, **options}
    stop = threading.Event()
    follower = threading.Thread(target=_follow, args=(stop, finished, advance), daemon=True)
    follower.start()
    try:
        if executor == "local":
            _run_here(workers, arguments)
        else:
            _executor(executor, {"workers": workers, **arguments}).run()
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
        raise ReleaseError(
            f"the executor {name!r} cannot be used ({error})",
            hint="pass what it needs with --option NAME=VALUE, such as --option partition=gpu --option time=24:00:00",
        ) from error


def _run_here(workers: int, arguments: dict[str, Any]) -> None:
    """One process per worker, each with an executor of its own, so that a worker that is killed is missed at once.

    datatrove's own pool of processes would start another worker and wait for ever for what the first one had begun.
    """
    context = multiprocessing.get_context("spawn")
    processes, waiting = [], {}
    try:
        for rank in range(workers):
            hears, tells = context.Pipe(duplex=False)
            process = context.Process(target=_worker, args=(tells, os.getpid(), rank, arguments))
            process.start()
            tells.close()
            processes.append(process)
            waiting[process.sentinel] = (rank, process, hears)
        while waiting:
            for sentinel in connection.wait(list(waiting)):
                _check_out(*waiting.pop(sentinel))
    finally:
        for process in processes:
            process.kill()
            process.join()


def _check_out(rank: int, process: Any, hears: Any) -> None:
    """Raise the error of a worker that has ended with one."""
    process.join()
    if process.exitcode == 0:
        return
    if process.exitcode < 0:
        name = signal.Signals(-process.exitcode).name
        raise ReleaseError(
            f"worker {rank} was killed ({name})", hint=f"give it more memory or take fewer workers, then {AGAIN}"
        )
    try:
        what, where, hint = hears.recv()
    except EOFError as error:
        raise ReleaseError(
            f"worker {rank} stopped with the error that is printed above", hint=f"fix that, then {AGAIN}"
        ) from error
    raise ReleaseError(what, where=where, hint=hint)


def _worker(tells: Any, boss: int, rank: int, arguments: dict[str, Any]) -> None:
    """The task `rank`, in a process of its own that ends with its boss; an error for people is told to the boss."""
    from release.errors import ReleaseError

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everybody; the boss speaks for all
    os.register_at_fork(after_in_child=_die_with_parent)  # datatrove's manager would live on for ever and keep our lock
    _die_with_parent()
    if os.getppid() != boss:  # it was killed before we could ask to be told
        sys.exit(1)
    arguments = arguments | {"logging_dir": f"{arguments['logging_dir']}/{rank}"}
    try:
        _executor("local", {**arguments, "workers": 1, "local_tasks": 1, "local_rank_offset": rank}).run()
    except ReleaseError as error:
        tells.send((error.what, error.where, error.hint))
        sys.exit(1)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def _follow(stop: threading.Event, finished: Callable[[], int], advance: Callable[[int], None]) -> None:
    seen = 0
    while not stop.wait(0.5):
        now = finished()
        advance(now - seen)
        seen = now
