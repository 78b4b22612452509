"""Content in files that are named by their hash.

A file is written under tmp/, flushed, and only then renamed to its name: what has a name is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from release.localhub.errors import bad_request
from release.localhub.names import SHA256

STEP = 1 << 20  # bytes read at a time
ContentKind = Literal["blobs", "xorbs"]


class Store:
    """Content under `root`/blobs and `root`/xorbs, and temporary files of uploads that are not complete yet."""

    def __init__(self, root: Path) -> None:
        self.root, self._temporary = root, root / "tmp"

    def prepare(self) -> None:
        """Make the folders, for their owner only, and delete what an interrupted process left.

        Only for a server that has just started.
        """
        shutil.rmtree(self._temporary, ignore_errors=True)
        for folder in (self._temporary, self.root / "blobs", self.root / "xorbs"):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)

    @contextmanager
    def temporary_file(self) -> Generator[Path]:
        """A path for one upload; if the file is still there at the end, it is deleted."""
        path = self._temporary / uuid.uuid4().hex
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def path(self, kind: ContentKind, name: str) -> Path:
        """The path of the object `name` (64 hexadecimal digits), whether it exists or not."""
        if not SHA256.fullmatch(name):
            raise bad_request(f"Not a hash: {name[:80]!r}")
        return self.root / kind / name[:2] / name

    def add(self, upload: Path, kind: ContentKind, name: str) -> None:
        """Rename a complete upload to its name, in one step, once its bytes are on the disk."""
        target = self.path(kind, name)
        with upload.open("rb") as stream:
            os.fsync(stream.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        upload.replace(target)
        for folder in (target.parent, target.parent.parent):  # their entries must survive a loss of power too
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def put(self, content: bytes) -> str:
        """Store bytes as a blob and return its name, their sha256."""
        name = hashlib.sha256(content).hexdigest()
        if not self.path("blobs", name).exists():
            with self.temporary_file() as upload:
                upload.write_bytes(content)
                self.add(upload, "blobs", name)
        return name


def read_range(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes `start` to `end` (exclusive) of a file, a megabyte at a time."""
    with path.open("rb") as stream:
        stream.seek(start)
        while start < end and (part := stream.read(min(STEP, end - start))):
            start += len(part)
            yield part


def git_oid(content: bytes) -> str:
    """The id that git gives a blob: clients compare it with their own file, to leave out what has not changed."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
