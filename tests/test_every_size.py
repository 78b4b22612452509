"""SIZE=all is the same command for every size, in the family's order, and what failed is named at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from release import every_size
from release.__main__ import main
from release.family import load

ETTIN = Path(__file__).resolve().parent.parent / "recipes/ettin.toml"


@pytest.mark.parametrize(
    ("stop", "done", "left"),
    [(False, ["17m", "68m"], []), (True, ["17m"], ["68m"])],
    ids=["computes", "writes to a Hub"],
)
def test_after_a_size_that_failed_others_go_on_unless_something_is_written_to_a_hub(
    stop: bool, done: list[str], left: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert every_size.run("x", ["17m", "32m", "68m"], lambda size: 3 if size == "32m" else 0, stop=stop) == 1
    shown, error = capsys.readouterr()
    last = json.loads(shown.splitlines()[-1])
    assert (last["done"], last["failed"], last["not_tried"]) == (done, ["32m"], left)
    assert error.startswith("error: x failed for 32m") and error.count("\n") == 1


def test_ctrl_c_ends_all_of_them() -> None:
    tried: list[str] = []
    assert every_size.run("x", ["17m", "32m"], lambda size: tried.append(size) or 130, stop=False) == 130
    assert tried == ["17m"]


@pytest.mark.parametrize("given", [["--size", "all"], ["--size=all"]])
def test_any_verb_with_a_size_takes_all(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda words: called.append(words) or 0)
    assert main(["evaluate", "--family", str(ETTIN), *given]) == 0
    sizes = [every_size.option(words, "--size") for words in called]
    assert sizes == list(load(ETTIN).sizes)
    assert called[0][:4] == [sys.executable, "-m", "release", "evaluate"]


def test_a_family_without_a_size_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.toml").write_text('[family]\nname = "empty"\n')
    assert main(["card", "--family", str(tmp_path / "empty.toml"), "--size", "all"]) == 1
    monkeypatch.setattr(sys, "argv", ["every_size", str(tmp_path / "empty.toml"), "card"])
    assert every_size.main() == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("a family needs at least one size" in line for line in lines)
