"""From the trained model to the folder that every engine loads with the same scores.

The folder `export/` is the modular CrossEncoder whose root checkpoint is a `ModernBertForSequenceClassification`
(dual_root), with settings that no reader can misunderstand (portable), and `onnx/model.onnx`, the whole pipeline (graph). Each
form is compared with the trained model on real pairs before the folder appears.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub import snapshot_download

from release import console, options, records, results
from release.errors import ReleaseError
from release.export import graph, parity, portable, quantize
from release.export.dual_root import changed_weights, dual_root, module_paths, weight_problems
from release.export.pairs import Pair, library_pairs, sample_pairs
from release.family import Family, load
from release.files import atomic_directory, sha256_folder
from release.records import Record
from release.results.export import ExportedForm, ExportResult, ExportSubject, NarrowExport
from release.start_up import load_modules

FILES = {
    "CrossEncoder": "modules.json",
    "AutoModelForSequenceClassification": "model.safetensors",
    "ONNX": "onnx/model.onnx",
}


def command(
    size: Annotated[str | None, typer.Option(help="One of the family's sizes.")] = None,
    family_file: options.Family = options.ETTIN,
    model: Annotated[
        str | None,
        typer.Option(help="A ModernBERT reranker of the recipe's five modules: a folder, or an id of a Hub."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Where its export goes.")] = None,
    judge_hours: Annotated[
        float, typer.Option(min=0, help="That judging 8 and 16 bits may take: no such file where it would take longer.")
    ] = quantize.HOURS,
) -> None:
    """Export one trained model in every form and compare each with it."""
    if model is not None and output is not None and size is None:
        result = export_any(model, output)
    elif size is not None and model is None and output is None:
        result = export(load(family_file), size, judge_hours).measured
    else:
        raise ReleaseError(
            "what is to be exported?", hint="--family FILE --size SIZE, or --model DIR_OR_ID --output DIR"
        )
    rows = [
        [form.form, form.file, form.bytes, f"{form.max_score_difference:.1e}", f"{form.tolerance:.1e}"]
        for form in result.forms
    ]
    title = f"Scores of {result.pairs} pairs against the trained model"
    console.table(title, ["form", "file", "bytes of weights", "largest difference", "allowed"], rows)
    for name in quantize.FILES:
        narrow: NarrowExport = getattr(result, name)
        if narrow.released and narrow.measured:
            measured = narrow.measured
            console.say(f"{name}: {measured.bytes} bytes, NDCG@10 {measured.change:+.4f} ({measured.collection})")
        else:
            console.say(f"no {name}: {narrow.reason}")
    console.print_json(asdict(result))


def export(family: Family, size: str, judge_hours: float = quantize.HOURS) -> Record[ExportResult, ExportSubject]:
    """Make `<size>/export/` from `<size>/model/`, compare, and write the record "export".

    Args:
        judge_hours: That judging the files in 8 and in 16 bits may take.

    Raises:
        ReleaseError: No model, another shape than the recipe's, no pairs, a form whose scores differ, or a file by which
            some reader would get others; then the earlier export, if any, stays as it was.
    """
    model = family.folder(size) / "model"
    digest = records.model_hash(model)
    pairs = sample_pairs(family)
    with console.quiet(), atomic_directory(family.folder(size) / "export") as folder:
        scores, forms = assemble(model, folder, pairs)
        result = summary(folder, scores, forms, quantize.add_narrow(family, folder, judge_hours))
    record = records.new(
        results.EXPORT,
        family=family.about.name,
        size=size,
        model_sha256=digest,
        measured=result,
        subject=ExportSubject(dtype="float32", pairs=family.data.validation),
    )
    records.write(record, family.folder(size) / "records")
    return record


def export_any(source: str, output: Path) -> ExportResult:
    """Export a ModernBERT reranker of the recipe's five modules that is not of a family: a folder, or an id of a Hub.

    Raises:
        ReleaseError: `source` is no such model or cannot be fetched, `output` is there already, or a form's scores differ.
    """
    if output.exists():
        raise ReleaseError("something is there already", where=str(output), hint="name a new folder for --output")
    model = Path(source) if Path(source).is_dir() else _fetched(source)
    module_paths(model)  # says first that it is of another kind
    portable.check_settings(model)
    with console.quiet(), atomic_directory(output) as folder:
        scores, forms = assemble(model, folder, library_pairs())
        unmeasured = NarrowExport(False, "only a family names what NDCG@10 is measured on", None)
        return summary(folder, scores, forms, dict.fromkeys(quantize.FILES, unmeasured))


def _fetched(source: str) -> Path:
    try:
        return Path(snapshot_download(source, allow_patterns=["*.json", "*.safetensors"]))
    except Exception as error:  # no network, no such repository, no access, a bad name: each has its own type
        what = f"no model {source!r} here, and it cannot be fetched ({type(error).__name__})"
        raise ReleaseError(what, hint="give the folder of a modular reranker, or its id on the Hub") from error


def assemble(model: Path, folder: Path, pairs: Sequence[Pair]) -> tuple[list[float], tuple[ExportedForm, ...]]:
    """Fill `folder` with every form of `model` and compare them on `pairs`.

    Returns:
        The trained model's scores, and every form.

    Raises:
        ReleaseError: A form differs by more than its tolerance, or a file says what some reader would misunderstand.
    """
    build(model, folder)
    lines = [*graph.problems(folder), *changes(model, folder)]
    gc.collect()  # graphs and models refer to themselves, and each holds all weights
    _refuse(model, lines)
    return compare(model, folder, pairs)


def build(model: Path, folder: Path) -> None:
    """Write the dual root of `model`, its settings and its ONNX file to `folder`; nothing is compared yet.

    Raises:
        ReleaseError: The settings or weights are none that every reader takes alike: then no graph is made of them.
    """
    load_modules("onnx_ir", "onnxruntime", "sentence_transformers")  # all that the export runs with
    dual_root(model, folder)
    portable.write(folder)
    _refuse(model, [*portable.problems(folder), *weight_problems(folder)])
    graph.whole_onnx(folder)


def _refuse(model: Path, lines: list[str]) -> None:
    if lines:
        what = f"{len(lines)} reason(s) why some engine would give other scores, the first: {lines[0]}"
        raise ReleaseError(what, where=str(model), hint="it must not be published: correct the model's files")


def problems(folder: Path) -> Iterator[str]:
    """Every reason why some engine would read other scores from `folder` than another, one line each; no model is run."""
    yield from portable.problems(folder)
    yield from weight_problems(folder)
    yield from graph.problems(folder)


def changes(model: Path, folder: Path) -> Iterator[str]:
    """What `folder` does not have from `model` as it is there: no score of a few pairs shows a rare word's weights."""
    yield from portable.changed_settings(model, folder)
    yield from portable.tokenizer_problems(model, folder)
    yield from changed_weights(model, folder)
    yield from graph.changed_weights(folder)


def summary(
    folder: Path, scores: Sequence[float], forms: tuple[ExportedForm, ...], narrow: dict[str, NarrowExport]
) -> ExportResult:
    """What the record "export" holds about `folder` as it is now."""
    return ExportResult(
        pairs=len(scores),
        score_range=(min(scores), max(scores)),
        max_length=portable.max_length(folder),
        forms=forms,
        **narrow,
        sha256=sha256_folder(folder),
        architecture=portable.architecture(folder),
    )


def compare(model: Path, folder: Path, pairs: Sequence[Pair]) -> tuple[list[float], tuple[ExportedForm, ...]]:
    """Score `pairs` with the trained model and with each form of `folder`, all in float32 on the CPU.

    Returns:
        The trained model's scores, and every form.

    Raises:
        ReleaseError: A form differs by more than its tolerance; the form and the difference are named.
    """
    reference = parity.cross_encoder(str(model), pairs)
    forms = tuple(
        ExportedForm(**asdict(each), file=FILES[each.form], bytes=download_bytes(folder, each.form))
        for each in parity.differences(reference, str(folder), pairs)
    )
    return reference, forms


def download_bytes(folder: Path, form: str) -> int:
    """What a user of one form downloads in weights."""
    patterns = {"CrossEncoder": "**/*.safetensors", "ONNX": "onnx/model.onnx*"}
    return sum(file.stat().st_size for file in folder.glob(patterns.get(form, "*.safetensors")))
