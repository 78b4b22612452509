"""What a comparison of rerankers is drawn from: every model of a family's table, from records and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from release import records, results
from release.card import acceptance
from release.errors import ReleaseError
from release.family import Family
from release.records import Record
from release.results import Kind, Result, Subject
from release.results.evaluation import EvaluationResult, EvaluationSubject, MeanResult, Means, NanoResult
from release.results.speed import SpeedResult, SpeedSubject
from release.results.training import RunSubject, TrainingRun

OURS, TEACHER, COMPARED = "ours", "teacher", "compared"
REFUSED = " cannot be run: "  # between a model and its reason
CANNOT_RUN = "cannot-run.json"  # beside the records of a model that was tried: its id and the reason


@dataclass(frozen=True)
class ComparedModel:
    """One model of the comparison; what no record holds is None.

    Attributes:
        name: As the table shows it, `label` as a plot does.
        role: OURS, TEACHER or COMPARED.
        parameters: Counted when it was trained or evaluated.
        pairs_per_second: Its best configuration by the family's protocol.
        published_pairs_per_second: The same among those that need the public libraries only, as published figures do.
        means: Over all tasks and first stages, over the tasks whose data is and is not in the family's training mixture,
            and by first stage.
        nano: Mean NDCG@10 on the family's nano sets, by the rule that the family names (`always_rerank_positives`).
        revision: Of what was measured: a commit on the Hub, or a hash of the model's files.
        run: How it was run: what makes the score, dtype, attention, and the tokens that it read at most.
    """

    name: str
    label: str
    role: str
    parameters: int | None = None
    pairs_per_second: float | None = None
    published_pairs_per_second: float | None = None
    means: Means | None = None
    nano: float | None = None
    revision: str | None = None
    run: str | None = None

    @property
    def reranked_ndcg(self) -> float | None:
        """Mean NDCG@10 after reranking."""
        return self.means.all.reranked_ndcg if self.means else None


@dataclass(frozen=True)
class FamilyComparison:
    """What table and plots are drawn from.

    Attributes:
        models: Those with any record: the sizes, the teacher, then the compared ones, best first.
        first_stages: First stage -> mean results, of which the comparison shows `first_stage_ndcg`; empty where no
            evaluation is accepted.
        evaluate, speed: The records that the others were found comparable with.
        left_out: One line for each record that may not be shown beside them.
        unmeasured: Sizes and models of which no record can be shown.
    """

    models: list[ComparedModel]
    first_stages: dict[str, MeanResult]
    evaluate: Record[EvaluationResult, EvaluationSubject] | None
    speed: Record[SpeedResult, SpeedSubject] | None
    left_out: list[str]
    unmeasured: list[str]


def gather(family: Family) -> FamilyComparison:
    """Read every record of the family, its teacher and the models it is compared with.

    Raises:
        ReleaseError: There is no evaluation and no speed that a card could show.
    """
    collector = RecordCollector(family)
    ours = [collector.model(family.folder(size), size, family.model_name(size), size, OURS) for size in family.sizes]
    compared = [
        collector.model(family.compared_folder(name), "", name, name.split("/")[-1], COMPARED)
        for name in family.evaluation.compared
    ]
    teacher = collector.teacher()
    if not (collector.evaluate or collector.speed):
        why = f" ({collector.left_out[0]})" if collector.left_out else ""
        raise ReleaseError(f"nothing to compare{why}", where=str(family.build), hint="make evaluate, make speed")
    others = sorted(filter(None, compared), key=lambda model: (-(model.reranked_ndcg or 0), model.name))
    names = [*map(family.model_name, family.sizes), family.teacher.model, *family.evaluation.compared]
    reasons = {name: why for name in family.evaluation.compared if (why := reason(family.compared_folder(name)))}
    models = [model for model in (*ours, teacher, *others) if model]
    means = collector.evaluate.measured.means.first_stages if collector.evaluate else {}
    return FamilyComparison(
        models=models,
        first_stages={name: means[name] for name in family.evaluation.embedders if name in means},
        evaluate=collector.evaluate,
        speed=collector.speed,
        left_out=[*collector.left_out, *(f"{name}{REFUSED}{why}" for name, why in reasons.items())],
        unmeasured=[name for name in names if name not in {model.name for model in models} | reasons.keys()],
    )


def reason(folder: Path) -> str | None:
    """Why the model whose records would be in `folder` cannot be run; None where it can be, or was not tried."""
    path = folder / CANNOT_RUN
    return str(json.loads(path.read_text(encoding="utf-8"))["reason"]) if path.is_file() else None


class RecordCollector:
    """The records of a family, each accepted or left out with its reason.

    Attributes:
        evaluate, speed: The first one accepted, to which others must be comparable.
        left_out: One line for each record that was not accepted.
    """

    def __init__(self, family: Family) -> None:
        self.family = family
        self.evaluate: Record[EvaluationResult, EvaluationSubject] | None = None
        self.speed: Record[SpeedResult, SpeedSubject] | None = None
        self.left_out: list[str] = []

    def model(self, folder: Path, size: str, name: str, label: str, role: str) -> ComparedModel | None:
        """The model whose records are in `folder`; None where there are none."""
        model = folder / "model"
        sha256 = records.model_hash(model) if model.is_dir() else None
        run = self._read(folder, results.RUN, size, sha256)
        if run and not self._trained(run, folder):
            return None
        sha256 = sha256 or (run.model_sha256 if run else None)
        evaluate = self._evaluation(folder, size, sha256)
        sha256 = sha256 or (evaluate.model_sha256 if evaluate else None)
        speed = self._speed(folder, size, sha256)
        if not (run or evaluate or speed):
            return None
        parameters = evaluate.measured.parameters if evaluate else None
        subject = evaluate.subject if evaluate else None
        return ComparedModel(
            name,
            label,
            role,
            parameters=run.measured.parameters.total if run else parameters,
            pairs_per_second=speed.measured.best.pairs_per_second if speed else None,
            published_pairs_per_second=_published(speed),
            means=evaluate.measured.means if evaluate else None,
            nano=self._nano(evaluate.measured.nano) if evaluate else None,
            revision=sha256 or (speed.model_sha256 if speed else None),
            run=_how(subject.form, subject.dtype, subject.attention, subject.max_length) if subject else None,
        )

    def _trained(self, run: Record[TrainingRun, RunSubject], folder: Path) -> bool:
        """Whether a size was trained as the family says; if not, nothing of it stands beside the others."""
        try:
            acceptance.training(run, self.family, folder / "records/run.json")
        except ReleaseError as error:
            self.left_out.append(str(error))
            return False
        return True

    def teacher(self) -> ComparedModel | None:
        """The teacher, whose quality is in the evaluation of every size and whose own records are in teacher/."""
        name = self.family.teacher.model
        teacher = self.evaluate.measured.teacher if self.evaluate else None
        speed = self._speed(self.family.build / "teacher", "", None)
        if not (teacher or speed):
            return None
        revision = teacher.revision if teacher else None
        return ComparedModel(
            name,
            name.split("/")[-1],
            TEACHER,
            parameters=teacher.parameters if teacher else None,
            pairs_per_second=speed.measured.best.pairs_per_second if speed else None,
            published_pairs_per_second=_published(speed),
            means=teacher.means if teacher else None,
            nano=self._nano(teacher.nano) if teacher else None,
            revision=revision or (speed.model_sha256 if speed else None),
            run=_how(teacher.form, teacher.dtype, None, teacher.max_length) if teacher and teacher.dtype else None,
        )

    def _evaluation(
        self, folder: Path, size: str, sha256: str | None
    ) -> Record[EvaluationResult, EvaluationSubject] | None:
        record = self._read(folder, results.EVALUATE, size, sha256, acceptance.evaluation, self.evaluate)
        self.evaluate = self.evaluate or record
        return record

    def _speed(self, folder: Path, size: str, sha256: str | None) -> Record[SpeedResult, SpeedSubject] | None:
        record = self._read(folder, results.SPEED, size, sha256, acceptance.speed, self.speed)
        self.speed = self.speed or record
        return record

    def _read(
        self,
        folder: Path,
        kind: Kind[Result, Subject],
        size: str,
        sha256: str | None,
        accept: Callable[[Record[Result, Subject], Family, Path], None] = lambda *_: None,
        first: Record[Result, Subject] | None = None,
    ) -> Record[Result, Subject] | None:
        """The record if it may be shown beside the others; a reason is kept for one that may not."""
        path = folder / "records" / f"{kind.name}.json"
        if not path.is_file():
            return None
        try:
            record = records.read(path.parent, kind, model_sha256=sha256)
            acceptance.belonging(record, self.family, size, path)
            accept(record, self.family, path)
            if first:
                acceptance.comparable(record, first, path)
        except ReleaseError as error:
            self.left_out.append(str(error))
            return None
        return record

    def _nano(self, nano: NanoResult | None) -> float | None:
        """The mean over the family's nano sets by the family's rule; None where other sets, or not that figure, were measured."""
        settings = self.family.evaluation
        if nano is None or set(nano.sets) != set(settings.nano_sets):
            return None
        figure = nano.all_positives if settings.always_rerank_positives else nano.retrieved_positives
        return figure.mean if figure else None


def _how(form: str | None, dtype: str, attention: str | None, max_length: int | None) -> str:
    """How a model was run, in a few words."""
    length = f"at most {max_length:,} tokens" if max_length else "any length"
    return ", ".join(filter(None, [form, dtype, attention, length]))


def _published(speed: Record[SpeedResult, SpeedSubject] | None) -> float | None:
    return speed.measured.published.pairs_per_second if speed and speed.measured.published else None
