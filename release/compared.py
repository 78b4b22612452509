"""The models that a family is compared with: each is measured once, as the family is, or there is a reason why it cannot be run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from release import records, results
from release.card import acceptance
from release.card.comparison import CANNOT_RUN
from release.console import quiet
from release.errors import CannotRun, ReleaseError
from release.family import Family
from release.files import write_json

# release.evaluation and release.speed are imported where they are used: torch and mteb take seconds.


def measure_missing(family: Family) -> int:
    """Measure the teacher's speed, and quality and speed of every compared reranker, as far as no record shows them yet.

    What is stopped continues behind the last row. A model that cannot be run leaves its reason, and the next one is tried.

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
            print(f"not measured: {name}: {error.what}", flush=True)
            write_json(folder / CANNOT_RUN, {"model": name, "reason": error.what})
    return made


def _measure(family: Family, name: str, folder: Path, *, quality: bool) -> int:
    from release.evaluation.evaluate import evaluate_compared
    from release.speed.benchmark import measure_other

    made = 0
    if quality and not _measured(family, folder, results.EVALUATE, acceptance.evaluation):
        evaluate_compared(family, name)
        made += 1
    if not _measured(family, folder, results.SPEED, acceptance.speed):
        measure_other(family, name)
        made += 1
    return made


def _measured(
    family: Family, folder: Path, kind: results.Kind[Any, Any], accept: Callable[[Any, Family, Path], None]
) -> bool:
    """Whether a record lies there that the comparison can show."""
    path = folder / "records" / f"{kind.name}.json"
    try:
        record = records.read(path.parent, kind)
        acceptance.belonging(record, family, "", path)
        accept(record, family, path)
    except ReleaseError:
        return False
    return True
