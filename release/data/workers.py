"""Scoring in several processes: here, or through datatrove on Slurm or Ray, with the same command.

The shards themselves are the checkpoint: what is not there yet is shared among the workers, so a run that was killed goes on
wherever it stopped, with any number of workers and on any executor.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from release.data.score_shard import Job, score_shard
from release.errors import ReleaseError
from release.teachers.base import Progress, Teacher

AGAIN = "run the same command again, finished shards are kept"


@dataclass
class Scorer:
    """What a worker is sent: how to get the teacher, which it loads once.

    Attributes:
        make: Loads the teacher, in the worker.
        identity: What the teacher must be; another one on another machine is refused.
        threads: CPU threads of each worker, 0 for torch's own choice.
    """

    make: Callable[[], Teacher]
    identity: dict[str, Any]
    threads: int = 0

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher, loaded.

        Raises:
            ReleaseError: It is another one than the run began with.
        """
        if self.threads:
            import torch  # takes seconds; a teacher may do without

            torch.set_num_threads(self.threads)
        teacher = self.make()
        if teacher.identity != self.identity:
            differs = [key for key in self.identity if teacher.identity.get(key) != self.identity[key]]
            raise ReleaseError(
                f"this worker's teacher has another {', '.join(differs)}",
                hint="give every worker the same machine, packages and model",
            )
        return teacher


# --- On this machine --------------------------------------------------------------------------------------------------


def score_here(jobs: Sequence[Job], scorer: Scorer, workers: int, progress: Progress) -> None:
    """Score the jobs in `workers` processes; `progress` is told of the rows of every finished shard.

    Raises:
        ReleaseError: A worker stopped with an error or was killed; the others are stopped then.
    """
    older = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (scorer, os.getpid())) as pool:
        futures = [pool.submit(_score, job) for job in jobs]
        processes = [child for child in multiprocessing.active_children() if child not in older]
        try:
            for future in as_completed(futures):
                progress(future.result())
        except ReleaseError:
            raise
        except BrokenProcessPool as error:
            raise _killed(processes) from error
        except Exception as error:  # whatever a teacher raises
            what = f"a worker stopped ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            raise ReleaseError(what, hint=f"fix that, then {AGAIN}") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if not all(future.done() for future in futures):
                for process in processes:
                    process.kill()


_scorer: Scorer | None = None  # of this worker


def _start_worker(scorer: Scorer, parent: int) -> None:
    """Prepare a worker: it ends with its parent, whatever ends that."""
    global _scorer
    _scorer = scorer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops the workers
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it was killed before we could ask to be told
        sys.exit(1)


def _score(job: Job) -> int:
    """Score one job in a worker; returns its rows."""
    assert _scorer is not None
    score_shard(_scorer.teacher, job)
    return job.rows


def _killed(processes: Sequence[Any]) -> ReleaseError:
    """What to raise about the worker that was missed; the pool has terminated the others."""
    deadline = time.monotonic() + 10
    for process in processes:
        process.join()
        while process.exitcode is None and time.monotonic() < deadline:  # the pool's thread was told it first
            time.sleep(0.01)
    ended = {process.exitcode for process in processes if process.exitcode is not None}
    codes = sorted(ended - {0, -signal.SIGTERM}) or [-signal.SIGTERM]
    if codes[0] > 0:
        return ReleaseError("a worker could not start; its error is printed above", hint=f"fix that, then {AGAIN}")
    name = signal.Signals(-codes[0]).name
    return ReleaseError(
        f"a worker was killed ({name})", hint=f"give it more memory or take fewer workers, then {AGAIN}"
    )


# --- On a cluster -----------------------------------------------------------------------------------------------------


@dataclass
class ScoreShards:
    """One task's part of the shards, as a step of a datatrove pipeline."""

    jobs: list[Job]
    scorer: Scorer

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        for job in self.jobs[rank::world_size]:
            score_shard(self.scorer.teacher, job)


def score_on_cluster(
    jobs: list[Job], scorer: Scorer, workers: int, *, executor: str, logs: Path, options: dict[str, Any]
) -> None:
    """Give the jobs to datatrove's executor for Slurm or Ray, as `workers` tasks.

    Raises:
        ReleaseError: The executor cannot be used here, or not with these options.
    """
    import datatrove.executor as executors  # takes seconds to import

    kind: Any = {"slurm": executors.SlurmPipelineExecutor, "ray": executors.RayPipelineExecutor}[executor]
    needed: dict[str, Any] = {}
    if (
        executor == "slurm"
    ):  # datatrove adds a job that adds up statistics: without a task's success it would wait for ever
        needed = {"job_name": "score"}
        options = options | {"sbatch_args": {"kill-on-invalid-dep": "yes"} | (options.get("sbatch_args") or {})}
    common = {"pipeline": [ScoreShards(jobs, scorer)], "tasks": workers, "workers": workers, "logging_dir": str(logs)}
    try:
        pipeline = kind(**{**needed, **common, "skip_completed": False, **options})
    except (TypeError, ImportError) as error:
        raise ReleaseError(
            f"the executor {executor!r} cannot be used ({error})",
            hint="pass what it needs with --option NAME=VALUE, such as --option partition=gpu --option time=24:00:00",
        ) from error
    pipeline.run()
