"""The rows of an evaluation are measured by other processes too; what they leave is what the evaluation reads."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from release.__main__ import main
from release.evaluation import family_rows, rerankers, two_stage
from release.evaluation.shared_rows import TaskWork
from tests import built


def test_what_a_worker_measured_is_not_measured_again(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    family = built.family()
    names = ("docstrings", "others")
    family = replace(family, evaluation=replace(family.evaluation, embedders=("bm25",), top_k=10, collections=names))
    for name in names:
        built.write_collection(family.build / "data/collections" / name)
    folder = tmp_path / "rows"
    work = TaskWork(family, partial(rerankers.load, str(reranker), name="tiny"), folder)
    sent = pickle.loads(pickle.dumps(work))  # as a process of its own gets it; a row loads seconds of libraries there
    assert [sent(number) for number in range(len(names))] == [1, 1]
    assert len(list((folder / "rows").iterdir())) == 2
    monkeypatch.setattr(two_stage, "_measure", lambda *_: pytest.fail("measured again"))
    rows = family_rows.all_rows(work.load(), family, cache_dir=folder)
    assert [row.result.task for row in rows] == list(names)


def test_only_a_familys_tasks_are_shared(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "--model", "m", "--collection", "c", "--workers", "2"]
    assert main(words) == 1
    assert "only a family's tasks are shared; hint: --family FILE" in capsys.readouterr().err
