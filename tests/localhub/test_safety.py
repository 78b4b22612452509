"""The embedded Hub loses nothing and keeps nothing by halves: crashes, faults on demand, and a crowd of clients."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
from collections.abc import Callable, Generator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from release.errors import ReleaseError
from release.localhub import fsck, running_hub
from release.localhub.api.collections import add_item, create_collection, visible_collections
from release.localhub.api.listing import list_repos
from release.localhub.errors import HubError
from release.localhub.history import Commit, Entry, Repo
from release.localhub.http import RequestContext
from release.localhub.pulls import get_pull, list_pulls, merge_pull, open_pull, pull_changes
from release.localhub.service import Hub
from release.localhub.storage.blobs import git_oid
from release.localhub.storage.database import Database
from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, Http, client_environment, run_client

HERE = Path(__file__).parent
CRASHED = 77
REFUSED = (ConnectionError, urllib.error.URLError, TimeoutError, HTTPException)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def http(root: Path) -> Generator[Http]:
    with running_faulty_hub(root, ACCOUNTS) as (endpoint, token):
        yield Http(endpoint, token)


def crash_at(moment: int) -> None:
    """End this process, as a kill would, before the `moment`-th statement, flush or rename; 0 for never."""
    count = 0

    def before(action: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == moment:
                os._exit(CRASHED)
            return action(*arguments, **options)

        return counted

    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "replace"), (Database, "__call__")):
        setattr(owner, name, before(getattr(owner, name)))


def put(hub: Hub, repo: Repo, revision: str, path: str, content: bytes) -> None:
    entry = Entry(len(content), git_oid(content), hub.store.put(content))
    with repo.db.change():
        parent, target = repo.resolve(revision), repo.writable_ref(revision)
        repo.add_commit(target, (parent.id,), path, "", "alice", {**parent.files, path: entry})


def release(hub: Hub) -> None:
    """Everything that changes what is on the disk, one after the other."""
    repo = hub.create("model", "acme/m", ALICE, private=False)
    put(hub, repo, "main", "a.txt", b"a")
    repo.add_ref("tags", "v1.0", repo.resolve("main").id)
    with repo.db.change():
        pull = open_pull(repo, "p", "", "alice")
        put(hub, repo, pull.ref, "b.txt", b"b")
    merge_pull(repo, pull.number, "alice")
    context = RequestContext(hub, Request({"type": "http", "method": "POST"}), ALICE, {"ns": "acme"})
    with hub.store.temporary_file() as context.body_path:
        context.body_path.write_text(json.dumps({"title": "T", "namespace": "acme"}))
        context.path_params["slug"] = create_collection(context)["slug"].partition("/")[2]
        context.body_path.write_text(json.dumps({"item": {"type": "model", "id": "acme/m"}, "note": "n"}))
        add_item(context)
    hub.delete(repo)


def state(hub: Hub) -> str:
    """What people can see, without ids and times that differ between runs."""
    rows = [
        (
            repo.id,
            sorted(repo.resolve("main").files),
            sorted(repo.refs("tags")),
            [(pull.title, pull.status) for pull in list_pulls(repo)],
        )
        for repo in hub.repos(ALICE)
    ]
    context = RequestContext(hub, Request({"type": "http", "method": "GET"}), ALICE, {})
    collections = [(row["title"], [item["id"] for item in row["items"]]) for row in visible_collections(context)]
    return json.dumps([rows, collections])


def test_a_crash_at_any_moment_leaves_a_state_that_was_meant(tmp_path: Path) -> None:
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
    seen, moment, crashed = set(), 0, True
    while crashed:
        moment += 1
        root = tmp_path / str(moment)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                crash_at(moment)
                release(Hub(root, ACCOUNTS))
                status = 0
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, CRASHED), "the release failed by itself"
        crashed = status == CRASHED
        again = Hub(root, ACCOUNTS)
        assert fsck(root).problems == [], moment
        assert state(again) in meant, moment
        seen.add(state(again))
        if again.repos(ALICE):
            put(again, again.find("model", "acme/m", ALICE), "main", "after.txt", b"after")
        else:
            again.create("model", "acme/m", ALICE, private=False)
        assert fsck(root).problems == [], moment
        shutil.rmtree(root)
    assert moment > 60 and seen == meant, "the crashes did not come at every step"


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


def fault(action: str, path: str, method: str = "POST", **more: Any) -> dict[str, Any]:
    return {"action": action, "method": method, "path": path, **more}


def test_faults_change_the_request_that_they_are_meant_for(http: Http) -> None:
    http.create("acme/faulty")
    http.faults(fault("answer", "whoami", "GET", nth=2, times=2, status=429))
    assert [http("GET", "/api/whoami-v2").status for _ in range(5)] == [200, 429, 429, 200, 200]
    http.faults(fault("answer", "/commit/main$", status=503))
    before = http.head("acme/faulty")
    assert http.commit("acme/faulty", {"a.txt": b"a"}).status == 503
    assert http.head("acme/faulty") == before, "a request that failed has changed something"
    http.faults(fault("cut", "/commit/main$"))
    with pytest.raises(Exception):  # noqa: B017 - which error a lost answer is depends on how far it came
        http.commit("acme/faulty", {"a.txt": b"a"})
    assert http.head("acme/faulty") != before, "a cut answer must not undo the work"
    http.faults(fault("delay", "whoami", "GET", seconds=0.01))
    assert http("GET", "/api/whoami-v2").status == 200
    http.faults(fault("flip", "whoami", "GET"))
    flipped, whole = (http("GET", "/api/whoami-v2").body for _ in range(2))
    assert sum((a ^ b).bit_count() for a, b in zip(flipped, whole, strict=True)) == 1
    http.faults()


@pytest.mark.parametrize(("action", "arrives"), [("drop", False), ("lose", True)])
def test_a_connection_can_end_before_or_after_the_work(http: Http, action: str, arrives: bool) -> None:
    http.create(f"acme/{action}")
    before = http.head(f"acme/{action}")
    http.faults(fault(action, "/commit/main$"))
    with pytest.raises(REFUSED):
        http.commit(f"acme/{action}", {"a.txt": b"a"})
    assert (http.head(f"acme/{action}") != before) == arrives
    http.faults()


@pytest.mark.parametrize(
    "trouble",
    [
        fault("answer", "/commit/main$"),
        fault("cut", "/commit/main$"),
        fault("answer", "/v1/xorbs/", status=500),
        fault("cut", "/v1/shards$"),
    ],
    ids=lambda trouble: f"{trouble['action']} {trouble['path']}",
)
def test_a_push_survives_trouble(http: Http, tmp_path: Path, trouble: dict[str, Any]) -> None:
    name = "acme/" + hashlib.sha256(json.dumps(trouble).encode()).hexdigest()[:8]
    (tmp_path / "folder").mkdir()
    content = os.urandom(100_000)
    (tmp_path / "folder" / "model.safetensors").write_bytes(content)
    environment = client_environment(http.endpoint, tmp_path / "home")
    http.create(name)
    command = [str(Path(sys.executable).parent / "hf"), "upload", name, "folder", "."]
    heads = []
    for faults in ([trouble], []):
        http.faults(*faults)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        heads.append(http.head(name))
        assert all(set_["seen"] >= 1 for set_ in http("GET", "/_test/faults").json), "no request met the fault"
    assert done.returncode == 0, done.stderr
    assert heads[0] == heads[1], "the push that met the trouble was not complete, or the second one was not empty"
    assert http("GET", f"/{name}/resolve/main/model.safetensors").body == content


@pytest.mark.parametrize("way", ["xet", "lfs"])
def test_a_crowd_loses_nothing(http: Http, root: Path, tmp_path: Path, way: str) -> None:
    # Organisations of their own, since names of repos are the same in both ways.
    namespace = {"xet": "acme", "lfs": "alice"}[way]
    sent = run_client(
        HERE / "hub_crowd.py", namespace, environment=client_environment(http.endpoint, tmp_path, xet=way == "xet")
    )
    assert len(sent) == 9
    for repo, files in sent.items():
        for path, sha256 in files.items():
            answer = http("GET", f"/{repo}/resolve/main/{path}")
            assert hashlib.sha256(answer.body).hexdigest() == sha256, (repo, path)
    commits = http("GET", f"/api/models/{namespace}/shared/commits/main").json
    assert sorted(commit["title"] for commit in commits) == [
        *(f"from {number}" for number in range(8)),
        "initial commit",
    ]
    assert fsck(root).problems == []


def test_a_merge_does_not_overwrite_what_others_changed(tmp_path: Path) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    repo = hub.create("model", "acme/m", ALICE, private=False)
    for path in ("same.txt", "theirs.txt"):
        put(hub, repo, "main", path, b"old")
    open_pull(repo, "p", "", "alice")
    put(hub, repo, "refs/pr/1", "theirs.txt", b"new")
    put(hub, repo, "main", "ours.txt", b"ours")
    merge_pull(repo, 1, "alice")
    assert {
        path: hub.read_card(entry) for path, entry in repo.resolve("main").files.items() if path.endswith("txt")
    } == {
        "same.txt": "old",
        "theirs.txt": "new",
        "ours.txt": "ours",
    }
    open_pull(repo, "q", "", "alice")
    put(hub, repo, "refs/pr/2", "same.txt", b"one")
    put(hub, repo, "main", "same.txt", b"two")
    with pytest.raises(HubError, match=r"same\.txt"):
        merge_pull(repo, 2, "alice")
    assert hub.read_card(repo.resolve("main").files["same.txt"]) == "two"
    assert get_pull(repo, 2).status == "open"


def test_a_merge_makes_no_path_a_file_and_a_folder(tmp_path: Path) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    repo = hub.create("model", "acme/m", ALICE, private=False)
    open_pull(repo, "p", "", "alice")
    put(hub, repo, "refs/pr/1", "a/b.txt", b"theirs")
    put(hub, repo, "main", "a", b"ours")
    with pytest.raises(HubError, match="both a file and a folder"):
        merge_pull(repo, 1, "alice")
    assert get_pull(repo, 1).status == "open"


def test_a_pull_request_outlives_its_base(tmp_path: Path) -> None:
    hub = Hub(tmp_path, ACCOUNTS)
    repo = hub.create("model", "acme/m", ALICE, private=False)
    repo.add_ref("heads", "dev", repo.resolve("main").id)
    open_pull(repo, "p", "", "alice", "dev")
    put(hub, repo, "refs/pr/1", "a.txt", b"theirs")
    repo.delete_ref("heads", "dev")
    changed, conflicts = pull_changes(repo, get_pull(repo, 1))
    assert list(changed) == ["a.txt"] and conflicts == []
    with pytest.raises(HubError, match="dev"):
        merge_pull(repo, 1, "alice")


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


def test_an_upload_that_breaks_off_is_no_error_of_the_server(http: Http, root: Path) -> None:
    http.create("acme/cut")
    http.clear_log()
    with socket.create_connection(("127.0.0.1", int(http.endpoint.rpartition(":")[2]))) as connection:
        head = (
            f"POST /api/models/acme/cut/commit/main HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {http.token}"
        )
        connection.sendall(f"{head}\r\nContent-Length: 1000\r\n\r\nhalf".encode())
    for _ in range(1000):
        rows = [status for _, path, status in http.log() if path.endswith("/commit/main")]
        if rows and rows[0]:  # the log has a request before it has its status
            break
    assert rows == [400]
    assert not list((root / "tmp").glob("*"))


def test_the_hub_of_an_older_version_is_not_mistaken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "repos" / "models").mkdir(parents=True)
    with pytest.raises(ReleaseError, match="older version"):
        Hub(tmp_path, ACCOUNTS)
    assert [path.name for path in tmp_path.iterdir()] == ["repos"]
