"""Handlers about branches, tags and the history of a repo."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from release.localhub.http import RequestContext
from release.localhub.pulls import list_pulls


class RefRequest(BaseModel):
    """What a request about references may say."""

    startingPoint: str | None = None
    tag: str = ""
    message: str | None = None


def list_refs(context: RequestContext) -> dict[str, Any]:
    """Branches, tags and, if asked for, open pull requests."""
    repo = context.repo()

    def rows(group: str, prefix: str = "") -> list[dict[str, str]]:
        refs = repo.refs(group).items()
        return [{"name": prefix + name, "ref": f"refs/{group}/{name}", "targetCommit": commit} for name, commit in refs]

    value = {"converts": [], "branches": rows("heads"), "tags": rows("tags")}
    if "include_prs" in context.query:
        open_refs = {pull.ref for pull in list_pulls(repo) if pull.status == "open"}
        value["pullRequests"] = [row for row in rows("pr", "refs/pr/") if row["ref"] in open_refs]
    return value


def list_commits(context: RequestContext) -> list[dict[str, Any]]:
    """The history, newest first."""
    return [
        {"id": c.id, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
        for c in context.repo().log(context.path_params["rev"])
    ]


def change_branch(context: RequestContext) -> dict[str, Any]:
    """Make or delete a branch."""
    repo, _ = context.repo_to_write()
    name = context.path_params["rev"]
    if context.request.method == "DELETE":
        repo.delete_ref("heads", name)
    else:
        repo.add_ref("heads", name, repo.resolve(context.json(RefRequest).startingPoint or "main").id)
    return {}


def change_tag(context: RequestContext) -> dict[str, Any]:
    """Make a tag at a revision, or delete one."""
    repo, _ = context.repo_to_write()
    name_or_revision = context.path_params["rev"]
    if context.request.method == "DELETE":
        repo.delete_ref("tags", name_or_revision)
    else:
        repo.add_ref("tags", context.json(RefRequest).tag, repo.resolve(name_or_revision).id)
    return {}


def squash(context: RequestContext) -> dict[str, Any]:
    """Replace a branch's history by one commit."""
    repo, author = context.repo_to_write()
    repo.squash(context.path_params["rev"], context.json(RefRequest).message or "Super-squash", author)
    return {}
