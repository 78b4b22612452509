"""The embedded Hub does what the real client expects of a Hub: through Xet, as it sends by default, and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from release.localhub import fsck
from tests.localhub.hub_fixtures import Http, client_environment, run_client

HERE = Path(__file__).parent


@pytest.fixture(scope="module", params=["xet", "lfs"])
def facts(request: pytest.FixtureRequest, faulty_hub: Http, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    faulty_hub.clear_log()
    environment = client_environment(faulty_hub.endpoint, tmp_path_factory.mktemp("home"), xet=request.param == "xet")
    names = f"acme/model-{request.param}", f"acme/data-{request.param}"
    results = run_client(HERE / "hub_client.py", *names, environment=environment)
    return results | {"model": names[0], "transport": request.param, "log": faulty_hub.log()}


def test_a_repo_is_made_once(facts: dict[str, Any], faulty_hub: Http) -> None:
    assert facts["url"] == facts["create again"] == f"{faulty_hub.endpoint}/{facts['model']}"
    assert "409" in facts["create twice"]


def test_files_travel_as_the_client_is_set_to(facts: dict[str, Any]) -> None:
    xet = [path for method, path, _ in facts["log"] if method == "POST" and "/v1/xorbs/" in path]
    lfs = [path for method, path, _ in facts["log"] if method == "PUT" and path.startswith("/lfs/")]
    assert bool(xet) == (facts["transport"] == "xet")
    assert bool(lfs) == (facts["transport"] == "lfs")


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


def test_datasets_and_models_load(faulty_hub: Http, tmp_path: Path, reranker: Path) -> None:
    environment = client_environment(faulty_hub.endpoint, tmp_path)
    facts = run_client(HERE / "hub_libraries.py", "acme", str(reranker), environment=environment)
    assert facts["splits"] == {"train": 50, "test": 1}
    assert facts["streamed"] == {"query": "q0", "document": "d", "label": 0.5}
    assert facts["by tag"] == 2
    assert facts["scores"] == facts["loaded"] == facts["by revision"]


def test_the_command_line_needs_only_the_endpoint(faulty_hub: Http, faulty_root: Path, tmp_path: Path) -> None:
    skill = faulty_root / "buckets" / "huggingface" / "skills" / "skills" / "tune"
    (skill / "scripts").mkdir(parents=True)
    (skill / "SKILL.md").write_text("---\nname: tune\ndescription: d\n---\n")
    (skill / "scripts" / "large.bin").write_bytes(bytes(range(256)) * 1000)
    (skill / "empty.txt").write_text("")
    plugins = '{"plugins": [{"name": "tune", "source": "./skills/tune", "description": "d"}]}'
    (skill.parents[1] / "marketplace.json").write_text(plugins)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").write_bytes(b"weights" * 10_000)
    environment = client_environment(faulty_hub.endpoint, tmp_path / "home")

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


def test_after_all_that_every_hash_agrees(faulty_hub: Http, faulty_root: Path) -> None:
    faulty_hub.create("acme/last")
    report = fsck(faulty_root)
    assert report.problems == []
    assert report.repos >= 1 and report.contents > 0 and report.commits > 0
