"""`make release` without PUSH, a token or the family's own device goes as far as it can, and says what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from release import family, mode
from release.__main__ import main
from release.family import Family
from release.preflight import check
from tests import built
from tests.test_makefile import Project, project

__all__ = ["project"]
HERE = ["mix", "score", "train", "select", "evaluate", "export", "engines"]
LEFT = ["speed", "card", "stage"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The embedded family with a card that shows an H100, on a machine without one."""
    monkeypatch.delenv(mode.VARIABLE, raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("release.preflight.machine.gpus", list)
    monkeypatch.chdir(tmp_path)
    text = built.DEMO.read_text(encoding="utf-8")
    Path("family.toml").write_text(text.replace('device = "CPU"', 'device = "H100"'), encoding="utf-8")
    return family.load(Path("family.toml"))


def test_everything_but_the_speed_and_what_rests_on_it_is_done_here(elsewhere: Family) -> None:
    assert check.reachable(elsewhere, "mini") == [*HERE, "plan"]
    assert check.left_elsewhere(elsewhere, "mini") == {*LEFT, "publish", "verify"}
    for stage in check.STAGES:
        if stage.name in HERE and (file := stage.file(elsewhere.build, "mini")):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    assert check.reachable(elsewhere, "mini") == ["plan"]  # nothing more can be done here


def test_on_the_device_itself_all_of_it_is_done(elsewhere: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("release.preflight.machine.gpus", lambda: [("NVIDIA H100 80GB HBM3", 85.0)])
    monkeypatch.setattr("release.preflight.machine.devices", lambda: ["NVIDIA H100 80GB HBM3"])
    assert check.reachable(elsewhere, "mini") == ["stage", "plan"]


def test_it_begins_without_a_token_and_says_what_is_left(elsewhere: Family, capsys: pytest.CaptureFixture[str]) -> None:
    what = ["--family", "family.toml", "--size", "mini"]
    assert main(["preflight", *what]) == 1  # asked for all that is missing, it says all
    assert "no H100" in capsys.readouterr().err
    assert main(["preflight", *what, "--far"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "left for another machine: no H100 (no CUDA device is here)" in said and "token" not in said
    assert main(["plan", *what]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "left for another machine, then for here: make speed, make card, make stage" in shown
    last = "make speed SIZE=mini FAMILY=family.toml then here, with what that made there: make release SIZE=mini"
    assert "on a machine with H100, with a copy of build/docstring-reranker/mini: make speed" in shown
    assert shown.endswith(f"{last} FAMILY=family.toml")  # nothing has failed: what is left is said last
    assert main(["preflight", *what, "--far", "--push"]) == 1  # a release that is published lacks nothing
    assert "no H100" in capsys.readouterr().err


def test_make_asks_which_stages_it_can_reach(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mode.VARIABLE, raising=False)
    project.use_python()
    assert project.would_run("release")[-3:] == ["card", "stage", "plan"]
    project.edit('device = "CPU"', 'device = "H100"')
    assert project.would_run("release") == ["preflight", *HERE, "plan"]
    assert "verify" in project.would_run("release", "PUSH=1")
