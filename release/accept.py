"""Which records a card may show: those that were measured by the family's own protocol. Needs neither torch nor mteb."""

from __future__ import annotations

from pathlib import Path

from release.errors import ReleaseError
from release.evaluation import beir
from release.family import Family
from release.records import Record


def evaluation(record: Record, family: Family, path: Path) -> None:
    """Refuse an evaluation that lacks a task or first stage, was made in a dtype that cards don't show, or on old data.

    Raises:
        ReleaseError: The line says which; `path` is where the record lies.
    """
    wanted, measured, subject = family.evaluation, record.measured["tasks"], record.subject
    asked = {(task, stage) for task in (*wanted.tasks, *wanted.collections) for stage in wanted.embedders}
    absent = asked - {(row["task"], row["first_stage"]) for row in measured if row["top_k"] == wanted.top_k}
    if absent:
        task, stage = sorted(absent)[0]
        what = f"no evaluation of {task} behind {stage} with top_k {wanted.top_k}"
        raise ReleaseError(what, where=str(path), mend="make evaluate")
    if record.machine["device"] != "CPU" and subject.get("dtype") != "bfloat16":
        # The published tables are in bf16 on a GPU; a CPU without bf16 instructions is measured in float32.
        what = f"the evaluation was made in {subject.get('dtype')}, not bfloat16"
        raise ReleaseError(what, where=str(path), mend="remove it, then make evaluate")
    for name in wanted.collections:
        folder = family.build / "data/collections" / name
        if folder.is_dir() and beir.revision(folder) != subject.get("tasks", {}).get(name):
            what = f"the evaluation was made on other data of {name}, which moved"
            raise ReleaseError(what, where=str(path), mend="remove it, then make evaluate")


def speed(record: Record, family: Family, path: Path) -> None:
    """Refuse a speed from another device than the family's cards show: it belongs into an extra table.

    Raises:
        ReleaseError: It was measured elsewhere.
    """
    wanted, found = family.speed.device, record.machine["device"]
    if wanted.lower() not in found.lower():
        what = f"speed was measured on {found}, but a card of this family shows {wanted}"
        raise ReleaseError(what, where=str(path), mend=f"make speed on a machine with {wanted}")
