"""From an HTTP request to a plain function: the caller, the repo of the path, and bodies with limits.

A handler is an ordinary function of a `RequestContext`; it runs in a thread and may read and write files. Every body
is written to a file under tmp/ as it arrives, never more of it than the route allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from release.localhub.auth import Account
from release.localhub.errors import HubError
from release.localhub.history import Repo
from release.localhub.rights import check_contributor, check_download, check_repo_writer
from release.localhub.service import KINDS, Hub

MAX_BODY = 8 << 20
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

    @property
    def opens_pull(self) -> bool:
        """Whether the request is about a pull request that is still to be opened."""
        return self.query.get("create_pr", "0") not in ("0", "false")

    def repo(self) -> Repo:
        """The repo of the path, if the caller may read it.

        Raises:
            HubError: 307, the path has another case, or an id that the repo had before; else as `Hub.find`.
        """
        repo = self.hub.find(self.kind, self.repo_id, self.account)
        if repo.id != self.repo_id:
            raw = self.request.path_params
            path = self.request.scope["path"].replace(f"/{raw['ns']}/{raw['name']}", f"/{repo.id}", 1)
            query = self.request.url.query
            location = f"{path}?{query}" if query else path
            raise HubError(307, f"Temporary Redirect. Redirecting to {path}", headers={"Location": location})
        return repo

    def repo_to_download(self) -> Repo:
        """The repo of the path, if the caller may read the content of its files."""
        repo = self.repo()
        check_download(repo, self.account)
        return repo

    def repo_to_write(self) -> tuple[Repo, str]:
        """The repo of the path and the caller's name, if the caller may change it."""
        repo = self.repo()
        return repo, check_repo_writer(repo, self.account).name

    def repo_to_contribute(self, revision: str | None) -> tuple[Repo, str]:
        """The repo and the caller's name, if the caller may send files for `revision` or for a new pull request."""
        repo = self.repo()
        return repo, check_contributor(repo, self.account, None if self.opens_pull else revision).name

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
    parts = request.stream()
    with path.open("wb") as stream:
        while part := await _next_part(parts, request.app.state.stall_seconds):
            size += len(part)
            if size > limit:
                raise too_large
            stream.write(part)
            await asyncio.sleep(0)  # other requests are served while a large file streams in


async def _next_part(parts: AsyncGenerator[bytes], seconds: float) -> bytes:
    """The next bytes of a body; none at its end.

    Raises:
        HubError: 408, none came for `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            return await anext(parts, b"")
    except TimeoutError as error:
        raise HubError(408, f"The rest of the body did not come for {seconds:.0f} seconds") from error
