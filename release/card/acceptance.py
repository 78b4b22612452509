"""Which records a card may show: those that were measured by the family's own protocol. Needs neither torch nor mteb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.evaluation import beir
from release.family import Family
from release.records import STAGES, Record, again
from release.results.evaluation import EvaluationResult, EvaluationSubject
from release.results.speed import SpeedResult, SpeedSubject

PROTOCOL = ("pairs", "max_length", "first_batch", "passes")  # of [speed]


def belonging(record: Record[Any, Any], family: Family, size: str, path: Path) -> None:
    """Refuse a record of another family or size ("" for a model that is compared with).

    Raises:
        ReleaseError: The line says whose it is; `path` is where it lies.
    """
    if (record.family, record.size) != (family.about.name, size):
        what = f"a record of {record.family} {record.size}, not of {size or family.about.name}"
        raise ReleaseError(what, where=str(path), hint=again(record.kind))


def evaluation(record: Record[EvaluationResult, EvaluationSubject], family: Family, path: Path) -> None:
    """Refuse an evaluation of other tasks or first stages, made in a dtype that cards don't show, or on old data.

    Raises:
        ReleaseError: The line says which; `path` is where the record lies.
    """
    wanted, subject = family.evaluation, record.subject
    tasks = (*wanted.tasks, *wanted.collections)
    asked = {(task, stage, wanted.top_k) for task in tasks for stage in wanted.embedders}
    found = {(row.task, row.first_stage, row.top_k) for row in record.measured.tasks}
    if found != asked:
        absent = sorted(asked - found)
        task, stage, top_k = absent[0] if absent else sorted(found - asked)[0]
        how = "no evaluation" if absent else "the family does not ask for the evaluation"
        what = f"{how} of {task} behind {stage} with top_k {top_k}"
        raise ReleaseError(what, where=str(path), hint=again("evaluate"))
    if record.machine.device != "CPU" and subject.dtype != "bfloat16":
        # The published tables are in bf16 on a GPU; a CPU without bf16 instructions is measured in float32.
        what = f"the evaluation was made in {subject.dtype}, not bfloat16"
        raise ReleaseError(what, where=str(path), hint=again("evaluate"))
    for name in wanted.collections:
        folder = family.build / "data/collections" / name
        if folder.is_dir() and beir.revision(folder) != subject.tasks.get(name):
            what = f"the evaluation was made on other data of {name}, which moved"
            raise ReleaseError(what, where=str(path), hint=again("evaluate"))


def speed(record: Record[SpeedResult, SpeedSubject], family: Family, path: Path) -> None:
    """Refuse a speed from another device than the family's cards show, or by another protocol: it belongs elsewhere.

    Raises:
        ReleaseError: The line says what differs.
    """
    wanted, found = family.speed.device, record.machine.device
    if wanted.lower() not in found.lower():
        what = f"speed was measured on {found}, but a card of this family shows {wanted}"
        raise ReleaseError(what, where=str(path), hint=f"make speed on a machine with {wanted}")
    for key in PROTOCOL:
        asked, had = getattr(family.speed, key), getattr(record.subject, key)
        if asked != had:
            what = f"speed was measured with {key} {had}, but the family's protocol says {asked}"
            raise ReleaseError(what, where=str(path), hint=again("speed"))


def comparable(record: Record[Any, Any], other: Record[Any, Any], path: Path) -> None:
    """Refuse to show two records of one kind side by side where something else than the model differs.

    Evaluations need the same revision of every task, first stage and nano set, speeds the same hardware.

    Raises:
        ReleaseError: The line says what differs; `path` is where `record` lies.
    """
    hint = f"make {STAGES[record.kind]} again for the older one"
    if record.kind == "evaluate":
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
