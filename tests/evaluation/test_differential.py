"""A whole evaluation, from folder to figures, against scikit-learn's NDCG and the definitions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from release.evaluation import first_stage, tasks
from release.evaluation.rerankers import Reranker
from release.evaluation.two_stage import evaluate_task

WORDS = ["red", "green", "blue", "gold"]


def random_collection(folder: Path, seed: int, documents: int) -> dict[str, dict[str, int]]:
    """A BEIR folder of few words, so that most of BM25's scores tie; returns its judgements, some of them below zero.

    The text of the last query occurs in no document, the first one is judged without any relevant document.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    names = [f"{letter}{number}" for number in range(documents) for letter in draw.choice("aZé中")]
    corpus = [{"_id": name, "text": " ".join(draw.choices(WORDS, k=draw.randint(1, 3)))} for name in names]
    queries = {f"q{number}": " ".join(draw.sample(WORDS, 2)) for number in range(6)} | {"none": "yellow"}
    judged = {
        query: {name: draw.choice([-2, 0, 1, 1, 3]) for name in draw.sample(names, min(documents, draw.randint(1, 9)))}
        for query in queries
    }
    judged["q0"] = dict.fromkeys(judged["q0"], 0)
    judged["none"][names[0]] = 2
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    rows = ({"_id": query, "text": text} for query, text in queries.items())
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"{query}\t{name}\t{grade}\n" for query, grades in judged.items() for name, grade in grades.items()]
    (folder / "qrels.tsv").write_text("".join(lines))
    return judged


def gains_of(order: list[str], grades: dict[str, int]) -> float:
    """NDCG@10 by scikit-learn: what was not retrieved ranks after ten documents that nobody judged."""
    names = [*order, *(f"nothing {number}" for number in range(10)), *(name for name in grades if name not in order)]
    return ndcg_score([[max(grades.get(name, 0), 0) for name in names]], [-np.arange(len(names))], k=10)


def score(query: str, document: str) -> float:
    """Few values, so that many pairs tie; two differ in double precision only."""
    return [0.0, -1.5, 0.5, 0.5000000001][(len(query) + 3 * len(document)) % 4]


def scores(pairs: Any) -> np.ndarray:
    return np.array([score(query, document) for query, document in pairs], np.float32)


@pytest.mark.parametrize(("documents", "top_k"), [(1, 1), (1, 100), (15, 3), (40, 12), (40, 100)])
def test_an_evaluation_is_what_the_definitions_say(
    documents: int, top_k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    judged = random_collection(tmp_path / "words", documents + top_k, documents)
    task = tasks.from_folder(tmp_path / "words")
    stage = first_stage.first_stage("bm25")
    run = first_stage.retrieve(stage, task, Path("runs"))
    (row,) = evaluate_task(
        Reranker("r", "1", scores), task, [stage], top_k=top_k, runs=Path("runs"), cache_dir=Path("kept")
    )
    relevant = {query: grades for query, grades in judged.items() if max(grades.values()) > 0}
    texts = {row["id"]: row["text"] for row in task.split["corpus"]}
    queries = dict(zip(task.split["queries"]["id"], task.split["queries"]["text"], strict=True))
    first = {query: run.ranking.get(query, [])[:top_k] for query in relevant}
    second = {
        query: sorted(names, key=lambda name, query=query: -np.float32(score(queries[query], texts[name])))
        for query, names in first.items()
    }
    best = {
        query: sorted(names, key=lambda name, query=query: -judged[query].get(name, 0))
        for query, names in first.items()
    }
    expected = [
        [gains_of(order[query], grades) for query, grades in relevant.items()] for order in (first, second, best)
    ]
    result = row.result
    measured = (result.first_stage_ndcg, result.reranked_ndcg, result.oracle_ndcg)
    assert measured == pytest.approx(np.mean(expected, axis=1), abs=1e-9)
    assert row.gains == pytest.approx(np.subtract(expected[1], expected[0]), abs=1e-9)
    shares = [
        sum(grades.get(name, 0) > 0 for name in first[query]) / sum(grade > 0 for grade in grades.values())
        for query, grades in relevant.items()
    ]
    assert result.recall == pytest.approx(np.mean(shares))
    assert result.queries == len(relevant) < len(judged) and not first["none"]
    assert sum(map(len, first.values())) == result.pairs
