"""Quality as a record: NDCG@10 over every first stage, with gain, interval, oracle, teacher and calibration."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from release import beir, bm25, options, records, results
from release.console import print_json, quiet, say, table
from release.errors import ReleaseError
from release.evaluation import first_stage, queries, rerankers, tasks
from release.evaluation.calibration import calibrate
from release.evaluation.family_rows import all_rows
from release.evaluation.nano import nano
from release.evaluation.rerankers import Reranker
from release.evaluation.shared_rows import share
from release.evaluation.two_stage import Row, evaluate_task, means
from release.family import BM25, Family
from release.family import load as load_family
from release.files import exclusive_lock
from release.records import Record
from release.results.evaluation import (
    EvaluationResult,
    EvaluationSubject,
    NanoResult,
    ScoredQueries,
    TaskResult,
    TeacherEvaluation,
)
from release.workers import Executor

Evaluated = Record[EvaluationResult, EvaluationSubject]
STANDALONE = Path("build") / "evaluations"  # first-stage runs and rows of models that belong to no family


def command(
    family_file: Annotated[
        Path | None, typer.Option("--family", help="Family file: evaluate one of its sizes.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="The size in the family file.")] = None,
    compared: Annotated[str | None, typer.Option(help="With --family: a public reranker to compare with.")] = None,
    model: Annotated[str | None, typer.Option(help="Without --family: any CrossEncoder, a folder or Hub id.")] = None,
    collection: Annotated[Path | None, typer.Option(help="A folder in BEIR's form.")] = None,
    first_stage: Annotated[str, typer.Option(help="bm25, or an embedder's folder or Hub id.")] = "bm25",
    top_k: Annotated[int, typer.Option(min=1, max=first_stage.DEPTH, help="Candidates that are reranked.")] = 100,
    output: Annotated[Path | None, typer.Option(help="Write the record to this file.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; default by device.")] = None,
    language: Annotated[
        str | None, typer.Option(help="Of the collection, for bm25: an ISO 639 code; English by default.")
    ] = None,
    workers: options.Workers = 1,
    executor: options.Executor = "local",
    option: options.ExecutorOptions = None,
) -> None:
    """Measure how much a reranker improves retrieval: a size of a family, or any CrossEncoder on any BEIR folder."""
    family, path = load_family(family_file) if family_file else None, output
    with quiet():
        if (by := Executor.parse(executor, workers, option, "evaluate")).shares:
            if not family:
                raise ReleaseError("only a family's tasks are shared", hint="--family FILE, or leave out --workers")
            if not share(family, by, size=size, compared=compared, dtype=dtype):
                say("evaluate: the rows are with slurm; run again without --executor when it has ended")
                return
        if family and compared is not None:
            record = evaluate_compared(family, compared, dtype=dtype)
        elif family and size is not None:
            record = evaluate_size(family, size, dtype=dtype)
            path = family.folder(size) / "records" / "evaluate.json"
        elif family:
            raise ReleaseError("which size?", hint=f"--size {' | '.join(family.sizes)}")
        elif model is None or collection is None:
            hint = "--family FILE --size SIZE, or --model DIR_OR_ID --collection FOLDER"
            raise ReleaseError("nothing to evaluate", hint=hint)
        else:
            record = evaluate_collection(model, collection, first_stage, top_k=top_k, dtype=dtype, language=language)
    if output is not None:
        records.write_file(record, output)
    _show(record, path)


def evaluate_size(family: Family, size: str, *, dtype: str | None = None) -> Evaluated:
    """Measure one size of a family and write its record; rows that are already measured are read.

    Raises:
        ReleaseError: No model, no collection, or tasks and embedders that cannot be fetched here; the line says which.
    """
    folder = family.folder(size)
    model_folder = folder / "model"
    sha256 = records.model_hash(model_folder)
    with exclusive_lock(folder / "evaluation"):
        load = partial(rerankers.load_size, family, size)
        record = _family_record(family, size, load, dtype, sha256, folder / "evaluation")
        records.write(record, folder / "records")
    return record


def evaluate_compared(family: Family, name: str, *, dtype: str | None = None) -> Evaluated:
    """Measure a public reranker on the family's tasks, for the table that compares; its record is in a folder of its name.

    Raises:
        ReleaseError: The family file does not list it, or it cannot be loaded here.
    """
    if name not in family.evaluation.compared:
        raise ReleaseError(
            f"{name!r} is not compared with", where=f"{family.path} [evaluation] compared", hint="add it"
        )
    folder = family.compared_folder(name)
    with exclusive_lock(folder):
        record = _family_record(family, "", partial(rerankers.load_named, family, name), dtype, None, folder)
        records.write(record, folder / "records")
    return record


Load = Callable[..., Reranker]  # takes the keyword `dtype`


def _family_record(
    family: Family, size: str, load: Load, dtype: str | None, sha256: str | None, cache_dir: Path
) -> Evaluated:
    """Measure what `load` gives; `sha256` names a model of the family's own, a public one is named by its revision."""
    reranker = load(dtype=dtype or family.evaluation.dtype)
    stages = first_stage.first_stages(family)
    rows = all_rows(reranker, family, stages, cache_dir=cache_dir)
    watched, *others = _nano(family, reranker, load, cache_dir)
    teacher, taught = _teacher(family, stages) if size else (None, [])
    result = EvaluationResult(
        tasks=tuple(row.result for row in rows),
        means=means(rows),
        parameters=reranker.parameters,
        nano=watched,
        nano_other_dtypes=tuple(others),
        teacher=teacher,
        calibration=calibrate(reranker, family) if size else None,
        queries_sha256=_keep_queries(family, size, rows, taught) if size else None,
    )
    return records.new(
        results.EVALUATE,
        family=family.about.name,
        size=size,
        model_sha256=sha256 or reranker.revision,
        measured=result,
        subject=subject_of(reranker, stages, rows, family.evaluation.top_k, {family.evaluation.nano: watched.revision}),
        device=reranker.device,
    )


def _keep_queries(family: Family, size: str, rows: list[Row], taught: list[Row]) -> str:
    """Write what all means are over beside the record that is to come; returns its sha256."""
    model, teacher = (tuple(row.queries for row in each if row.queries) for each in (rows, taught))
    return queries.write(family.folder(size) / "records", ScoredQueries(model, teacher))


def _nano(family: Family, reranker: Reranker, load: Load, cache_dir: Path) -> list[NanoResult]:
    """The nano sets in the dtype that the family names for them, and then in that of the tasks where it is another."""
    required = family.evaluation.nano_dtype
    measured = [nano(reranker, family, cache_dir)]
    if required in (None, reranker.dtype):
        return measured
    return [nano(load(dtype=required), family, cache_dir), *measured]


def _teacher(family: Family, stages: list[first_stage.FirstStage]) -> tuple[TeacherEvaluation, list[Row]]:
    """The teacher on the same candidates; what it scored for another size is not scored again."""
    teacher = rerankers.teacher_as_reranker(family)
    cache_dir = family.build / "teacher"
    rows = all_rows(teacher, family, stages, cache_dir=cache_dir)
    has_dtypes = family.teacher.kind == "cross-encoder"
    load = partial(rerankers.teacher_as_reranker, family)
    watched = _nano(family, teacher, load, cache_dir)[0] if has_dtypes else nano(teacher, family, cache_dir)
    evaluation = TeacherEvaluation(
        name=family.teacher.model,
        kind=family.teacher.kind,
        parameters=teacher.parameters,
        tasks=tuple(row.result for row in rows),
        means=means(rows),
        nano=watched,
        revision=teacher.commit,
        form=teacher.form,
        dtype=teacher.dtype,
        max_length=teacher.max_length,
    )
    return evaluation, rows


def subject_of(
    reranker: Reranker, stages: list[first_stage.FirstStage], rows: list[Row], top_k: int, nano_sets: dict[str, str]
) -> EvaluationSubject:
    """What makes the numbers comparable with others."""
    return EvaluationSubject(
        model=reranker.name,
        dtype=reranker.dtype,
        max_length=reranker.max_length,
        attention=reranker.attention,
        top_k=top_k,
        first_stages={stage.name: stage.revision for stage in stages},
        tasks={row.result.task: row.result.task_revision for row in rows},
        nano=nano_sets,
        mteb=metadata.version("mteb"),
        form=reranker.form,
    )


def evaluate_collection(
    model: str,
    collection: Path,
    embedder: str,
    *,
    top_k: int = 100,
    dtype: str | None = None,
    language: str | None = None,
) -> Evaluated:
    """Measure any CrossEncoder on any folder in BEIR's form, over one first stage.

    Args:
        language: Of the collection, for BM25; None is English, where its texts do not look like another language.

    Raises:
        ReleaseError: The folder is no collection, or the model or embedder cannot be loaded here.
    """
    task = tasks.from_folder(collection)
    if language is None and embedder == BM25:
        documents = (beir.document_text(title, text) for _, title, text in beir.texts(beir.files(collection).corpus))
        bm25.check_english(documents, str(collection))
    stage = first_stage.first_stage(embedder, language or "en")
    reranker = rerankers.load(model, dtype=dtype)
    cache_dir = STANDALONE / f"{reranker.name.replace('/', '--')}-{reranker.revision[:12]}"
    with exclusive_lock(cache_dir):
        rows = evaluate_task(reranker, task, [stage], top_k=top_k, runs=STANDALONE / "runs", cache_dir=cache_dir)
    result = EvaluationResult(
        tasks=tuple(row.result for row in rows),
        means=means(rows),
        parameters=reranker.parameters,
        nano=None,
        teacher=None,
        calibration=None,
    )
    return records.new(
        results.EVALUATE,
        family="",
        model_sha256=reranker.revision,
        measured=result,
        subject=subject_of(reranker, [stage], rows, top_k, {}),
        device=reranker.device,
    )


def _show(record: Evaluated, path: Path | None) -> None:
    """A table for people, then one JSON line for programs."""
    result = record.measured
    columns = ["", "queries", "first stage", "reranked", "gain", "95 % interval", "oracle", "helped/hurt"]
    rows = [_cells("", row) for row in result.tasks]
    rows += [_cells("teacher: ", row) for row in (result.teacher.tasks if result.teacher else ())]
    table("NDCG@10", columns, rows)
    mean = result.means.all
    print_json(
        {
            "first_stage": mean.first_stage_ndcg,
            "reranked": mean.reranked_ndcg,
            "gain": mean.gain,
            "ci_low": mean.ci_low,
            "ci_high": mean.ci_high,
            "oracle": mean.oracle_ndcg,
            "queries": mean.queries,
            "model_sha256": record.model_sha256,
            "record": str(path) if path else None,
        }
    )


def _cells(who: str, row: TaskResult) -> list[Any]:
    return [
        f"{who}{row.task} over {row.first_stage}",
        row.queries,
        row.first_stage_ndcg,
        row.reranked_ndcg,
        f"{row.gain:+.4f}",
        f"{row.ci_low:+.4f} to {row.ci_high:+.4f}",
        row.oracle_ndcg,
        f"{row.helped}/{row.hurt}",
    ]
