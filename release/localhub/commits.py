"""What a commit request says (newline-delimited JSON) and what it does to the files of its parent."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from release.localhub.errors import HubError, bad, no_entry
from release.localhub.history import Entry, Files
from release.localhub.metadata import validate
from release.localhub.store import SHA256, git_oid

MAX_LINE = 64 << 20  # one regular file in base64; preupload sends everything above 10 MB to LFS
KEYS = {"header", "file", "lfsFile", "deletedFile", "deletedFolder"}


@dataclass(frozen=True)
class Header:
    """The first line of a commit."""

    title: str
    message: str
    parent: str | None


def parse_header(line: bytes) -> Header:
    """The header line.

    Raises:
        HubError: 400, it is malformed or no header.
    """
    key, value = parse_line(line)
    parent = value.get("parentCommit")
    if key != "header" or not isinstance(value.get("summary"), str) or not isinstance(parent, str | None):
        raise bad("The first line of a commit must be its header with a summary")
    return Header(value["summary"], str(value.get("description") or ""), parent)


def parse_line(line: bytes) -> tuple[str, dict[str, Any]]:
    """One line as its key and its value.

    Raises:
        HubError: 400, it is no JSON object of that form.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise bad("A line of the commit is no JSON") from error
    if not isinstance(row, dict) or row.get("key") not in KEYS or not isinstance(row.get("value"), dict):
        raise bad("A line of the commit must hold a known key and a value")
    return row["key"], row["value"]


def lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a request that are not empty, one at a time: a commit may be larger than the memory.

    Raises:
        HubError: 413, one line is longer than 64 MB.
    """
    while line := stream.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise HubError(413, "A file of this size must be uploaded as LFS")
        if line.strip():
            yield line


def check_path(path: object) -> str:
    """`path` if it can be a file of a repo.

    Raises:
        HubError: 400, it is absolute, leaves the repo, or holds what git or a file system would stumble over.
    """
    if not isinstance(path, str) or not 0 < len(path.encode("utf-8", "replace")) <= 1000:
        raise bad("A path must be a text of 1 to 1000 bytes")
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or "\\" in path:
        raise bad(f"Invalid path: {path[:200]!r}")
    if any(ord(letter) < 32 or ord(letter) == 127 or "\ud800" <= letter <= "\udfff" for letter in path):
        raise bad(f"Invalid path: {path[:200]!r}")
    return path


@dataclass(frozen=True)
class Operation:
    """One line of a commit, checked: `action` is add (with its `entry`), deletedFile or deletedFolder."""

    action: str
    path: str
    entry: Entry | None = None


def prepare(
    key: str, value: dict[str, Any], *, kind: str, put: Callable[[bytes], str], size_of: Callable[[str], int | None]
) -> Operation:
    """Check one line and store its bytes, which changes nothing as long as no commit refers to them.

    Args:
        key: What the line does.
        value: With what.
        kind: "model", "dataset" or "space", for the rules of its card.
        put: Stores bytes and gives their sha256.
        size_of: The size of an LFS file by its sha256 if this repo may use it, else None.

    Raises:
        HubError: 400, the line is malformed, its file was not uploaded, or it is a card with invalid metadata.
    """
    path = value.get("path")
    if key.startswith("deleted"):
        return Operation(key, check_path(path.rstrip("/") if isinstance(path, str) else path))
    if key == "lfsFile":
        return Operation("add", check_path(path), _large(value, size_of))
    if key == "file":
        return Operation("add", check_path(path), _regular(value, kind, put))
    raise bad("A commit has one header only")


def apply(files: Files, operations: Iterable[Operation]) -> Files:
    """The files after the operations.

    Raises:
        HubError: 404 something is deleted that is not there, 400 one path becomes both a file and a folder.
    """
    after, added = dict(files), set()
    for operation in operations:
        if operation.entry:
            after[operation.path] = operation.entry
            added.add(operation.path)
            continue
        prefix = operation.path + "/"
        gone = [path for path in after if operation.action == "deletedFolder" and path.startswith(prefix)]
        gone += [operation.path] if operation.action == "deletedFile" and operation.path in after else []
        if not gone:
            raise no_entry("A file with this name doesn't exist")
        for path in gone:
            del after[path]
    folders = {str(parent) for path in after for parent in PurePosixPath(path).parents}
    if clash := folders & after.keys():
        raise bad(f"{min(clash)} cannot be both a file and a folder")
    return after


def _regular(value: dict[str, Any], kind: str, put: Callable[[bytes], str]) -> Entry:
    try:
        text = value["content"].encode()
        content = base64.b64decode(text, validate=True) if value.get("encoding") == "base64" else text
    except (KeyError, AttributeError, ValueError) as error:
        raise bad("The content of a file is missing or no base64") from error
    if value["path"] == "README.md":
        errors, _ = validate(content.decode("utf-8", "replace"), kind)
        if errors:
            raise bad("Invalid metadata in README.md. " + " ".join(errors))
    return Entry(len(content), git_oid(content), put(content))


def _large(value: dict[str, Any], size_of: Callable[[str], int | None]) -> Entry:
    oid = value.get("oid")
    if value.get("algo", "sha256") != "sha256" or not isinstance(oid, str) or not SHA256.fullmatch(oid):
        raise bad("An LFS file needs a sha256")
    size = size_of(oid)
    if size is None:
        raise bad(f"The LFS file {oid} has not been uploaded to this repo")
    if value.get("size", size) != size:
        raise bad(f"The LFS file {oid} has {size} bytes")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
    return Entry(size, git_oid(pointer.encode()), oid, lfs=True)


def read_commit(path: Path) -> tuple[Header, Iterator[tuple[str, dict[str, Any]]]]:
    """The header and the operations of an uploaded commit request, read as they are asked for."""

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        with path.open("rb") as stream:
            for number, line in enumerate(lines(stream)):
                if number:
                    yield parse_line(line)

    with path.open("rb") as stream:
        return parse_header(next(lines(stream), b"")), rows()
