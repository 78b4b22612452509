"""Handlers that hand out the bytes of files, in whole or in part."""

from __future__ import annotations

import mimetypes

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from release.localhub.calls import Call, parse_range
from release.localhub.errors import no_entry
from release.localhub.hub import Content

# Files come from anybody: whatever a browser could run is sent as text or bytes, and into a sandbox.
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "image/avif")
LOCKED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
LOCKED |= {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
TEXTS = (
    "json",
    "jsonl",
    "md",
    "txt",
    "yaml",
    "yml",
    "toml",
    "py",
    "csv",
    "tsv",
    "cff",
    "bib",
    "gitattributes",
    "j2",
    "html",
    "js",
    "xml",
)


def resolve(call: Call) -> Response:
    """A file at a revision."""
    repo = call.repo()
    commit, path = repo.head(call.args["rev"]), call.args["path"]
    entry = commit.files.get(path)
    content = call.hub.content(entry.sha256) if entry else None
    if entry is None or content is None:
        raise no_entry(path, commit.id)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.sha256 if entry.lfs else entry.oid}"'}
    if entry.lfs:
        headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        if content.recipe:
            route = f"{call.base}/api/{repo.kind}s/{repo.id}/xet-read-token/{commit.id}"
            headers |= {"X-Xet-Hash": content.recipe.hash, "X-Xet-Refresh-Route": route}
            headers["Link"] = f'<{route}>; rel="xet-auth"'
    return send(call.request, content, path, headers)


def blob(call: Call) -> Response:
    """The page of one file on the Hub; here the file itself."""
    return RedirectResponse(call.request.scope["path"].replace("/blob/", "/resolve/", 1))


def send(request: Request, content: Content, path: str, headers: dict[str, str]) -> Response:
    """A response with the content, or the part of it that the request's Range asks for.

    Raises:
        HubError: 416, the range lies behind the end.
    """
    part = parse_range(request.headers.get("range", ""), content.size)
    low, high = part or (0, content.size)
    headers = headers | LOCKED | {"Accept-Ranges": "bytes", "Content-Length": str(high - low)}
    if part:
        headers["Content-Range"] = f"bytes {low}-{high - 1}/{content.size}"
    status, kind = (206 if part else 200), media_type(path)
    if request.method == "HEAD":
        return Response(b"", status, headers, kind)
    return StreamingResponse(content.read(low, high), status, headers, kind)


def media_type(path: str) -> str:
    """As what a browser gets a file: images as themselves, known texts as plain text, all else as bytes."""
    guess = mimetypes.guess_type(path)[0]
    if guess in IMAGES:
        return guess
    text = path.rpartition(".")[2].lower() in TEXTS
    return "text/plain; charset=utf-8" if text else "application/octet-stream"
