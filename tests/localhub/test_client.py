"""The embedded Hub keeps what the real client expects of a Hub: through Xet, as it sends by default, and without."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from release.errors import ReleaseError
from release.localhub import fsck
from release.localhub.service import Hub
from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, Http, client_environment, run_client

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def http(root: Path) -> Generator[Http]:
    with running_faulty_hub(root, ACCOUNTS) as (endpoint, token):
        yield Http(endpoint, token)


@pytest.fixture(scope="module", params=["xet", "lfs"])
def facts(request: pytest.FixtureRequest, http: Http, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    http.clear_log()
    environment = client_environment(http.endpoint, tmp_path_factory.mktemp("home"), xet=request.param == "xet")
    names = f"acme/model-{request.param}", f"acme/data-{request.param}"
    found = run_client(HERE / "hub_client.py", *names, environment=environment)
    return found | {"model": names[0], "way": request.param, "log": http.log()}


def test_a_repo_is_made_once(facts: dict[str, Any], http: Http) -> None:
    assert facts["url"] == facts["create again"] == f"{http.endpoint}/{facts['model']}"
    assert "409" in facts["create twice"]


def test_files_travel_as_the_client_is_set_to(facts: dict[str, Any]) -> None:
    xet = [path for method, path, _ in facts["log"] if method == "POST" and "/v1/xorbs/" in path]
    lfs = [path for method, path, _ in facts["log"] if method == "PUT" and path.startswith("/lfs/")]
    assert bool(xet) == (facts["way"] == "xet")
    assert bool(lfs) == (facts["way"] == "lfs")


def test_a_folder_comes_back_byte_for_byte(facts: dict[str, Any]) -> None:
    assert facts["same"]
    folder = ["2_Dense/model.safetensors", "README.md", "config.json", "empty.txt", "model.safetensors"]
    assert facts["names"] == [".gitattributes", *folder]


def test_an_unchanged_folder_makes_no_commit(facts: dict[str, Any]) -> None:
    assert facts["again"]
    made = [path for method, path, _ in facts["log"] if method == "POST" and path.endswith("/commit/main")]
    sent = [path for method, path, _ in facts["log"] if "/v1/xorbs/" in path or path.startswith("/lfs/")]
    assert len(sent) == len(set(sent)), "a file that the Hub had was sent again"
    assert made


def test_one_commit_adds_copies_and_deletes(facts: dict[str, Any]) -> None:
    assert {"copy.safetensors", "config2.json", "extra/a.json", "extra/b.bin"} <= set(facts["files"])
    assert "empty.txt" not in facts["files"]
    assert facts["lfs"]


def test_a_stale_parent_is_refused(facts: dict[str, Any]) -> None:
    assert "412" in facts["stale"]
    assert facts["head"], "the refused commit moved the branch"


def test_listings_say_what_is_there(facts: dict[str, Any]) -> None:
    assert facts["info"] == ["text-ranking", "sentence-transformers", True, True]
    assert facts["tree"] == sorted([*facts["files"], "2_Dense", "extra"])
    assert facts["last"] == {"copy.safetensors": "many", "extra": "many"}
    assert facts["paths"] == ["config.json", "extra"]


def test_tags_stay_and_branches_are_apart(facts: dict[str, Any]) -> None:
    assert facts["tag is at"] and facts["tag stays"]
    assert "409" in facts["tag twice"]
    assert (facts["on main"], facts["on branch"]) == (False, True)
    assert facts["refs"] == [["dev/x", "main"], ["v1.0"], ["refs/pr/2"]]


def test_what_is_missing_is_named(facts: dict[str, Any]) -> None:
    assert facts["no file"].startswith("RemoteEntryNotFoundError")
    assert facts["no revision"].startswith("RevisionNotFoundError")
    assert facts["no repo"].startswith("RepositoryNotFoundError")


def test_a_pull_request_changes_main_when_merged(facts: dict[str, Any]) -> None:
    assert (facts["before merge"], facts["after merge"]) == (False, True)
    assert facts["pull"] == "refs/pr/2"
    assert facts["closed"][:2] == ["closed", "closed"] and "409" in facts["closed"][2]
    assert facts["pulls"] == [[2, "open"], [1, "merged"]]


def test_collections_hold_notes_within_limits(facts: dict[str, Any]) -> None:
    assert facts["items"] == [[facts["model"], "model", 500], [facts["model"].replace("model", "data"), "dataset", 0]]
    assert "409" in facts["item twice"]
    assert "400" in facts["long note"] or "BadRequest" in facts["long note"]
    assert "400" in facts["long text"] or "BadRequest" in facts["long text"]
    assert facts["listed"] == [True]


def test_cards_are_checked(facts: dict[str, Any]) -> None:
    assert facts["card"] == ["new"]
    assert facts["bad card"].startswith("ValueError") and "must be one of" in facts["bad card"]
    assert facts["datasets"] == [facts["model"].replace("model", "data")]


def test_the_file_system_and_the_checksums_agree(facts: dict[str, Any]) -> None:
    assert facts["file system"] == "hello"
    assert facts["checked"]


def test_private_means_private(facts: dict[str, Any]) -> None:
    assert facts["no token"].startswith(("RepositoryNotFoundError", "LocalEntryNotFoundError"))
    assert facts["public"] is False


def test_history_can_be_squashed_and_repos_deleted(facts: dict[str, Any]) -> None:
    assert facts["squash"] == [True, 1]
    assert facts["mine"] == [facts["model"]]
    assert facts["deleted"] is False


def test_datasets_and_models_load(http: Http, tmp_path: Path, reranker: Path) -> None:
    environment = client_environment(http.endpoint, tmp_path)
    facts = run_client(HERE / "hub_libraries.py", "acme", str(reranker), environment=environment)
    assert facts["splits"] == {"train": 50, "test": 1}
    assert facts["streamed"] == {"query": "q0", "document": "d", "label": 0.5}
    assert facts["by tag"] == 2
    assert facts["scores"] == facts["loaded"] == facts["by revision"]


def test_the_command_line_needs_only_the_endpoint(http: Http, root: Path, tmp_path: Path) -> None:
    skill = root / "buckets" / "huggingface" / "skills" / "skills" / "tune"
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: tune\ndescription: d\n---\n")
    (skill / "scripts" / "large.bin").write_bytes(bytes(range(256)) * 1000)
    (skill / "empty.txt").write_text("")
    plugins = '{"plugins": [{"name": "tune", "source": "./skills/tune", "description": "d"}]}'
    (skill.parents[1] / "marketplace.json").write_text(plugins)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").write_bytes(b"weights" * 10_000)
    environment = client_environment(http.endpoint, tmp_path / "home")

    def hf(*arguments: str) -> None:
        command = [str(Path(sys.executable).parent / "hf"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    hf("upload", "acme/by-hand", "folder", ".")
    hf("repos", "tag", "create", "acme/by-hand", "v1.0")
    hf("download", "acme/by-hand", "--revision", "v1.0", "--local-dir", "out")
    hf("collections", "create", "By hand", "--namespace", "acme")
    del environment["HF_TOKEN"]
    hf("skills", "add", "tune")
    installed = tmp_path / ".agents" / "skills" / "tune"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == b"weights" * 10_000
    assert (installed / "scripts" / "large.bin").read_bytes() == (skill / "scripts" / "large.bin").read_bytes()
    assert (installed / "empty.txt").read_bytes() == b""


def test_after_all_that_every_hash_agrees(http: Http, root: Path) -> None:
    http.create("acme/last")
    report = fsck(root)
    assert report.problems == []
    assert report.repos >= 1 and report.contents > 0 and report.commits > 0


def test_a_folder_without_a_hub_is_an_error_for_people(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no Hub is kept here"):
        fsck(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_broken_database_is_told(tmp_path: Path) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    hub.create("model", "acme/m", ALICE, private=False)
    hub.db.close()
    for broken in (b"no database at all" * 100, b""):
        (tmp_path / "hub.sqlite").write_bytes(broken)
        for rest in tmp_path.glob("hub.sqlite-*"):
            rest.unlink()
        assert [problem.partition(":")[0] for problem in fsck(tmp_path).problems] == ["database"]
    (tmp_path / "hub.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ReleaseError, match="database"):
        Hub(tmp_path, ACCOUNTS)


def test_any_changed_byte_is_found(http: Http, root: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").write_bytes(os.urandom(300_000))
    (tmp_path / "folder" / "a.txt").write_text("some text that can be found again")
    command = [str(Path(sys.executable).parent / "hf"), "upload", "acme/changed", str(tmp_path / "folder"), "."]
    environment = client_environment(http.endpoint, tmp_path / "home")
    subprocess.run(command, env=environment, capture_output=True, check=True)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    for kind in ("blobs", "xorbs"):
        path = max((copy / kind).glob("??/*"), key=lambda path: (path.stat().st_size, path.name))
        whole = path.read_bytes()
        # The middle of the largest xorb is random bytes; elsewhere two packed forms may hold the same content.
        for at in [len(whole) // 2] if kind == "xorbs" else range(0, len(whole), max(1, len(whole) // 40)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert any(line.startswith(f"{kind} {path.name}") for line in fsck(copy).problems), (kind, at)
        path.write_bytes(whole)
    assert fsck(copy).problems == []
    for table, change, start in (
        ("file", "size = size + 1", "files"),
        ("file", "sha256 = '0' || substr(sha256, 2)", "files"),
        ("file", "terms = replace(terms, ', 0, ', ', 1, ')", "files"),
        ("file", "terms = '[]'", "files"),
        ("xorb", "chunks = substr(chunks, 45)", "xorbs"),
        ("history", "content = replace(content, 'initial', 'Initial')", "model acme/"),
        ("ref", "target = '0' || substr(target, 2)", "model acme/"),
    ):
        with closing(sqlite3.connect(copy / "hub.sqlite", isolation_level=None)) as database:
            database.execute("BEGIN")
            database.execute(f"UPDATE {table} SET {change}")
            database.execute("COMMIT")
            assert any(line.startswith(start) for line in fsck(copy).problems), change
        shutil.rmtree(copy)
        shutil.copytree(root, copy)
