"""Two-stage retrieval: the first stage's candidates, reranked through mteb, measured per query, and kept row by row."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import mteb
import numpy as np
from mteb.cache import ResultCache

from release.errors import ReleaseError
from release.evaluation.first_stage import FirstStage, Run
from release.evaluation.first_stage import run as first_run
from release.evaluation.metrics import Comparison, Ranking, compare, macro
from release.evaluation.rerankers import Reranker, fingerprint
from release.evaluation.reranking import Search
from release.evaluation.tasks import Collection, Task
from release.files import write_json

_AGREE = 2e-5  # mteb rounds its NDCG to five digits


@dataclass(frozen=True)
class Row:
    """One task x first stage: `table` is what a record shows, `gains` the NDCG@10 gained per query."""

    table: dict[str, Any]
    gains: np.ndarray


def evaluate_task(
    reranker: Reranker,
    task: Task,
    stages: list[FirstStage],
    *,
    top_k: int,
    runs: Path,
    kept: Path,
    in_domain: bool | None = None,
) -> list[Row]:
    """Evaluate a reranker on one task behind each first stage.

    Args:
        top_k: Candidates per query that are reranked.
        runs: Where first-stage runs are kept, for all rerankers.
        kept: Where this reranker's finished rows are kept: a killed evaluation continues behind the last of them.
        in_domain: Whether the task's data is in the training mixture, None where nothing says so.
    """
    known: dict[str, dict[str, float]] = {}
    rows = []
    for stage in stages:
        found = first_run(stage, task, runs)
        row, scores = _row(reranker, task, found, top_k, kept, known)
        for query, documents in scores.items():  # from a kept row too, so that a resumed run scores the same pairs
            known.setdefault(query, {}).update(documents)
        rows.append(Row(row.table | {"in_domain": in_domain}, row.gains))
    return rows


def row_key(reranker: Reranker, task: Task, found: Run, top_k: int) -> dict[str, Any]:
    """Everything a row's numbers depend on. Rows under another key are never reused."""
    return {
        **reranker.facts,
        "task": task.name,
        "task_revision": task.revision,
        "first_stage": found.stage.name,
        "first_stage_revision": found.stage.revision,
        "run": found.sha256,
        "top_k": top_k,
        "mteb": metadata.version("mteb"),
    }


def _row(
    reranker: Reranker, task: Task, found: Run, top_k: int, kept: Path, known: dict[str, dict[str, float]]
) -> tuple[Row, dict[str, dict[str, float]]]:
    """The kept row under this key, or the one measured now; with the raw scores of its pairs."""
    key = row_key(reranker, task, found, top_k)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{task.name}-{found.stage.name}")
    path = kept / "rows" / f"{name}-{fingerprint(json.dumps(key, sort_keys=True))}.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["key"] == key:
            return Row(value["table"], np.array(value["gains"])), value["scores"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    row, scores = _measure(reranker, task, found, top_k, kept, known)
    write_json(path, {"key": key, "table": row.table, "gains": row.gains.tolist(), "scores": scores})
    return row, scores


def _measure(
    reranker: Reranker, task: Task, found: Run, top_k: int, kept: Path, known: dict[str, dict[str, float]]
) -> tuple[Row, dict[str, dict[str, float]]]:
    search = Search(reranker, {"first_stage": found.stage.slug, "top_k": top_k}, known)
    started = time.perf_counter()
    result = mteb.evaluate(
        search,
        task.fresh().convert_to_reranking(found.folder, top_k=top_k),
        cache=ResultCache(kept / "mteb"),  # the layout of the public results repository
        overwrite_strategy="always",  # what may be reused is decided by the row's key alone
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": 32, "show_progress_bar": False},
    )
    seconds = time.perf_counter() - started
    first = candidates(task, found.found, top_k)
    measured = compare(first, search.scores, task.judgements)
    published = result.task_results[0].get_score()
    if abs(published - measured.reranked.mean()) > _AGREE:
        raise ReleaseError(
            f"mteb measures NDCG@10 {published:.5f}, this project {measured.reranked.mean():.5f}",
            where=f"{task.name} behind {found.stage.name}",
            hint="report it: one of the two is wrong",
        )
    pairs = sum(map(len, search.scores.values()))
    return Row(_table(task, found, top_k, measured, pairs, search.scored, seconds), measured.gains), search.scores


def candidates(task: Task, found: Ranking, top_k: int) -> Ranking:
    """The `top_k` of every judged query, less the query's own text where the task leaves that out (as mteb does)."""
    drop = task.loaded.ignore_identical_ids
    return {
        query: [name for name in found.get(query, [])[:top_k] if not (drop and name == query)]
        for query in task.judgements
    }


def _table(
    task: Task, found: Run, top_k: int, measured: Comparison, pairs: int, scored: int, seconds: float
) -> dict[str, Any]:
    return {
        "task": task.name,
        "task_revision": task.revision,
        "dataset": None if isinstance(task.loaded, Collection) else task.loaded.metadata.dataset["path"],
        "first_stage": found.stage.name,
        "top_k": top_k,
        "ndcg@10": measured.summary(),
        f"recall@{top_k}": measured.recall,
        **measured.counts(),
        "pairs": pairs,
        "pairs_scored": scored,
        "seconds": round(seconds, 2),
    }


def means(rows: list[Row]) -> dict[str, Any] | None:
    """Means over rows (each row weighs the same) with the gain's 95 % interval; None without rows."""
    if not rows:
        return None
    gain, low, high = macro([row.gains for row in rows])
    tables = [row.table["ndcg@10"] for row in rows]
    return {
        **{key: float(np.mean([table[key] for table in tables])) for key in ("first_stage", "reranked", "oracle")},
        "gain": gain,
        "ci_low": low,
        "ci_high": high,
        "rows": len(rows),
        "queries": sum(row.table["queries"] for row in rows),
    }


def summary(rows: list[Row]) -> dict[str, Any]:
    """Means over all rows, apart for tasks inside and outside the training data, and per first stage."""
    stages = dict.fromkeys(row.table["first_stage"] for row in rows)
    return {
        "all": means(rows),
        "in_domain": means([row for row in rows if row.table["in_domain"] is True]),
        "out_of_domain": means([row for row in rows if row.table["in_domain"] is False]),
        "first_stages": {name: means([row for row in rows if row.table["first_stage"] == name]) for name in stages},
    }
