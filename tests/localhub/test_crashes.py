"""A crash at any moment loses nothing that was acknowledged and keeps nothing by halves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
from http.client import HTTPException
from pathlib import Path

import pytest
from starlette.requests import Request

from release.errors import ReleaseError
from release.localhub import fsck, running_hub
from release.localhub.api.listing import list_repos
from release.localhub.history import Commit, Repo
from release.localhub.http import RequestContext
from release.localhub.service import Hub
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, Http

ROOT = Path(__file__).resolve().parents[2]
REFUSED = (ConnectionError, urllib.error.URLError, TimeoutError, HTTPException)


def test_a_crash_at_any_moment_leaves_a_state_that_was_meant(fast_folder: Path) -> None:
    meant = {
        json.dumps(value)
        for value in (
            [[], []],
            [[("acme/m", [".gitattributes"], [], [])], []],
            [[("acme/m", [".gitattributes", "a.txt"], [], [])], []],
            [[("acme/m", [".gitattributes", "a.txt"], ["v1.0"], [])], []],
            [[("acme/m", [".gitattributes", "a.txt"], ["v1.0"], [("p", "open")])], []],
            [[("acme/m", [".gitattributes", "a.txt", "b.txt"], ["v1.0"], [("p", "merged")])], []],
            [[("acme/m", [".gitattributes", "a.txt", "b.txt"], ["v1.0"], [("p", "merged")])], [("T", [])]],
            [[("acme/m", [".gitattributes", "a.txt", "b.txt"], ["v1.0"], [("p", "merged")])], [("T", ["acme/m"])]],
            [[], [("T", [])]],
        )
    }
    command = [sys.executable, "-m", "tests.localhub.crashes", str(fast_folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["moments"] > 60 and set(report["seen"]) == meant, "a state between two steps, or not every step"


def test_kill_9_loses_no_commit_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[str, bytes] = {}
    for generation in range(3):
        with running_hub(tmp_path, ACCOUNTS) as (endpoint, token):
            http = Http(endpoint, token)
            http.create("acme/m")
            enough = threading.Event()

            def push(
                worker: int, http: Http = http, generation: int = generation, enough: threading.Event = enough
            ) -> None:
                for number in range(10_000):
                    name, content = f"{generation}/{worker}/{number}.txt", os.urandom(20_000)
                    try:
                        if http.commit("acme/m", {name: content}).status != 200:
                            return
                        http.lfs("acme/m", content)
                    except REFUSED:
                        return
                    acknowledged[name] = content
                    if number == 3 + worker:
                        enough.set()

            workers = [threading.Thread(target=push, args=(worker,)) for worker in range(3)]
            for worker in workers:
                worker.start()
            enough.wait(60)
            os.kill(int((tmp_path / ".lock").read_text()), signal.SIGKILL)
            for worker in workers:
                worker.join()
        assert fsck(tmp_path).problems == []
    assert len(acknowledged) >= 12
    with running_hub(tmp_path, ACCOUNTS) as (endpoint, token):
        http = Http(endpoint, token)
        for name, content in acknowledged.items():
            assert http("GET", f"/acme/m/resolve/main/{name}").body == content
        assert not list((tmp_path / "tmp").glob("*")), "what the crash cut off was not cleaned up"


def test_sigterm_is_a_clean_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "release", "hub", "--port", "0", "--root", str(tmp_path)]
    environment = os.environ | {"RELEASE_HUB_ACCOUNTS": ""}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout
        said = "".join(process.stdout.readline() for _ in range(4))
        token = (tmp_path / "accounts").read_text().split(":")[1]
        endpoint = (tmp_path / "endpoint").read_text()
        assert f"export HF_ENDPOINT={endpoint}\n" in said
        assert Http(endpoint, token)("GET", "/api/whoami-v2").json["name"] == "local"
        assert token not in said, "the token was printed, so it would stand in logs"
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert not (tmp_path / "endpoint").exists()


def test_an_upload_may_end_after_its_repo(tmp_path: Path) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    repo = hub.create("model", "acme/m", ALICE, private=False)
    hub.delete(repo)
    hub.record_upload(repo, hub.store.put(b"late"))
    assert hub.uploaded_size(repo, hub.store.put(b"late")) is None


def test_a_list_does_not_break_when_a_repo_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    repo = hub.create("model", "acme/m", ALICE, private=False)
    deletion, resolve = threading.Thread(target=hub.delete, args=(repo,)), Repo.resolve

    def resolve_after_the_deletion(self: Repo, revision: str) -> Commit:
        deletion.start()
        deletion.join(0.2)  # as long as a slow reader may take
        return resolve(self, revision)

    monkeypatch.setattr(Repo, "resolve", resolve_after_the_deletion)
    request = Request({"type": "http", "method": "GET", "query_string": b""})
    context = RequestContext(hub, request, ALICE, {"kind": "models"})
    assert [row["id"] for row in list_repos(context)] == ["acme/m"]
    deletion.join()
    assert list_repos(context) == []


def test_clients_send_everything_again_where_the_database_is_new(tmp_path: Path) -> None:
    first = Hub(tmp_path, ACCOUNTS).store_id()
    assert Hub(tmp_path, ACCOUNTS).store_id() == first
    for path in tmp_path.glob("hub.sqlite*"):
        path.unlink()
    assert Hub(tmp_path, ACCOUNTS).store_id() != first


def test_the_hub_of_an_older_version_is_not_mistaken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "repos" / "models").mkdir(parents=True)
    with pytest.raises(ReleaseError, match="older version"):
        Hub(tmp_path, ACCOUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["repos"]
