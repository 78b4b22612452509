"""A plan of the two-stage evaluation counts what would be embedded and scored, without fetching any of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release.__main__ import main
from release.budget import evaluation
from release.family import load

ROOT = Path(__file__).resolve().parents[2]
ETTIN = str(ROOT / "recipes/ettin.toml")


def test_ettins_plan_has_the_published_number_of_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-evaluate", "--family", ETTIN, "--pairs-per-second", "1000", "--world", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    plan = json.loads(lines[-1])
    assert (plan["tasks"], plan["first_stages"], plan["first_stage_runs"]) == (10, 6, 60)
    assert plan["pairs_of_a_first_stage"] == pytest.approx(0.88e6, rel=0.01)  # as mteb's tasks have it
    assert plan["nano_pairs"] == 65_000
    assert plan["pairs_of_a_reranker"] == 6 * plan["pairs_of_a_first_stage"] + 65_000
    assert plan["rerankers"] == 6 + 1 + 16
    assert plan["hours_of_a_reranker"] == pytest.approx(plan["pairs_of_a_reranker"] / 2000 / 3600)
    assert all(len(line.rstrip()) <= 80 for line in lines[:-1])


def test_a_collection_is_counted_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    family = load(ROOT / "recipes/demo.toml")
    folder = family.build / "data/collections/docstrings"
    folder.mkdir(parents=True)
    rows = [{"_id": "a", "title": "One", "text": "two"}, {"_id": "b", "text": "three"}]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "which?"}\n')
    (folder / "qrels.tsv").write_text("q\ta\t1\n")
    assert evaluation.task_sizes(family) == [evaluation.TaskSize("docstrings", 1, 2, 11)]


def test_a_collection_that_is_not_made_yet_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan-evaluate", "--family", str(ROOT / "recipes/demo.toml")]) == 1
    assert "'docstrings' is not here yet" in capsys.readouterr().err
