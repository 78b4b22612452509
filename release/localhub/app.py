"""The table of routes, and the app around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from release.localhub import collections, pages, repos, transfer
from release.localhub.accounts import Account
from release.localhub.faults import Faults
from release.localhub.hub import Hub
from release.localhub.web import KINDS, error_response, route
from release.localhub.xet import MAX_SHARD, MAX_XORB

THREADS = 12  # requests that are worked on at the same time; each may hold a few megabytes
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
EXPECTED = (HTTPException, ValidationError, UnicodeDecodeError, ClientDisconnect)


class Kind(StringConvertor):
    """The three kinds of repos, in paths."""

    regex = "|".join(KINDS)


register_url_convertor("kind", Kind())
API, BUCKET, CAS = "/api/{kind}/{ns}/{name}", "/api/buckets/{ns}/{name}", "/xet/{store}"
ROUTES = [
    route("/api/whoami-v2", "GET", repos.whoami),
    route("/api/repos/create", "POST", repos.create_repo),
    route("/api/repos/delete", "DELETE", repos.delete_repo),
    route("/api/validate-yaml", "POST", repos.validate_yaml),
    route("/api/agent-harnesses", "GET", lambda _: {"standardEnvVars": [], "harnesses": {}}),
    route("/api/{kind}", "GET", repos.list_repos),
    route(API, "GET", repos.repo_info),
    route(API + "/revision/{rev}", "GET", repos.repo_info),
    route(API + "/auth-check", "GET", lambda call: {"id": call.repo().id}),
    route(API + "/settings", "PUT", repos.settings),
    route(API + "/tree/{rev}", "GET", repos.tree),
    route(API + "/tree/{rev}/{path:path}", "GET", repos.tree),
    route(API + "/paths-info/{rev}", "POST", repos.paths_info),
    route(API + "/refs", "GET", repos.refs),
    route(API + "/commits/{rev}", "GET", repos.commits),
    route(API + "/branch/{rev}", "POST DELETE", repos.branch),
    route(API + "/tag/{rev}", "POST DELETE", repos.tag),
    route(API + "/super-squash/{rev}", "POST", repos.squash),
    route(API + "/discussions", "GET", repos.list_pulls),
    route(API + "/discussions", "POST", repos.open_pull),
    route(API + "/discussions/{number}", "GET", repos.one_pull),
    route(API + "/discussions/{number}/merge", "POST", repos.merge),
    route(API + "/discussions/{number}/status", "POST", repos.change_status),
    route(API + "/preupload/{rev}", "POST", transfer.preupload),
    route(API + "/commit/{rev}", "POST", transfer.commit, limit=transfer.may_commit),
    route("/{kind}/{ns}/{name}.git/info/lfs/objects/batch", "POST", transfer.lfs_batch),
    route("/{ns}/{name}.git/info/lfs/objects/batch", "POST", transfer.lfs_batch),
    route(API + "/lfs/verify", "POST", transfer.lfs_verify),
    route("/lfs/{oid}", "PUT", transfer.lfs_put, limit=transfer.may_put, permit=True),
    route(API + "/xet-write-token/{rev}", "GET", transfer.xet_write_token),
    route(API + "/xet-read-token/{rev}", "GET", transfer.xet_read_token),
    route(CAS + "/v1/xorbs/default/{hash}", "POST", transfer.xorb, limit=transfer.may_send(MAX_XORB), permit=True),
    route(CAS + "/v1/shards", "POST", transfer.shard, limit=transfer.may_send(MAX_SHARD), permit=True),
    route(CAS + "/v2/reconstructions/{hash}", "GET", transfer.reconstruction, permit=True),
    route(CAS + "/xorbs/{hash}", "GET", transfer.fetch, permit=True),
    route(CAS + "/v1/telemetry", "POST", lambda _: {}, permit=True),
    route(CAS + "/{rest:path}", "GET POST", transfer.unknown, permit=True),
    route("/api/collections", "GET", collections.some),
    route("/api/collections", "POST", collections.create),
    route("/api/collections/{ns}/{slug}", "GET PATCH DELETE", collections.one),
    route("/api/collections/{ns}/{slug}/items", "POST", collections.add_item),
    route("/api/collections/{ns}/{slug}/items/{item}", "PATCH DELETE", collections.item),
    route(BUCKET + "/paths-info", "POST", transfer.bucket_paths),
    route(BUCKET + "/tree", "GET", transfer.bucket_tree),
    route(BUCKET + "/tree/{path:path}", "GET", transfer.bucket_tree),
    route(BUCKET + "/xet-read-token", "GET", transfer.bucket_token),
    route("/buckets/{ns}/{name}/resolve/{path:path}", "GET", transfer.bucket_resolve),
    route("/api/{rest:path}", "GET POST PUT PATCH DELETE", transfer.unknown),
    route("/static/page.css", "GET", pages.style),
    route("/", "GET", pages.home, browser=True),
    route("/collections/{ns}/{slug}", "GET", pages.collection_page, browser=True),
    *(
        route(prefix + "/{ns}/{name}" + rest, "GET", handler, browser=True)
        for prefix in ("/{kind}", "")
        for rest, handler in (
            ("", pages.repo_page),
            ("/resolve/{rev}/{path:path}", transfer.resolve),
            ("/blob/{rev}/{path:path}", transfer.blob),
            ("/tree/{rev}", pages.repo_page),
            ("/commit/{rev}", pages.repo_page),
            ("/discussions/{number}", pages.pull_page),
        )
    ),
    route("/{ns}", "GET", pages.home, browser=True),
]


def create_app(
    root: Path, accounts: Iterable[Account], *, testing: bool = False, hosts: Iterable[str] = LOOPBACK
) -> Starlette:
    """The Hub over the folder `root` as an ASGI app.

    Args:
        root: Where everything is kept. Only one server may run over it.
        accounts: Who has a token.
        testing: Allow faults on demand. Never for people.
        hosts: The names under which it may be called: with others a hostile page could reach it through a browser.
    """

    @asynccontextmanager
    async def limited(_: Starlette) -> AsyncGenerator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield

    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)]
    middleware += [Middleware(Faults)] if testing else []
    app = Starlette(
        routes=ROUTES,
        middleware=[*middleware, Middleware(RawPath)],
        lifespan=limited,
        exception_handlers=dict.fromkeys(EXPECTED, error_response),
    )
    app.state.hub = Hub(root, accounts)
    return app


class RawPath:
    """Lets routes see paths as they were sent: a quoted slash in a branch name is not a slash of the path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            scope["path"] = scope["raw_path"].decode("ascii", "replace")
        await self._app(scope, receive, send)
