"""Two-stage retrieval: the first stage's candidates, reranked through mteb, measured per query, and written row by row."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import mteb
import numpy as np
from mteb.cache import ResultCache
from pydantic import with_config

from release import mode, records
from release.console import note
from release.errors import ReleaseError
from release.evaluation import queries
from release.evaluation.first_stage import FirstStage, FirstStageRun, retrieve
from release.evaluation.metrics import QueryMeasures, Ranking, compare
from release.evaluation.rerankers import Reranker
from release.evaluation.reranking import Search
from release.evaluation.tasks import Collection, Task
from release.files import short_hash, write_json
from release.results.evaluation import MeanResult, Means, QueryScores, TaskResult

_AGREE = 2e-5  # mteb rounds its NDCG to five digits


@dataclass(frozen=True)
class Row:
    """One task x first stage: `result` is what a record shows, `gains` the NDCG@10 gained per query, shape (queries,).

    `queries` holds all that `result` is the mean of.
    """

    result: TaskResult
    gains: np.ndarray
    queries: QueryScores | None = None


@with_config(records.STRICT)
@dataclass(frozen=True)
class CachedRow:
    """A finished row on the disk: its `key`, what was measured, of each query too, and raw scores (query -> document -> logit)."""

    key: dict[str, Any]
    result: TaskResult
    queries: QueryScores
    scores: dict[str, dict[str, float]]


def evaluate_task(
    reranker: Reranker,
    task: Task,
    stages: list[FirstStage],
    *,
    top_k: int,
    runs: Path,
    cache_dir: Path,
    in_domain: bool | None = None,
) -> list[Row]:
    """Evaluate a reranker on one task over each first stage.

    Args:
        top_k: Candidates per query that are reranked.
        runs: Folder of the first stages' runs, for all rerankers.
        cache_dir: Folder of this reranker's finished rows: a killed evaluation continues after the last of them.
        in_domain: Whether the task's data is in the training mixture, None where nothing says so.
    """
    known: dict[str, dict[str, float]] = {}
    rows = []
    for stage in stages:
        run = retrieve(stage, task, runs)
        row, scores = _row(reranker, task, run, top_k, cache_dir, known)
        for query, documents in scores.items():  # from a cached row too, so that a resumed run scores the same pairs
            known.setdefault(query, {}).update(documents)
        rows.append(replace(row, result=replace(row.result, in_domain=in_domain)))
    return rows


def row_key(reranker: Reranker, task: Task, run: FirstStageRun, top_k: int) -> dict[str, Any]:
    """Everything a row's numbers depend on. Rows under another key are never reused."""
    return {
        **reranker.identity,
        "task": task.name,
        "task_revision": task.revision,
        "first_stage": run.stage.name,
        "first_stage_revision": run.stage.revision,
        "run": run.sha256,
        "top_k": top_k,
        "mteb": metadata.version("mteb"),
    }


def _row(
    reranker: Reranker, task: Task, run: FirstStageRun, top_k: int, cache_dir: Path, known: dict[str, dict[str, float]]
) -> tuple[Row, dict[str, dict[str, float]]]:
    """The cached row under this key, or the one measured now; with the raw scores of its pairs."""
    key = row_key(reranker, task, run, top_k)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{task.name}-{run.stage.name}")
    path = cache_dir / "rows" / f"{name}-{short_hash(json.dumps(key, sort_keys=True))}.json"
    try:
        row = records.parse(CachedRow, path.read_bytes())
        if row.key == key:
            return Row(row.result, queries.measures_of(row.queries).gains, row.queries), row.scores
    except (OSError, ValueError):
        pass
    row, scores = _measure(reranker, task, run, top_k, cache_dir, known)
    note(
        f"{reranker.name}: {task.name} over {run.stage.name}: {row.result.first_stage_ndcg:.4f} -> {row.result.reranked_ndcg:.4f}"
    )
    assert row.queries is not None
    write_json(path, asdict(CachedRow(key, row.result, row.queries, scores)))
    return row, scores


def _measure(
    reranker: Reranker, task: Task, run: FirstStageRun, top_k: int, cache_dir: Path, known: dict[str, dict[str, float]]
) -> tuple[Row, dict[str, dict[str, float]]]:
    search = Search(reranker, {"first_stage": run.stage.slug, "top_k": top_k}, known)
    started = time.perf_counter()
    result = mteb.evaluate(
        search,
        task.fresh(few=mode.active()).convert_to_reranking(run.folder, top_k=top_k),
        cache=ResultCache(cache_dir / "mteb"),  # the layout of the public results repository
        overwrite_strategy="always",  # what may be reused is decided by the row's key alone
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": 32, "show_progress_bar": False},
    )
    seconds = time.perf_counter() - started
    first = candidates(task, run.ranking, top_k)
    measured = compare(first, search.scores, task.judgements)
    published = result.task_results[0].get_score()
    if abs(published - measured.reranked_ndcg.mean()) > _AGREE:
        raise ReleaseError(
            f"mteb measures NDCG@10 {published:.5f}, this project {measured.reranked_ndcg.mean():.5f}",
            where=f"{task.name} over {run.stage.name}",
            hint="report it: one of the two is wrong",
        )
    scored = queries.scores_of(task.name, run.stage.name, list(task.judgements), measured)
    return Row(_result(task, run, top_k, measured, search, seconds), measured.gains, scored), search.scores


def candidates(task: Task, ranking: Ranking, top_k: int) -> Ranking:
    """The `top_k` of every judged query, less the query's own text where the task leaves that out (as mteb does)."""
    drop = task.loaded.ignore_identical_ids
    return {
        query: [name for name in ranking.get(query, [])[:top_k] if not (drop and name == query)]
        for query in task.judgements
    }


def _result(
    task: Task, run: FirstStageRun, top_k: int, measured: QueryMeasures, search: Search, seconds: float
) -> TaskResult:
    helped, hurt, unchanged = measured.counts()
    return TaskResult(
        **asdict(measured.quality()),
        task=task.name,
        task_revision=task.revision,
        dataset=None if isinstance(task.loaded, Collection) else task.loaded.metadata.dataset["path"],
        first_stage=run.stage.name,
        top_k=top_k,
        recall=measured.recall,
        helped=helped,
        hurt=hurt,
        unchanged=unchanged,
        queries=len(measured.gains),
        pairs=sum(map(len, search.scores.values())),
        pairs_scored=search.scored,
        seconds=round(seconds, 2),
        in_domain=None,
    )


def mean_result(rows: list[Row]) -> MeanResult:
    """Means over rows (each row weighs the same) with the gain's 95 % interval; there is at least one row."""
    return queries.mean_of([row.result for row in rows], [row.gains for row in rows])


def means(rows: list[Row]) -> Means:
    """Means over all rows, apart for tasks inside and outside the training data, and per first stage."""
    return queries.means_of([row.result for row in rows], [row.gains for row in rows])
