"""Handlers that change a repo's files: the preupload question and the commit."""

from __future__ import annotations

from typing import Annotated, Any

from pathspec import GitIgnoreSpec
from pydantic import BaseModel, Field

from release.localhub.errors import HubError, revision_not_found
from release.localhub.history import Files
from release.localhub.http import RequestContext
from release.localhub.operations import MAX_FILES, CommitHeader, RepoPath, apply, prepare, read_lines
from release.localhub.pulls import open_pull
from release.localhub.service import LARGE_SUFFIXES

MAX_REGULAR = 10 << 20
MAX_GITIGNORE = 1 << 16
MAX_COMMIT = 1 << 30


class PlannedFile(BaseModel):
    """A file that a client would send."""

    path: RepoPath
    size: int


class Preupload(BaseModel):
    """The files of a commit to come, and the .gitignore if it is among them."""

    files: Annotated[list[PlannedFile], Field(max_length=MAX_FILES)]
    gitIgnore: Annotated[str, Field(max_length=MAX_GITIGNORE)] | None = None


def preupload(context: RequestContext) -> dict[str, Any]:
    """Say for each file how to send it, whether it is ignored, and what the branch has under its name.

    A client does not send a file that the branch has, nor one that .gitignore names.
    """
    revision = context.path_params["rev"]
    (repo, _), body = context.repo_to_contribute(revision), context.json(Preupload)
    files = repo.resolve("main" if context.opens_pull else revision).files
    ignored = _ignored(context, files, body.gitIgnore)
    answer = []
    for path, size in ((row.path, row.size) for row in body.files):
        # An empty file cannot be sent as LFS.
        large = size > MAX_REGULAR or (size > 0 and path.rpartition(".")[2].lower() in LARGE_SUFFIXES)
        old = files.get(path)
        oid = {"oid": old.sha256 if large else old.oid} if old and old.lfs == large else {}
        mode = {"uploadMode": "lfs" if large else "regular", "shouldIgnore": ignored.match_file(path)}
        answer.append({"path": path} | mode | oid)
    return {"files": answer}


def _ignored(context: RequestContext, files: Files, sent: str | None) -> GitIgnoreSpec:
    """The patterns of the .gitignore that is sent, else of the branch's."""
    entry = files.get(".gitignore")
    text = context.hub.read_text(entry.sha256)[:MAX_GITIGNORE] if sent is None and entry else sent or ""
    return GitIgnoreSpec.from_lines(filter(_is_pattern, text.splitlines()))


def _is_pattern(line: str) -> bool:
    """Whether git would read the line; like git, the others are skipped."""
    try:
        return bool(GitIgnoreSpec.from_lines([line]))
    except ValueError:
        return False


def commit_limit(context: RequestContext) -> int:
    """The most bytes that a commit of the caller may have, if the caller may commit."""
    context.repo_to_contribute(context.path_params["rev"])
    return MAX_COMMIT


def commit(context: RequestContext) -> dict[str, Any]:
    """Make a commit, or a pull request with one.

    Raises:
        HubError: 412 the branch has moved on from the parent that the client names; 404 a pull request has no branch
            as its base; else as `prepare` and `apply`.
    """
    revision = context.path_params["rev"]
    repo, author = context.repo_to_contribute(revision)
    lines = read_lines(context.body_path)
    header = next(lines)
    assert isinstance(header, CommitHeader)
    # What takes long comes first and outside the transaction: bytes that nothing refers to change nothing.
    operations = [prepare(line, context.hub, repo) for line in lines]
    message = header.description or ""
    with repo.db.change():
        if context.opens_pull and revision not in repo.refs("heads"):
            raise revision_not_found(revision)
        parent, target = repo.resolve(revision), repo.writable_ref(revision)
        if header.parentCommit not in (None, "", parent.id):
            raise HubError(412, "The branch was updated since you opened this page. Please refresh and try again.")
        files = apply(parent.files, operations)
        if context.opens_pull:
            target = open_pull(repo, header.summary, message, author, target.removeprefix("refs/heads/")).ref
        added = repo.add_commit(target, (parent.id,), header.summary, message, author, files)
    url = f"{context.base_url}{repo.url_path}"
    answer = {"success": True, "commitOid": added.id, "commitUrl": f"{url}/commit/{added.id}"}
    if target.startswith("refs/pr/"):
        answer["pullRequestUrl"] = f"{url}/discussions/{target.removeprefix('refs/pr/')}"
    return answer
