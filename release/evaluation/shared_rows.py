"""An evaluation's rows, measured by several processes: here, on Slurm or on Ray (release/workers.py).

A row is in its reranker's folder once it is measured. The evaluation that follows reads it there and measures what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from release.console import Bar
from release.errors import ReleaseError
from release.evaluation import rerankers
from release.evaluation.family_rows import task_loaders, task_rows
from release.evaluation.first_stage import FirstStage, first_stages
from release.evaluation.rerankers import Reranker
from release.family import Family
from release.files import exclusive_lock
from release.workers import Executor


@dataclass
class TaskWork:
    """The work of one process: it loads the reranker once and measures a task at a time, over every first stage.

    Attributes:
        load: Loads the reranker, in the worker.
        cache_dir: Folder of its finished rows.
    """

    family: Family
    load: Callable[[], Reranker]
    cache_dir: Path

    def __call__(self, number: int) -> int:
        return len(task_rows(self.reranker, self.family, number, self.stages, cache_dir=self.cache_dir))

    @cached_property
    def reranker(self) -> Reranker:
        return self.load()

    @cached_property
    def stages(self) -> list[FirstStage]:
        return first_stages(self.family)


def share(family: Family, executor: Executor, *, size: str | None, compared: str | None, dtype: str | None) -> bool:
    """Let several processes measure the rows of a size and of the teacher, or of a public reranker.

    Returns:
        Whether they are measured: Slurm has only taken the work.

    Raises:
        ReleaseError: A worker stopped with an error or was killed; finished rows are kept.
    """
    tasks = range(len(task_loaders(family)))
    for work in _tasks_of(family, size, compared, dtype or family.evaluation.dtype):
        with (
            exclusive_lock(work.cache_dir),
            Bar("evaluate: rows", len(tasks) * len(family.evaluation.embedders)) as bar,
        ):
            executor.run(tasks, work, bar.advance, work.cache_dir / "logs")
    return executor.kind != "slurm"


def _tasks_of(family: Family, size: str | None, compared: str | None, dtype: str | None) -> list[TaskWork]:
    if compared is not None:
        load = partial(rerankers.load_named, family, compared, dtype=dtype)
        return [TaskWork(family, load, family.compared_folder(compared))]
    if size is None:
        raise ReleaseError("which size?", hint=f"--size {' | '.join(family.sizes)}")
    folder = family.folder(size)
    load = partial(rerankers.load_size, family, size, dtype=dtype)
    teacher = partial(rerankers.teacher_as_reranker, family)
    return [TaskWork(family, load, folder / "evaluation"), TaskWork(family, teacher, family.build / "teacher")]
