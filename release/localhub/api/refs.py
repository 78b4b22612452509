"""Handlers about branches, tags and the history of a repo."""

from __future__ import annotations

from html import escape
from typing import Any

from pydantic import BaseModel

from release.localhub.history import Commit
from release.localhub.http import RequestContext
from release.localhub.operations import Summary
from release.localhub.pulls import list_pulls


class RefRequest(BaseModel):
    """What a request about references may say."""

    startingPoint: str | None = None
    tag: str = ""
    message: Summary | None = None


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
    """The history, newest first; with `expand[]=formatted` the texts also as HTML."""
    formatted = context.query.get("expand[]") == "formatted"
    return [_describe(commit, formatted=formatted) for commit in context.repo().log(context.path_params["rev"])]


def _describe(commit: Commit, *, formatted: bool) -> dict[str, Any]:
    value: dict[str, Any] = {"id": commit.id, "title": commit.title, "message": commit.message, "date": commit.date}
    value["authors"] = [{"user": commit.author}]
    html = {"formatted": {"title": escape(commit.title), "message": escape(commit.message)}}
    return value | (html if formatted else {})


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
