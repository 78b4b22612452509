"""A rehearsal works in a folder of its own, says in one line what failed, and counts what it asked of the Hub."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from release import mode
from release.errors import ReleaseError
from release.family import Family, load
from release.rehearsal import checks, hub, run, workspace

SMALL = Path("tests/rehearsal/small.toml")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The project, linked into an empty folder; its small family."""
    for name in ("Makefile", "cards", "datasets", "recipes", "release", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    monkeypatch.chdir(tmp_path)
    return load(SMALL)


def test_only_copies_of_family_and_declaration_are_changed(project: Family) -> None:
    place = workspace.prepare(project)
    small = (place.work / project.data.declaration).read_text()
    assert "5000000" not in small
    assert "5000, split" in project.data.declaration.read_text()
    assert (place.work / SMALL).read_bytes() == SMALL.read_bytes()
    assert (place.work / "recipes/distill.py").is_file()
    assert place.work.is_relative_to(Path("build/rehearsal").resolve())
    (place.stand_ins / "kept").mkdir(parents=True)
    (place.hub / "old").mkdir(parents=True)
    workspace.prepare(project)
    assert (place.stand_ins / "kept").is_dir()
    assert not place.hub.exists()


def test_no_verb_of_a_rehearsal_knows_another_hub(project: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_real")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = workspace.prepare(project).environment("http://127.0.0.1:9", "hf_rehearsed", 1)
    assert (found["HF_ENDPOINT"], found["HF_TOKEN"]) == ("http://127.0.0.1:9", "hf_rehearsed")
    assert "HF_HUB_OFFLINE" not in found
    assert found[mode.VARIABLE] == "1"
    assert Path(found["HF_HOME"]).is_relative_to(Path("build/rehearsal").resolve())


def test_a_family_outside_of_the_project_is_refused(project: Family, tmp_path: Path) -> None:
    import dataclasses

    with pytest.raises(ReleaseError, match="name it relative to the project"):
        workspace.prepare(dataclasses.replace(project, path=tmp_path / "family.toml"))


def test_a_step_that_fails_is_kept_with_its_line_and_its_log(project: Family) -> None:
    found = run.Rehearsal(project, ("tiny",), workspace.prepare(project), 1)
    environment = dict(os.environ) | {"RELEASE_REHEARSAL": "1"}
    with found.step("evaluate tiny"):
        found.make("nothing-of-this-name", environment)
    (step,) = found.steps
    assert step.failure is not None and "No rule to make target" in step.failure
    assert "\n" not in step.failure
    log = next(found.workspace.logs.iterdir()).read_text()
    assert log.startswith("$ make --no-print-directory nothing-of-this-name FAMILY=tests/rehearsal/small.toml")


def test_a_second_run_that_makes_a_file_again_is_named(project: Family) -> None:
    place = workspace.prepare(project)
    record = place.work / "build/small-reranker/tiny/records/run.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"seconds": 9}))
    before = checks.state_of(place)
    checks.unchanged(before, checks.state_of(place))
    record.write_text(json.dumps({"seconds": 0}))
    with pytest.raises(ReleaseError, match=r"1 file.* changed although nothing was to be done: .*run.json"):
        checks.unchanged(before, checks.state_of(place))


def test_requests_are_counted_from_the_log(tmp_path: Path) -> None:
    assert hub.requests(tmp_path) == []
    (tmp_path / hub.LOG).write_text("GET /api/models/a/b 200\nPOST /api/repos/create 409\n")
    assert hub.requests(tmp_path) == [("GET", "/api/models/a/b", 200), ("POST", "/api/repos/create", 409)]
