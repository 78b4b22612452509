"""Handlers about what a repo holds at a revision, and about its branches, tags and commits."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.responses import JSONResponse, Response

from release.localhub.calls import Call
from release.localhub.errors import bad, no_entry
from release.localhub.history import Commit, Repo, changed_paths
from release.localhub.hub import Hub
from release.localhub.repos import lfs

PAGE = 1000  # rows of a listing before the client is sent to the next page


def tree(call: Call) -> Response:
    """The files and folders under a path, a page at a time."""
    repo = call.repo()
    commit, folder = repo.head(call.args["rev"]), call.args.get("path", "").strip("/")
    prefix = f"{folder}/" if folder else ""
    inside = [path for path in commit.files if path.startswith(prefix)]
    if folder and not inside:
        raise no_entry(folder, commit.id)
    names = {*inside, *(up for up in folders(inside) if up.startswith(prefix))}
    if call.query.get("recursive", "").lower() not in ("1", "true"):
        names = {name for name in names if "/" not in name[len(prefix) :]}
    try:
        start, limit = int(call.query.get("cursor", 0)), int(call.query.get("limit", PAGE))
    except ValueError as error:
        raise bad('"cursor" and "limit" must be numbers') from error
    stop = max(0, start) + max(1, min(PAGE, limit))
    rows = describe(call.hub, repo, commit, sorted(names)[max(0, start) : stop])
    if call.query.get("expand", "").lower() == "true":
        add_last_commits(repo, commit, rows)
    response = JSONResponse(rows, headers={"X-Repo-Commit": commit.id})
    if stop < len(names):
        query = urlencode(call.query | {"cursor": stop})
        response.headers["Link"] = f'<{call.base}{call.request.scope["path"]}?{query}>; rel="next"'
    return response


def paths_info(call: Call) -> list[dict[str, Any]]:
    """The given paths (a form), as `tree` describes them; paths that are not there are left out."""
    repo = call.repo()
    commit = repo.head(call.args["rev"])
    form = parse_qs(call.body.decode("utf-8", "replace"))
    known = {*commit.files, *folders(commit.files)}
    wanted = (path.strip("/") for path in form.get("paths", []))
    rows = describe(call.hub, repo, commit, [path for path in wanted if path in known])
    if form.get("expand", [""])[0].lower() == "true":
        add_last_commits(repo, commit, rows)
    return rows


def folders(paths: Any) -> set[str]:
    """Every folder that the paths lie in."""
    return {str(up) for path in paths for up in PurePosixPath(path).parents} - {"."}


def describe(hub: Hub, repo: Repo, commit: Commit, names: list[str]) -> list[dict[str, Any]]:
    """One row per file or folder."""
    rows = []
    for name in names:
        entry = commit.files.get(name)
        if entry is None:
            rows.append({"type": "directory", "path": name, "size": 0, "oid": commit.id})
            continue
        recipe = hub.xet.of_content(entry.sha256) if entry.lfs else None
        row = {"type": "file", "path": name, "size": entry.size, "oid": entry.oid} | lfs(entry)
        rows.append(row | ({"xetHash": recipe.hash} if recipe else {}))
    return rows


def add_last_commits(repo: Repo, commit: Commit, rows: list[dict[str, Any]]) -> None:
    """Add to each row the newest commit that touched it."""
    left = {row["path"]: row for row in rows}
    history = [*repo.log(commit.id)]
    for new, old in zip(history, [*history[1:], None], strict=True):
        last = {"id": new.id, "title": new.title, "date": new.date}
        for path in changed_paths(old.files if old else {}, new.files):
            for name in (path, *map(str, PurePosixPath(path).parents)):
                if row := left.pop(name, None):
                    row["lastCommit"] = last
        if not left:
            return


def refs(call: Call) -> dict[str, Any]:
    """Branches, tags and, if asked for, pull requests."""
    repo = call.repo()
    state = repo.state
    value: dict[str, Any] = {
        "converts": [],
        "branches": [_ref(name, f"refs/heads/{name}", head) for name, head in state["branches"].items()],
        "tags": [_ref(name, f"refs/tags/{name}", tag["commit"]) for name, tag in state["tags"].items()],
    }
    if "include_prs" in call.query:
        pulls = (pull for pull in state["pulls"] if pull["status"] in ("open", "draft"))
        value["pullRequests"] = [_ref(f"refs/pr/{p['num']}", f"refs/pr/{p['num']}", p["head"]) for p in pulls]
    return value


def _ref(name: str, ref: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": ref, "targetCommit": commit}


def commits(call: Call) -> list[dict[str, Any]]:
    """The history, newest first."""
    repo = call.repo()
    return [
        {"id": c.id, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
        for c in repo.log(call.args["rev"])
    ]


def branch(call: Call) -> dict[str, Any]:
    """Make or delete a branch."""
    repo, _ = call.repo_to_write()
    if call.request.method == "DELETE":
        repo.drop_reference("branches", call.args["rev"])
    else:
        start = call.json().get("startingPoint") or "main"
        repo.add_reference("branches", call.args["rev"], repo.head(str(start)).id)
    return {}


def tag(call: Call) -> dict[str, Any]:
    """Make a tag at a revision, or delete one."""
    repo, _ = call.repo_to_write()
    if call.request.method == "DELETE":
        repo.drop_reference("tags", call.args["rev"])
        return {}
    body = call.json()
    target = {"commit": repo.head(call.args["rev"]).id, "message": str(body.get("message") or "")}
    repo.add_reference("tags", str(body.get("tag")), target)
    return {}


def squash(call: Call) -> dict[str, Any]:
    """Replace a branch's history by one commit."""
    repo, author = call.repo_to_write()
    repo.squash(call.args["rev"], str(call.json().get("message") or "Super-squash"), author)
    return {}
