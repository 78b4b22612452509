"""The table of routes, and the app around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from release.localhub import buckets, cas, files, listing, pages, pulls, push, repos, shelves
from release.localhub.accounts import Account
from release.localhub.calls import error_response, route
from release.localhub.errors import HubError
from release.localhub.faults import Faults
from release.localhub.formats import MAX_SHARD, MAX_XORB
from release.localhub.hub import Hub

THREADS = 12  # requests that are worked on at the same time; each may hold a few megabytes
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Kind(StringConvertor):
    """The three kinds of repos, in paths."""

    regex = "models|datasets|spaces"


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
    route(API + "/tree/{rev}", "GET", listing.tree),
    route(API + "/tree/{rev}/{path:path}", "GET", listing.tree),
    route(API + "/paths-info/{rev}", "POST", listing.paths_info),
    route(API + "/refs", "GET", listing.refs),
    route(API + "/commits/{rev}", "GET", listing.commits),
    route(API + "/branch/{rev}", "POST DELETE", listing.branch),
    route(API + "/tag/{rev}", "POST DELETE", listing.tag),
    route(API + "/super-squash/{rev}", "POST", listing.squash),
    route(API + "/discussions", "GET", pulls.list_pulls),
    route(API + "/discussions", "POST", pulls.open_pull),
    route(API + "/discussions/{number}", "GET", pulls.one_pull),
    route(API + "/discussions/{number}/merge", "POST", pulls.merge),
    route(API + "/discussions/{number}/status", "POST", pulls.change_status),
    route(API + "/preupload/{rev}", "POST", push.preupload),
    route(API + "/commit/{rev}", "POST", push.commit, upload=push.may_commit),
    route("/{kind}/{ns}/{name}.git/info/lfs/objects/batch", "POST", push.lfs_batch),
    route("/{ns}/{name}.git/info/lfs/objects/batch", "POST", push.lfs_batch),
    route(API + "/lfs/verify", "POST", push.lfs_verify),
    route("/lfs/{oid}", "PUT", push.lfs_put, upload=push.may_put, permit=True),
    route(API + "/xet-write-token/{rev}", "GET", cas.write_token),
    route(API + "/xet-read-token/{rev}", "GET", cas.read_token),
    route(CAS + "/v1/xorbs/default/{hash}", "POST", cas.xorb, upload=cas.may_send(MAX_XORB), permit=True),
    route(CAS + "/v1/shards", "POST", cas.shard, upload=cas.may_send(MAX_SHARD), permit=True),
    route(CAS + "/v2/reconstructions/{hash}", "GET", cas.reconstruction, permit=True),
    route(CAS + "/xorbs/{hash}", "GET", cas.fetch, permit=True),
    route(CAS + "/v1/telemetry", "POST", cas.telemetry, permit=True),
    route(CAS + "/{rest:path}", "GET POST", cas.unknown, permit=True),
    route("/api/collections", "GET", shelves.some),
    route("/api/collections", "POST", shelves.create),
    route("/api/collections/{ns}/{slug}", "GET PATCH DELETE", shelves.one),
    route("/api/collections/{ns}/{slug}/items", "POST", shelves.add_item),
    route("/api/collections/{ns}/{slug}/items/{item}", "PATCH DELETE", shelves.item),
    route(BUCKET + "/paths-info", "POST", buckets.paths_info),
    route(BUCKET + "/tree", "GET", buckets.tree),
    route(BUCKET + "/tree/{path:path}", "GET", buckets.tree),
    route(BUCKET + "/xet-read-token", "GET", buckets.read_token),
    route("/buckets/{ns}/{name}/resolve/{path:path}", "GET", buckets.resolve),
    route("/api/{rest:path}", "GET POST PUT PATCH DELETE", cas.unknown),
    route("/static/page.css", "GET", pages.style),
    route("/", "GET", pages.home, browser=True),
    route("/collections/{ns}/{slug}", "GET", pages.collection_page, browser=True),
    *(
        route(prefix + "/{ns}/{name}" + rest, "GET", handler, browser=True)
        for prefix in ("/{kind}", "")
        for rest, handler in (
            ("", pages.repo_page),
            ("/resolve/{rev}/{path:path}", files.resolve),
            ("/blob/{rev}/{path:path}", files.blob),
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
        exception_handlers={HTTPException: _no_route},
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


def _no_route(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return error_response(HubError(status, "There is nothing here" if status == 404 else "This cannot be done here"))
