"""A commit under a given id: for stand-ins of models and data sets whose revision a family pins."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from release.errors import ReleaseError
from release.localhub import fsck
from release.localhub.admin import add_commit_under_id
from release.localhub.service import Hub
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, Http, client_environment, run_client

PINNED = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi
api, (repo, revision) = HfApi(), sys.argv[1:]
file = api.hf_hub_download(repo, "a.txt", revision=revision, repo_type="dataset")
commits = [commit.commit_id for commit in api.list_repo_commits(repo, repo_type="dataset")]
main = api.dataset_info(repo).sha
api.upload_file(repo_id=repo, repo_type="dataset", path_or_fileobj=b"later", path_in_repo="b.txt", parent_commit=main)
print(json.dumps({"path": file, "text": Path(file).read_text(), "commits": commits, "main": main}))
"""


def test_the_real_client_reads_a_pinned_revision(faulty_hub: Http, faulty_root: Path, tmp_path: Path) -> None:
    faulty_hub.create("acme/pinned", kind="dataset")
    row = {"key": "file", "value": {"path": "a.txt", "content": "pinned"}}
    body = "\n".join(map(json.dumps, [{"key": "header", "value": {"summary": "x"}}, row])).encode()
    assert faulty_hub("POST", "/api/datasets/acme/pinned/commit/main", body).status == 200
    add_commit_under_id(faulty_root, "acme/pinned", PINNED, kind="dataset")  # while the server runs
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = client_environment(faulty_hub.endpoint, tmp_path / "home")
    facts = run_client(tmp_path / "script.py", "acme/pinned", PINNED, environment=environment)
    assert facts["text"] == "pinned" and PINNED in facts["path"]
    assert facts["main"] == facts["commits"][0] == PINNED and len(facts["commits"]) == 3
    assert fsck(faulty_root).problems == []


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    hub = Hub(tmp_path, ACCOUNTS)
    hub.create("model", "acme/m", ALICE, private=False)
    return hub


def test_a_second_time_changes_nothing(hub: Hub) -> None:
    add_commit_under_id(hub.root, "ACME/M", PINNED)
    add_commit_under_id(hub.root, "acme/m", PINNED)
    repo = hub.find("model", "acme/m", ALICE)
    assert repo.resolve("main").id == PINNED and len(list(repo.log("main"))) == 2
    assert fsck(hub.root).problems == []


def test_what_cannot_be_is_one_line(hub: Hub, tmp_path: Path) -> None:
    repo = hub.find("model", "acme/m", ALICE)
    add_commit_under_id(hub.root, "acme/m", PINNED)
    add_commit_under_id(hub.root, "acme/m", PINNED[::-1])
    repo.add_ref("tags", "v1.0", PINNED)
    for arguments, message in (
        (("acme/m", PINNED), "another commit already"),
        (("acme/m", PINNED.upper()), "no commit id"),
        (("acme/m", "0" * 39), "no commit id"),
        (("acme/none", PINNED), "there is no model acme/none"),
    ):
        with pytest.raises(ReleaseError, match=message):
            add_commit_under_id(hub.root, *arguments)
    for branch in ("v1.0", "none"):
        with pytest.raises(ReleaseError):
            add_commit_under_id(hub.root, "acme/m", "f" * 40, branch=branch)
    with pytest.raises(ReleaseError, match="no Hub is kept here"):
        add_commit_under_id(tmp_path / "nothing", "acme/m", PINNED)
    assert repo.resolve("main").id == PINNED[::-1] and fsck(hub.root).problems == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE history SET content = replace(content, 'initial', 'Initial') WHERE id = '{id}'",
        "UPDATE history SET content = replace(content, '\"given_id\": \"0', '\"given_id\": \"1') WHERE id = '{id}'",
        "UPDATE history SET content = replace(content, 'content_id', 'contents') WHERE id = '{id}'",
        "UPDATE history SET content = '[]' WHERE id = '{id}'",
        "UPDATE history SET id = 'f' || substr(id, 2) WHERE id = '{id}'",
    ],
)
def test_a_change_of_a_pinned_commit_is_found(hub: Hub, change: str) -> None:
    add_commit_under_id(hub.root, "acme/m", PINNED)
    hub.db.close()
    with closing(sqlite3.connect(hub.root / "hub.sqlite")) as database:
        assert database.execute(change.format(id=PINNED)).rowcount == 1
        database.commit()
    assert any("commit" in problem for problem in fsck(hub.root).problems)
