"""What the Hub answers when it says no: a status, a sentence, and the code by which clients know the case."""

from __future__ import annotations


class HubError(Exception):
    """An HTTP error answer.

    Args:
        status: The HTTP status.
        message: A sentence for people; it also travels in `X-Error-Message`.
        code: `X-Error-Code`: RepoNotFound, RevisionNotFound, EntryNotFound, or none.
        extra: More fields for the JSON body, as `exist_ok` of the client wants them.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        extra: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.extra, self.headers = extra or {}, headers or {}


def bad(message: str) -> HubError:
    """400: the request is malformed."""
    return HubError(400, message)


def no_revision(revision: str) -> HubError:
    """404: the repo has no such branch, tag, pull request or commit."""
    return HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")


def no_entry(path: str, commit: str | None = None) -> HubError:
    """404: the commit has no such file; its id travels along, because clients remember that the file is absent."""
    headers = {"X-Repo-Commit": commit} if commit else None
    return HubError(404, f"Entry not found: {path}", "EntryNotFound", headers=headers)
