"""Merging a pull request changes what it changed, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.localhub.errors import HubError
from release.localhub.pulls import get_pull, merge_pull, open_pull, pull_changes
from release.localhub.service import Hub
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, add_file


def test_a_merge_does_not_overwrite_what_others_changed(tmp_path: Path) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    repo = hub.create("model", "acme/m", ALICE, private=False)
    for path in ("same.txt", "theirs.txt"):
        add_file(hub, repo, "main", path, b"old")
    open_pull(repo, "p", "", "alice")
    add_file(hub, repo, "refs/pr/1", "theirs.txt", b"new")
    add_file(hub, repo, "main", "ours.txt", b"ours")
    merge_pull(repo, 1, "alice")
    assert {
        path: hub.read_text(entry.sha256) for path, entry in repo.resolve("main").files.items() if path.endswith("txt")
    } == {
        "same.txt": "old",
        "theirs.txt": "new",
        "ours.txt": "ours",
    }
    open_pull(repo, "q", "", "alice")
    add_file(hub, repo, "refs/pr/2", "same.txt", b"one")
    add_file(hub, repo, "main", "same.txt", b"two")
    with pytest.raises(HubError, match=r"same\.txt"):
        merge_pull(repo, 2, "alice")
    assert hub.read_text(repo.resolve("main").files["same.txt"].sha256) == "two"
    assert get_pull(repo, 2).status == "open"


def test_a_merge_makes_no_path_a_file_and_a_folder(tmp_path: Path) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    repo = hub.create("model", "acme/m", ALICE, private=False)
    open_pull(repo, "p", "", "alice")
    add_file(hub, repo, "refs/pr/1", "a/b.txt", b"theirs")
    add_file(hub, repo, "main", "a", b"ours")
    with pytest.raises(HubError, match="both a file and a folder"):
        merge_pull(repo, 1, "alice")
    assert get_pull(repo, 1).status == "open"


def test_a_pull_request_outlives_its_base(tmp_path: Path) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    repo = hub.create("model", "acme/m", ALICE, private=False)
    repo.add_ref("heads", "dev", repo.resolve("main").id)
    open_pull(repo, "p", "", "alice", "dev")
    add_file(hub, repo, "refs/pr/1", "a.txt", b"theirs")
    repo.delete_ref("heads", "dev")
    changed, conflicts = pull_changes(repo, get_pull(repo, 1))
    assert list(changed) == ["a.txt"] and conflicts == []
    with pytest.raises(HubError, match="dev"):
        merge_pull(repo, 1, "alice")
