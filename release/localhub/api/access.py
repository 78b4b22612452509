"""Handlers of gated repos: ask for access, list requests, accept, reject and grant."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from release.localhub.errors import HubError
from release.localhub.gating import AccessRequest, grant_access, list_requests, request_access, set_request_status
from release.localhub.http import RequestContext

STATUSES = ("pending", "accepted", "rejected")


class Decision(BaseModel):
    """What becomes of a request, which the user or the id of the request names."""

    user: str | None = None
    requestId: str | None = None
    status: Literal["pending", "accepted", "rejected"]


class UserName(BaseModel):
    """A user."""

    user: str


def ask(context: RequestContext) -> dict[str, Any]:
    """Ask for access to a gated repo, as the button on the real Hub's page does."""
    repo = context.repo()
    if context.account is None:
        raise HubError(401, "Invalid username or password.")
    return {"status": request_access(repo, context.account.name)}


def list_access_requests(context: RequestContext) -> list[dict[str, Any]]:
    """The requests of one status, for those who may decide."""
    repo, _ = context.repo_to_write()
    status = context.path_params["status"]
    if status not in STATUSES:
        raise HubError(404, f"Requests are {', '.join(STATUSES)}")
    return [_describe(request) for request in list_requests(repo, status)]


def decide(context: RequestContext) -> dict[str, Any]:
    """Accept or reject a request, or make it pending again."""
    (repo, _), body = context.repo_to_write(), context.json(Decision)
    set_request_status(repo, body.status, user=body.user, request_id=body.requestId)
    return {}


def grant(context: RequestContext) -> dict[str, Any]:
    """Give a user access without a request."""
    (repo, _), body = context.repo_to_write(), context.json(UserName)
    if body.user not in context.hub.auth.users():
        raise HubError(404, f"There is nobody called {body.user[:100]}")
    grant_access(repo, body.user)
    return {}


def _describe(request: AccessRequest) -> dict[str, Any]:
    user = {"user": request.user, "fullname": request.user}
    return {"requestId": request.id, "user": user, "status": request.status, "timestamp": request.requested}
