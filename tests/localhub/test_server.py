"""Where the server listens, who has an account, and what never leaves it."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from release.errors import ReleaseError
from release.localhub import Account, fsck, serve
from release.localhub.auth import load_accounts, parse_account
from release.localhub.server import _listening_socket
from release.localhub.service import Hub
from release.localhub.storage.database import SCHEMA
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, Http

pytestmark = pytest.mark.usefixtures("nothing_changes")


def test_only_loopback_names_are_served(hub: Http) -> None:
    assert hub.raw("GET", "/", {"Host": "evil.example"})[0] == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_answers_do_not_wait_for_the_network_to_collect_more(host: str) -> None:
    """asyncio turns Nagle's algorithm off where the listening socket names its protocol: else every answer takes 40 ms."""
    with _listening_socket(host, 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_other_hosts_need_a_token_file(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="token-file"):
        serve(tmp_path, host="0.0.0.0")


def test_a_taken_port_and_a_taken_folder_are_errors_for_people(hub: Http, root: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ReleaseError, match="cannot listen"):
            serve(tmp_path, port=taken.getsockname()[1])
    with pytest.raises(ReleaseError, match="another run"):
        serve(root)


def test_accounts_come_from_safe_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEASE_HUB_ACCOUNTS", raising=False)
    made = load_accounts(tmp_path)
    assert load_accounts(tmp_path) == made and made[0].organizations == ("local",)
    assert (tmp_path / "accounts").stat().st_mode & 0o777 == 0o600
    (tmp_path / "tokens").write_text("a:hf_a:x,y\nb:hf_b::read\n")
    expected = [Account("a", "hf_a", ("x", "y")), Account("b", "hf_b", (), "read")]
    assert load_accounts(tmp_path, token_file=tmp_path / "tokens") == expected
    monkeypatch.setenv("RELEASE_HUB_ACCOUNTS", "c:hf_c:z")
    assert load_accounts(tmp_path) == [Account("c", "hf_c", ("z",))]
    for text in ("", "a", "a:", ":t:o", "../a:t:o", "a:t:../o", "a:t:o:admin", "a:b:c:read:x"):
        with pytest.raises(ReleaseError) as caught:
            parse_account(text)
        assert "hf_" not in str(caught.value)


def test_an_account_without_a_token_gets_one_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEASE_HUB_ACCOUNTS", raising=False)
    (local,) = load_accounts(tmp_path)
    rehearsal, second = load_accounts(tmp_path, ["local::local,cross-encoder", "second::other"])
    assert rehearsal == Account("local", local.token, ("local", "cross-encoder")) and rehearsal.owns("cross-encoder")
    assert second.token not in ("", local.token) and load_accounts(tmp_path, ["second::other"]) == [second]
    assert load_accounts(tmp_path) == [local]
    assert (tmp_path / "accounts").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ReleaseError):
        load_accounts(tmp_path, ["../a::other"])


def test_only_the_owner_reads_what_the_hub_keeps(hub: Http, root: Path) -> None:
    public = {root / "endpoint", root / "hub.log", root / ".lock"}
    files = [path for path in root.rglob("*") if path.is_file() and path not in public and "buckets" not in path.parts]
    assert {"hub.sqlite", "hub.sqlite-wal", "secret"} <= {path.name for path in files} and len(files) > 5
    for path in files:
        folders = [folder for folder in path.parents if folder.is_relative_to(root)][:-1]
        assert any(each.stat().st_mode & 0o077 == 0 for each in (path, *folders)), f"others may read {path}"


def test_what_an_older_version_left_open_is_closed(tmp_path: Path) -> None:
    for name in ("blobs", "xorbs", "tmp"):
        (tmp_path / name).mkdir(mode=0o755)
    with closing(sqlite3.connect(tmp_path / "hub.sqlite")) as database:
        database.executescript(SCHEMA)
        database.execute("INSERT INTO repo (kind, id, private, created) VALUES ('model', 'acme/m', 0, '')")
        database.commit()
    (tmp_path / "hub.sqlite").chmod(0o644)
    assert "version 0" in fsck(tmp_path).problems[0]
    hub = Hub(tmp_path, ACCOUNTS)
    assert [(repo.id, repo.gated) for repo in hub.repos(None)] == [("acme/m", "")]
    hub.db.close()
    for name in ("blobs", "xorbs", "tmp", "hub.sqlite"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0, name
    with closing(sqlite3.connect(tmp_path / "hub.sqlite")) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(ReleaseError, match="version 99"):
        Hub(tmp_path, ACCOUNTS)


def test_no_token_is_ever_written(hub: Http, root: Path) -> None:
    hub("GET", "/api/whoami-v2")
    tokens = [account.token.encode() for account in ACCOUNTS]
    for path in root.rglob("*"):
        if path.is_file():
            assert not any(token in path.read_bytes() for token in tokens), path
    assert ALICE.token not in repr(ALICE)


def test_faults_do_not_exist_for_people(hub: Http) -> None:
    assert hub("GET", "/_test/log").status == 404
    assert hub("POST", "/_test/faults", []).status in (404, 405)


def test_after_all_attempts_every_hash_agrees(hub: Http, root: Path) -> None:
    assert fsck(root).problems == []
    done = subprocess.run(
        [sys.executable, "-m", "release", "hub-fsck", "--root", str(root)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "all hashes agree" in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize("package", ["lz4", "starlette"])
def test_a_missing_package_is_one_line_with_the_extra_to_install(package: str) -> None:
    script = f"import sys; sys.modules[{package!r}] = None; from release.__main__ import main; sys.exit(main(['hub']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    expected = f"error: the embedded Hub needs the package {package}; hint: pip install 'ettin-release[localhub]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
