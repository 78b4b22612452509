"""What a commit request says (newline-delimited JSON) and what it does to the files of its parent."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from release.localhub.errors import HubError, bad_request, entry_not_found
from release.localhub.history import Entry, Files, Repo
from release.localhub.metadata import validate
from release.localhub.names import check_path
from release.localhub.service import Hub
from release.localhub.storage.blobs import git_oid

MAX_LINE = 16 << 20  # one regular file in base64; preupload sends everything above 10 MB to LFS
MAX_FILES = 256  # in one preupload or LFS batch
RepoPath = Annotated[str, AfterValidator(check_path)]
Summary = Annotated[str, Field(max_length=1000)]  # every listing shows it
Description = Annotated[str, Field(max_length=1 << 16)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CommitHeader(BaseModel):
    """The first line of a commit."""

    summary: Summary
    description: Description | None = ""
    parentCommit: str | None = None


class RegularFile(BaseModel):
    """A file whose content is in the line."""

    path: RepoPath
    content: str
    encoding: str = "utf-8"


class LfsFile(BaseModel):
    """A file that was uploaded before, through LFS or Xet."""

    path: RepoPath
    algo: Literal["sha256"] = "sha256"
    oid: Sha256
    size: int | None = None


class DeletedFile(BaseModel):
    """A file to be deleted, or a folder: a client that is not told which it is, sends this."""

    path: RepoPath


class DeletedFolder(BaseModel):
    """A folder to be deleted, with everything in it."""

    path: Annotated[str, AfterValidator(lambda path: check_path(path.rstrip("/")))]


FORMS = {
    "header": CommitHeader,
    "file": RegularFile,
    "lfsFile": LfsFile,
    "deletedFile": DeletedFile,
    "deletedFolder": DeletedFolder,
}


class CommitLine(BaseModel):
    """One line: what is to be done, and with what."""

    key: Literal["header", "file", "lfsFile", "deletedFile", "deletedFolder"]
    value: dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """One line of a commit, checked: add a file with its `entry`, or without one delete a file or a `folder`."""

    path: str
    entry: Entry | None = None
    folder: bool = False


def read_lines(path: Path) -> Iterator[BaseModel]:
    """The lines of an uploaded commit, one at a time, since it may be larger than the memory; a header comes first.

    Raises:
        ValidationError: A line is malformed.
        HubError: 413 one line is longer than 16 MB; 400 the header is missing or not alone.
    """
    first = True
    with path.open("rb") as stream:
        while text := stream.readline(MAX_LINE + 1):
            if len(text) > MAX_LINE:
                raise HubError(413, "A file of this size must be uploaded as LFS")
            if not text.strip():
                continue
            line = CommitLine.model_validate_json(text)
            if first != (line.key == "header"):
                raise bad_request("A commit must begin with its header, and has only one")
            first = False
            yield FORMS[line.key].model_validate(line.value)
    if first:
        raise bad_request("A commit must begin with its header")


def prepare(line: BaseModel, hub: Hub, repo: Repo) -> Operation:
    """What a line does; its bytes are stored, which changes nothing as long as no commit refers to them.

    Raises:
        HubError: 400, the content is no base64, was not uploaded, or is a card with invalid metadata.
    """
    if not isinstance(line, RegularFile | LfsFile):
        assert isinstance(line, DeletedFile | DeletedFolder)
        return Operation(line.path, folder=isinstance(line, DeletedFolder))
    entry = _regular(line, hub) if isinstance(line, RegularFile) else _large(line, hub, repo)
    errors = validate(hub.read_text(entry.sha256), repo.kind)[0] if line.path == "README.md" else []
    if errors:
        raise bad_request("Invalid metadata in README.md. " + " ".join(errors))
    return Operation(line.path, entry)


def _large(file: LfsFile, hub: Hub, repo: Repo) -> Entry:
    size = hub.uploaded_size(repo, file.oid)
    if size is None or file.size not in (None, size):
        raise bad_request(f"The LFS file {file.oid} has not been uploaded to this repo with this size")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.oid}\nsize {size}\n"
    return Entry(size, git_oid(pointer.encode()), file.oid, lfs=True)


def _regular(file: RegularFile, hub: Hub) -> Entry:
    try:
        content = file.content.encode()
        content = base64.b64decode(content, validate=True) if file.encoding == "base64" else content
    except ValueError as error:
        raise bad_request(f"The content of {file.path} is no base64") from error
    return Entry(len(content), git_oid(content), hub.store.put(content))


def apply(files: Files, operations: Iterable[Operation]) -> Files:
    """The files after the operations.

    Raises:
        HubError: 404, something is deleted that does not exist.
    """
    after = dict(files)
    for operation in operations:
        if operation.entry:
            after[operation.path] = operation.entry
            continue
        inside = [path for path in after if path.startswith(f"{operation.path}/")]
        deleted = [operation.path] if operation.path in after and not operation.folder else inside
        if not deleted:
            raise entry_not_found("A file with this name doesn't exist")
        for path in deleted:
            del after[path]
    return after
