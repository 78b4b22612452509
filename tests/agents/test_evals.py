"""The skill's tasks have outcomes that a command checks: it fails where nothing was done, and holds what it says."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from release.agents import check, evals

TASKS = {task["id"]: task for task in check.evals(check.folder())}


@pytest.fixture
def judge(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """check.py as it is called on a folder: its status and last line."""

    def call(number: int, work: Path) -> tuple[int, dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["check.py", str(number), "--work", str(work)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(check.folder() / "evals/check.py"), run_name="__main__")
        return int(ended.value.code or 0), json.loads(capsys.readouterr().out.splitlines()[-1])

    return call


@pytest.mark.parametrize("number", TASKS)
def test_a_folder_in_which_nothing_was_done_fails(judge: Any, number: int, tmp_path: Path) -> None:
    status, said = judge(number, tmp_path)
    assert status == 1 and said["failed"] and said["checks"] == len(TASKS[number]["checks"])


def test_a_task_is_judged_by_what_lies_in_the_folder(judge: Any, tmp_path: Path) -> None:
    (tmp_path / "prepared").mkdir()
    about = {"mined": 350, "labels": "judgements", "highest": 1.0}
    (tmp_path / "prepared/prepared.json").write_text(json.dumps(about))
    (tmp_path / "report.md").write_text("VERDICT: MARGINAL | score=0.5")
    assert judge(4, tmp_path) == (0, {"id": 4, "checks": 4, "failed": []})
    (tmp_path / "prepared/prepared.json").write_text(json.dumps(about | {"mined": 0}))
    assert [fault["key"] for fault in judge(4, tmp_path)[1]["failed"]] == ["mined"]
    (tmp_path / "prepared/prepared.json").write_text("{")
    assert judge(4, tmp_path)[0] == 1


def test_a_task_is_done_in_a_folder_of_its_own_by_its_own_commands(
    tmp_path: Path, reranker: Path, encoder: Path
) -> None:
    """The one task that needs no model; `make skill-evals` does all of them."""
    every = tmp_path / "answers.jsonl"
    rows = [
        {"query": f"query {row}", "positives": [f"text {row}"], "negatives": [f"text {row + 1}"]} for row in range(9)
    ]
    every.write_text("".join(json.dumps(row) + "\n" for row in rows))
    work = tmp_path / "8"
    evals.Materials(reranker, encoder, every).write(
        TASKS[8] | {"files": ["judged/", "pairs.csv", "sigmoid-model/"]}, work
    )
    assert sorted(path.name for path in (work / "judged").iterdir()) == ["corpus.jsonl", "qrels.tsv", "queries.jsonl"]
    assert "Sigmoid" in (work / "sigmoid-model/config_sentence_transformers.json").read_text()
    assert (work / "pairs.csv").read_text().count("\n") == 10
    result = evals.do(TASKS[8], work, reranker)
    assert not result["failed"] and result["checks"] == 3
    log = (work / "eval.log").read_text()
    assert '"failed": []' in log and log.count("$ ") == 2
