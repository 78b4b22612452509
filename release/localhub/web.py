"""From an HTTP request to a plain function and back: tokens, bodies with limits, ranges, errors.

A handler is an ordinary function of a `Call`; it runs in a thread and may read and write files. Every body goes to
a file under tmp/ as it comes, never more of it than the route allows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import anyio.to_thread
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from release.localhub.accounts import Account
    from release.localhub.history import Repo
    from release.localhub.hub import Hub

MAX_BODY = 8 << 20
MAX_ERRORS = 100  # of one body, that are told one by one
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
Body = TypeVar("Body", bound=BaseModel)


class HubError(HTTPException):
    """What the Hub answers when it says no.

    Args:
        status: The HTTP status.
        message: A sentence for people; it also travels in `X-Error-Message`.
        code: `X-Error-Code`, by which clients know the case: RepoNotFound, RevisionNotFound, EntryNotFound, or none.
        headers: More headers of the answer.
        extra: More fields for the JSON body, as `exist_ok` of the client wants them.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        told = {"X-Error-Message": re.sub(r"[^\x20-\x7e]", "?", message)[:1000]}
        told |= {"X-Error-Code": code} if code else {}
        super().__init__(status, message, told | (headers or {}))
        self.code, self.extra = code, extra


def bad(message: str) -> HubError:
    """400: the request is malformed."""
    return HubError(400, message)


def no_revision(revision: str) -> HubError:
    """404: the repo has no such branch, tag, pull request or commit."""
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def no_entry(path: str, commit: str | None = None) -> HubError:
    """404: the commit has no such file; its id travels along, because clients remember that the file is absent."""
    return HubError(404, f"Entry not found: {path}", "EntryNotFound", {"X-Repo-Commit": commit} if commit else None)


def error_response(_: Request, error: Exception) -> Response:
    """The answer to an error: of ours, of the router, or of a body or path that cannot be read."""
    if not isinstance(error, HTTPException):
        error = bad("; ".join(validation_messages(error)) or "The path is no UTF-8, or the body ended early")
    body = {"error": error.detail, **getattr(error, "extra", {})}
    return JSONResponse(body, error.status_code, error.headers)


def validation_messages(error: Exception) -> list[str]:
    """What pydantic found wrong, one line per place, without the values, which may be long or secret."""
    if not isinstance(error, ValidationError):
        return []
    if error.error_count() > MAX_ERRORS:  # a small body can hold millions
        return [f"more than {MAX_ERRORS} errors"]
    found = error.errors(include_url=False, include_input=False)
    return [f'"{_place(row["loc"])}": {row["msg"].removeprefix("Value error, ")}' for row in found]


def _place(parts: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "body"


@dataclass
class Call:
    """One request, as handlers see it; `upload` is the file that holds its body."""

    hub: Hub
    request: Request
    account: Account | None
    args: dict[str, str]
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
        repo = self.repo()
        return repo, self.hub.check_writer(repo.namespace, self.account).name

    def body(self, form: type[Body]) -> Body:
        """The JSON body as a `form`; pydantic's error becomes status 400."""
        return form.model_validate_json(self.upload.read_bytes() or b"{}")


def route(
    path: str,
    methods: str,
    handler: Callable[[Call], Any],
    *,
    limit: Callable[[Call], int] = lambda _: MAX_BODY,
    browser: bool = False,
    permit: bool = False,
) -> Route:
    """A route of the table: `{kind}` in `path` is models, datasets or spaces.

    Args:
        path: The raw path: `{x}` is one quoted segment, `{x:path}` the rest.
        methods: One or more, with spaces between them.
        handler: Returns a Response, or what becomes JSON.
        limit: The most bytes that may come; a route for large bodies checks here, before a byte is read, the right
            to send them.
        browser: A browser's sign-in counts (only for GET, so that no foreign page can change anything with it).
        permit: The handler looks for a permit itself; what stands where a token would is none.
    """

    async def endpoint(request: Request) -> Response:
        hub: Hub = request.app.state.hub
        reads = request.method in ("GET", "HEAD")
        account = hub.gate.account("" if permit else request.headers.get("authorization", ""), basic=browser and reads)
        args = {name: unquote(value, errors="strict") for name, value in request.path_params.items()}
        call = Call(hub, request, account, args)
        with hub.store.scratch() as call.upload:
            if not reads:
                await _receive(request, call.upload, limit(call))
            answer = await anyio.to_thread.run_sync(handler, call)
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
            await asyncio.sleep(0)  # let others have their turn while a large file streams in


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
