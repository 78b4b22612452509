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
from starlette.types import ASGIApp

from release.localhub.api import (
    access,
    buckets,
    collections,
    commits,
    discussions,
    files,
    lfs,
    listing,
    oauth,
    refs,
    repos,
    xet,
)
from release.localhub.auth import Account
from release.localhub.errors import HubError
from release.localhub.http import route
from release.localhub.middleware import RawPath, RequestId
from release.localhub.pages import pages
from release.localhub.responses import error_response
from release.localhub.service import KINDS, Hub
from release.localhub.storage.xet_format import MAX_SHARD, MAX_XORB
from release.localhub.trusted import TrustedPublishers

THREADS = 12  # requests that are worked on at the same time; each may hold a few megabytes
STALL_SECONDS = 60.0
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
EXPECTED = (HubError, HTTPException, ValidationError, UnicodeDecodeError, ClientDisconnect)


class RepoKindConvertor(StringConvertor):
    """The three kinds of repos, in paths."""

    regex = "|".join(KINDS)


register_url_convertor("kind", RepoKindConvertor())
REPO, BUCKET, XET = "/api/{kind}/{ns}/{name}", "/api/buckets/{ns}/{name}", "/xet/{store}/{account}"
# What may follow an id, so that `/api/models/typo/tree/main` is about a repo without a namespace.
REPO_VERBS = ("revision/", "tree/", "paths-info/", "refs", "commits/", "auth-check", "xet-read-token/", "preupload/")
ROUTES = [
    route("/api/whoami-v2", "GET", repos.whoami),
    route("/oauth/token", "POST", oauth.exchange, signed=True),
    route("/ci/identity", "GET", oauth.identity, signed=True),
    route("/api/repos/create", "POST", repos.create_repo),
    route("/api/repos/delete", "DELETE", repos.delete_repo),
    route("/api/repos/move", "POST", repos.move_repo),
    route("/api/validate-yaml", "POST", repos.validate_yaml),
    route("/api/agent-harnesses", "GET", repos.agent_harnesses),
    route("/api/settings/repositories", "GET", listing.list_storage),
    route("/api/organizations/{ns}/settings/repositories", "GET", listing.list_storage),
    route("/api/{kind}", "GET", listing.list_repos),
    route(REPO, "GET", listing.repo_info),
    route(REPO + "/revision/{rev}", "GET", listing.repo_info),
    route(REPO + "/auth-check", "GET", repos.auth_check),
    route(REPO + "/settings", "PUT", repos.change_settings),
    route(REPO + "/user-access-request/handle", "POST", access.decide),
    route(REPO + "/user-access-request/grant", "POST", access.grant),
    route(REPO + "/user-access-request/{status}", "GET", access.list_access_requests),
    route(REPO + "/tree/{rev}", "GET", files.tree),
    route(REPO + "/tree/{rev}/{path:path}", "GET", files.tree),
    route(REPO + "/paths-info/{rev}", "POST", files.paths_info),
    route(REPO + "/refs", "GET", refs.list_refs),
    route(REPO + "/commits/{rev}", "GET", refs.list_commits),
    route(REPO + "/branch/{rev}", "POST DELETE", refs.change_branch),
    route(REPO + "/tag/{rev}", "POST DELETE", refs.change_tag),
    route(REPO + "/super-squash/{rev}", "POST", refs.squash),
    route(REPO + "/discussions", "GET", discussions.list_discussions),
    route(REPO + "/discussions", "POST", discussions.open_discussion),
    route(REPO + "/discussions/{number}", "GET", discussions.get_discussion),
    route(REPO + "/discussions/{number}/merge", "POST", discussions.merge),
    route(REPO + "/discussions/{number}/status", "POST", discussions.change_status),
    route(REPO + "/preupload/{rev}", "POST", commits.preupload),
    route(REPO + "/commit/{rev}", "POST", commits.commit, limit=commits.commit_limit),
    route("/{kind}/{ns}/{name}.git/info/lfs/objects/batch", "POST", lfs.batch),
    route("/{ns}/{name}.git/info/lfs/objects/batch", "POST", lfs.batch),
    route(REPO + "/lfs/verify", "POST", lfs.verify),
    route("/lfs/{oid}", "PUT", lfs.upload, limit=lfs.upload_limit, signed=True),
    route(REPO + "/xet-write-token/{rev}", "GET", xet.write_token),
    route(REPO + "/xet-read-token/{rev}", "GET", xet.read_token),
    route(XET + "/v1/xorbs/default/{hash}", "POST", xet.upload_xorb, limit=xet.upload_limit(MAX_XORB), signed=True),
    route(XET + "/v1/shards", "POST", xet.upload_shard, limit=xet.upload_limit(MAX_SHARD), signed=True),
    route(XET + "/v2/reconstructions/{hash}", "GET", xet.reconstruction, signed=True),
    route(XET + "/xorbs/{hash}", "GET", xet.download_xorb, signed=True),
    route(XET + "/v1/telemetry", "POST", xet.telemetry, signed=True),
    route(XET + "/{rest:path}", "GET POST", repos.unknown, signed=True),
    route("/api/collections", "GET", collections.list_collections),
    route("/api/collections", "POST", collections.create_collection),
    route("/api/collections/{ns}/{slug}", "GET PATCH DELETE", collections.one_collection),
    route("/api/collections/{ns}/{slug}/items", "POST", collections.add_item),
    route("/api/collections/{ns}/{slug}/items/{item}", "PATCH DELETE", collections.change_item),
    route(BUCKET + "/paths-info", "POST", buckets.paths_info),
    route(BUCKET + "/tree", "GET", buckets.tree),
    route(BUCKET + "/tree/{path:path}", "GET", buckets.tree),
    route(BUCKET + "/xet-read-token", "GET", buckets.read_token),
    route("/buckets/{ns}/{name}/resolve/{path:path}", "GET", buckets.resolve),
    route("/api/{kind}/{name}", "GET", repos.no_namespace),
    *(route(f"/api/{{kind}}/{{name}}/{verb}{{rest:path}}", "GET POST", repos.no_namespace) for verb in REPO_VERBS),
    route("/api/{rest:path}", "GET POST PUT PATCH DELETE", repos.unknown),
    route("/static/page.css", "GET", pages.style),
    route("/", "GET", pages.home, browser=True),
    route("/collections/{ns}/{slug}", "GET", pages.collection_page, browser=True),
    *(route(prefix + "/{ns}/{name}/ask-access", "POST", access.ask) for prefix in ("/{kind}", "")),
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
    route("/{name}/resolve/{rev}/{path:path}", "GET", repos.no_namespace),
    route("/{ns}", "GET", pages.home, browser=True),
]


def create_app(
    root: Path,
    accounts: Iterable[Account],
    *,
    hosts: Iterable[str] = LOOPBACK,
    stall_seconds: float = STALL_SECONDS,
    publishers: TrustedPublishers | None = None,
) -> ASGIApp:
    """The Hub over the folder `root` as an ASGI app.

    Args:
        root: Where everything is kept. Only one server may run over it.
        accounts: Who has a token.
        hosts: The names under which it may be called: with others a hostile page could reach it through a browser.
        stall_seconds: How long the Hub waits for the next bytes of a body.
        publishers: Whose CI jobs may write which repos; nobody's if left out.
    """

    @asynccontextmanager
    async def limited_threads(_: Starlette) -> AsyncGenerator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield

    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app = Starlette(
        routes=ROUTES,
        middleware=[trusted, Middleware(RawPath)],
        lifespan=limited_threads,
        exception_handlers=dict.fromkeys(EXPECTED, error_response),
    )
    app.state.hub, app.state.stall_seconds = Hub(root, accounts, publishers), stall_seconds
    return RequestId(app)  # around Starlette, whose own answer to an unexpected error needs an id too
