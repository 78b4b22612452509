"""From an HTTP request to a plain function and back: tokens, bodies with limits, ranges, responses.

A handler is an ordinary function of a `RequestContext`; it runs in a thread and may read and write files. Every body
is written to a file under tmp/ as it arrives, never more of it than the route allows.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from release.localhub.auth import Account
from release.localhub.errors import HubError, bad_request, validation_messages
from release.localhub.history import Repo
from release.localhub.service import KINDS, Content, Hub

MAX_BODY = 8 << 20
# Files come from anybody: whatever a browser could run is sent as text or bytes, and into a sandbox.
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "image/avif")
FILE_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
FILE_HEADERS |= {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
Form = TypeVar("Form", bound=BaseModel)


@dataclass
class RequestContext:
    """One request, as handlers see it; `body_path` is the file that holds its body."""

    hub: Hub
    request: Request
    account: Account | None
    path_params: dict[str, str]
    body_path: Path = field(default_factory=Path)

    @property
    def base_url(self) -> str:
        """The address under which the client reached the Hub, without a final slash."""
        return str(self.request.base_url).rstrip("/")

    @property
    def query(self) -> dict[str, str]:
        """The query; of a name that is repeated, the last value."""
        return dict(self.request.query_params)

    @property
    def kind(self) -> str:
        """model, dataset or space, from the path."""
        return KINDS[self.path_params.get("kind", "models")]

    @property
    def repo_id(self) -> str:
        """`namespace/name`, from the path."""
        return f"{self.path_params['ns']}/{self.path_params['name']}"

    def repo(self) -> Repo:
        """The repo of the path, if the caller may read it."""
        return self.hub.find(self.kind, self.repo_id, self.account)

    def repo_to_write(self) -> tuple[Repo, str]:
        """The repo of the path and the caller's name, if the caller may change it."""
        repo = self.repo()
        return repo, self.hub.check_writer(repo.namespace, self.account).name

    def json(self, form: type[Form]) -> Form:
        """The JSON body as a `form`; pydantic's error becomes status 400."""
        return form.model_validate_json(self.body_path.read_bytes() or b"{}")


def route(
    path: str,
    methods: str,
    handler: Callable[[RequestContext], Any],
    *,
    limit: Callable[[RequestContext], int] = lambda _: MAX_BODY,
    browser: bool = False,
    signed: bool = False,
) -> Route:
    """A route of the table: `{kind}` in `path` is models, datasets or spaces.

    Args:
        path: The raw path: `{x}` is one quoted segment, `{x:path}` the rest.
        methods: One or more, with spaces between them.
        handler: Returns a Response, or what becomes JSON.
        limit: The most bytes that the body may have; a route for large bodies checks here, before a byte is read,
            the right to send them.
        browser: A browser's sign-in counts (only for GET, so that no foreign page can change anything with it).
        signed: The handler verifies a signature itself; an `Authorization` header holds no account's token.
    """

    async def endpoint(request: Request) -> Response:
        hub: Hub = request.app.state.hub
        reads = request.method in ("GET", "HEAD")
        header = "" if signed else request.headers.get("authorization", "")
        account = hub.auth.account(header, basic=browser and reads)
        params = {name: unquote(value, errors="strict") for name, value in request.path_params.items()}
        context = RequestContext(hub, request, account, params)
        with hub.store.temporary_file() as context.body_path:
            if not reads:
                await _receive(request, context.body_path, limit(context))
            answer = await run_in_threadpool(handler, context)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return Route(path.replace("{kind}", "{kind:kind}"), endpoint, methods=methods.split())


async def _receive(request: Request, path: Path, limit: int) -> None:
    length, size = request.headers.get("content-length", "0"), 0
    too_large = HubError(413, f"The body is larger than {limit} bytes")
    if not length.isdigit() or int(length) > limit:
        raise too_large
    with path.open("wb") as stream:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_large
            stream.write(part)
            await asyncio.sleep(0)  # other requests are served while a large file streams in


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
        HubError: 416, the range begins behind the end.
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
        HubError: 416, the range begins behind the end.
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
        raise HubError(416, "The range begins behind the end", headers={"Content-Range": f"bytes */{size}"})
    return start, end


class RawPath:
    """ASGI middleware that lets routes see paths as they were sent: a quoted slash in a branch's name is no slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            scope["path"] = scope["raw_path"].decode("ascii", "replace")
        await self._app(scope, receive, send)
