"""Every task of a family over every first stage: the rows that an evaluation and the choice of a checkpoint rest on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from release import data_manifest, spec
from release.evaluation import tasks
from release.evaluation.first_stage import FirstStage, first_stages
from release.evaluation.rerankers import Reranker
from release.evaluation.tasks import Task
from release.evaluation.two_stage import Row, evaluate_task
from release.family import Family
from release.files import resource


def task_loaders(family: Family) -> list[Callable[[], Task]]:
    """How to load each task and collection of a family, one at a time: together they may not fit in memory."""

    def mteb_loader(name: str) -> Callable[[], Task]:
        return lambda: tasks.mteb_task(name)

    def folder_loader(name: str) -> Callable[[], Task]:
        return lambda: tasks.from_folder(family.build / "data" / "collections" / name)

    names = family.evaluation
    return [*map(mteb_loader, names.tasks), *map(folder_loader, names.collections)]


def all_rows(
    reranker: Reranker, family: Family, stages: list[FirstStage] | None = None, *, cache_dir: Path
) -> list[Row]:
    """Every task of a family over every first stage, measured now or read from the cache.

    Args:
        stages: The family's first stages, where they are loaded already.
        cache_dir: Folder of this reranker's finished rows.
    """
    stages = stages or first_stages(family)
    numbers = range(len(task_loaders(family)))
    return [row for number in numbers for row in task_rows(reranker, family, number, stages, cache_dir=cache_dir)]


def task_rows(
    reranker: Reranker, family: Family, number: int, stages: list[FirstStage], *, cache_dir: Path
) -> list[Row]:
    """The rows of one task, by its number in `task_loaders`."""
    inside, task = in_domain_tasks(family), task_loaders(family)[number]()
    return evaluate_task(
        reranker,
        task,
        stages,
        top_k=family.evaluation.top_k,
        runs=family.build / "runs",
        cache_dir=cache_dir,
        in_domain=None if inside is None else task.name in inside,
    )


def in_domain_tasks(family: Family) -> set[str] | None:
    """Names of tasks whose data is in the training mixture: by its manifest or, where that is not here, by its declaration.

    None where neither says anything.
    """
    mixture = data_manifest.find(family.mixture_folder)
    if mixture is None:
        return declared_overlaps(family)
    return set(mixture["in_domain"]) if "in_domain" in mixture else None


def declared_overlaps(family: Family) -> set[str] | None:
    """Every evaluation set that a config of the mixture declares to be of the same origin, or None where nothing says so."""
    mixture = data_manifest.find(family.mixture_folder)
    if mixture is None:
        declaration = resource(family.data.declaration)
        if not declaration.is_file():
            return None
        return {name for config in spec.load(declaration).configs.values() for name in config.overlaps or ()}
    return {name for entry in mixture["configs"].values() for name in entry.get("overlaps_declared") or []}
