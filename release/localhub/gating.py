"""Gated repos: requests for access, and who has it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from release.localhub.errors import HubError, bad_request
from release.localhub.history import Repo, now


@dataclass(frozen=True)
class AccessRequest:
    """One user's request for one repo; `status`: pending, accepted or rejected."""

    id: str
    user: str
    status: str
    requested: str


def list_requests(repo: Repo, status: str) -> list[AccessRequest]:
    """The requests of a status, the oldest first."""
    columns = "SELECT id, user, status, requested FROM access WHERE repo = ? AND status = ? ORDER BY requested, id"
    return [AccessRequest(*row) for row in repo.db(columns, repo.key, status)]


def request_status(repo: Repo, user: str) -> str:
    """The status of a user's request; empty without one."""
    rows = repo.db("SELECT status FROM access WHERE repo = ? AND user = ?", repo.key, user)
    return rows[0]["status"] if rows else ""


def request_access(repo: Repo, user: str) -> str:
    """Ask for access and return the request's status; a repo that is gated "auto" accepts at once.

    Raises:
        HubError: 400, the repo is not gated.
    """
    _check_gated(repo)
    _insert(repo, user, "pending")
    if repo.gated == "auto":
        accept = "UPDATE access SET status = 'accepted' WHERE repo = ? AND user = ? AND status = 'pending'"
        repo.db(accept, repo.key, user)
    return request_status(repo, user)


def grant_access(repo: Repo, user: str) -> None:
    """Give a user access without a request.

    Raises:
        HubError: 400, the repo is not gated, or the user has access already.
    """
    _check_gated(repo)
    if request_status(repo, user) == "accepted":
        raise bad_request(f"{user} has access already")
    _insert(repo, user, "accepted")
    repo.db("UPDATE access SET status = 'accepted' WHERE repo = ? AND user = ?", repo.key, user)


def set_request_status(repo: Repo, status: str, *, user: str | None, request_id: str | None) -> None:
    """Accept or reject a request, or make it pending again.

    Raises:
        HubError: 400 the repo is not gated, 404 there is no such request, or it has this status already.
    """
    _check_gated(repo)
    statement = "UPDATE access SET status = ? WHERE repo = ? AND (user = ? OR id = ?) AND status <> ? RETURNING 1"
    if not repo.db(statement, status, repo.key, user, request_id, status):
        raise HubError(404, f"There is no such request, or it is {status} already")


def _insert(repo: Repo, user: str, status: str) -> None:
    values = (secrets.token_hex(12), repo.key, user, status, now())
    repo.db("INSERT OR IGNORE INTO access VALUES (?, ?, ?, ?, ?)", *values)


def _check_gated(repo: Repo) -> None:
    if not repo.gated:
        raise bad_request("This repo is not gated")
