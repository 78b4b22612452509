"""The scores of every query beside a record: every mean, gain and interval is computed again from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from release import records
from release.errors import ReleaseError
from release.evaluation import metrics
from release.evaluation.metrics import QueryMeasures
from release.files import sha256_file, write_json
from release.results.evaluation import EvaluationResult, MeanResult, Means, QueryScores, ScoredQueries, TaskResult

Scores = TypeVar("Scores")
FILE = "queries.json"  # beside the record `evaluate`, or `finetune`
EQUAL = 1e-9  # of two figures that are computed alike from the same numbers; machines add in another order


def write(folder: Path, scores: Any) -> str:
    """Write the scores to `folder`; returns the sha256 that the record keeps."""
    return sha256_file(write_json(folder / FILE, asdict(scores)))


def read(folder: Path, evaluate: EvaluationResult) -> ScoredQueries:
    """The scores that an evaluation names.

    Raises:
        ReleaseError: They are missing, damaged, or not those of this evaluation.
    """
    return read_scores(folder, ScoredQueries, evaluate.queries_sha256, "evaluate")


def read_scores(folder: Path, form: type[Scores], sha256: str | None, kind: str) -> Scores:
    """The scores beside the record of `kind`, which names their `sha256`.

    Raises:
        ReleaseError: They are missing, damaged, or others.
    """
    path = folder / FILE
    if not path.is_file() or sha256_file(path) != sha256:
        what = "no scores of single queries" if not path.is_file() else f"not the scores that the record {kind!r} names"
        raise ReleaseError(what, where=str(path), hint=records.remake_hint(kind))
    try:
        return records.parse(form, path.read_bytes())
    except ValueError as error:
        raise ReleaseError("damaged scores", where=str(path), hint=records.remake_hint(kind)) from error


def problems(evaluate: EvaluationResult, scores: ScoredQueries) -> Iterator[str]:
    """Every figure of an evaluation that its queries do not give: the key, what stands there, what they give."""
    yield from _compared("", evaluate.tasks, evaluate.means, scores.model)
    if evaluate.teacher:
        yield from _compared("teacher.", evaluate.teacher.tasks, evaluate.teacher.means, scores.teacher)
        mine, its = (
            [(one.queries, one.first_stage_ndcg, one.oracle_ndcg, one.recall) for one in each]
            for each in (scores.model, scores.teacher)
        )
        if mine != its:
            yield "teacher.tasks: not over the queries and candidates of the model's"


def _compared(who: str, rows: Sequence[TaskResult], means: Means, scores: Sequence[QueryScores]) -> Iterator[str]:
    if [(row.task, row.first_stage) for row in rows] != [(one.task, one.first_stage) for one in scores]:
        yield f"{who}tasks: not the rows that there are scores of queries for"
        return
    if any(len({*one.queries}) != len(one.first_stage_ndcg) for one in scores):
        yield f"{who}tasks: scores without a query, or a query twice"
        return
    measures = [measures_of(one) for one in scores]
    if not all(_possible(one) for one in measures):
        yield f"{who}tasks: a query with an NDCG@10 or a recall that its candidates cannot have"
        return
    for index, (row, measured) in enumerate(zip(rows, measures, strict=True)):
        helped, hurt, unchanged = measured.counts()
        counts = {"helped": helped, "hurt": hurt, "unchanged": unchanged, "queries": len(measured.gains)}
        given = asdict(measured.quality()) | counts | {"recall": measured.recall}
        yield from _differ(f"{who}tasks.{index}", row, given)
    yield from _means(f"{who}means", means, means_of(rows, [measured.gains for measured in measures]))


def _means(key: str, stated: Means, given: Means) -> Iterator[str]:
    parts = {name: (getattr(stated, name), getattr(given, name)) for name in ("all", "in_domain", "out_of_domain")}
    if stated.first_stages.keys() != given.first_stages.keys():  # a record is written with its keys in order
        yield f"{key}.first_stages: not the first stages of the rows"
        return
    parts |= {f"first_stages.{name}": (stated.first_stages[name], mean) for name, mean in given.first_stages.items()}
    for name, (says, mean) in parts.items():
        if says is None or mean is None:
            if says or mean:
                yield f"{key}.{name}: {'a mean over no row' if says else 'no mean, though there are rows'}"
        else:
            yield from _differ(f"{key}.{name}", says, asdict(mean))


def mean_of(rows: Sequence[TaskResult], gains: Sequence[np.ndarray]) -> MeanResult:
    """Means over rows (each row weighs the same) with the gain's 95 % interval; there is at least one row.

    Args:
        gains: Of every row, the NDCG@10 gained per query, shape (queries,).
    """
    gain, low, high = metrics.macro(gains)
    return MeanResult(
        first_stage_ndcg=float(np.mean([row.first_stage_ndcg for row in rows])),
        reranked_ndcg=float(np.mean([row.reranked_ndcg for row in rows])),
        oracle_ndcg=float(np.mean([row.oracle_ndcg for row in rows])),
        gain=gain,
        ci_low=low,
        ci_high=high,
        rows=len(rows),
        queries=sum(row.queries for row in rows),
    )


def means_of(rows: Sequence[TaskResult], gains: Sequence[np.ndarray]) -> Means:
    """Means over all rows, apart for tasks inside and outside the training data, and per first stage."""

    def mean(keep: Callable[[TaskResult], bool]) -> MeanResult | None:
        indices = [index for index, row in enumerate(rows) if keep(row)]
        return mean_of([rows[index] for index in indices], [gains[index] for index in indices]) if indices else None

    stages = {name: mean(lambda row, name=name: row.first_stage == name) for name in (row.first_stage for row in rows)}
    return Means(
        all=mean_of(rows, gains),
        in_domain=mean(lambda row: row.in_domain is True),
        out_of_domain=mean(lambda row: row.in_domain is False),
        first_stages={name: each for name, each in stages.items() if each},
    )


def _differ(key: str, stated: object, given: dict[str, float]) -> Iterator[str]:
    for name, value in given.items():
        says = getattr(stated, name)
        if abs(says - value) > EQUAL:
            yield f"{key}.{name}: {says:.6g}, and its queries give {value:.6g}"


def measures_of(scores: QueryScores) -> QueryMeasures:
    """The arrays that the metrics compute with."""
    return QueryMeasures(
        first_stage_ndcg=np.array(scores.first_stage_ndcg),
        reranked_ndcg=np.array(scores.reranked_ndcg),
        oracle_ndcg=np.array(scores.oracle_ndcg),
        recalls=np.array([np.nan if share is None else share for share in scores.recall], dtype=float),
    )


def scores_of(task: str, first_stage: str, queries: Sequence[str], measured: QueryMeasures) -> QueryScores:
    """The arrays as a record keeps them."""
    return QueryScores(
        task=task,
        first_stage=first_stage,
        queries=tuple(queries),
        first_stage_ndcg=tuple(measured.first_stage_ndcg.tolist()),
        reranked_ndcg=tuple(measured.reranked_ndcg.tolist()),
        oracle_ndcg=tuple(measured.oracle_ndcg.tolist()),
        recall=tuple(None if np.isnan(share) else share for share in measured.recalls.tolist()),
    )


def _possible(measured: QueryMeasures) -> bool:
    ndcg = (measured.first_stage_ndcg, measured.reranked_ndcg, measured.oracle_ndcg)
    lengths = {len(each) for each in (*ndcg, measured.recalls)}
    if len(lengths) > 1 or 0 in lengths:
        return False
    recalls = measured.recalls[~np.isnan(measured.recalls)]
    inside = all(((each >= 0) & (each <= 1 + EQUAL)).all() for each in (*ndcg, recalls))
    found = np.nan_to_num(measured.recalls) > 0  # what is not among the candidates no order can rank
    inside = inside and bool((found == (measured.oracle_ndcg > 0)).all())
    return bool(inside and all((each <= measured.oracle_ndcg + EQUAL).all() for each in ndcg[:2]))
