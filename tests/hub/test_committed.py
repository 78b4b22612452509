"""What reaches other people comes from a commit; a Hub on loopback takes what a developer has not committed yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release import records
from release.errors import ReleaseError
from release.hub import committed

PUBLIC, LOCAL = "https://huggingface.co", "http://127.0.0.1:8765"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(records, "git_commit", lambda: "a" * 40)
    for name, commit in (("run", "b" * 40), ("export", "")):
        path = tmp_path / f"records/{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"commit": commit}))
    return tmp_path


def test_records_of_a_commit_or_of_an_installed_package_are_published(folder: Path) -> None:
    committed.check([folder], PUBLIC)


def test_a_record_that_was_measured_with_changes_reaches_loopback_only(folder: Path) -> None:
    path = folder / "records/devices/a-gpu/speed.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"commit": f"{'c' * 40}+changes"}))
    committed.check([folder], LOCAL)
    with pytest.raises(ReleaseError, match=r"changes that are in no commit; in .*a-gpu/speed\.json.*make speed"):
        committed.check([folder], PUBLIC)


def test_a_work_tree_with_changes_reaches_loopback_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "git_commit", lambda: f"{'a' * 40}+changes")
    committed.check([folder], LOCAL)
    with pytest.raises(ReleaseError, match=r"the work tree has changes.*https://huggingface\.co"):
        committed.check([folder], PUBLIC)
