"""What the tests of the embedded Hub share: accounts, plain HTTP without a client, and the real client beside them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from release.localhub import Account
from release.localhub.history import Entry, Repo
from release.localhub.service import Hub
from release.localhub.storage.blobs import git_oid

ALICE = Account("alice", "hf_alice_writes", ("acme",))
BOB = Account("bob", "hf_bob_elsewhere", ("other",))
READER = Account("reader", "hf_reader_reads", ("acme",), role="read")
ACCOUNTS = [ALICE, BOB, READER]
SECRET = b"the secret of acme"  # a file of the private repo acme/closed


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """X-Error-Code."""
        return self.headers.get("x-error-code")


@dataclass(frozen=True)
class Http:
    """Requests as anybody could send them."""

    endpoint: str
    token: str | None = field(default=ALICE.token)

    def __call__(
        self, method: str, path: str, body: Any = None, *, token: str | None = "", headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request; `body` is bytes, or becomes JSON; `token` None sends none."""
        sent = dict(headers or {})
        who = self.token if token == "" else token
        if who and "Authorization" not in sent:
            sent["Authorization"] = f"Bearer {who}"
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(self.endpoint + path, data, sent, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return Answer(answer.status, {key.lower(): text for key, text in answer.headers.items()}, answer.read())

    def raw(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body of a request whose path is sent exactly as it is given."""
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=30)
        connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
        for key, value in ({"Authorization": f"Bearer {self.token}"} | (headers or {})).items():
            connection.putheader(key, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def create(self, repo_id: str, *, kind: str = "model", private: bool = False) -> Answer:
        """Make a repo."""
        namespace, name = repo_id.split("/")
        body = {"organization": namespace, "name": name, "type": kind, "private": private}
        return self("POST", "/api/repos/create", body)

    def commit(self, repo_id: str, files: dict[str, bytes], *, revision: str = "main", **options: Any) -> Answer:
        """Commit regular files; `options` are those of `__call__`, and `parent`."""
        parent = options.pop("parent", None)
        contents = {path: base64.b64encode(content).decode() for path, content in files.items()}
        values = [{"path": path, "content": text, "encoding": "base64"} for path, text in contents.items()]
        rows = [{"key": "file", "value": value} for value in values]
        return self.commit_rows(repo_id, *rows, revision=revision, parent=parent, **options)

    def commit_rows(
        self, repo_id: str, *rows: dict[str, Any], revision: str = "main", parent: str | None = None, **options: Any
    ) -> Answer:
        """Commit the operations in `rows`; `options` are those of `__call__`."""
        header = {"key": "header", "value": {"summary": "test", "parentCommit": parent}}
        body = "\n".join(map(json.dumps, [header, *rows])).encode()
        return self("POST", f"/api/models/{repo_id}/commit/{revision}", body, **options)

    def commit_lfs(self, repo_id: str, path: str, oid: str, **options: Any) -> Answer:
        """Commit a file whose content was uploaded before."""
        return self.commit_rows(repo_id, {"key": "lfsFile", "value": {"path": path, "oid": oid}}, **options)

    def xet(self, mode: str = "write", repo: str = "acme/open", token: str | None = "") -> tuple[str, str]:
        """The path of the Xet store, and a token for it to "read" or "write" a repo."""
        answer = self("GET", f"/api/models/{repo}/xet-{mode}-token/main", token=token)
        assert answer.status == 200
        return answer.json["casUrl"].removeprefix(self.endpoint), answer.json["accessToken"]

    def lfs(self, repo_id: str, content: bytes) -> str:
        """Upload content as LFS; gives its sha256."""
        oid = hashlib.sha256(content).hexdigest()
        body = {"operation": "upload", "objects": [{"oid": oid, "size": len(content)}]}
        answer = self("POST", f"/{repo_id}.git/info/lfs/objects/batch", body).json["objects"][0]
        if "actions" in answer:
            path = answer["actions"]["upload"]["href"].removeprefix(self.endpoint)
            assert self("PUT", path, content, token=None).status == 200
        return oid

    def head(self, repo_id: str, **options: Any) -> str:
        """The commit that main is at."""
        return self("GET", f"/api/models/{repo_id}", **options).json["sha"]

    def log(self) -> list[tuple[str, str, int]]:
        """Method, path and status of every request since `clear_log`; only of a Hub made for testing."""
        return [(method, path, status) for method, path, _, status in self("GET", "/_test/log").json]

    def clear_log(self) -> None:
        """Forget the requests so far."""
        self("DELETE", "/_test/log")

    def faults(self, *faults: dict[str, Any]) -> None:
        """Set the faults, instead of those that were set before."""
        self("POST", "/_test/faults", list(faults))


def add_file(hub: Hub, repo: Repo, revision: str, path: str, content: bytes) -> None:
    """Commit one file to a branch or pull request, below the API."""
    entry = Entry(len(content), git_oid(content), hub.store.put(content))
    with repo.db.change():
        parent, target = repo.resolve(revision), repo.writable_ref(revision)
        repo.add_commit(target, (parent.id,), path, "", "alice", {**parent.files, path: entry})


def client_environment(
    endpoint: str, home: Path, *, xet: bool = True, token: str | None = ALICE.token
) -> dict[str, str]:
    """The environment of a process in which the real client talks to this Hub and to nobody else."""
    removed = ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_DISABLE_XET")
    environment = {key: value for key, value in os.environ.items() if key not in removed}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment |= {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {"HF_XET_CLIENT_RETRY_BASE_DELAY": "100ms", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
    return environment | ({} if xet else {"HF_HUB_DISABLE_XET": "1"}) | ({"HF_TOKEN": token} if token else {})


def run_client(script: Path, *arguments: str, environment: dict[str, str], timeout: float = 180) -> dict[str, Any]:
    """Run a script that prints one JSON object as its last line, and give that object."""
    command = [sys.executable, str(Path(__file__).with_name("without_collections.py")), str(script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
