"""Handlers about pull requests: what changes files. Comments and reviews are left to the real Hub."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from release.localhub.errors import HubError, bad_request
from release.localhub.history import Repo
from release.localhub.http import RequestContext
from release.localhub.operations import Description, Summary
from release.localhub.pulls import (
    PullRequest,
    get_pull,
    list_pulls,
    merge_pull,
    open_pull,
    pull_changes,
    set_pull_status,
)


class NewDiscussion(BaseModel):
    """A pull request to be opened."""

    title: Summary
    description: Description | None = ""
    pullRequest: bool = False


class NewStatus(BaseModel):
    """A pull request to be closed, or opened again."""

    status: Literal["open", "closed"]


def open_discussion(context: RequestContext) -> dict[str, Any]:
    """Open a pull request without any change yet."""
    (repo, author), body = context.repo_to_contribute(None), context.json(NewDiscussion)
    if not body.pullRequest:
        raise HubError(501, "This Hub has pull requests, but no discussions")
    if not body.title.strip():
        raise bad_request('"title" is required')
    pull = open_pull(repo, body.title, body.description or "", author)
    return {"num": pull.number, "url": f"{context.base_url}{repo.url_path}/discussions/{pull.number}"}


def list_discussions(context: RequestContext) -> dict[str, Any]:
    """The pull requests of an author and a status, all on one page; a merged one counts as closed."""
    repo, query = context.repo(), context.query
    author, status = query.get("author"), query.get("status", "all")
    pulls = [pull for pull in list_pulls(repo) if author in (None, pull.author)]
    if status != "all":
        pulls = [pull for pull in pulls if (pull.status == "open") == (status == "open")]
    if query.get("type") == "discussion":
        pulls = []
    page = pulls if query.get("p", "0") == "0" else []
    return {"discussions": [_describe(repo, pull) for pull in page], "count": len(pulls), "start": 0}


def get_discussion(context: RequestContext) -> dict[str, Any]:
    """A pull request with what it changes and what conflicts with it."""
    repo = context.repo()
    pull = get_pull(repo, _number(context))
    changed, conflicts = pull_changes(repo, pull)
    before = repo.commit(pull.start).files
    signs = {path: "-" if new is None else "~" if path in before else "+" for path, new in changed.items()}
    merged = {"mergeCommitId": pull.merged} if pull.merged else {}
    value = _describe(repo, pull) | {"changes": {"base": f"refs/heads/{pull.base}"} | merged}
    value["diff"] = "".join(f"{sign} {path}\n" for path, sign in signs.items())
    return value | {"filesWithConflicts": [] if merged else conflicts, "events": []}


def merge(context: RequestContext) -> dict[str, Any]:
    """Merge a pull request into its base."""
    repo, author = context.repo_to_write()
    merge_pull(repo, _number(context), author)
    return {}


def change_status(context: RequestContext) -> dict[str, Any]:
    """Close a pull request, or open it again; its author may close it."""
    number, body = _number(context), context.json(NewStatus)
    repo, _ = context.repo_to_contribute(f"refs/pr/{number}")
    pull = _describe(repo, set_pull_status(repo, number, body.status))
    event = {"id": "0", "type": "status-change", "data": {"status": body.status}}
    return {"newStatus": event | {"author": pull["author"], "createdAt": pull["createdAt"]}}


def _number(context: RequestContext) -> int:
    """The number in the path; 0, which no pull request has, where it is none."""
    text = context.path_params["number"]
    return int(text) if text.isdecimal() and len(text) < 9 else 0


def _describe(repo: Repo, pull: PullRequest) -> dict[str, Any]:
    return {
        "num": pull.number,
        "title": pull.title,
        "status": pull.status,
        "isPullRequest": True,
        "repo": {"name": repo.id, "type": repo.kind},
        "createdAt": pull.created,
        "author": {"name": pull.author},
    }
