"""Which checkpoint is released is measured on the family's own benchmark, and the loser steps aside."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import CrossEncoder

from release import records, results
from release.errors import ReleaseError
from release.evaluation import family_rows, rerankers, select_checkpoint, two_stage
from release.evaluation.rerankers import Pairs
from release.evaluation.select_checkpoint import choose
from release.family import Family
from release.records import Record
from release.results.training import Checkpoint, CheckpointChoice
from tests import built


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, reranker: Path) -> Path:
    """A folder with a trained size whose best and last checkpoints rank in opposite orders."""
    with contextlib.chdir(tmp_path_factory.mktemp("trained")):
        demo = built.family()
        built.write_collection(demo.build / "data/collections/docstrings")
        folder = demo.folder(built.SIZE)
        built.write_model(folder, reranker)
        model = CrossEncoder(str(reranker), device="cpu")
        with torch.no_grad():
            model[4].linear.weight.neg_()
        model.save_pretrained(str(folder / "last"))
        write_run(demo)
        return Path.cwd()


@pytest.fixture(scope="module")
def chosen(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record[CheckpointChoice, Any]]:
    """The folder after a choice was made there, and what the choice returned."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("chosen") / "here"))
    with contextlib.chdir(folder):
        return folder, choose(after_bm25(), built.SIZE)


def after_bm25() -> Family:
    """The family of a folder, reranking after BM25 only."""
    demo = built.family()
    return replace(demo, evaluation=replace(demo.evaluation, embedders=("bm25",), top_k=10))


def inside(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A copy of a folder as the working folder."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return after_bm25()


@pytest.fixture
def family(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    return inside(trained, tmp_path, monkeypatch)


@pytest.fixture
def after(
    tmp_path: Path, chosen: tuple[Path, Record[CheckpointChoice, Any]], monkeypatch: pytest.MonkeyPatch
) -> tuple[Family, Record[CheckpointChoice, Any]]:
    """The family where the choice is made, and what it returned."""
    return inside(chosen[0], tmp_path, monkeypatch), chosen[1]


def write_run(family: Family, **changed: object) -> None:
    folder = family.folder(built.SIZE)
    measured = {"best": Checkpoint(8, 0.7, None), "last": Checkpoint(12, 0.6, None), "released": "best", "score": 0.7}
    record = records.new(
        results.RUN,
        family=family.about.name,
        size=built.SIZE,
        model_sha256=records.model_hash(folder / "model"),
        measured=built.training_run(**measured | changed),
        subject=built.run_subject(family.build / "data/mixture"),
    )
    records.write(record, folder / "records")


def reranked(choice: CheckpointChoice) -> dict[str, float | None]:
    """Each candidate's mean NDCG@10 on the benchmark."""
    return {name: choice.candidate(name).reranked_ndcg for name in select_checkpoint.NAMES}


def test_the_better_one_on_the_benchmark_becomes_the_model(
    trained: Path, after: tuple[Family, Record[CheckpointChoice, Any]]
) -> None:
    family, record = after
    folder = family.folder(built.SIZE)
    before = trained / folder
    hashes = {"best": records.model_hash(before / "model"), "last": records.model_hash(before / "last")}
    quality = reranked(record.measured)
    assert quality["best"] != quality["last"]
    winner = max(quality, key=lambda name: quality[name])
    assert record.measured.released == winner
    assert record.model_sha256 == records.model_hash(folder / "model") == hashes[winner]
    (other,) = {"best", "last"} - {winner}
    assert records.model_hash(folder / other) == hashes[other]
    run = records.read(folder / "records", results.RUN, model_sha256=hashes[winner]).measured
    assert (run.released, run.score) == (winner, getattr(run, winner).score)


def test_the_evaluation_that_follows_scores_no_pair_again(after: tuple[Family, Record[CheckpointChoice, Any]]) -> None:
    family, record = after
    folder = family.folder(built.SIZE)
    loaded = rerankers.load(str(folder / "model"), name=family.model_id(built.SIZE))  # as the evaluation loads it
    batches: list[Pairs] = []
    watched = replace(loaded, predict=lambda pairs: batches.append(pairs) or loaded.predict(pairs))
    mean = two_stage.mean_result(family_rows.all_rows(watched, family, cache_dir=folder / "evaluation"))
    assert not batches
    assert mean.reranked_ndcg == record.measured.candidate(record.measured.released).reranked_ndcg


def test_a_second_choice_finds_the_winner_in_place(after: tuple[Family, Record[CheckpointChoice, Any]]) -> None:
    family, _ = after
    before = json.loads((family.folder(built.SIZE) / "records/choice.json").read_text())
    again = choose(family, built.SIZE)
    assert (asdict(again.measured), again.model_sha256) == (before["measured"], before["model_sha256"])


def test_whichever_lies_there_first_the_same_one_is_released(
    family: Family, chosen: tuple[Path, Record[CheckpointChoice, Any]]
) -> None:
    folder = family.folder(built.SIZE)
    (folder / "model").rename(folder / "best")
    (folder / "last").rename(folder / "model")
    write_run(family, released="last", score=0.6)
    record = choose(family, built.SIZE)
    assert (record.measured, record.model_sha256) == (chosen[1].measured, chosen[1].model_sha256)
    quality = reranked(choose(family, built.SIZE).measured)  # a second time it finds the winner in place
    assert record.measured.released == max(quality, key=lambda name: quality[name])


def test_one_checkpoint_needs_no_comparison(family: Family) -> None:
    one = Checkpoint(12, 0.7, None)
    write_run(family, best=one, last=one)
    measured = choose(family, built.SIZE).measured
    assert measured.released == "best"
    assert list(reranked(measured).values()) == [None, None]


def test_a_checkpoint_that_is_gone_is_one_clear_line(family: Family) -> None:
    (family.folder(built.SIZE) / "last").rename("elsewhere")
    with pytest.raises(ReleaseError, match=r"no last checkpoint \(step 12\).*make train"):
        choose(family, built.SIZE)
