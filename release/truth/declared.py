"""Whether records say what family file and export say: one line per key that says something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from release.card.acceptance import CardRecords
from release.export import portable
from release.family import Family

SIZE = ("encoder", "learning_rate", "global_batch_size")
TRAINING = ("loss", "epochs", "warmup", "evaluations", "seed", "keep_in_fp32_modules")


def problems(family: Family, size: str, measured: CardRecords) -> Iterator[str]:
    """Every key of a size's records that is not what the family file, the manifest of the data or the export gives."""
    run, evaluate = measured.run.subject, measured.evaluate
    own, top_k = family.size(size), family.evaluation.top_k
    expected: dict[str, tuple[Any, Any]] = {
        **{f"run.json: subject.{key}": (getattr(run, key), getattr(own, key)) for key in SIZE},
        **{f"run.json: subject.{key}": (getattr(run, key), getattr(family.training, key)) for key in TRAINING},
        "run.json: subject.teacher": (run.teacher, family.teacher.model),
        "choice.json: subject.top_k": (measured.choice.subject.top_k, top_k),
        "choice.json: subject.first_stages": (
            tuple(measured.choice.subject.first_stages),
            tuple(family.evaluation.embedders),
        ),
        "evaluate.json: subject.top_k": (evaluate.subject.top_k, top_k),
        "speed.json: subject.required_device": (measured.speed.subject.required_device, family.speed.device),
    }
    if teacher := evaluate.measured.teacher:
        expected["evaluate.json: measured.teacher.name"] = (teacher.name, family.teacher.model)
    labelled, named = measured.data.subject.teacher, measured.manifest.get("teacher") or {}
    for key in labelled.keys() & named.keys():
        expected[f"data.json: subject.teacher.{key}"] = (labelled[key], named[key])
    for where, (said, given) in (expected | _exported(family.folder(size) / "export", measured)).items():
        if said != given:
            yield f"records/{where}: {said!r}, and it must be {given!r}"


def _exported(export: Path, measured: CardRecords) -> dict[str, tuple[Any, Any]]:
    """What the files of the export give again."""
    result = measured.export.measured
    return {
        "export.json: measured.architecture": (result.architecture, portable.architecture(export)),
        "export.json: measured.max_length": (result.max_length, portable.max_length(export)),
    }
