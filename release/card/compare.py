"""A family beside its teacher, the rerankers it is compared with and its first stages: from records, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from release import options, records
from release.card import acceptance, render, tables
from release.card.formatting import MISSING
from release.console import print_json, table
from release.errors import ReleaseError
from release.family import Family, load
from release.files import atomic_directory, write_atomic
from release.records import Record

OURS, TEACHER, COMPARED = "ours", "teacher", "compared"


@dataclass(frozen=True)
class Model:
    """One model of the comparison; what no record holds is None.

    Attributes:
        name: As the table shows it, `label` as a plot does.
        role: OURS, TEACHER or COMPARED.
        parameters: Counted when it was trained or evaluated.
        pairs_per_second: Its best setting by the family's protocol.
        mean: NDCG@10 of first stage and reranking over all tasks and first stages, with the gain and its interval.
        inside, outside: NDCG@10 over the tasks whose data is, and is not, in the family's training mixture.
        stages: First stage -> the same as `mean`, over all tasks behind that one.
        nano: Mean NDCG@10 on the family's nano sets.
    """

    name: str
    label: str
    role: str
    parameters: int | None = None
    pairs_per_second: float | None = None
    mean: dict[str, Any] | None = None
    inside: float | None = None
    outside: float | None = None
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    nano: float | None = None

    @property
    def quality(self) -> float | None:
        """Mean NDCG@10 after reranking."""
        return self.mean["reranked"] if self.mean else None


@dataclass(frozen=True)
class Comparison:
    """What table and plots are drawn from.

    Attributes:
        models: Those with any record: the sizes, the teacher, then the compared ones, best first.
        alone: First stage -> NDCG@10 without a reranker; empty where no evaluation is accepted.
        alone_mean: The mean of these over all tasks.
        evaluate, speed: The records that the others were found comparable with.
        left_out: One line for each record that may not be shown beside them.
        unmeasured: Sizes and models of which no record can be shown.
    """

    models: list[Model]
    alone: dict[str, float]
    alone_mean: float | None
    evaluate: Record | None
    speed: Record | None
    left_out: list[str]
    unmeasured: list[str]


def command(family: options.Family = options.ETTIN) -> None:
    """Write the family's table and plots to build/<family>/compare, from the records that lie here."""
    facts = load(family)
    found = gather(facts)
    path = write(facts, found)
    for line in found.left_out:
        print(f"left out: {line}")
    columns = ["name", "quality", "pairs_per_second", "parameters"]
    rows = [[getattr(model, key) for key in columns] for model in found.models]
    shown = [[MISSING if cell is None else cell for cell in row] for row in rows]
    table(f"{facts.about.title}: mean NDCG@10", ["model", "reranked", "pairs/s", "parameters"], shown)
    models = [dict(zip(columns, row, strict=True)) for row in rows]
    print_json({"models": models, "left_out": len(found.left_out), "report": str(path)})


def gather(family: Family) -> Comparison:
    """Read every record of the family, its teacher and the models it is compared with.

    Raises:
        ReleaseError: There is no evaluation and no speed that a card could show.
    """
    shelf = _Shelf(family)
    ours = [shelf.model(family.folder(size), size, family.model_name(size), size, OURS) for size in family.sizes]
    compared = [
        shelf.model(family.compared_folder(name), "", name, name.split("/")[-1], COMPARED)
        for name in family.evaluation.compared
    ]
    teacher = shelf.teacher()
    if not shelf.first:
        why = f" ({shelf.left_out[0]})" if shelf.left_out else ""
        raise ReleaseError(f"nothing to compare{why}", where=str(family.build), hint="make evaluate, make speed")
    found = [model for model in compared if model]
    found.sort(key=lambda model: (-(model.quality or 0), model.name))
    names = [*map(family.model_name, family.sizes), family.teacher.model, *family.evaluation.compared]
    models = [*(model for model in ours if model), *([teacher] if teacher else []), *found]
    evaluate = shelf.first.get("evaluate")
    stages = evaluate.measured["mean"]["first_stages"] if evaluate else {}
    return Comparison(
        models=models,
        alone={name: stages[name]["first_stage"] for name in family.evaluation.embedders if name in stages},
        alone_mean=evaluate.measured["mean"]["all"]["first_stage"] if evaluate else None,
        evaluate=evaluate,
        speed=shelf.first.get("speed"),
        left_out=shelf.left_out,
        unmeasured=[name for name in names if name not in {model.name for model in models}],
    )


class _Shelf:
    """The records of a family, each accepted or left out with its reason."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.first: dict[str, Record] = {}  # kind -> the first one accepted, to which others must be comparable
        self.left_out: list[str] = []

    def model(self, folder: Path, size: str, name: str, label: str, role: str) -> Model | None:
        """The model whose records lie in `folder`; None where none does."""
        model = folder / "model"
        sha256 = records.model_hash(model) if model.is_dir() else None
        found: dict[str, Record] = {}
        for kind in ("run", "evaluate", "speed"):
            record = self.record(folder, kind, size, sha256)
            if record is not None:
                found[kind], sha256 = record, sha256 or record.model_sha256
        if not found:
            return None
        evaluate, speed = found.get("evaluate"), found.get("speed")
        parameters = evaluate.measured.get("parameters") if evaluate else None
        if "run" in found:
            parameters = sum(found["run"].measured["parameters"].values())
        quality = _quality(evaluate.measured["mean"], self._nano(evaluate.measured.get("nano"))) if evaluate else {}
        rate = speed.measured["best"]["pairs_per_second"] if speed else None
        return Model(name, label, role, parameters=parameters, pairs_per_second=rate, **quality)

    def teacher(self) -> Model | None:
        """The teacher, whose quality is in the evaluation of every size and whose own records lie in teacher/."""
        name, evaluate = self.family.teacher.model, self.first.get("evaluate")
        speed = self.record(self.family.build / "teacher", "speed", "", None)
        measured = evaluate.measured if evaluate else {}
        if not measured.get("teacher_mean") and speed is None:
            return None
        quality = (
            _quality(measured["teacher_mean"], self._nano(measured.get("teacher_nano")))
            if measured.get("teacher_mean")
            else {}
        )
        rate = speed.measured["best"]["pairs_per_second"] if speed else None
        parameters = measured.get("teacher_parameters")
        return Model(name, name.split("/")[-1], TEACHER, parameters=parameters, pairs_per_second=rate, **quality)

    def record(self, folder: Path, kind: str, size: str, sha256: str | None) -> Record | None:
        """The record if it may be shown beside the others; a reason is kept for one that may not."""
        path = folder / "records" / f"{kind}.json"
        if not path.is_file():
            return None
        try:
            record = records.read(path.parent, kind, model_sha256=sha256)
            acceptance.belonging(record, self.family, size, path)
            if kind == "evaluate":
                acceptance.evaluation(record, self.family, path)
            if kind == "speed":
                acceptance.speed(record, self.family, path)
            if kind in self.first:
                acceptance.comparable(record, self.first[kind], path)
        except ReleaseError as error:
            self.left_out.append(str(error))
            return None
        if kind != "run":
            self.first.setdefault(kind, record)
        return record

    def _nano(self, found: dict[str, Any] | None) -> float | None:
        """The mean over the family's nano sets; None where other sets were measured."""
        return found["mean"] if found and set(found["sets"]) == set(self.family.evaluation.nano_sets) else None


def _quality(mean: dict[str, Any], nano: float | None) -> dict[str, Any]:
    inside, outside = ((mean.get(part) or {}).get("reranked") for part in ("in_domain", "out_of_domain"))
    return {"mean": mean["all"], "inside": inside, "outside": outside, "stages": mean["first_stages"], "nano": nano}


def write(family: Family, found: Comparison) -> Path:
    """Draw the plots and render the table into build/<family>/compare; returns the table's path."""
    from release.card import plots

    folder = family.build / "compare"
    with atomic_directory(folder) as place:
        drawn = plots.draw(found, family.about.title, place)
        write_atomic(place / "README.md", text(family, found, drawn))
    return folder / "README.md"


def text(family: Family, found: Comparison, drawn: list[tuple[str, str]]) -> str:
    """The comparison as Markdown.

    Args:
        drawn: (file name without variant and ending, what it shows) of every plot beside it.
    """
    evaluate = found.evaluate
    return render.render(
        "compare.md.j2",
        family=family,
        found=found,
        drawn=drawn,
        tasks=list(dict.fromkeys(row["task"] for row in evaluate.measured["tasks"])) if evaluate else [],
        marked=any(model.inside is not None and model.outside is not None for model in found.models),
        speed_on=tables.device(found.speed) if found.speed else None,
        teacher_linked=tables.teacher(family, linked=True),
        link=tables.link,
        missing=MISSING,
        ours=OURS,
    )
