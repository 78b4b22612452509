"""Files that are whole or absent: atomic writes, content hashes, and one lock per build folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from release.errors import ReleaseError


def write_atomic(path: Path, data: bytes | str) -> Path:
    """Write `data` to `path` so that a reader, or a machine that loses power, sees all of it or none of it.

    Raises:
        ReleaseError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ReleaseError(
            f"cannot write ({error.strerror})", where=str(path), mend="free some space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> Path:
    """`write_atomic` of `value` as indented JSON with sorted keys; NaN and infinity are refused (ValueError)."""
    return write_atomic(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits, read as a stream."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_folder(folder: Path, pattern: str = "**/*") -> str:
    """One sha256 over the names and contents of the files in `folder` that match, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


@contextmanager
def only_one(folder: Path) -> Generator[None]:
    """Hold `folder`'s lock: a second run over the same folder stops at once instead of mixing its files in.

    The lock belongs to the process, so it cannot outlive a crash.

    Raises:
        ReleaseError: Another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise ReleaseError(
                f"another run (process {stream.read().strip() or 'unknown'}) is working there",
                where=str(folder),
                mend="wait for it to end, or stop it, and run again",
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
