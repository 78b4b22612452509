"""One SQLite database: every row that names content is written after the content, in a transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from release.errors import ReleaseError

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
# What later versions added; `PRAGMA user_version` counts how many of these a file has.
CHANGES = (
    """
ALTER TABLE repo ADD COLUMN gated TEXT NOT NULL DEFAULT '';
ALTER TABLE collection ADD COLUMN theme TEXT NOT NULL DEFAULT 'indigo';
CREATE TABLE moved (kind TEXT NOT NULL, id TEXT NOT NULL COLLATE NOCASE, repo INTEGER NOT NULL REFERENCES repo
  ON DELETE CASCADE, PRIMARY KEY (kind, id));
CREATE TABLE access (id TEXT PRIMARY KEY, repo INTEGER NOT NULL REFERENCES repo ON DELETE CASCADE,
  user TEXT NOT NULL, status TEXT NOT NULL, requested TEXT NOT NULL, UNIQUE (repo, user));
CREATE TABLE xorb_upload (account TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (account, hash));
""",
)
SETTINGS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"


class Database:
    """SQLite for many threads: one connection, used by one thread at a time.

    Args:
        path: The file; it is made if it does not exist, unless `read_only`. Only its owner may read it.
        read_only: For reading beside a running server.

    Raises:
        ReleaseError: The file is no database, a broken one, or a later version's.
        sqlite3.DatabaseError: The same, of a file that is opened `read_only`.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._lock = threading.RLock()
        if not read_only:
            path.touch(mode=0o600)
            path.chmod(0o600)  # SQLite gives the files of its log the same mode
        address = f"{path.absolute().as_uri()}{'?mode=ro' if read_only else ''}"
        self._connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        if read_only:
            self._check_version()
            return
        try:
            self._connection.executescript(SETTINGS + SCHEMA)
            for number in range(self._version(), len(CHANGES)):
                self._connection.executescript(
                    f"BEGIN IMMEDIATE; {CHANGES[number]} PRAGMA user_version = {number + 1}; COMMIT;"
                )
            self._check_version()
        except sqlite3.DatabaseError as error:
            hint = "see what hub-fsck says, or give another --root"
            raise ReleaseError(f"the database cannot be used ({error})", where=str(path), hint=hint) from error

    def close(self) -> None:
        """Close the file now, not when Python collects the object: SQLite then merges its log into the file."""
        self._connection.close()

    def __call__(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        """Execute one statement and return its rows."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _version(self) -> int:
        return self("PRAGMA user_version")[0][0]

    def _check_version(self) -> None:
        if (version := self._version()) != len(CHANGES):
            raise sqlite3.DatabaseError(f"it is of version {version}, and this Hub writes version {len(CHANGES)}")

    @contextmanager
    def change(self) -> Generator[None]:
        """A transaction: all statements of the block take effect, on the disk, or none; a nested one joins it."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self("BEGIN IMMEDIATE")
            try:
                yield
                self("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself rolls back on a full disk
                    self("ROLLBACK")
                raise
