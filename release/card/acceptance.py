"""Which records a card may show: those that were measured by the family's own protocol. Needs neither torch nor mteb."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release import beir, data_manifest, mode, records, results
from release.errors import ReleaseError
from release.family import Family
from release.files import sha256_file
from release.records import STAGES, Record, remake_hint
from release.results import Kind, Result, Subject
from release.results.data import DataResult, DataSubject
from release.results.engines import EnginesResult, EnginesSubject
from release.results.evaluation import EvaluationResult, EvaluationSubject
from release.results.export import ExportResult, ExportSubject
from release.results.speed import DEVICES, SpeedResult, SpeedSubject
from release.results.training import CheckpointChoice, ChoiceSubject, RunSubject, TrainingRun

PROTOCOL = ("pairs", "max_length", "first_batch", "passes")  # of [speed]
KINDS = ("data", "run", "choice", "evaluate", "speed", "export", "engines")  # of a size's records


@dataclass(frozen=True)
class CardRecords:
    """Every record that a model's card rests on, and the manifest of the data it was trained on.

    `further_speeds` were measured on other devices than the one that the family's cards require, `speed`.
    """

    data: Record[DataResult, DataSubject]
    run: Record[TrainingRun, RunSubject]
    choice: Record[CheckpointChoice, ChoiceSubject]
    evaluate: Record[EvaluationResult, EvaluationSubject]
    speed: Record[SpeedResult, SpeedSubject]
    further_speeds: tuple[Record[SpeedResult, SpeedSubject], ...]
    export: Record[ExportResult, ExportSubject]
    engines: Record[EnginesResult, EnginesSubject]
    manifest: dict[str, Any]

    @property
    def all(self) -> tuple[Record[Any, Any], ...]:
        """Every record."""
        return (*(getattr(self, kind) for kind in KINDS), *self.further_speeds)


def card_records(family: Family, size: str, model_sha256: str | None = None) -> CardRecords:
    """Read the records of one size and check that each belongs to this model and this family.

    Args:
        model_sha256: Of the trained model, where it is not here: a repository holds only what was exported from it.

    Raises:
        ReleaseError: One is missing, damaged, of another model, size, protocol or device; the command that makes it.
    """
    folder = family.folder(size)
    sha256 = model_sha256 or records.model_hash(folder / "model")

    def read(kind: Kind[Result, Subject]) -> Record[Result, Subject]:
        record = records.read(folder / "records", kind, model_sha256=sha256)
        belonging(record, family, size, folder / "records" / f"{kind.name}.json")
        return record

    run, evaluate, timed = read(results.RUN), read(results.EVALUATE), read(results.SPEED)
    choice, export, engines = read(results.CHOICE), read(results.EXPORT), read(results.ENGINES)
    if engines.subject.export_sha256 != export.measured.sha256:
        where = str(folder / "records/engines.json")
        raise ReleaseError("the engines were run on another export", where=where, hint=remake_hint("engines"))
    training(run, family, folder / "records/run.json")
    evaluation(evaluate, family, folder / "records/evaluate.json")
    speed(timed, family, folder / "records/speed.json")
    if export.measured.architecture is None:
        where = str(folder / "records/export.json")
        raise ReleaseError(
            "no key 'measured.architecture', which the card shows", where=where, hint=remake_hint("export")
        )
    further = []
    for path in further_speed_files(family, size):
        record = records.read(path.parent, results.SPEED, model_sha256=sha256)
        belonging(record, family, size, path)
        protocol(record, family, path)
        further.append(record)
    data, mixture = data_records(family)
    _check_data(family, run.subject, mixture, folder / "records/run.json")
    return CardRecords(data, run, choice, evaluate, timed, tuple(further), export, engines, mixture)


def further_speed_files(family: Family, size: str) -> list[Path]:
    """The speed records of one size from other devices than the required one."""
    return sorted((family.folder(size) / "records" / DEVICES).glob("*/speed.json"))


def data_records(family: Family) -> tuple[Record[DataResult, DataSubject], dict[str, Any]]:
    """The record and the manifest of the family's training data.

    Raises:
        ReleaseError: One is missing, damaged or of another family.
    """
    data = records.read(family.build / "records", results.DATA)
    if data.family != family.about.name:
        raise ReleaseError(
            f"a record of {data.family}", where=str(family.build / "records/data.json"), hint="make score"
        )
    rehearsal(data, family.build / "records/data.json")
    return data, data_manifest.read(family.mixture_folder, stage="score")


def _check_data(family: Family, subject: RunSubject, manifest: dict[str, Any], path: Path) -> None:
    """The mixture that is here must be the one that the model learnt from, since the card describes it.

    A folder is known by its manifest, wherever it lay; a mixture from a Hub by its commit; what the family published, whose
    commit no manifest here names, by the rows of every config.
    """
    mixture = family.mixture_folder
    if subject.data == manifest.get("mixture"):
        same = subject.data_revision == manifest["revision"]
    elif subject.data == family.data_id:
        rows = {name: data_manifest.rows(entry, "train") for name, entry in manifest["configs"].items()}
        same = subject.configs == rows
    else:
        same = subject.data_revision == sha256_file(mixture / data_manifest.NAME)
    if not same:
        other = "other data than is here now"
        what = f"the model was trained on {other if Path(subject.data) == mixture else f'{subject.data}, {other}'}"
        raise ReleaseError(what, where=f"{path}, {mixture}", hint="remove the record, then make train")


def belonging(record: Record[Any, Any], family: Family, size: str, path: Path) -> None:
    """Refuse a record of another family or size ("" for a model that is compared with).

    Raises:
        ReleaseError: The line says whose it is; `path` is where it is.
    """
    if (record.family, record.size) != (family.about.name, size):
        what = f"a record of {record.family} {record.size}, not of {size or family.about.name}"
        raise ReleaseError(what, where=str(path), hint=remake_hint(record.kind))
    rehearsal(record, path)


def rehearsal(record: Record[Any, Any], path: Path) -> None:
    """Refuse a record that was made in a rehearsal, unless this is one.

    Raises:
        ReleaseError: It was.
    """
    if record.rehearsal and not mode.active():
        raise ReleaseError("this was measured in a rehearsal", where=str(path), hint=remake_hint(record.kind))


def training(record: Record[TrainingRun, RunSubject], family: Family, path: Path) -> None:
    """Refuse a run that is no release: a smoke test, one that was cut short, one that made the model worse.

    A rehearsal takes each of them, since random weights learn nothing.

    Raises:
        ReleaseError: The line says which; `path` is where the record is.
    """
    run, subject, size = record.measured, record.subject, family.size(record.size)
    if record.rehearsal and mode.active():
        return
    hint = "remove the record, then make train"
    if subject.smoke:
        what = f"SMOKE_TEST: the model learnt from {subject.data_rows:,} pairs to try the path, it is no release"
        raise ReleaseError(what, where=str(path), hint=f"unset SMOKE_TEST, {hint}")
    steps = (
        subject.data_rows // size.global_batch_size * family.training.epochs
    )  # the last, smaller batch may be left out
    if run.steps < steps:
        what = f"training stopped after {run.steps:,} of {steps:,} steps ({subject.data_rows:,} pairs)"
        raise ReleaseError(what, where=str(path), hint=hint)
    if run.score < run.baseline:
        what = f"REGRESSION: NDCG@10 is {run.score:.4f} on the nano sets and was {run.baseline:.4f} before training"
        raise ReleaseError(what, where=str(path), hint="correct data, learning rate or encoder, then make train")


def evaluation(record: Record[EvaluationResult, EvaluationSubject], family: Family, path: Path) -> None:
    """Refuse an evaluation of other tasks or first stages, made in a dtype that cards don't show, or on old data.

    Raises:
        ReleaseError: The line says which; `path` is where the record is.
    """
    config, subject = family.evaluation, record.subject
    tasks = (*config.tasks, *config.collections)
    required = {(task, stage, config.top_k) for task in tasks for stage in config.embedders}
    measured = {(row.task, row.first_stage, row.top_k) for row in record.measured.tasks}
    if measured != required:
        absent = sorted(required - measured)
        task, stage, top_k = absent[0] if absent else sorted(measured - required)[0]
        how = "no evaluation" if absent else "the family does not ask for the evaluation"
        what = f"{how} of {task} over {stage} with top_k {top_k}"
        raise ReleaseError(what, where=str(path), hint=remake_hint("evaluate"))
    # Where the family names none: bf16 on a GPU; a CPU without bf16 instructions is measured in float32.
    dtype = config.dtype or (subject.dtype if record.machine.device == "CPU" else "bfloat16")
    if subject.dtype != dtype:
        what = f"the evaluation was made in {subject.dtype}, not {dtype}"
        raise ReleaseError(what, where=str(path), hint=remake_hint("evaluate"))
    nano = record.measured.nano
    measured_in = nano and (nano.dtype or subject.dtype)
    if nano and config.nano_dtype not in (None, measured_in):
        what = f"the nano sets were measured in {measured_in}, not {config.nano_dtype}"
        raise ReleaseError(what, where=str(path), hint=remake_hint("evaluate"))
    for name in config.collections:
        folder = family.build / "data/collections" / name
        if folder.is_dir() and beir.revision(folder) != subject.tasks.get(name):
            what = f"the evaluation was made on other data of {name}, which moved"
            raise ReleaseError(what, where=str(path), hint=remake_hint("evaluate"))


def speed(record: Record[SpeedResult, SpeedSubject], family: Family, path: Path) -> None:
    """Refuse a speed from another device than the family's cards show, or by another protocol: it belongs elsewhere.

    Raises:
        ReleaseError: The line says what differs.
    """
    required, device = family.speed.device, record.machine.device
    if required.lower() not in device.lower() and not (record.rehearsal and mode.active()):
        what = f"speed was measured on {device}, but a card of this family shows {required}"
        raise ReleaseError(what, where=str(path), hint=f"make speed on a machine with {required}")
    protocol(record, family, path)


def protocol(record: Record[SpeedResult, SpeedSubject], family: Family, path: Path) -> None:
    """Refuse a speed that was measured by another protocol than the family's.

    Raises:
        ReleaseError: The line says what differs.
    """
    for key in PROTOCOL:
        required, measured = getattr(family.speed, key), getattr(record.subject, key)
        if required != measured:
            what = f"speed was measured with {key} {measured}, but the family's protocol says {required}"
            raise ReleaseError(what, where=str(path), hint=remake_hint("speed"))


def comparable(record: Record[Any, Any], other: Record[Any, Any], path: Path) -> None:
    """Refuse to show two records of one kind side by side where something else than the model differs.

    Evaluations need the same dtype and the same revision of every task, first stage and nano set, speeds the same hardware.

    Raises:
        ReleaseError: The line says what differs; `path` is where `record` is.
    """
    hint = f"make {STAGES[record.kind]} again for the older one"
    if record.kind == "evaluate":
        if record.subject.dtype != other.subject.dtype:  # a GPU and a CPU rank with other rounding
            what = f"measured in {record.subject.dtype}, not in {other.subject.dtype} as {other.size or 'the other models'}"
            raise ReleaseError(what, where=str(path), hint=f"{hint}, on a machine like the other's")
        for part in ("tasks", "first_stages", "nano"):
            mine, its = getattr(record.subject, part), getattr(other.subject, part)
            moved = sorted(name for name in {*mine, *its} if mine.get(name) != its.get(name))
            if moved:
                what = f"measured on another revision of {moved[0]} than {other.size or 'the other models'}"
                raise ReleaseError(what, where=str(path), hint=hint)
    if record.kind == "speed":
        keys = ("device", "cpu", "cores") if record.machine.device == "CPU" else ("device",)
        mine, its = ([getattr(each.machine, key) for key in keys] for each in (record, other))
        if mine != its:
            what = f"speed was measured on {' '.join(map(str, mine))}, not on {' '.join(map(str, its))}"
            raise ReleaseError(what, where=str(path), hint=hint)
