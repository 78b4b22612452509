"""Failing requests, lost answers and many clients at once leave the Hub whole."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from release.localhub import fsck
from tests.localhub.hub_fixtures import Http, client_environment, run_client

HERE = Path(__file__).parent


REFUSED = (ConnectionError, urllib.error.URLError, TimeoutError, HTTPException)


def fault(action: str, path: str, method: str = "POST", **more: Any) -> dict[str, Any]:
    return {"action": action, "method": method, "path": path, **more}


def test_faults_change_the_request_that_they_are_meant_for(faulty_hub: Http) -> None:
    faulty_hub.create("acme/faulty")
    faulty_hub.faults(fault("answer", "whoami", "GET", nth=2, times=2, status=429))
    assert [faulty_hub("GET", "/api/whoami-v2").status for _ in range(5)] == [200, 429, 429, 200, 200]
    faulty_hub.faults(fault("answer", "/commit/main$", status=503))
    before = faulty_hub.head("acme/faulty")
    assert faulty_hub.commit("acme/faulty", {"a.txt": b"a"}).status == 503
    assert faulty_hub.head("acme/faulty") == before, "a request that failed has changed something"
    faulty_hub.faults(fault("cut", "/commit/main$"))
    with pytest.raises(Exception):  # noqa: B017 - which error a lost answer is depends on how far it came
        faulty_hub.commit("acme/faulty", {"a.txt": b"a"})
    assert faulty_hub.head("acme/faulty") != before, "a cut answer must not undo the work"
    faulty_hub.faults(fault("delay", "whoami", "GET", seconds=0.01))
    assert faulty_hub("GET", "/api/whoami-v2").status == 200
    faulty_hub.faults(fault("flip", "whoami", "GET"))
    flipped, whole = (faulty_hub("GET", "/api/whoami-v2").body for _ in range(2))
    assert sum((a ^ b).bit_count() for a, b in zip(flipped, whole, strict=True)) == 1
    faulty_hub.faults()


@pytest.mark.parametrize(("action", "arrives"), [("drop", False), ("lose", True)])
def test_a_connection_can_end_before_or_after_the_work(faulty_hub: Http, action: str, arrives: bool) -> None:
    faulty_hub.create(f"acme/{action}")
    before = faulty_hub.head(f"acme/{action}")
    faulty_hub.faults(fault(action, "/commit/main$"))
    with pytest.raises(REFUSED):
        faulty_hub.commit(f"acme/{action}", {"a.txt": b"a"})
    assert (faulty_hub.head(f"acme/{action}") != before) == arrives
    faulty_hub.faults()


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
def test_a_push_survives_trouble(faulty_hub: Http, tmp_path: Path, trouble: dict[str, Any]) -> None:
    name = "acme/" + hashlib.sha256(json.dumps(trouble).encode()).hexdigest()[:8]
    (tmp_path / "folder").mkdir()
    content = os.urandom(100_000)
    (tmp_path / "folder" / "model.safetensors").write_bytes(content)
    environment = client_environment(faulty_hub.endpoint, tmp_path / "home")
    faulty_hub.create(name)
    command = [str(Path(sys.executable).parent / "hf"), "upload", name, "folder", "."]
    heads = []
    for faults in ([trouble], []):
        faulty_hub.faults(*faults)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        heads.append(faulty_hub.head(name))
        assert all(set_["seen"] >= 1 for set_ in faulty_hub("GET", "/_test/faults").json), "no request met the fault"
    assert done.returncode == 0, done.stderr
    assert heads[0] == heads[1], "the push that met the trouble was not complete, or the second one was not empty"
    assert faulty_hub("GET", f"/{name}/resolve/main/model.safetensors").body == content


@pytest.mark.parametrize("way", ["xet", "lfs"])
def test_a_crowd_loses_nothing(faulty_hub: Http, faulty_root: Path, tmp_path: Path, way: str) -> None:
    # Organisations of their own, since names of repos are the same in both ways.
    namespace = {"xet": "acme", "lfs": "alice"}[way]
    sent = run_client(
        HERE / "hub_crowd.py",
        namespace,
        environment=client_environment(faulty_hub.endpoint, tmp_path, xet=way == "xet"),
    )
    assert len(sent) == 9
    for repo, files in sent.items():
        for path, sha256 in files.items():
            answer = faulty_hub("GET", f"/{repo}/resolve/main/{path}")
            assert hashlib.sha256(answer.body).hexdigest() == sha256, (repo, path)
    commits = faulty_hub("GET", f"/api/models/{namespace}/shared/commits/main").json
    assert sorted(commit["title"] for commit in commits) == [
        *(f"from {number}" for number in range(8)),
        "initial commit",
    ]
    assert fsck(faulty_root).problems == []


def test_an_upload_that_breaks_off_is_no_error_of_the_server(faulty_hub: Http, faulty_root: Path) -> None:
    faulty_hub.create("acme/cut")
    faulty_hub.clear_log()
    with socket.create_connection(("127.0.0.1", int(faulty_hub.endpoint.rpartition(":")[2]))) as connection:
        head = f"POST /api/models/acme/cut/commit/main HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {faulty_hub.token}"
        connection.sendall(f"{head}\r\nContent-Length: 1000\r\n\r\nhalf".encode())
    for _ in range(1000):
        rows = [status for _, path, status in faulty_hub.log() if path.endswith("/commit/main")]
        if rows and rows[0]:  # the log has a request before it has its status
            break
    assert rows == [400]
    assert not list((faulty_root / "tmp").glob("*"))
