"""What a card says runs without a token and reads the release alone; a verification that is killed leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from release.errors import ReleaseError
from release.files import sha256_file
from release.hub import patience, pulled, state
from release.hub.reading import ReadProxy
from release.truth import manifest
from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, Http

RELEASE = [{"id": "acme/mine", "type": "model", "commit": "main"}]


@pytest.fixture(scope="module")
def http(fast_folder: Path) -> Generator[Http]:
    with running_faulty_hub(fast_folder / "pulled", ACCOUNTS) as (endpoint, token):
        http = Http(endpoint, token)
        for name in ("acme/mine", "acme/other"):
            http.create(name, private=True)
            http.commit(name, {"a b.txt": b"a"})
        yield http


@pytest.fixture
def api(http: Http, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", constants.ENDPOINT)  # put back afterwards
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", constants.HUGGINGFACE_CO_URL_TEMPLATE)
    monkeypatch.setenv("HF_TOKEN", ALICE.token)
    return state.connect(http.endpoint)


def test_without_a_token_the_release_is_read_and_nothing_else(api: HfApi, tmp_path: Path) -> None:
    with ReadProxy(api, RELEASE) as proxy:
        stranger = HfApi(endpoint=proxy.address, token=False)
        folder = Path(stranger.snapshot_download("acme/mine", cache_dir=tmp_path))
        assert (folder / "a b.txt").read_text() == "a"
        assert [each.path for each in stranger.get_paths_info("acme/mine", ["a b.txt"])] == ["a b.txt"]
        calls: dict[str, Callable[[], object]] = {
            "another repository": lambda: stranger.model_info("acme/other"),
            "who owns the token": lambda: stranger._build_hf_headers() and stranger.whoami(token="hf_x"),
            "a commit": lambda: stranger.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id="acme/mine"),
            "settings": lambda: stranger.update_repo_settings("acme/mine", private=False),
            "a deletion": lambda: stranger.delete_repo("acme/mine"),
            **{path: partial(_got, proxy, path) for path in AROUND},
        }
        for name, call in calls.items():
            with pytest.raises(Exception, match=r"403|501|Forbidden|Unsupported"):
                pytest.fail(f"{name}: {call()}")
    assert api.list_repo_files("acme/mine") == [".gitattributes", "a b.txt"]


AROUND = (
    "/api/models/acme/mine/../other",
    "/api/models/acme/mine/%2e%2e/other",
    "/api/models/acme/mine2",
    "/api/whoami-v2",
    "//",
)


def _got(proxy: ReadProxy, path: str) -> bytes:
    """The answer to a GET.

    Raises:
        ConnectionError: It has another status than 200.
    """
    host, _, secret = proxy.address.removeprefix("http://").partition("/")
    for start in (f"/{secret}", ""):
        status, body = Http(f"http://{host}", None).raw("GET", start + path)
        if status == 200:
            return body
    raise ConnectionError(status)


def test_a_snippet_finds_no_token_and_no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "hidden")
    environment = pulled._without_token("http://127.0.0.1:9", tmp_path)
    assert "hidden" not in environment.values() and environment["HOME"] == str(tmp_path)


@pytest.mark.parametrize("code", ["FETCH", "SCORE"])
def test_a_verification_that_is_killed_leaves_no_process_and_no_folder(code: str, tmp_path: Path) -> None:
    waits = "import os, time; open('number', 'w').write(str(os.getpid())); time.sleep(60)"
    script = f"""
from release.hub import pulled
pulled.FETCH = "pass"
pulled.{code} = {waits!r}
class Api:
    endpoint, token = "http://127.0.0.1:9", "hf_x"
pulled.elsewhere({{"repositories": []}}, Api, 0)
"""
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": root}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as process:
        number = _wait(lambda: next((p.read_text() for p in tmp_path.glob("verify-*/number")), ""))
        process.send_signal(signal.SIGKILL)
    _wait(lambda: not list(tmp_path.iterdir()) and not _runs(int(number)))


def _runs(number: int) -> bool:
    status = Path(f"/proc/{number}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def _wait(until: Callable[[], object]) -> str:
    for _ in range(3000):
        if value := until():
            return str(value)
        time.sleep(0.01)
    pytest.fail("it did not happen")


def test_a_process_that_takes_too_long_ends_in_one_line(api: HfApi, tmp_path: Path) -> None:
    code = "import os, time; open('number', 'w').write(str(os.getpid())); time.sleep(60)"
    with (
        pytest.raises(ReleaseError, match=r"cannot fetch: it takes longer than 2 seconds"),
        patience.limited("fetch", seconds=2.0),
    ):
        pulled._run(code, tmp_path, dict(os.environ), sys.stdout, api)
    assert not _runs(int((tmp_path / "number").read_text()))


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_wants_two_hours_is_not_waited_for(http: Http, api: HfApi, status: int) -> None:
    http.faults(
        {"action": "answer", "method": "GET", "path": "/refs$", "status": status, "headers": {"Retry-After": "7200"}}
    )
    with pytest.raises(ReleaseError, match=rf"asks to wait 7,200 seconds \(status {status}\).*run it again"):
        api.list_repo_refs("acme/mine")
    http.faults()


def test_what_came_back_different_is_named_and_a_large_file_is_hashed_once(
    api: HfApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {"model.safetensors": b"weights", "config.json": b"{}", "gone.json": b"[]", "data/part.parquet": b"rows"}
    files = {name: manifest.FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
    made = manifest.Manifest("acme/pulled", "model", "x", "s", "v1", "x.toml", (), {}, False, None, files)
    contents[manifest.FILE] = manifest.text(made).encode()
    for name, data in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    api.create_repo("acme/pulled", private=True)
    commit = api.upload_folder(repo_id="acme/pulled", folder_path=tmp_path).oid
    repo, hashed = state.DesiredRepo("acme/pulled", "model", tmp_path, ""), []
    for module in (manifest, state):
        monkeypatch.setattr(module, "sha256_file", lambda path: hashed.append(path.name) or sha256_file(path))
    assert pulled._differing(repo, commit, None) == set()
    assert hashed.count("model.safetensors") == 1
    (tmp_path / "model.safetensors").write_bytes(b"wEights")
    (tmp_path / "config.json").write_bytes(b"[]")
    (tmp_path / "gone.json").unlink()
    (tmp_path / "data/part.parquet").unlink()
    (tmp_path / "more.json").write_bytes(b"{}")
    wrong = {"config.json", "gone.json", "model.safetensors", "more.json"}
    assert pulled._differing(repo, commit, "*.parquet") == wrong
    assert pulled._differing(repo, commit, None) == wrong | {"data/part.parquet"}
    (tmp_path / manifest.FILE).unlink()  # as somebody else's repository: by the Hub's list alone
    assert pulled._differing(repo, commit, "*.parquet") == wrong | {manifest.FILE}


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])  # the second in a shell's background
def test_a_step_ends_when_its_time_is_over(before: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, before)
    monkeypatch.setattr(patience, "STEP_SECONDS", 0.05)
    with (
        pytest.raises(ReleaseError, match=r"cannot look: it takes longer than 0 seconds.*run it again"),
        patience.limited("look"),
    ):
        time.sleep(60)
    with pytest.raises(KeyboardInterrupt), patience.limited("look", 10**9):
        os.kill(os.getpid(), signal.SIGINT)  # somebody's own


@pytest.mark.parametrize("kind", ["dead", "frozen"])
def test_a_hub_that_dies_in_the_middle_ends_the_step_long_before_its_time(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NOTE_SECONDS", "LOOK_SECONDS"):
        monkeypatch.setattr(patience, name, 0.02)
    with socket.create_server(("127.0.0.1", 0), backlog=8) as hub:
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}"
        if kind == "dead":
            hub.close()
        says = rf"cannot upload acme/mine: {endpoint} does not answer any more; hint: run it again"
        with pytest.raises(ReleaseError, match=says), patience.limited("upload acme/mine", 10**9, hub=endpoint):
            time.sleep(60)  # as the client, which tries again and again


def test_a_slow_hub_that_answers_is_waited_for(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "NOTE_SECONDS", 0.01)
    looks: list[bool] = []
    answers = patience._answers
    monkeypatch.setattr(patience, "_answers", lambda endpoint: looks.append(answers(endpoint)) or looks[-1])
    with patience.limited("upload acme/mine", hub=hub):
        _wait(lambda: len(looks) > patience.LOOKS)
    assert all(looks[: patience.LOOKS + 1])


def test_a_step_that_goes_on_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(patience, "NOTE_SECONDS", 0.01)
    with patience.limited("upload acme/mine"):
        _wait(lambda: "still: upload acme/mine" in capsys.readouterr().err)
