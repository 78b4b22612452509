"""Which checkpoint is released is measured on the family's own benchmark, and the loser steps aside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder

from release import records
from release.errors import ReleaseError
from release.evaluation import evaluate, rerankers, two_stage
from release.evaluation.rerankers import Pairs
from release.evaluation.select_checkpoint import choose
from release.family import Family
from tests import built


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A trained size whose best and last checkpoints rank in opposite orders, behind BM25 alone."""
    monkeypatch.chdir(tmp_path)
    found = built.family()
    found = replace(found, evaluation=replace(found.evaluation, embedders=("bm25",), top_k=10))
    built.write_collection(found.build / "data/collections/docstrings")
    folder = found.folder(built.SIZE)
    built.write_model(folder, reranker)
    model = CrossEncoder(str(reranker), device="cpu")
    with torch.no_grad():
        model[4].linear.weight.neg_()
    model.save_pretrained(str(folder / "last"))
    write_run(found)
    return found


def write_run(family: Family, **changed: object) -> None:
    folder = family.folder(built.SIZE)
    measured = {"best": {"step": 8, "score": 0.7}, "last": {"step": 12, "score": 0.6}, "released": "best", "score": 0.7}
    about = {"family": family.about.name, "size": built.SIZE, "model_sha256": records.model_hash(folder / "model")}
    records.write(records.new("run", measured=measured | changed, **about), folder / "records")


def test_the_better_one_on_the_benchmark_becomes_the_model(family: Family) -> None:
    folder = family.folder(built.SIZE)
    hashes = {"best": records.model_hash(folder / "model"), "last": records.model_hash(folder / "last")}
    record = choose(family, built.SIZE)
    quality = {name: found["ndcg@10"] for name, found in record.measured["candidates"].items()}
    assert quality["best"] != quality["last"]
    winner = max(quality, key=lambda name: quality[name])
    assert record.measured["released"] == winner
    assert record.model_sha256 == records.model_hash(folder / "model") == hashes[winner]
    (other,) = {"best", "last"} - {winner}
    assert records.model_hash(folder / other) == hashes[other]
    run = records.read(folder / "records", "run", model_sha256=hashes[winner])
    assert (run.measured["released"], run.measured["score"]) == (winner, run.measured[winner]["score"])


def test_the_evaluation_that_follows_scores_no_pair_again(family: Family) -> None:
    record, folder = choose(family, built.SIZE), family.folder(built.SIZE)
    limit = family.training.max_length  # as the evaluation loads it
    loaded = rerankers.load(str(folder / "model"), name=family.model_id(built.SIZE), max_length=limit)
    asked: list[Pairs] = []
    watched = replace(loaded, predict=lambda pairs: asked.append(pairs) or loaded.predict(pairs))
    found = two_stage.means(evaluate.all_rows(watched, family, kept=folder / "evaluation"))
    assert not asked and found is not None
    assert found["reranked"] == record.measured["candidates"][record.measured["released"]]["ndcg@10"]


@pytest.mark.parametrize("first", ["best", "last"])
def test_whichever_lies_there_first_the_same_one_is_released(family: Family, first: str) -> None:
    folder = family.folder(built.SIZE)
    if first == "last":
        (folder / "model").rename(folder / "best")
        (folder / "last").rename(folder / "model")
        write_run(family, released="last", score=0.6)
    choose(family, built.SIZE)
    before = json.loads((folder / "records/choice.json").read_text())
    again = choose(family, built.SIZE)  # a second time it finds the winner in place
    assert (again.measured, again.model_sha256) == (before["measured"], before["model_sha256"])
    quality = {name: found["ndcg@10"] for name, found in again.measured["candidates"].items()}
    assert again.measured["released"] == max(quality, key=lambda name: quality[name])


def test_one_checkpoint_needs_no_comparison(family: Family) -> None:
    one = {"step": 12, "score": 0.7}
    write_run(family, best=one, last=one)
    measured = choose(family, built.SIZE).measured
    assert measured["released"] == "best"
    assert [found["ndcg@10"] for found in measured["candidates"].values()] == [None, None]


def test_a_checkpoint_that_is_gone_is_one_clear_line(family: Family) -> None:
    (family.folder(built.SIZE) / "last").rename("elsewhere")
    with pytest.raises(ReleaseError, match=r"no last checkpoint \(step 12\).*make train"):
        choose(family, built.SIZE)
