"""What the embedded Hub answers when it refuses. Storage and API both raise it, so it imports neither."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

MAX_ERRORS = 100  # of one body, that are listed one by one


class HubError(Exception):
    """An answer that refuses a request.

    Args:
        status: The HTTP status.
        message: A sentence for people; it also travels in `X-Error-Message`.
        code: `X-Error-Code`, by which clients know the case: RepoNotFound, RevisionNotFound, EntryNotFound, or none.
        headers: More headers of the answer.
        extra: More fields for the JSON body, as `exist_ok` of the client reads them.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, message, code, extra
        self.headers = {"X-Error-Message": re.sub(r"[^\x20-\x7e]", "?", message)[:1000]}
        self.headers |= ({"X-Error-Code": code} if code else {}) | (headers or {})


def bad_request(message: str) -> HubError:
    """400: the request is malformed."""
    return HubError(400, message)


def repo_not_found(*, signed_in: bool) -> HubError:
    """RepoNotFound, the same for a repo that is private and for one that does not exist.

    The status is 404, or 401 for a caller without a token, who might see it after signing in.
    """
    return HubError(404 if signed_in else 401, "Repository not found", "RepoNotFound")


def revision_not_found(revision: str) -> HubError:
    """404: the repo has no such branch, tag, pull request or commit."""
    return HubError(404, f"Invalid rev id: {revision[:1000]}", "RevisionNotFound")


def entry_not_found(path: str, commit: str | None = None) -> HubError:
    """404: the commit has no such file; its id travels along, because clients remember that the file is absent."""
    return HubError(404, f"Entry not found: {path}", "EntryNotFound", {"X-Repo-Commit": commit} if commit else None)


def validation_messages(error: Exception) -> list[str]:
    """What pydantic refused, one line per place, without the values, which may be long or secret."""
    if not isinstance(error, ValidationError):
        return []
    if error.error_count() > MAX_ERRORS:  # a small body can hold millions
        return [f"more than {MAX_ERRORS} errors"]
    errors = error.errors(include_url=False, include_input=False)
    return [f'"{_location(row["loc"])}": {row["msg"].removeprefix("Value error, ")}' for row in errors]


def _location(parts: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "body"
