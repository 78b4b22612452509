"""Handlers about pull requests: open, describe, list and merge. Talk (comments, reviews) is left to the real Hub."""

from __future__ import annotations

from typing import Any

from release.localhub.calls import Call
from release.localhub.errors import HubError, bad
from release.localhub.history import Repo, changed_paths


def open_pull(call: Call) -> dict[str, Any]:
    """Open a pull request without any change yet."""
    repo, author = call.repo_to_write()
    body = call.json()
    if not isinstance(body.get("title"), str) or not body["title"].strip():
        raise bad('"title" is required')
    if not body.get("pullRequest"):
        raise HubError(501, "This Hub has pull requests, but no discussions")
    pull = repo.open_pull(body["title"], str(body.get("description") or ""), author)
    return {"num": pull["num"], "url": f"{call.base}{repo.url_path}/discussions/{pull['num']}"}


def list_pulls(call: Call) -> dict[str, Any]:
    """Every pull request, on one page."""
    repo = call.repo()
    found = [] if call.query.get("p", "0") != "0" else [_brief(repo, pull) for pull in repo.state["pulls"][::-1]]
    return {"discussions": found, "count": len(repo.state["pulls"]), "start": 0}


def one_pull(call: Call) -> dict[str, Any]:
    """A pull request with what it changes and what stands in its way."""
    repo = call.repo()
    pull = repo.pull(_number(call))
    base = repo.state["branches"].get(pull["base"], pull["start"])
    files = [repo.commit(commit).files for commit in (pull["start"], pull["head"], base)]
    start, theirs, ours = files
    changed = changed_paths(start, theirs)
    clashes = [path for path in changed if ours.get(path) not in (start.get(path), theirs.get(path))]
    changes = {"base": f"refs/heads/{pull['base']}"} | ({"mergeCommitId": pull["merge"]} if "merge" in pull else {})
    marks = {(True, False): "-", (False, True): "+", (True, True): "~"}
    diff = "".join(f"{marks[path in start, path in theirs]} {path}\n" for path in changed)
    value = _brief(repo, pull) | {"changes": changes, "diff": diff, "events": _events(repo, pull)}
    return value | {"filesWithConflicts": [] if pull["status"] == "merged" else clashes}


def merge(call: Call) -> dict[str, Any]:
    """Bring a pull request onto its base."""
    repo, author = call.repo_to_write()
    repo.merge_pull(_number(call), author)
    return {}


def change_status(call: Call) -> dict[str, Any]:
    """Close a pull request, or open it again."""
    repo, _ = call.repo_to_write()
    status = call.json().get("status")
    if status not in ("open", "closed"):
        raise bad('"status" must be "open" or "closed"')
    with repo.change() as draft:
        number = _number(call)
        if repo.pull(number)["status"] == "merged":
            raise HubError(409, "The pull request is merged")
        draft["pulls"][number - 1]["status"] = status
    return {"newStatus": {"id": "0", "type": "status-change", **_stamp(repo.pull(number)), "data": {"status": status}}}


def _brief(repo: Repo, pull: dict[str, Any]) -> dict[str, Any]:
    where = {"repo": {"name": repo.id, "type": repo.kind}, "isPullRequest": True, **_stamp(pull)}
    return {"num": pull["num"], "title": pull["title"], "status": pull["status"]} | where


def _events(repo: Repo, pull: dict[str, Any]) -> list[dict[str, Any]]:
    text = {"edited": False, "hidden": False, "latest": {"raw": pull["description"]}}
    events = [{"id": "0", "type": "comment", **_stamp(pull), "data": text}]
    for commit in repo.log(pull["head"]):
        if commit.id == pull["start"]:
            break
        said = {"subject": commit.title, "oid": commit.id}
        author = {"author": {"name": commit.author}, "createdAt": commit.date}
        events.insert(1, {"id": commit.id, "type": "commit", **author, "data": said})
    return events


def _stamp(pull: dict[str, Any]) -> dict[str, Any]:
    return {"author": {"name": pull["author"]}, "createdAt": pull["created"]}


def _number(call: Call) -> int:
    text = call.args["number"]
    return int(text) if text.isdecimal() and len(text) < 9 else 0
