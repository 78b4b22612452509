"""From an HTTP request to a plain function and back: tokens, bodies with limits, ranges, errors.

A handler is an ordinary function of a `Call`; it runs in a thread and may read and write files. What arrives
is bounded: small bodies are kept in memory, large ones go to the disk as they come.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from release.localhub.accounts import Account
from release.localhub.errors import HubError, bad
from release.localhub.history import KINDS, Repo
from release.localhub.hub import Hub

MAX_BODY = 8 << 20
Handler = Callable[["Call"], Any]


@dataclass
class Call:
    """One request, as handlers see it."""

    hub: Hub
    request: Request
    account: Account | None
    args: dict[str, str]
    body: bytes = b""
    upload: Path = field(default_factory=Path)

    @property
    def base(self) -> str:
        """The address under which the client reached the Hub, without a final slash."""
        return str(self.request.base_url).rstrip("/")

    @property
    def query(self) -> dict[str, str]:
        """The query; of a name that is repeated, the last value."""
        return dict(self.request.query_params)

    @property
    def kind(self) -> str:
        """model, dataset or space, from the path."""
        return KINDS[self.args.get("kind", "models")]

    @property
    def repo_id(self) -> str:
        """`namespace/name`, from the path."""
        return f"{self.args['ns']}/{self.args['name']}"

    def repo(self) -> Repo:
        """The repo of the path, if the caller may read it."""
        return self.hub.find(self.kind, self.repo_id, self.account)

    def repo_to_write(self) -> tuple[Repo, str]:
        """The repo of the path and the caller's name, if the caller may change it."""
        repo = self.hub.find_to_write(self.kind, self.repo_id, self.account)
        return repo, self.account.name if self.account else ""

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            HubError: 400, it is none.
        """
        try:
            value = json.loads(self.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise bad("The body is no JSON") from error
        if not isinstance(value, dict):
            raise bad("The body must be a JSON object")
        return value


def route(
    path: str,
    methods: str,
    handler: Handler,
    *,
    upload: Callable[[Call], int] | None = None,
    browser: bool = False,
    permit: bool = False,
) -> Route:
    """A route of the table: `{kind}` in `path` is models, datasets or spaces.

    Args:
        path: The raw path: `{x}` is one quoted segment, `{x:path}` the rest.
        methods: One or more, with spaces between them.
        handler: Returns a Response, or what becomes JSON.
        upload: The body goes to a file: checks the right to send it before a byte is read, and gives the most bytes
            that may come.
        browser: A browser's sign-in counts (only for GET, so that no foreign page can change anything with it).
        permit: The handler looks for a permit itself; what stands where a token would is none.
    """

    async def endpoint(request: Request) -> Response:
        hub: Hub = request.app.state.hub
        async with AsyncExitStack() as stack:
            try:
                readable = browser and request.method in ("GET", "HEAD")
                sent = "" if permit else request.headers.get("authorization", "")
                account = hub.gate.account(sent, basic=readable)
                args = {name: unquote(value, errors="strict") for name, value in request.path_params.items()}
                call = Call(hub, request, account, args)
                if upload:
                    limit = upload(call)
                    call.upload = stack.enter_context(hub.store.scratch())
                    await _spool(request, call.upload, limit)
                elif request.method not in ("GET", "HEAD"):
                    call.body = await _collect(request)
                answer = await anyio.to_thread.run_sync(handler, call)
            except UnicodeDecodeError:
                return error_response(bad("The path is no UTF-8"))
            except ClientDisconnect:
                return Response(status_code=400)
            except HubError as error:
                return error_response(error)
            return answer if isinstance(answer, Response) else JSONResponse(answer)

    return Route(path.replace("{kind}", "{kind:kind}"), endpoint, methods=methods.split())


def error_response(error: HubError) -> Response:
    """The answer to an error, in the body and in the headers by which clients tell the cases apart."""
    headers = {"X-Error-Message": re.sub(r"[^\x20-\x7e]", "?", error.message)[:1000], **error.headers}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message, **error.extra}, error.status, headers)


async def _spool(request: Request, path: Path, limit: int) -> None:
    _check_length(request, limit)
    size = 0
    with path.open("wb") as stream:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise HubError(413, f"The body is larger than {limit} bytes")
            stream.write(part)
            await asyncio.sleep(0)  # let others have their turn while a large file streams in


async def _collect(request: Request) -> bytes:
    _check_length(request, MAX_BODY)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise HubError(413, f"The body is larger than {MAX_BODY} bytes")
    return bytes(body)


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > limit:
        raise HubError(413, f"The body is larger than {limit} bytes")


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The bytes [low, high) that a Range header asks of a content of `size` bytes; None stands for all of it.

    Several ranges at once, other units and nonsense count as all, as RFC 9110 allows.

    Raises:
        HubError: 416, the range lies behind the end.
    """
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", header.strip())
    if not match or not any(match.groups()):
        return None
    if not match[1]:
        low, high = max(0, size - int(match[2])), size
    else:
        low, high = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < low:
            return None
    if low >= high:
        raise HubError(416, "The range lies behind the end", headers={"Content-Range": f"bytes */{size}"})
    return low, high
