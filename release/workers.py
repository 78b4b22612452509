"""Jobs shared among several processes: here, on Slurm through datatrove, or on Ray, with the same command.

What a job writes is the checkpoint: what is not there yet is shared among the workers, so a run that was killed goes on
wherever it stopped, with any number of workers and on any executor.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from release.console import say
from release.errors import ReleaseError
from release.start_up import keep

AGAIN = "run the same command again, finished work is kept"

Work = Callable[[Any], int]  # does one job and returns its rows; is sent to each worker, which calls it job after job


@dataclass(frozen=True)
class Executor:
    """Who does the jobs.

    Attributes:
        kind: "local", "slurm" or "ray".
        workers: Processes that share the jobs.
        options: Of datatrove's SlurmPipelineExecutor, or of Ray's actors, such as num_gpus.
        name: Of the jobs on a cluster.
    """

    kind: str = "local"
    workers: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    name: str = "score"

    @property
    def shares(self) -> bool:
        """Whether there is anybody to share with: not where one process of this machine does all."""
        return self.kind != "local" or self.workers > 1

    @classmethod
    def parse(cls, kind: str, workers: int, options: Sequence[str] | None, name: str) -> Executor:
        """From the command line, options as NAME=VALUE.

        Raises:
            ReleaseError: An option without a value or with one that cannot be read, or for no cluster.
        """
        for each in options or []:
            if "=" not in each:
                raise ReleaseError(f"--option {each!r} has no value", hint="write NAME=VALUE, such as partition=gpu")
        if options and kind == "local":
            raise ReleaseError("--option is for an executor on a cluster", hint="add --executor slurm or ray")
        settings = {key: _setting(value) for key, _, value in (each.partition("=") for each in options or [])}
        return cls(kind, workers, settings, name)

    def run(self, jobs: Sequence[Any], work: Work, progress: Callable[[int], None], logs: Path) -> None:
        """Share the jobs among the workers; `progress` is called with the rows of every finished one.

        Slurm's jobs are only submitted: whoever calls looks whether they are finished.

        Raises:
            ReleaseError: A worker stopped with an error or was killed, or the executor cannot be used here.
        """
        if not jobs:
            return
        if self.kind == "slurm":
            submit_to_slurm(jobs, work, self.workers, name=self.name, logs=logs, options=self.options)
        elif self.kind == "ray":
            run_on_ray(jobs, work, self.workers, options=self.options, progress=progress)
        else:
            run_here(jobs, work, min(self.workers, len(jobs)), progress)


def _setting(text: str) -> Any:
    """The value of an option for an executor, as YAML, in which 24:00:00 shall not be 86400 minutes."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ReleaseError(f"--option has the value {text!r}, which is no YAML", hint="quote it") from error
    return text if isinstance(value, int) and ":" in text else value


# --- On this machine --------------------------------------------------------------------------------------------------


def run_here(jobs: Sequence[Any], work: Work, workers: int, progress: Callable[[int], None]) -> None:
    """Do the jobs in `workers` processes, which share the cores; `progress` is called with the rows of every finished one.

    Raises:
        ReleaseError: A worker stopped with an error or was killed; the others are stopped then.
    """
    older = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    threads = max(len(os.sched_getaffinity(0)) // workers, 1)
    with ProcessPoolExecutor(workers, context, _start_worker, (work, os.getpid(), threads)) as pool:
        futures = [pool.submit(_run_job, job) for job in jobs]
        processes = [child for child in multiprocessing.active_children() if child not in older]
        try:
            for future in as_completed(futures):
                progress(future.result())
        except ReleaseError:
            raise
        except BrokenProcessPool as error:
            raise _killed(processes) from error
        except Exception as error:  # whatever the work raises
            what = f"a worker stopped ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
            raise ReleaseError(what, hint=f"fix that, then {AGAIN}") from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            if not all(future.done() for future in futures):
                for process in processes:
                    process.kill()


_work: Work | None = None  # of this worker


def _start_worker(work: Work, parent: int, threads: int) -> None:
    """Prepare a worker: it ends with its parent, whatever ends that."""
    global _work
    _work = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops the workers
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it was killed before we could ask to be told
        sys.exit(1)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # what torch will begin with
    keep()
    if torch := sys.modules.get("torch"):  # it was imported with the work
        torch.set_num_threads(threads)


def _run_job(job: Any) -> int:
    """Do one job in a worker; returns its rows."""
    assert _work is not None
    return _work(job)


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
class Part:
    """One task's part of the jobs, as a step of a datatrove pipeline."""

    jobs: Sequence[Any]
    work: Work

    def __call__(self, data: Any, rank: int = 0, world_size: int = 1) -> None:
        for job in self.jobs[rank::world_size]:
            self.work(job)


def submit_to_slurm(
    jobs: Sequence[Any], work: Work, workers: int, *, name: str, logs: Path, options: dict[str, Any]
) -> None:
    """Give the jobs to Slurm, as a job array of `workers` tasks called `name`; does not wait for them.

    Args:
        options: Of datatrove's SlurmPipelineExecutor.

    Raises:
        ReleaseError: Slurm cannot be used here, or not with these options.
    """
    from datatrove.executor import SlurmPipelineExecutor  # takes seconds to import

    # datatrove submits one more job that adds up statistics: without a task's success it would wait for ever.
    given = options.get("sbatch_args") or {}
    common = {"pipeline": [Part(jobs, work)], "tasks": workers, "workers": workers, "logging_dir": str(logs)}
    settings: dict[str, Any] = {"job_name": name, **common, "skip_completed": False, **options}
    kind: Any = SlurmPipelineExecutor
    if not shutil.which("sbatch"):
        raise ReleaseError("Slurm's command sbatch is not here", hint="run this on a node that submits to it")
    try:
        kind(**settings | {"sbatch_args": {"kill-on-invalid-dep": "yes"} | given}).run()
    except subprocess.CalledProcessError as error:
        what = f"sbatch refused the jobs (status {error.returncode}); its reason is printed above"
        raise ReleaseError(
            what, hint=f"correct what it names, with --option where that is one, then {AGAIN}"
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise _unusable("slurm", error, "--option partition=gpu --option time=24:00:00") from error


# --- On Ray -----------------------------------------------------------------------------------------------------------

RETRIES = 3  # of a job whose worker was killed


class RayWorker:
    """An actor that does one job at a time."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def do(self, job: Any) -> int:
        """Do one job; returns its rows."""
        return self.work(job)


def run_on_ray(
    jobs: Sequence[Any], work: Work, workers: int, *, options: dict[str, Any], progress: Callable[[int], None]
) -> None:
    """Do the jobs with `workers` actors of the cluster in RAY_ADDRESS, or of this machine; a killed one is started again.

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
    if short := too_few(ray.cluster_resources(), settings, workers):
        say(f"{short}: workers beyond that wait until the cluster has more")
    try:
        pool = ActorPool([worker.remote(work) for _ in range(workers)])
        for rows in pool.map_unordered(lambda actor, job: actor.do.remote(job), jobs):
            progress(rows)
    except ray.exceptions.RayTaskError as error:  # whatever the work raises
        cause = error.cause
        if isinstance(cause, ReleaseError):
            raise ReleaseError(cause.what, where=cause.where, hint=cause.hint) from error
        what = f"a worker stopped ({type(cause).__name__}: {' '.join(str(cause).split())[:200]})"
        raise ReleaseError(what, hint=f"fix that, then {AGAIN}") from error
    except ray.exceptions.RayActorError as error:
        what = f"a worker was killed {RETRIES + 1} times at the same job"
        raise ReleaseError(what, hint=f"give it more memory, then {AGAIN}") from error
    finally:
        ray.shutdown()


def too_few(cluster: Mapping[str, float], settings: Mapping[str, Any], workers: int) -> str | None:
    """What a Ray cluster lacks for so many workers, or None. A worker that gets nothing waits, and its job with it.

    Args:
        cluster: What there is of each resource, as Ray names them.
        settings: Of one worker, as Ray's actors take them.
    """
    asked = {"CPU": settings.get("num_cpus"), "GPU": settings.get("num_gpus"), **(settings.get("resources") or {})}
    for name, each in asked.items():
        if each and cluster.get(name, 0) < each * workers:
            return f"{workers} worker(s) need {each * workers:g} {name}, and the cluster has {cluster.get(name, 0):g}"
    return None


def _unusable(executor: str, error: Exception, example: str) -> ReleaseError:
    return ReleaseError(
        f"the executor {executor!r} cannot be used ({error})",
        hint=f"pass what it needs with --option NAME=VALUE, such as {example}",
    )
