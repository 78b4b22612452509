"""What the real client does less often has the real Hub's answers too: moved, gated and listed repos, pull requests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.localhub.hub_fixtures import BOB, Http, client_environment, run_client

SCRIPT = Path(__file__).parent / "hub_features.py"
REFUSED = "GatedRepoError: 403"


@pytest.fixture(scope="module")
def facts(faulty_hub: Http, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    steps = ("ids", "history", "ignored", "listings", "gated", "collections", "refusals")
    environment = client_environment(faulty_hub.endpoint, tmp_path_factory.mktemp("home"))
    return run_client(SCRIPT, "acme", BOB.token, *steps, environment=environment)


@pytest.fixture(scope="module", params=["xet", "lfs"])
def writes(
    request: pytest.FixtureRequest, faulty_hub: Http, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    namespace = {"xet": "acme", "lfs": "alice"}[request.param]
    home = tmp_path_factory.mktemp("home")
    environment = client_environment(faulty_hub.endpoint, home, xet=request.param == "xet")
    results = run_client(SCRIPT, namespace, BOB.token, "moves", "pulls", environment=environment)
    return results | {"namespace": namespace}


def test_an_id_without_a_namespace_is_a_repo_that_does_not_exist(facts: dict[str, Any]) -> None:
    for name in ("info", "tree", "file", "dataset"):
        assert facts["ids"][name].startswith("RepositoryNotFoundError"), name
    assert "not a valid model identifier" in facts["ids"]["config"]


def test_ids_are_the_same_in_any_case(facts: dict[str, Any]) -> None:
    assert facts["ids"]["other case"] == ["acme/ids", "3"]
    assert "409" in facts["ids"]["other case again"]


def test_the_beginning_of_a_commit_id_is_enough(facts: dict[str, Any]) -> None:
    resolved, text, unknown, too_short = facts["ids"]["short"]
    assert (resolved, text) == (True, "1")
    assert unknown.startswith("RevisionNotFoundError") and too_short.startswith("RevisionNotFoundError")


def test_a_moved_repo_is_read_and_written_by_its_old_id(writes: dict[str, Any]) -> None:
    namespace, moves = writes["namespace"], writes["moves"]
    assert (moves["id"], moves["file"], moves["written"]) == (f"{namespace}/new", True, True)
    assert moves["snapshot"] == [".gitattributes", "model.safetensors"] and moves["tagged"] == ["v1.0"]
    assert moves["old id is free"] == [f"{namespace}/old", f"{namespace}/new"]
    assert moves["case changed"] == f"{namespace}/New"


def test_a_move_takes_nothing_from_others_and_tells_them_nothing(writes: dict[str, Any]) -> None:
    moves = writes["moves"]
    assert "409" in moves["taken"] and "403" in moves["not mine"]
    assert moves["deleted by its old id"].startswith("RepositoryNotFoundError")
    assert all(answer.startswith("RepositoryNotFoundError: 404") for answer in moves["stranger"])


def test_a_page_of_a_moved_repo_leads_to_the_new_one(faulty_hub: Http) -> None:
    faulty_hub.create("acme/page-before")
    faulty_hub.commit("acme/page-before", {"README.md": b"# A page that moved"})
    faulty_hub(
        "POST", "/api/repos/move", {"fromRepo": "acme/page-before", "toRepo": "acme/page-after", "type": "model"}
    )
    for path in ("/acme/page-before", "/ACME/page-after/tree/main", "/acme/page-before/resolve/main/README.md"):
        assert b"A page that moved" in faulty_hub("GET", path, token=None).body, path


def test_a_folder_is_deleted_without_being_called_one(facts: dict[str, Any]) -> None:
    assert facts["history"]["files"] == [".gitattributes", "c.txt"]


def test_commits_come_as_html_where_asked_for(facts: dict[str, Any]) -> None:
    assert facts["history"]["formatted"] == ["<b>add</b>", "&lt;b&gt;add&lt;/b&gt;", "a &amp; b"]
    assert facts["history"]["plain"] is None


def test_what_gitignore_names_is_not_sent(facts: dict[str, Any]) -> None:
    files = [".gitattributes", ".gitignore", "a.txt", "keep.bin"]
    assert facts["ignored"] == {"first": files, "then": sorted([*files, "b.txt"])}


def test_lists_are_filtered_sorted_cut_and_expanded(facts: dict[str, Any]) -> None:
    listings, a, b = facts["listings"], "acme/list-a", "acme/list-b"
    assert (listings["task"], listings["tags"], listings["no such tag"]) == ([b, a], [b], [])
    assert (listings["limit"], listings["last modified"], listings["other author"]) == ([b], [a, b], [a])
    assert listings["expanded"] == [False, True, None, None]
    assert listings["expanded info"] == ["text-ranking", None]


def test_an_owner_lists_every_repo_with_its_bytes(facts: dict[str, Any], faulty_hub: Http, tmp_path: Path) -> None:
    (kind, public, larger), (_, private, smaller) = facts["listings"]["storage"]
    assert (kind, public, private, larger - smaller) == ("model", "public", "private", 1000)
    assert "403" in facts["listings"]["not mine"]
    command = [str(Path(sys.executable).parent / "hf"), "repos", "ls", "--namespace", "acme", "--search", "list-"]
    environment = client_environment(faulty_hub.endpoint, tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "acme/list-a" in done.stdout and "acme/list-b" in done.stdout, done.stderr


def test_a_gated_repo_is_seen_by_everybody_and_downloaded_by_its_members(facts: dict[str, Any]) -> None:
    gated = facts["gated"]
    assert (gated["info"], gated["tree"], gated["member"]) == ("manual", 3, 5000)
    stranger, stranger_large, nobody = gated["refused"]
    assert stranger.startswith(REFUSED) and stranger_large.startswith(REFUSED)
    assert nobody.startswith("GatedRepoError: 401")
    assert gated["check"][0].startswith(REFUSED) and gated["check"][1] is None
    assert gated["listed"] == [["acme/gated"], []]


def test_access_is_asked_for_and_given(facts: dict[str, Any]) -> None:
    gated = facts["gated"]
    assert gated["asked"][:2] == ["pending", "pending"] and "awaits a review" in gated["asked"][2]
    assert gated["pending"] == ["bob"] and "403" in gated["may not decide"]
    assert gated["accepted"] == [5, 5000] and "404" in gated["again"]
    assert "was rejected" in gated["rejected"][0] and gated["rejected"][1] == ["bob"]
    assert gated["granted"][0] == 5 and gated["granted"][1].startswith("BadRequestError")
    assert "404" in gated["unknown user"]
    assert gated["auto"][0].startswith(REFUSED) and gated["auto"][1] == "accepted"
    assert gated["open"][:2] == [5, False] and gated["open"][2].startswith("BadRequestError")


def test_everybody_may_open_a_pull_request_on_a_public_repo(writes: dict[str, Any]) -> None:
    pulls = writes["pulls"]
    assert pulls["opened"] == ["refs/pr/2", "refs/pr/3"] and pulls["main stays"]
    assert pulls["merged"] == [".gitattributes", "weights.safetensors"]
    assert pulls["closed"] == "closed"


def test_a_pull_request_gives_no_other_right(writes: dict[str, Any]) -> None:
    pulls = writes["pulls"]
    for answer in (*pulls["refused"], pulls["may not merge"], pulls["merged is closed to its author"]):
        assert "403 Forbidden" in answer
    assert pulls["private"].startswith("RepositoryNotFoundError")


def test_pull_requests_are_filtered(writes: dict[str, Any]) -> None:
    pulls = writes["pulls"]
    assert pulls["by author"] == [[1, 2, 3], [4]]
    assert pulls["by status"] == [[3, 4], [1, 2], [1, 2, 3, 4]]
    assert pulls["by type"] == [[1, 2, 3, 4], []]


def test_a_collection_has_a_theme(facts: dict[str, Any]) -> None:
    assert facts["collections"]["changed"] == ["Colours", "d", "pink"]
    assert facts["collections"]["refused"].startswith("BadRequestError")


def test_texts_that_every_listing_shows_have_limits(facts: dict[str, Any]) -> None:
    for name in ("summary", "description", "title"):
        assert facts["refusals"][name].startswith("BadRequestError"), name
    assert facts["refusals"]["fits"]


def test_every_answer_has_an_id_that_errors_show(facts: dict[str, Any], faulty_hub: Http) -> None:
    request_id, message = facts["refusals"]["request id"]
    assert request_id.startswith("Root=1-") and request_id in message
    for path in ("/", "/api/whoami-v2", "/nobody", "/api/models/acme/none", "/static/page.css"):
        first, second = (faulty_hub("GET", path).headers["x-request-id"] for _ in range(2))
        assert first.startswith("Root=1-") and first != second


def test_accounts_that_share_a_home_upload_the_same_file(faulty_hub: Http, tmp_path: Path) -> None:
    """The client remembers what it has sent; the Hub must not count on another account's xorbs."""
    (tmp_path / "weights.safetensors").write_bytes(content := os.urandom(300_000))
    sent = []
    for token, repo in ((None, "acme/home-a"), (None, "acme/home-b"), (BOB.token, "other/home-c")):
        faulty_hub.clear_log()
        options = {"token": token} if token else {}
        environment = client_environment(faulty_hub.endpoint, tmp_path / "home", **options)
        command = [str(Path(sys.executable).parent / "hf"), "upload", repo, str(tmp_path / "weights.safetensors")]
        done = subprocess.run([*command, "--private"], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        sent.append(len([path for _, path, _ in faulty_hub.log() if "/v1/xorbs/" in path]))
        assert faulty_hub("GET", f"/{repo}/resolve/main/weights.safetensors", token=token or "").body == content
    assert sent == [1, 0, 1], "the same account sent its file again, or another one did not"
