"""Handlers of the Xet protocol: tokens for the store, xorbs and shards up, reconstructions and xorbs down.

A client that asks for a known chunk, or for a newer form of a route, gets 404 and continues with what is here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response

from release.localhub.auth import SIGNATURE_SECONDS
from release.localhub.errors import HubError
from release.localhub.http import RequestContext
from release.localhub.responses import parse_range, send_content
from release.localhub.service import Content
from release.localhub.storage.blobs import read_range

# Unpacking and hashing a xorb takes some 30 MB for a moment; two at a time keep two cores busy.
_HASHING = threading.Semaphore(2)


def write_token(context: RequestContext) -> Response:
    """A token to upload to a repo."""
    repo, account = context.repo_to_contribute(context.path_params["rev"])
    return connection(context, write=True, repo=repo.key, account=account)


def read_token(context: RequestContext) -> Response:
    """A token to download what a repo holds."""
    return connection(context, write=False, repo=context.repo_to_download().key)


def connection(context: RequestContext, **claims: Any) -> Response:
    """The address of the Xet store and a token for it: hf_xet reads the body, other code of the client the headers.

    Every account has an address of its own. A client remembers per address which xorbs it has sent, and two accounts
    may share one HF_HOME, but a shard may only name xorbs that its own account has sent.
    """
    token, expires = context.hub.auth.sign(**claims), int(time.time()) + SIGNATURE_SECONDS
    url = f"{context.base_url}/xet/{context.hub.store_id()}/{context.account.name if context.account else '-'}"
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)}
    return JSONResponse({"accessToken": token, "exp": expires, "casUrl": url}, headers=headers)


def upload_limit(most: int) -> Callable[[RequestContext], int]:
    """A check that the caller may upload to a repo, for bodies of at most `most` bytes."""

    def check(context: RequestContext) -> int:
        _claims(context, write=True)
        return most

    return check


def upload_xorb(context: RequestContext) -> dict[str, Any]:
    """Store a xorb."""
    name, account = context.path_params["hash"], _claims(context, write=True)["account"]
    with _HASHING:
        return {"was_inserted": context.hub.xet.add_xorb(name, context.body_path, account)}


def upload_shard(context: RequestContext) -> dict[str, Any]:
    """Store a shard; from now on commits of the repo may refer to its files."""
    claims = _claims(context, write=True)
    repo = context.hub.signed_repo(claims["repo"])
    for file in context.hub.xet.add_shard(context.body_path, claims["account"]):
        context.hub.record_upload(repo, str(file.sha256))
    return {"result": 1}


def reconstruction(context: RequestContext) -> dict[str, Any]:
    """How to build a file, or a range of it, from ranges of xorbs."""
    claims, file = _claims(context), context.hub.xet.find(hash=context.path_params["hash"])
    if file is None or not _may_download(context, claims, str(file.sha256)):
        raise HubError(404, "There is no such file")
    start, end = parse_range(context.request.headers.get("range", ""), file.size) or (0, file.size)
    prefix = f"{context.base_url}/xet/{context.hub.store_id()}/-/xorbs"

    def url(xorb: str, first: int, last: int) -> str:
        # Only for the bytes of this file: the xorb may hold chunks of others, of a private repo's.
        return f"{prefix}/{xorb}?signature={context.hub.auth.sign(get=xorb, first=first, last=last)}"

    return context.hub.xet.reconstruction(file, start, end, url)


def download_xorb(context: RequestContext) -> Response:
    """Bytes of a xorb; the signature in the URL replaces a token.

    Raises:
        HubError: 401 the signature is not valid, or not for these bytes.
    """
    name = context.path_params["hash"]
    claims = context.hub.auth.verify(context.query.get("signature", ""), get=name)
    path = context.hub.store.path("xorbs", name)
    if not path.exists():
        raise HubError(404, "There is no such xorb")
    size = path.stat().st_size
    start, end = parse_range(context.request.headers.get("range", ""), size) or (0, size)
    if start < claims["first"] or end > claims["last"] + 1:
        raise HubError(401, "The signature is for other bytes of the xorb")
    return send_content(context, Content(size, None, partial(read_range, path)), name, {})


def telemetry(_: RequestContext) -> dict[str, Any]:
    """Accept the client's telemetry and forget it."""
    return {}


def _claims(context: RequestContext, **required: Any) -> dict[str, Any]:
    token = context.request.headers.get("authorization", "").partition(" ")[2]
    return context.hub.auth.verify(token, **required)


def _may_download(context: RequestContext, claims: dict[str, Any], sha256: str) -> bool:
    if "bucket" in claims:
        return bool(context.hub.db("SELECT 1 FROM in_bucket WHERE sha256 = ?", sha256))
    return "repo" in claims and context.hub.uploaded_size(context.hub.signed_repo(claims["repo"]), sha256) is not None
