"""What a card shows beside its own figures: the comparison as `make compare` had written it when the card was made, with its plot.

Each size keeps its own copy, `<size>/compare/`, so that a comparison that is made again later changes no card that is published.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError, with_config

from release import mode, records
from release.card import tables
from release.card.acceptance import CardRecords
from release.card.comparison import OURS, REFUSED, FamilyComparison
from release.errors import ReleaseError
from release.family import Family
from release.files import atomic_directory, copy_file, write_json

FILE = "comparison.json"  # in build/<family>/compare, and under records/ of a repository
PLOT = "speed"  # which plot stands on a card


@dataclass(frozen=True)
class ModelRow:
    """One model: figures from its records, None where no record holds one; `model_sha256` names what was measured."""

    name: str
    role: str
    model_sha256: str | None
    parameters: int | None
    reranked_ndcg: float | None
    pairs_per_second: float | None
    published_pairs_per_second: float | None


@with_config(records.STRICT)
@dataclass(frozen=True)
class Beside:
    """The models of a comparison, and what the card says about them.

    Attributes:
        tasks, first_stages: How many of them quality is the mean over.
        speed_on: The hardware of the speeds, None where none is shown.
        not_run: One line for each model that cannot be run.
        plot: Whether quality against speed was drawn.
        rehearsal: Whether it rests on records of a rehearsal.
    """

    rows: tuple[ModelRow, ...]
    tasks: int
    first_stages: int
    speed_on: str | None
    not_run: tuple[str, ...]
    plot: bool
    rehearsal: bool


def of(comparison: FamilyComparison, plots: Iterable[str]) -> Beside:
    """What a card may show of a comparison, of which the plots with these names were drawn."""
    rows = tuple(
        ModelRow(
            name=model.name,
            role=model.role,
            model_sha256=model.revision,
            parameters=model.parameters,
            reranked_ndcg=model.reranked_ndcg,
            pairs_per_second=model.pairs_per_second,
            published_pairs_per_second=model.published_pairs_per_second,
        )
        for model in comparison.models
    )
    tasks = {row.task for row in comparison.evaluate.measured.tasks} if comparison.evaluate else set()
    speed_on = tables.device(comparison.speed.machine) if comparison.speed else None
    counts = len(tasks), len(comparison.first_stages)
    not_run = tuple(line for line in comparison.left_out if REFUSED in line)
    return Beside(rows, *counts, speed_on, not_run, PLOT in plots, mode.active())


def take(family: Family, size: str) -> None:
    """Let the card of `size` show the family's comparison as it is now, or none if there is none."""
    source, target = family.build / "compare", family.folder(size) / "compare"
    names = [name for name in (FILE, *_plots()) if (source / name).is_file()]
    if FILE not in names:
        shutil.rmtree(target, ignore_errors=True)
        return
    with atomic_directory(target) as folder:
        for name in names:
            copy_file(source / name, folder / name)


def files(family: Family, size: str, beside: Beside) -> dict[str, Path]:
    """What a repository holds of it: name there -> file here."""
    folder = family.folder(size) / "compare"
    plots = _plots() if beside.plot else []
    return {f"records/{FILE}": folder / FILE} | {f"compare/{name}": folder / name for name in plots}


def _plots() -> list[str]:
    return [f"{PLOT}-{look}.png" for look in ("light", "dark")]


def write(folder: Path, beside: Beside) -> Path:
    """Write it to `folder`, without a time: the same records give the same bytes."""
    return write_json(folder / FILE, asdict(beside))


def read(family: Family, size: str, measured: CardRecords) -> Beside | None:
    """The comparison that the card of this size shows; None where it took none, or one that knows another state of this model.

    Raises:
        ReleaseError: The file is damaged, or was made in a rehearsal and this is none.
    """
    path = family.folder(size) / "compare" / FILE
    if not path.is_file():
        return None
    try:
        comparison = records.parse(Beside, path.read_bytes())
    except ValidationError as error:
        raise ReleaseError("a damaged comparison", where=str(path), hint="make compare, then make card") from error
    if comparison.rehearsal and not mode.active():
        raise ReleaseError(
            "this was measured in a rehearsal", where=str(path), hint="remove it, then make compare card"
        )
    own = next((row for row in comparison.rows if (row.name, row.role) == (family.model_name(size), OURS)), None)
    shown = (measured.evaluate.measured.means.all.reranked_ndcg, measured.evaluate.model_sha256)
    return comparison if own and (own.reranked_ndcg, own.model_sha256) == shown and len(comparison.rows) > 1 else None
