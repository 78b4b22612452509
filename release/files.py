"""Files and folders that are whole or absent: atomic writes, copies, content hashes, one lock per build folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from release.errors import ReleaseError, disk_is_full

FICLONE = 0x40049409  # ioctl_ficlone(2)
PACKAGE = Path(__file__).resolve().parent
RESOURCES = packed if (packed := PACKAGE.parent / "ettin_release_resources").is_dir() else PACKAGE.parent
"""Where cards/, datasets/ and recipes/ are: beside the package, in a folder of their own where a wheel was installed."""


def write_atomic(path: Path, data: bytes | str) -> Path:
    """Write `data` to `path` so that a reader, or a machine that loses power, sees all of it or none of it.

    Raises:
        ReleaseError: The disk is full or the folder cannot be written; nothing half written is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise OSError(errno.EINVAL, "it is no file, but a device or a pipe")  # which must not be replaced by one
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ReleaseError(
            f"cannot write ({error.strerror})", where=str(path), hint="free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def write_private(path: Path, text: str) -> Path:
    """`write_atomic` of a file that only its owner can read, from its first byte on."""
    before = os.umask(0o077)
    try:
        return write_atomic(path, text)
    finally:
        os.umask(before)


def write_json(path: Path, value: Any) -> Path:
    """`write_atomic` of `value` as indented JSON with sorted keys; NaN and infinity are refused (ValueError)."""
    return write_atomic(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits, read as a stream."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_yaml(path: Path) -> str | None:
    """The sha256 of what a YAML file says, whatever its comments, blanks and order of keys.

    None where it is no YAML, or where no package reads it yet: make asks before any is there.
    """
    try:
        import yaml
    except ImportError:
        return None
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def short_hash(text: str) -> str:
    """The first 12 digits of a text's sha256, for the names of files and folders."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sha256_folder(folder: Path, pattern: str = "**/*") -> str:
    """One sha256 over the names and contents of the files in `folder` that match, in the order of their names."""
    paths = [path for path in folder.glob(pattern) if path.is_file()]
    return sha256_hashes({path.relative_to(folder).as_posix(): sha256_file(path) for path in paths})


def sha256_hashes(hashes: dict[str, str]) -> str:
    """What `sha256_folder` gives for files of which the hashes (by relative name) are known already."""
    digest = hashlib.sha256()
    for name in sorted(hashes, key=PurePosixPath):
        digest.update(f"{name}\0{hashes[name]}\n".encode())
    return digest.hexdigest()


@contextmanager
def exclusive_lock(folder: Path) -> Generator[None]:
    """Hold `folder`'s lock: a second run over the same folder stops at once instead of mixing its files in.

    The lock belongs to the process, so it cannot outlive a crash.

    Raises:
        ReleaseError: Another process holds the lock.
    """
    from filelock import FileLock, Timeout  # late, because make imports this module before any package is there

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    try:
        lock = FileLock(path).acquire(timeout=0)
    except Timeout:
        raise ReleaseError(
            f"another run (process {path.read_text().strip() or 'unknown'}) is working there",
            where=str(folder),
            hint="wait for it to end, or stop it, and run again",
        ) from None
    with lock:
        path.write_text(str(os.getpid()))
        yield


@contextmanager
def atomic_directory(folder: Path) -> Generator[Path]:
    """A temporary sibling that becomes `folder` when the block ends well, and vanishes when it does not.

    Raises:
        ReleaseError: The disk is full or the folder cannot be written; an earlier `folder` stays as it was.
    """
    if any(part == ".." or part.startswith("~") for part in folder.parts):  # `..` of what is moved; pyarrow's own `~`
        folder = folder.parent.resolve() / folder.name
    temporary, earlier = (folder.with_name(f".{folder.name}.{name}") for name in ("tmp", "earlier.tmp"))
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    try:
        if folder.is_symlink() or folder.is_file():
            raise NotADirectoryError(errno.ENOTDIR, "it is a file or a link", str(folder))
        _bring_back(earlier, folder)
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.replace(earlier)
        temporary.replace(folder)
    except OSError as error:
        hint = "free some space" if disk_is_full(error) else "choose another folder, or look at its rights"
        raise ReleaseError(f"stopped: {error}", where=str(folder), hint=hint) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        _bring_back(earlier, folder)


def _bring_back(earlier: Path, folder: Path) -> None:
    """End what was stopped: `earlier` is `folder` again where nothing took its place, and is removed where something did."""
    if earlier.exists() and not folder.exists():
        earlier.replace(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def copy_file(source: Path, target: Path) -> None:
    """Let `target` be a file of its own with the content of `source`: shared blocks where the disk can, for gigabytes of weights.

    A reader sees all of it or none.

    Never a hard link: an edit in place would reach every folder at once, and a comparison of them would not see it.

    Raises:
        ReleaseError: `source` is a link, which could lead anywhere.
    """
    if source.is_symlink():
        raise ReleaseError("a link, where a file belongs", where=str(source), hint="put the file itself there")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            try:
                fcntl.ioctl(writer.fileno(), FICLONE, reader.fileno())
            except OSError:  # another disk, or one that cannot share blocks
                shutil.copyfileobj(reader, writer, 1 << 20)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable(folder: Path, marker: str) -> None:
    """Refuse to replace a folder that somebody named and that holds something else than what `marker` stands for.

    Raises:
        ReleaseError: It is a file, or a folder that is neither empty nor holds `marker`.
    """
    if folder.is_dir() and ((folder / marker).exists() or not any(folder.iterdir())):
        return
    if folder.exists():
        what = f"it exists, and holds no {marker}" if folder.is_dir() else "it is a file"
        raise ReleaseError(what, where=str(folder), hint="name another folder: what is in this one would be lost")


def list_files(folder: Path) -> list[str]:
    """The relative POSIX paths of all files in `folder`, links included, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def resource(path: str | Path) -> Path:
    """The file or folder `path` that is below the working directory, or else the project's own of that name."""
    own = RESOURCES / path
    return Path(path) if Path(path).exists() or not own.exists() else own
