"""Responses: errors, and the bytes of files with ranges."""

from __future__ import annotations

import mimetypes
import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from release.localhub.errors import HubError, bad_request, validation_messages
from release.localhub.http import RequestContext
from release.localhub.service import Content

# Files come from anybody: whatever a browser could run is sent as text or bytes, and into a sandbox.
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "image/avif")
FILE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
FILE_HEADERS |= {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}


def error_response(_: Request, error: Exception) -> Response:
    """The answer to an error: of the Hub, of the router, or of a body or path that cannot be read."""
    if isinstance(error, HTTPException):
        error = HubError(error.status_code, error.detail, headers=dict(error.headers or {}))
    if not isinstance(error, HubError):
        message = "; ".join(validation_messages(error)) or "The path is no UTF-8, or the body ended early"
        error = bad_request(message)
    return JSONResponse({"error": error.message, **error.extra}, error.status, error.headers)


def send_content(
    context: RequestContext, content: Content, path: str, headers: dict[str, str], *, text: bool = False
) -> Response:
    """A response with the content, or the part of it that the request's Range asks for.

    A browser gets images as themselves, what git would hold as `text` as plain text, all else as bytes.

    Raises:
        HubError: 416, the range begins after the end.
    """
    part = parse_range(context.request.headers.get("range", ""), content.size)
    start, end = part or (0, content.size)
    headers = headers | FILE_HEADERS | {"Accept-Ranges": "bytes", "Content-Length": str(end - start)}
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
    guess = mimetypes.guess_type(path)[0]
    other = "text/plain; charset=utf-8" if text else "application/octet-stream"
    status, media_type = (206 if part else 200), guess if guess in IMAGES else other
    if context.request.method == "HEAD":
        return Response(b"", status, headers, media_type)
    return StreamingResponse(content.read(start, end), status, headers, media_type)


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The bytes [start, end) that a Range header asks of a content of `size` bytes; None stands for all of it.

    Several ranges at once, other units and nonsense count as all, as RFC 9110 allows.

    Raises:
        HubError: 416, the range begins after the end.
    """
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", header.strip())
    if not match or not any(match.groups()):
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None
    if start >= end:
        raise HubError(416, "The range begins after the end", headers={"Content-Range": f"bytes */{size}"})
    return start, end
