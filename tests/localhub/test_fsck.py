"""Whatever is damaged on the disk, fsck names it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from release.errors import ReleaseError
from release.localhub import fsck
from release.localhub.service import Hub
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, Http, client_environment


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


def test_any_changed_byte_is_found(faulty_hub: Http, faulty_root: Path, fast_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.safetensors").write_bytes(os.urandom(300_000))
    (tmp_path / "folder" / "a.txt").write_text("some text that can be found again")
    command = [str(Path(sys.executable).parent / "hf"), "upload", "acme/changed", str(tmp_path / "folder"), "."]
    environment = client_environment(faulty_hub.endpoint, tmp_path / "home")
    subprocess.run(command, env=environment, capture_output=True, check=True)
    copy = fast_folder / "copy"
    shutil.copytree(faulty_root, copy)
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
        shutil.copytree(faulty_root, copy)
