"""Content on disk, named by its sha256: raw files here, files made of Xet chunks in `release.localhub.xet`.

A file is written under tmp/, flushed to the disk, and only then renamed to its name: what has a name is whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from release.localhub.errors import bad

SHA256 = re.compile(r"[0-9a-f]{64}")
STEP = 1 << 20  # bytes read at a time


class Store:
    """Blobs under `root`/blobs, and a place for uploads that are not complete yet."""

    def __init__(self, root: Path) -> None:
        self.root, self._tmp = root, root / "tmp"

    def clean(self) -> None:
        """Drop what uploads left behind that a crash cut off; only for a server that has just started."""
        shutil.rmtree(self._tmp, ignore_errors=True)

    @contextmanager
    def scratch(self) -> Generator[Path]:
        """A path for one upload, or for a folder on its way out; what is still there at the end is deleted."""
        self._tmp.mkdir(parents=True, exist_ok=True)
        path = self._tmp / uuid.uuid4().hex
        try:
            yield path
        finally:
            if path.is_dir():
                shutil.rmtree(path)
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
        sync_folder(target.parent)

    def put(self, content: bytes, kind: str = "blobs", name: str | None = None) -> str:
        """Store bytes; their name is their sha256 unless `name` says otherwise."""
        name = name or hashlib.sha256(content).hexdigest()
        if not self.place(kind, name).exists():
            with self.scratch() as upload:
                upload.write_bytes(content)
                self.adopt(upload, kind, name)
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


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names, so that a rename survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
