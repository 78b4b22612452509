"""Whether records say what family file and export say: one line per key that says something else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from release import data_manifest
from release.card.acceptance import CardRecords
from release.engines import catalogue
from release.export import checkpoint, dual_root, portable, quantize
from release.family import Family
from release.records import Record
from release.results.data import DataResult, DataSubject
from release.results.engines import EnginesResult
from release.results.export import ExportResult
from release.results.training import Parameters

SIZE = ("encoder", "learning_rate", "global_batch_size")
ENGINE = ("title", "core", "option", "unequal", "language", "snippet")
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
        expected["evaluate.json: measured.teacher.kind"] = (teacher.kind, family.teacher.kind)
    expected |= _labelled(family, measured.data, measured.manifest) | _engines(measured.engines.measured)
    yield from _others(expected)
    parameters = {"run.json: measured.parameters": measured.run.measured.parameters}
    yield from exported(family.folder(size) / "export", measured.export.measured, parameters)


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
        expected["mixture.json: teacher.model"] = (named.get("model"), family.teacher.model)
    said = record.subject.declaration_sha256
    return expected | {"data.json: subject.declaration_sha256": (said, manifest.get("declaration_sha256"))}


def _engines(result: EnginesResult) -> dict[str, tuple[Any, Any]]:
    """What was run in which engine, as engines.toml has it: a card shows these snippets."""
    known = {engine.name: engine for engine in catalogue.engines()}
    names = [row.name for row in result.engines]
    core = {name for name, engine in known.items() if engine.core}
    expected: dict[str, tuple[Any, Any]] = {
        "engines.json: measured.engines": (sorted(names), sorted({*names} & known.keys() | core))
    }
    for row in result.engines:
        if engine := known.get(row.name):
            says = (row.title, row.core, row.option, row.unequal, row.language, row.snippet)
            given = (
                engine.titled(row.versions),
                engine.core,
                engine.option,
                engine.unequal,
                engine.language,
                engine.snippet.strip(),
            )
            for key, said, right in zip(ENGINE, says, given, strict=True):
                expected[f"engines.json: measured.engines.{row.name}.{key}"] = (said, right)
    return expected


def exported(export: Path, result: ExportResult, parameters: Mapping[str, Parameters | int]) -> Iterator[str]:
    """Every key of a record that is not what the files of the export give again.

    Args:
        parameters: Key of a record -> what it says of the weights, of encoder and head or of both.
    """
    try:
        counted = Parameters(*dual_root.count_parameters(export))
        expected: dict[str, tuple[Any, Any]] = {
            "export.json: measured.architecture": (result.architecture, portable.architecture(export)),
            "export.json: measured.max_length": (result.max_length, portable.max_length(export)),
            **{key: (says, counted.total if isinstance(says, int) else counted) for key, says in parameters.items()},
        }
        for index, form in enumerate(result.forms):
            at, size = f"export.json: measured.forms.{index}", checkpoint.download_bytes(export, form.form)
            expected |= {f"{at}.file": (form.file, checkpoint.FILES.get(form.form)), f"{at}.bytes": (form.bytes, size)}
        for name, narrow in (("int8", result.int8), ("fp16", result.fp16)):
            released = (export / quantize.FILES[name]).is_file()
            expected[f"export.json: measured.{name}.released"] = (narrow.released, released)
            if narrow.released and narrow.measured:
                at = f"export.json: measured.{name}.measured.file"
                expected[at] = (narrow.measured.file, quantize.FILES[name])
                size = (export / narrow.measured.file).stat().st_size
                expected[f"export.json: measured.{name}.measured.bytes"] = (narrow.measured.bytes, size)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        yield f"not the files of an export ({type(error).__name__}: {error})"
        return
    yield from _others(expected)
