"""Handlers of keyless publishing: the exchange of an identity token, and the stand-in of the CI that gives such tokens."""

from __future__ import annotations

import hmac
from typing import Any

from pydantic import BaseModel

from release.localhub.auth import REPO_TOKEN_SECONDS
from release.localhub.errors import HubError
from release.localhub.history import load_repos
from release.localhub.http import RequestContext
from release.localhub.trusted import KINDS, invalid

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN, ACCESS_TOKEN = (f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("id_token", "access_token"))


class Exchange(BaseModel):
    """A request of RFC 8693, as far as the Hub takes one."""

    grant_type: str = ""
    subject_token_type: str = ""
    subject_token: str = ""
    resource: str = ""


def exchange(context: RequestContext) -> dict[str, Any]:
    """A token for the one repo that the body names."""
    body = context.json(Exchange)
    if (body.grant_type, body.subject_token_type) != (GRANT, ID_TOKEN) or "/" not in body.resource:
        raise invalid("invalid_request")
    prefix, _, rest = body.resource.partition("/")
    kind = next((kind for kind, begin in KINDS.items() if begin == f"{prefix}/"), "model")
    repo_id = body.resource if kind == "model" else rest
    repos = load_repos(context.hub.db, "WHERE kind = ? AND id = ?", kind, repo_id)
    if not repos:
        raise invalid()
    context.hub.trusted.check(repos[0], body.subject_token, context.base_url)
    answer = {
        "access_token": context.hub.auth.repo_token(repos[0].key),
        "token_type": "bearer",
        "expires_in": REPO_TOKEN_SECONDS,
    }
    return answer | {"issued_token_type": ACCESS_TOKEN}


def identity(context: RequestContext) -> dict[str, str]:
    """The CI's answer to one of its jobs: who the job is, for the audience that it asks for."""
    provider = context.hub.trusted.provider
    given = context.request.headers.get("authorization", "").partition(" ")[2]
    if provider is None or not hmac.compare_digest(given.encode(), provider.request_token.encode()):
        raise HubError(401, "No job of this CI")
    return {"value": provider.identity(context.query.get("audience", ""))}
