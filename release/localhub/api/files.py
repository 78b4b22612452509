"""Handlers that show a repo's files at a revision: tree, paths, and the bytes themselves."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, RedirectResponse, Response

from release.localhub.api.listing import lfs_fields
from release.localhub.errors import entry_not_found
from release.localhub.history import Commit, Repo, changed_paths
from release.localhub.http import RequestContext
from release.localhub.responses import send_content
from release.localhub.service import Hub


def tree(context: RequestContext) -> Response:
    """The files and folders under a path."""
    repo = context.repo()
    commit, folder = repo.resolve(context.path_params["rev"]), context.path_params.get("path", "").strip("/")
    prefix = f"{folder}/" if folder else ""
    inside = {name for name in [*commit.files, *_folders(commit)] if name.startswith(prefix)}
    if folder and not inside:
        raise entry_not_found(folder, commit.id)
    if context.query.get("recursive", "").lower() not in ("1", "true"):
        inside = {name for name in inside if "/" not in name[len(prefix) :]}
    expand = context.query.get("expand", "").lower() == "true"
    rows = _describe(context.hub, repo, commit, sorted(inside), expand=expand)
    return JSONResponse(rows, headers={"X-Repo-Commit": commit.id})


def paths_info(context: RequestContext) -> list[dict[str, Any]]:
    """The given paths (a form), as `tree` describes them; paths that do not exist are left out."""
    repo, form = context.repo(), parse_qs(context.body_path.read_bytes().decode("utf-8", "replace"))
    commit = repo.resolve(context.path_params["rev"])
    known = {*commit.files, *_folders(commit)}
    paths = [path for path in (path.strip("/") for path in form.get("paths", [])) if path in known]
    return _describe(context.hub, repo, commit, paths, expand=form.get("expand", [""])[0].lower() == "true")


def resolve(context: RequestContext) -> Response:
    """A file at a revision."""
    repo = context.repo_to_download()
    commit, path = repo.resolve(context.path_params["rev"]), context.path_params["path"]
    entry = commit.files.get(path)
    content = context.hub.content(entry.sha256) if entry else None
    if entry is None or content is None:
        raise entry_not_found(path, commit.id)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.sha256 if entry.lfs else entry.oid}"'}
    if entry.lfs:
        headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        if content.xet_file:
            url = f"{context.base_url}/api/{repo.kind}s/{repo.id}/xet-read-token/{commit.id}"
            headers |= {"X-Xet-Hash": content.xet_file.hash, "X-Xet-Refresh-Route": url}
            headers["Link"] = f'<{url}>; rel="xet-auth"'
    return send_content(context, content, path, headers, text=not entry.lfs)


def blob(context: RequestContext) -> Response:
    """The page of one file on the Hub; here the file itself."""
    return RedirectResponse(context.request.scope["path"].replace("/blob/", "/resolve/", 1))


def _folders(commit: Commit) -> set[str]:
    return {str(parent) for path in commit.files for parent in PurePosixPath(path).parents} - {"."}


def _describe(hub: Hub, repo: Repo, commit: Commit, paths: list[str], *, expand: bool) -> list[dict[str, Any]]:
    """One row per file or folder; with `expand` also the newest commit that changed it."""
    rows: dict[str, dict[str, Any]] = {}
    for path in paths:
        entry = commit.files.get(path)
        rows[path] = {"type": "directory", "path": path, "size": 0, "oid": commit.id}
        if entry:
            xet_file = hub.xet.find(sha256=entry.sha256) if entry.lfs else None
            rows[path] = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid, **lfs_fields(entry)}
            rows[path] |= {"xetHash": xet_file.hash} if xet_file else {}
    if expand:
        _add_last_commits(repo, commit, rows)
    return list(rows.values())


def _add_last_commits(repo: Repo, commit: Commit, rows: dict[str, dict[str, Any]]) -> None:
    """Add to each row the newest commit that changed it."""
    history, left = [*repo.log(commit.id)], set(rows)
    for new, old in zip(history, [*history[1:], None], strict=True):
        for path in changed_paths(old.files if old else {}, new.files):
            for name in left & {path, *map(str, PurePosixPath(path).parents)}:
                rows[name]["lastCommit"] = {"id": new.id, "title": new.title, "date": new.date}
                left.remove(name)
