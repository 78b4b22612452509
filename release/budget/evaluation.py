"""What the two-stage evaluation of a family will need, before any of it is fetched: `python -m release plan-evaluate`.

Counts come from the statistics that mteb carries about its tasks, and from the collections that are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from release import beir, options
from release.console import print_json, table
from release.errors import ReleaseError
from release.family import BM25, Family, load

NANO_QUERIES, NANO_CANDIDATES = 50, 100  # of a set of NanoBEIR at most


@dataclass(frozen=True)
class TaskSize:
    """A task's queries and documents, and the characters of its documents."""

    name: str
    queries: int
    documents: int
    characters: int


def command(
    family: options.Family = options.ETTIN,
    world: Annotated[int, typer.Option(min=1, help="Devices.")] = 1,
    pairs_per_second: Annotated[
        float | None, typer.Option(min=1e-3, max=1e9, help="Of one device and one reranker: gives the hours.")
    ] = None,
) -> None:
    """Print the plan as tables and as one JSON line."""
    loaded = load(family)
    sizes = task_sizes(loaded)
    budget = plan(loaded, sizes, world=world, pairs_per_second=pairs_per_second)
    rows = [[size.name, size.queries, size.documents, size.characters / 1e6] for size in sizes]
    table("Tasks", ["", "queries", "documents", "MB of text"], rows)
    cells = [[key.replace("_", " "), value] for key, value in budget.items()]
    table(f"Evaluating {loaded.about.title}", ["", "planned"], cells)
    print("pairs of a reranker: at most, since first stages share candidates,")
    print("  and a pair is scored once")
    print_json(budget)


def plan(
    family: Family, sizes: list[TaskSize], *, world: int = 1, pairs_per_second: float | None = None
) -> dict[str, Any]:
    """All figures of the family's evaluation on `world` devices: every size, the teacher, the compared rerankers."""
    evaluation = family.evaluation
    embedders = [name for name in evaluation.embedders if name != BM25]
    documents, queries = sum(size.documents for size in sizes), sum(size.queries for size in sizes)
    pairs = queries * evaluation.top_k
    rerankers = len(family.sizes) + 1 + len(evaluation.compared)
    nano = len(evaluation.nano_sets) * NANO_QUERIES * NANO_CANDIDATES
    most = pairs * len(evaluation.embedders) + nano
    budget = {
        "tasks": len(sizes),
        "first_stages": len(evaluation.embedders),
        "first_stage_runs": len(sizes) * len(evaluation.embedders),
        "texts_to_embed": (documents + queries) * len(embedders),
        "text_gb": sum(size.characters for size in sizes) / 1e9,
        "pairs_of_a_first_stage": pairs,
        "nano_pairs": nano,
        "pairs_of_a_reranker": most,
        "rerankers": rerankers,
        "pairs_of_all": most * rerankers,
    }
    if pairs_per_second:
        budget["hours_of_a_reranker"] = most / (pairs_per_second * world) / 3600
    return budget


def task_sizes(family: Family) -> list[TaskSize]:
    """The size of every task and collection.

    Raises:
        ReleaseError: mteb has no such task or no statistics of it, or a collection is not here yet.
    """
    names = family.evaluation
    return [*map(_mteb_size, names.tasks), *(_folder_size(family, name) for name in names.collections)]


def _mteb_size(name: str) -> TaskSize:
    from release.evaluation.tasks import known_task  # mteb takes seconds

    metadata = known_task(name).metadata
    statistics: Any = (metadata.descriptive_stats or {}).get(metadata.eval_splits[0])
    if statistics is None:
        raise ReleaseError(f"mteb knows no sizes of task {name!r}", hint="choose a task that it describes")
    judged = statistics["relevant_docs_statistics"]
    queries = round(judged["num_relevant_docs"] / judged["average_relevant_docs_per_query"])
    documents = statistics["num_samples"] - queries
    return TaskSize(name, queries, documents, statistics["documents_text_statistics"]["total_text_length"])


def _folder_size(family: Family, name: str) -> TaskSize:
    folder = family.build / "data/collections" / name
    if not folder.is_dir():
        raise ReleaseError(f"the collection {name!r} is not here yet", where=str(folder), hint="make mix")
    collection = beir.files(folder)
    lengths = [len(title) + len(text) for _, title, text in beir.texts(collection.corpus)]
    return TaskSize(name, sum(1 for _ in beir.texts(collection.queries)), len(lengths), sum(lengths))
