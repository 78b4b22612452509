"""Whether records say what family file and export say: one line per key that says something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from release import data_manifest
from release.card.acceptance import CardRecords
from release.export import portable
from release.family import Family
from release.records import Record
from release.results.data import DataResult, DataSubject

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
    expected |= _labelled(family, measured.data, measured.manifest)
    yield from _others(expected | _exported(family.folder(size) / "export", measured))


def of_data(family: Family, record: Record[DataResult, DataSubject], manifest: dict[str, Any]) -> Iterator[str]:
    """Every key of a data set's record and manifest that is not what the family file gives."""
    yield from _others(_labelled(family, record, manifest))


def _others(expected: dict[str, tuple[Any, Any]]) -> Iterator[str]:
    for where, (said, given) in expected.items():
        if said != given:
            yield f"records/{where}: {said!r}, and it must be {given!r}"


def _labelled(
    family: Family, record: Record[DataResult, DataSubject], manifest: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """By whom a data set says that its pairs were labelled."""
    labelled, named = record.subject.teacher, manifest.get("teacher") or {}
    expected: dict[str, tuple[Any, Any]] = {
        f"data.json: subject.teacher.{key}": (labelled[key], named[key]) for key in labelled.keys() & named.keys()
    }
    if any(data_manifest.asks_teacher(entry) for entry in manifest["configs"].values()) and named:
        expected["data.json: subject.teacher.model"] = (named.get("model"), family.teacher.model)
    said = record.subject.declaration_sha256
    return expected | {"data.json: subject.declaration_sha256": (said, manifest.get("declaration_sha256"))}


def _exported(export: Path, measured: CardRecords) -> dict[str, tuple[Any, Any]]:
    """What the files of the export give again."""
    result = measured.export.measured
    return {
        "export.json: measured.architecture": (result.architecture, portable.architecture(export)),
        "export.json: measured.max_length": (result.max_length, portable.max_length(export)),
    }
