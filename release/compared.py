"""`make compare`: a family beside its teacher and other rerankers, each measured once, or with the reason why it cannot be run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from release import options, records, results
from release.card import acceptance, page
from release.card.compare import write
from release.card.comparison import CANNOT_RUN, gather
from release.card.formatting import MISSING
from release.console import print_json, quiet, say, table
from release.errors import CannotRun, ReleaseError
from release.family import Family, load
from release.files import write_json
from release.preflight.machine import has_device

# release.evaluation and release.speed are imported where they are used: torch and mteb take seconds.


def command(
    family_file: options.Family = options.ETTIN,
    measure: Annotated[bool, typer.Option(help="Measure what no record shows yet, on the family's device.")] = True,
) -> None:
    """Measure what is missing, and write the family's tables and plots to build/<family>/compare: README.md, index.html."""
    family = load(family_file)
    if measure and has_device(family):
        measure_missing(family)
    elif measure:
        say(f"nothing is measured here: a card of this family shows {family.speed.device}")
    comparison = gather(family)
    path = write(family, comparison)
    for line in comparison.left_out:
        say(f"left out: {line}")
    rows = [[model.name, model.reranked_ndcg, model.pairs_per_second, model.parameters] for model in comparison.models]
    shown = [[MISSING if cell is None else cell for cell in row] for row in rows]
    table(f"{family.about.title}: mean NDCG@10", ["model", "reranked", "pairs/s", "parameters"], shown)
    keys = ["name", "quality", "pairs_per_second", "parameters"]
    models = [dict(zip(keys, row, strict=True)) for row in rows]
    report = {"report": str(path), "page": str(path.with_name(page.FILE))}
    print_json({"models": models, "left_out": len(comparison.left_out), **report})


def measure_missing(family: Family) -> int:
    """Measure the teacher's speed, and quality and speed of every compared reranker, as far as no record shows them yet.

    What is stopped continues after the last row. A model that cannot be run leaves its reason, and the next one is tried.

    Returns:
        How many records were made.
    """
    made = 0
    teacher = [family.teacher.model] if family.teacher.kind == "cross-encoder" else []
    for name in [*teacher, *family.evaluation.compared]:
        folder = family.build / "teacher" if name in teacher else family.compared_folder(name)
        try:
            with quiet():
                made += _measure(family, name, folder, quality=name not in teacher)
            (folder / CANNOT_RUN).unlink(missing_ok=True)
        except CannotRun as error:
            say(f"not measured: {name}: {error.what}")
            write_json(folder / CANNOT_RUN, {"model": name, "reason": error.what})
    return made


def _measure(family: Family, name: str, folder: Path, *, quality: bool) -> int:
    made = 0
    if quality and not _measured(family, folder, results.EVALUATE, acceptance.evaluation):
        from release.evaluation.evaluate import evaluate_compared

        evaluate_compared(family, name)
        made += 1
    if not _measured(family, folder, results.SPEED, acceptance.speed):
        from release.speed.benchmark import measure_other

        measure_other(family, name)
        made += 1
    return made


def _measured(
    family: Family, folder: Path, kind: results.Kind[Any, Any], accept: Callable[[Any, Family, Path], None]
) -> bool:
    """Whether a record is there that the comparison can show."""
    path = folder / "records" / f"{kind.name}.json"
    try:
        record = records.read(path.parent, kind)
        acceptance.belonging(record, family, "", path)
        accept(record, family, path)
    except ReleaseError:
        return False
    return True
