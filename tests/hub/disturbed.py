"""What `make faults` and `make kills` share: a small staged release, published by the real client, and what is there afterwards.

Every attempt is a process of its own that begins with an empty cache. It publishes, pulls every file back, compares, and finishes;
only scores and snippets, which need torch and ask the Hub for nothing new, are left out. Waits of the client are short.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars

from release import console
from release.errors import ReleaseError
from release.family import Family
from release.hub import checks, publish, pulled, stage, state, verify
from release.localhub import Account
from tests import built

TOKEN = "hf_" + "loopback" * 4
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # what is flushed to a disk would mostly be waited for
HOME = Path(tempfile.mkdtemp(prefix="disturbed-home-", dir=MEMORY))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
ACCOUNTS = [Account("maker", TOKEN, ("local",))]
SECONDS = 60.0  # after which an attempt hangs
SHORT = 0.01  # seconds that the client waits before it tries again, whatever it wants
DONE, REFUSED, BROKEN, HUNG = "done", "one line", "traceback", "hung"
ENDS = {0: DONE, 1: REFUSED, 2: BROKEN}


@contextlib.contextmanager
def staged(work: Path | None = None) -> Generator[Family]:
    """A staged release of the embedded family with a tiny model, in a working folder of its own, or in `work` that has one."""
    from tests.tiny import tiny_encoder, tiny_reranker

    with contextlib.ExitStack() as stack:
        if work is None:
            made = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="disturbed-", dir=MEMORY)))
            (made / "encoder").mkdir()
            (made / "reranker").mkdir()
            work = made / "work"
            shutil.copytree(built.template(tiny_reranker(made / "reranker", tiny_encoder(made / "encoder"))), work)
        stack.enter_context(contextlib.chdir(work))
        family = built.family()
        stage.stage_dataset(family)
        stage.stage_model(family, built.SIZE)
        checks.raise_problems(family, built.SIZE)
        for module in ("hf_xet", "huggingface_hub._upload_pipeline", "huggingface_hub.lfs", "pandas"):
            importlib.import_module(module)  # once here, not in every attempt
        yield family


def in_parts(count: int, run: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """What `run` gives for 0 to `count` - 1, each in a process and a copy of the working folder of its own, added up."""
    global HOME
    if count == 1:
        return run(0)
    total: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="disturbed-parts-", dir=MEMORY) as folder:
        children = []
        for part in range(count):
            work = Path(folder) / str(part)
            shutil.copytree(Path.cwd(), work)
            if (child := os.fork()) == 0:
                status = 1
                try:
                    HOME = work / "home"
                    with contextlib.chdir(work):
                        (work / "result.json").write_text(json.dumps(run(part)))
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    sys.stdout.flush()
                    os._exit(status)
            children.append(child)
        for part, child in enumerate(children):
            if os.waitpid(child, 0)[1]:
                raise RuntimeError(f"part {part} ended early")
            for key, value in json.loads((Path(folder) / str(part) / "result.json").read_text()).items():
                total[key] = _sum(total[key], value) if key in total else value
    return total


def _sum(one: Any, other: Any) -> Any:
    """Numbers and lists are added, and so is what mappings hold."""
    if isinstance(one, dict):
        return {
            key: _sum(one[key], other[key]) if key in one and key in other else (one | other)[key]
            for key in one | other
        }
    return one + other


def report(what: str, result: dict[str, Any]) -> int:
    """Print the table and the last line; the exit status."""
    rows = {name: (row["tried"], row["converged"]) for name, row in result.pop("rows").items()}
    lines = [[name, tried, right, tried - right] for name, (tried, right) in rows.items()]
    console.table(what, ["", "tried", "converged", "diverged"], lines)
    tried, right = (sum(row[index] for row in rows.values()) for index in (0, 1))
    console.print_json({"tried": tried, "converged": right, "diverged": tried - right} | result)
    return 1 if result["names"] or result["incomplete"] else 0


def jobs() -> int:
    """As many as this process has cores."""
    return len(os.sched_getaffinity(0))


@dataclass
class Attempt:
    """A publisher and a verifier, one after the other, each in a forked process; `log` gets what they say."""

    family: Family
    endpoint: str
    log: Path

    def run(self, disturb: Callable[[int], None] = lambda _: None) -> str:
        """How it ended; `disturb` gets the number of each process once it runs."""
        for part in (self._publish, self._verify):
            if (end := self._process(part, disturb)) != DONE:
                return end
        return DONE

    def _publish(self) -> None:
        publish.publish(self.family, built.SIZE, self.endpoint)

    def _verify(self) -> None:
        verify.command(built.SIZE, self.family.path, push=True)

    def _process(self, part: Callable[[], None], disturb: Callable[[int], None]) -> str:
        shutil.rmtree(HOME, ignore_errors=True)
        child = os.fork()
        if child == 0:
            os._exit(self._child(part))
        disturb(child)
        end = time.monotonic() + SECONDS
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return HUNG
            time.sleep(0.002)
        return ENDS.get(os.waitstatus_to_exitcode(ended[1]), "killed")

    def _child(self, part: Callable[[], None]) -> int:
        """The exit status; everything that is said goes to the log."""
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.setpgid(0, 0)
        try:
            hurry(self.endpoint)
            part()
        except ReleaseError as error:
            print(f"ReleaseError: {error}", flush=True)
            return 1 if "\n" not in str(error) else 2
        except BaseException:
            traceback.print_exc()
            return 2
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        return 0


def hurry(endpoint: str) -> None:
    """In a process of an attempt: the real client with short waits, and a verification without torch."""
    os.environ |= {"HF_TOKEN": TOKEN, "HF_ENDPOINT": endpoint, "HF_HOME": str(HOME), "HF_XET_CACHE": f"{HOME}/xet"}
    constants.HF_HOME, constants.HF_HUB_CACHE, constants.HF_XET_CACHE = f"{HOME}", f"{HOME}/hub", f"{HOME}/xet"
    os.environ |= {"TMPDIR": MEMORY} if MEMORY else {}
    disable_progress_bars()
    os.environ |= {"HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms", "HF_XET_CLIENT_RETRY_MAX_DURATION": "1s"}
    constants.HF_HUB_OFFLINE, sleep = False, time.sleep
    time.sleep = lambda seconds: sleep(min(seconds, SHORT))
    checks.raise_problems = lambda *_: None  # type: ignore[assignment]  # it was checked once, and asks no Hub
    pulled._run = _run  # type: ignore[assignment]


def _run(code: str, folder: Path, *_: Any) -> None:
    """Fetch in this process, whose cache is empty; nothing is scored."""
    if code == pulled.SCORE:
        (folder / "result.json").write_text("[]", encoding="utf-8")
        return
    with contextlib.chdir(folder):
        try:
            pulled.fetch()
        except SystemExit as error:
            raise ReleaseError(str(error)) from error


def ask(endpoint: str, path: str, method: str = "GET", body: Any = None) -> Any:
    """A request that no fault changes, since none is set while it is made."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        endpoint + path, data, {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def found(family: Family, endpoint: str) -> dict[str, Any]:
    """What is on the Hub, without ids and times that differ between two releases of the same."""
    whole: dict[str, Any] = {"collections": []}
    for repo in state.desired_repos(family, built.SIZE):
        path = f"/api/{repo.type}s/{repo.id}"
        try:
            info = ask(endpoint, f"{path}?blobs=1")
        except urllib.error.HTTPError as error:
            whole[repo.id] = error.code
            continue
        tags = {ref["name"]: ref["targetCommit"] == info["sha"] for ref in ask(endpoint, f"{path}/refs")["tags"]}
        files = {
            row["rfilename"]: (row["size"], row["blobId"], row.get("lfs", {}).get("sha256")) for row in info["siblings"]
        }
        whole[repo.id] = {"private": info["private"], "tags at main": tags, "files": files}
    for row in ask(endpoint, f"/api/collections?owner={family.about.organization}"):
        one = ask(endpoint, f"/api/collections/{row['slug']}")
        items = [(item["type"], item["id"], item.get("note", {}).get("text")) for item in one["items"]]
        whole["collections"].append([one["title"], one["description"], items])
    return whole


def whole(expected: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What `found` gives of an undisturbed release, as POST /_test/complete takes it."""
    return {
        name: {path: row[1] for path, row in repo["files"].items()} for name, repo in expected.items() if "/" in name
    }


def clear(family: Family, endpoint: str) -> None:
    """Remove the release from the Hub, and the record of its verification."""
    for repo in state.desired_repos(family, built.SIZE):
        organization, name = repo.id.split("/")
        with contextlib.suppress(urllib.error.HTTPError):
            body = {"organization": organization, "name": name, "type": repo.type}
            ask(endpoint, "/api/repos/delete", "DELETE", body)
    for row in ask(endpoint, f"/api/collections?owner={family.about.organization}"):
        ask(endpoint, f"/api/collections/{row['slug']}", "DELETE")
    (family.folder(built.SIZE) / "records/verify.json").unlink(missing_ok=True)
