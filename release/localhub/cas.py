"""Handlers of the Xet protocol: permits for clients, xorbs and shards in, reconstructions and bytes out.

A client that wants to know a chunk, or a newer form of a route, gets 404 and goes on with what is here.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response

from release.localhub.calls import Call, parse_range
from release.localhub.errors import HubError
from release.localhub.files import send
from release.localhub.hub import Content
from release.localhub.store import read_range

# Unpacking and hashing a xorb takes some 30 MB for a moment; two at a time keep two cores busy.
_HASHING = threading.Semaphore(2)


def write_token(call: Call) -> Response:
    """A permit to upload to a repo."""
    repo, _ = call.repo_to_write()
    return connection(call, write=True, repo=repo.id, kind=repo.kind)


def read_token(call: Call) -> Response:
    """A permit to download what a repo holds."""
    repo = call.repo()
    return connection(call, write=False, repo=repo.id, kind=repo.kind)


def connection(call: Call, **claims: Any) -> Response:
    """Where the Xet store is and the permit for it: hf_xet reads the body, other code of the client the headers."""
    permit = call.hub.gate.permit(**claims)
    ends = call.hub.gate.check(permit)["exp"]
    url = f"{call.base}/xet/{call.hub.store_id()}"
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": permit, "X-Xet-Token-Expiration": str(ends)}
    return JSONResponse({"accessToken": permit, "exp": ends, "casUrl": url}, headers=headers)


def may_send(most: int) -> Callable[[Call], int]:
    """A check that the caller may upload to a repo, for bodies of at most `most` bytes."""

    def check(call: Call) -> int:
        _claims(call, write=True)
        return most

    return check


def xorb(call: Call) -> dict[str, Any]:
    """Take a xorb."""
    with _HASHING:
        return {"was_inserted": call.hub.xet.add_xorb(call.args["hash"], call.upload)}


def shard(call: Call) -> dict[str, Any]:
    """Take a shard; from now on the repo may refer to its files."""
    claims = _claims(call, write=True)
    repo = call.hub.permitted(claims["kind"], claims["repo"])
    for recipe in call.hub.xet.add_shard(call.upload):
        call.hub.grant(repo, recipe.sha256)
    return {"result": 1}


def reconstruction(call: Call) -> Response:
    """How to build a file, or a range of it, from ranges of xorbs."""
    claims, name = _claims(call), call.args["hash"]
    recipe = call.hub.xet.recipe(name)
    if recipe is None or not _may_fetch(call, claims, recipe.sha256):
        raise HubError(404, "There is no such file")
    low, high = parse_range(call.request.headers.get("range", ""), recipe.size) or (0, recipe.size)
    prefix = f"{call.base}/xet/{call.hub.store_id()}/xorbs"
    urls = {x: f"{prefix}/{x}?permit={call.hub.gate.permit(get=x)}" for x in {term.xorb for term in recipe.terms}}
    plan = call.hub.xet.reconstruction(recipe, low, high, urls)
    return Response(json.dumps(plan), media_type="application/json")


def fetch(call: Call) -> Response:
    """Bytes of a xorb; the permit in the address stands for a token."""
    name = call.args["hash"]
    call.hub.gate.check(call.query.get("permit", ""), get=name)
    path = call.hub.store.place("xorbs", name)
    if not path.exists():
        raise HubError(404, "There is no such xorb")
    return send(call.request, Content(path.stat().st_size, None, partial(read_range, path)), name, {})


def unknown(_: Call) -> Response:
    """The answer to questions that this store does not answer: the client has another way for each."""
    raise HubError(404, "Not known here")


def telemetry(_: Call) -> dict[str, Any]:
    """Thank the client for its figures and forget them."""
    return {}


def _claims(call: Call, **claims: Any) -> dict[str, Any]:
    _, _, permit = call.request.headers.get("authorization", "").partition(" ")
    return call.hub.gate.check(permit, **claims)


def _may_fetch(call: Call, claims: dict[str, Any], sha256: str) -> bool:
    if "bucket" in claims:
        return (call.hub.root / "public" / sha256).exists()
    return call.hub.size_in(call.hub.permitted(claims["kind"], claims["repo"]), sha256) is not None
