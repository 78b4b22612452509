"""What is on the disk: content in files that are named by their hash, and one SQLite database that points at it.

A file is written under tmp/, flushed, and only then renamed to its name: what has a name is whole. A row that names
content is written after the content, in a transaction: a crash leaves the state before a change or the one after it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.localhub.web import bad

SHA256 = re.compile(r"[0-9a-f]{64}")
STEP = 1 << 20  # bytes read at a time
SCHEMA = """
CREATE TABLE IF NOT EXISTS repo (key INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, id TEXT NOT NULL,
  private INTEGER NOT NULL, created TEXT NOT NULL, UNIQUE (kind, id));
CREATE TABLE IF NOT EXISTS history (repo INTEGER NOT NULL REFERENCES repo ON DELETE CASCADE, id TEXT NOT NULL,
  content TEXT NOT NULL, PRIMARY KEY (repo, id));
CREATE TABLE IF NOT EXISTS ref (repo INTEGER NOT NULL REFERENCES repo ON DELETE CASCADE, name TEXT NOT NULL,
  target TEXT NOT NULL, PRIMARY KEY (repo, name));
CREATE TABLE IF NOT EXISTS pull (repo INTEGER NOT NULL REFERENCES repo ON DELETE CASCADE, number INTEGER NOT NULL,
  title TEXT NOT NULL, description TEXT NOT NULL, author TEXT NOT NULL, created TEXT NOT NULL, status TEXT NOT NULL,
  base TEXT NOT NULL, start TEXT NOT NULL, merged TEXT, PRIMARY KEY (repo, number));
CREATE TABLE IF NOT EXISTS upload (repo INTEGER NOT NULL REFERENCES repo ON DELETE CASCADE, sha256 TEXT NOT NULL,
  PRIMARY KEY (repo, sha256));
CREATE TABLE IF NOT EXISTS collection (key INTEGER PRIMARY KEY, slug TEXT NOT NULL UNIQUE, title TEXT NOT NULL,
  description TEXT NOT NULL, private INTEGER NOT NULL, updated TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS item (id TEXT PRIMARY KEY, collection INTEGER NOT NULL REFERENCES collection
  ON DELETE CASCADE, repo INTEGER NOT NULL REFERENCES repo ON DELETE CASCADE, note TEXT, position INTEGER NOT NULL,
  UNIQUE (collection, repo));
CREATE TABLE IF NOT EXISTS xorb (hash TEXT PRIMARY KEY, chunks BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS file (hash TEXT PRIMARY KEY, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
  terms TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS file_by_content ON file (sha256);
CREATE TABLE IF NOT EXISTS in_bucket (sha256 TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS about (row INTEGER PRIMARY KEY CHECK (row = 1), store_id TEXT NOT NULL);
INSERT OR IGNORE INTO about VALUES (1, lower(hex(randomblob(16))));
"""


class Database:
    """SQLite for many threads: one connection, used by one thread at a time.

    Args:
        path: The file; it is made if it is not there, unless `read_only`.
        read_only: For a look beside a running server.

    Raises:
        ReleaseError: The file is no database, or a broken one.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._lock = threading.RLock()
        address = f"{path.absolute().as_uri()}{'?mode=ro' if read_only else ''}"
        self._connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        if not read_only:
            setting = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
            try:
                self._connection.executescript(setting + SCHEMA)
            except sqlite3.DatabaseError as error:
                hint = "see what hub-fsck says, or give another --root"
                raise ReleaseError(f"the database cannot be used ({error})", where=str(path), hint=hint) from error

    def close(self) -> None:
        """Let go of the file at once, and not when Python gets to it: SQLite then writes what the log still holds."""
        self._connection.close()

    def __call__(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        """Execute one statement; gives its rows."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def change(self) -> Generator[None]:
        """Everything in the block counts together, on the disk, or not at all; one inside another joins it."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self("BEGIN IMMEDIATE")
            try:
                yield
                self("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself takes back what met a full disk
                    self("ROLLBACK")
                raise


class Store:
    """Content under `root`/blobs and `root`/xorbs, and a place for uploads that are not complete yet."""

    def __init__(self, root: Path) -> None:
        self.root, self._tmp = root, root / "tmp"

    def clean(self) -> None:
        """Drop what uploads left behind that a crash cut off; only for a server that has just started."""
        shutil.rmtree(self._tmp, ignore_errors=True)

    @contextmanager
    def scratch(self) -> Generator[Path]:
        """A path for one upload; what is still there at the end is deleted."""
        self._tmp.mkdir(parents=True, exist_ok=True)
        path = self._tmp / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def place(self, kind: str, name: str) -> Path:
        """Where the object `name` (64 hexadecimal digits) of `kind` lies, whether it exists or not."""
        if not SHA256.fullmatch(name):
            raise bad(f"Not a hash: {name[:80]!r}")
        return self.root / kind / name[:2] / name

    def adopt(self, upload: Path, kind: str, name: str) -> None:
        """Give a complete upload its name, in one step, once its bytes are on the disk."""
        target = self.place(kind, name)
        with upload.open("rb") as stream:
            os.fsync(stream.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        upload.replace(target)
        for folder in (target.parent, target.parent.parent):  # the lists of names, for a loss of power
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def put(self, content: bytes) -> str:
        """Store bytes as a blob; gives its name, their sha256."""
        name = hashlib.sha256(content).hexdigest()
        if not self.place("blobs", name).exists():
            with self.scratch() as upload:
                upload.write_bytes(content)
                self.adopt(upload, "blobs", name)
        return name


def read_range(path: Path, low: int, high: int) -> Iterator[bytes]:
    """The bytes `low` to `high` (exclusive) of a file, a megabyte at a time."""
    with path.open("rb") as stream:
        stream.seek(low)
        while low < high and (step := stream.read(min(STEP, high - low))):
            low += len(step)
            yield step


def git_oid(content: bytes) -> str:
    """The id that git gives a blob: clients compare it with their own file, to leave out what has not changed."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
