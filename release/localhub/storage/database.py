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
SETTINGS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"


class Database:
    """SQLite for many threads: one connection, used by one thread at a time.

    Args:
        path: The file; it is made if it does not exist, unless `read_only`.
        read_only: For reading beside a running server.

    Raises:
        ReleaseError: The file is no database, or a broken one.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._lock = threading.RLock()
        address = f"{path.absolute().as_uri()}{'?mode=ro' if read_only else ''}"
        self._connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        if not read_only:
            try:
                self._connection.executescript(SETTINGS + SCHEMA)
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
