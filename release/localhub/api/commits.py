"""Handlers that change a repo's files: the preupload question and the commit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from release.localhub.errors import HubError
from release.localhub.http import RequestContext
from release.localhub.operations import MAX_FILES, CommitHeader, RepoPath, apply, prepare, read_lines
from release.localhub.pulls import open_pull
from release.localhub.service import LARGE_SUFFIXES

MAX_REGULAR = 10 << 20
MAX_COMMIT = 1 << 30


class PlannedFile(BaseModel):
    """A file that a client would send."""

    path: RepoPath
    size: int


class Preupload(BaseModel):
    """The files of a commit to come."""

    files: Annotated[list[PlannedFile], Field(max_length=MAX_FILES)]


def preupload(context: RequestContext) -> dict[str, Any]:
    """Say for each file how to send it, and what the branch has under its name, so that it need not be sent."""
    (repo, _), body = context.repo_to_write(), context.json(Preupload)
    files = repo.resolve("main" if "create_pr" in context.query else context.path_params["rev"]).files
    answer = []
    for path, size in ((row.path, row.size) for row in body.files):
        # An empty file cannot be sent as LFS.
        large = size > MAX_REGULAR or (size > 0 and path.rpartition(".")[2].lower() in LARGE_SUFFIXES)
        old = files.get(path)
        oid = {"oid": old.sha256 if large else old.oid} if old and old.lfs == large else {}
        answer.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False} | oid)
    return {"files": answer}


def commit_limit(context: RequestContext) -> int:
    """The most bytes that a commit of the caller may have, if the caller may commit."""
    context.repo_to_write()
    return MAX_COMMIT


def commit(context: RequestContext) -> dict[str, Any]:
    """Make a commit, or a pull request with one.

    Raises:
        HubError: 412 the branch has moved on from the parent that the client names; else as `prepare` and `apply`.
    """
    repo, author = context.repo_to_write()
    revision = context.path_params["rev"]
    lines = read_lines(context.body_path)
    header = next(lines)
    assert isinstance(header, CommitHeader)
    # What takes long comes first and outside the transaction: bytes that nothing refers to change nothing.
    operations = [prepare(line, context.hub, repo) for line in lines]
    message = header.description or ""
    with repo.db.change():
        parent, target = repo.resolve(revision), repo.writable_ref(revision)
        if header.parentCommit not in (None, "", parent.id):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = apply(parent.files, operations)
        if context.query.get("create_pr", "0") != "0":
            target = open_pull(repo, header.summary, message, author, target.removeprefix("refs/heads/")).ref
        added = repo.add_commit(target, (parent.id,), header.summary, message, author, files)
    url = f"{context.base_url}{repo.url_path}"
    answer = {"success": True, "commitOid": added.id, "commitUrl": f"{url}/commit/{added.id}"}
    if target.startswith("refs/pr/"):
        answer["pullRequestUrl"] = f"{url}/discussions/{target.removeprefix('refs/pr/')}"
    return answer
