"""Scoring in several processes: here, on Slurm through datatrove, or on Ray, with the same command.

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


# --- On Slurm ---------------------------------------------------------------------------------------------------------


@dataclass
class ScoreShards:
    """One task's part of the shards, as a step of a datatrove pipeline."""

    jobs: list[Job]
    scorer: Scorer

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        for job in self.jobs[rank::world_size]:
            score_shard(self.scorer.teacher, job)


def submit_to_slurm(jobs: list[Job], scorer: Scorer, workers: int, *, logs: Path, options: dict[str, Any]) -> None:
    """Give the jobs to Slurm, as a job array of `workers` tasks; does not wait for them.

    Args:
        options: Of datatrove's SlurmPipelineExecutor.

    Raises:
        ReleaseError: Slurm cannot be used here, or not with these options.
    """
    from datatrove.executor import SlurmPipelineExecutor  # takes seconds to import

    # datatrove submits one more job that adds up statistics: without a task's success it would wait for ever.
    sbatch = {"kill-on-invalid-dep": "yes"} | (options.get("sbatch_args") or {})
    common = {"pipeline": [ScoreShards(jobs, scorer)], "tasks": workers, "workers": workers, "logging_dir": str(logs)}
    settings: dict[str, Any] = {"job_name": "score", **common, "skip_completed": False, **options}
    kind: Any = SlurmPipelineExecutor
    try:
        executor = kind(**settings | {"sbatch_args": sbatch})
    except TypeError as error:
        raise _unusable("slurm", error, "--option partition=gpu --option time=24:00:00") from error
    executor.run()


# --- On Ray -----------------------------------------------------------------------------------------------------------

RETRIES = 3  # of a shard whose worker was killed


class RayWorker:
    """An actor that loads the teacher once and scores a shard at a time."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def score(self, job: Job) -> int:
        """Score one job; returns its rows."""
        score_shard(self.scorer.teacher, job)
        return job.rows


def score_on_ray(
    jobs: Sequence[Job], scorer: Scorer, workers: int, *, options: dict[str, Any], progress: Progress
) -> None:
    """Score the jobs with `workers` actors of the cluster in RAY_ADDRESS, or of this machine; a killed one is started again.

    Args:
        options: Of Ray's actors, such as num_gpus.

    Raises:
        ReleaseError: Ray cannot be used here, a worker stopped with an error, or was killed again and again.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise ReleaseError("ray is not installed", hint="pip install 'ettin-release[cluster]'") from error
    settings: dict[str, Any] = {"num_cpus": 1, "max_restarts": -1, "max_task_retries": RETRIES, **options}
    try:
        worker: Any = ray.remote(**settings)(RayWorker)
    except (TypeError, ValueError) as error:
        raise _unusable("ray", error, "--option num_gpus=1") from error
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    try:
        pool = ActorPool([worker.remote(scorer) for _ in range(workers)])
        for rows in pool.map_unordered(lambda actor, job: actor.score.remote(job), jobs):
            progress(rows)
    except ray.exceptions.RayTaskError as error:  # whatever a teacher raises
        cause = error.cause
        if isinstance(cause, ReleaseError):
            raise ReleaseError(cause.what, where=cause.where, hint=cause.hint) from error
        what = f"a worker stopped ({type(cause).__name__}: {' '.join(str(cause).split())[:200]})"
        raise ReleaseError(what, hint=f"fix that, then {AGAIN}") from error
    except ray.exceptions.RayActorError as error:
        what = f"a worker was killed {RETRIES + 1} times at the same shard"
        raise ReleaseError(what, hint=f"give it more memory, then {AGAIN}") from error
    finally:
        ray.shutdown()


def _unusable(executor: str, error: Exception, example: str) -> ReleaseError:
    return ReleaseError(
        f"the executor {executor!r} cannot be used ({error})",
        hint=f"pass what it needs with --option NAME=VALUE, such as {example}",
    )
