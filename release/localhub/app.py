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

from release.localhub.api import buckets, collections, commits, discussions, files, lfs, listing, refs, repos, xet
from release.localhub.auth import Account
from release.localhub.errors import HubError
from release.localhub.http import RawPath, error_response, route
from release.localhub.pages import pages
from release.localhub.service import KINDS, Hub
from release.localhub.storage.xet_format import MAX_SHARD, MAX_XORB

THREADS = 12  # requests that are worked on at the same time; each may hold a few megabytes
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
EXPECTED = (HubError, HTTPException, ValidationError, UnicodeDecodeError, ClientDisconnect)


class RepoKindConvertor(StringConvertor):
    """The three kinds of repos, in paths."""

    regex = "|".join(KINDS)


register_url_convertor("kind", RepoKindConvertor())
REPO, BUCKET, XET = "/api/{kind}/{ns}/{name}", "/api/buckets/{ns}/{name}", "/xet/{store}"
ROUTES = [
    route("/api/whoami-v2", "GET", repos.whoami),
    route("/api/repos/create", "POST", repos.create_repo),
    route("/api/repos/delete", "DELETE", repos.delete_repo),
    route("/api/validate-yaml", "POST", repos.validate_yaml),
    route("/api/agent-harnesses", "GET", repos.agent_harnesses),
    route("/api/{kind}", "GET", listing.list_repos),
    route(REPO, "GET", listing.repo_info),
    route(REPO + "/revision/{rev}", "GET", listing.repo_info),
    route(REPO + "/auth-check", "GET", repos.auth_check),
    route(REPO + "/settings", "PUT", repos.change_settings),
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
    route("/api/{rest:path}", "GET POST PUT PATCH DELETE", repos.unknown),
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


def create_app(root: Path, accounts: Iterable[Account], *, hosts: Iterable[str] = LOOPBACK) -> Starlette:
    """The Hub over the folder `root` as an ASGI app.

    Args:
        root: Where everything is kept. Only one server may run over it.
        accounts: Who has a token.
        hosts: The names under which it may be called: with others a hostile page could reach it through a browser.
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
    app.state.hub = Hub(root, accounts)
    return app
