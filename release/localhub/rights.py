"""Who may see, download and change a repo; the answers are those of the real Hub."""

from __future__ import annotations

from release.localhub.auth import Account
from release.localhub.errors import HubError
from release.localhub.gating import request_status
from release.localhub.history import Repo
from release.localhub.pulls import list_pulls


def may_read(repo: Repo, account: Account | None) -> bool:
    """Whether `account` may know that the repo exists."""
    return not repo.private or _may_write(repo, account)


def _may_write(repo: Repo, account: Account | None) -> bool:
    """Whether `account` belongs to the repo's namespace, or is a trusted publisher of the repo."""
    return account is not None and (account.owns(repo.namespace) or account.repo == repo.key)


def check_download(repo: Repo, account: Account | None) -> None:
    """Refuse the content of a gated repo to an account without an accepted request.

    Raises:
        HubError: GatedRepo: 401 without a token, 403 with one.
    """
    if not repo.gated or _may_write(repo, account):
        return
    text = f"Access to {repo.kind} {repo.id} is restricted"
    if account is None:
        raise HubError(401, f"{text}. You must be authenticated and have access to it. Please log in.", "GatedRepo")
    if (status := request_status(repo, account.name)) != "accepted":
        reason = {"pending": "your request awaits a review", "rejected": "your request was rejected"}.get(
            status, "you are not in the authorized list"
        )
        raise HubError(403, f"{text} and {reason}. Visit the repo's page to ask for access.", "GatedRepo")


def check_writer(namespace: str, account: Account | None) -> Account:
    """`account`, if it may create and change things in `namespace`.

    Raises:
        HubError: 401 without a token, 403 without the right or with a token that may only read.
    """
    if account is None:
        raise HubError(401, "Invalid username or password.")
    if not account.owns(namespace):
        raise HubError(403, f"You don't have the rights to create or change anything under {namespace}")
    if account.role == "read":
        raise HubError(403, "This token may only read")
    return account


def check_repo_writer(repo: Repo, account: Account | None) -> Account:
    """`account`, if it may change the repo, its settings included; not if it may delete or move it.

    Raises:
        HubError: As `check_writer`.
    """
    return account if account and account.repo == repo.key else check_writer(repo.namespace, account)


def check_contributor(repo: Repo, account: Account | None, revision: str | None) -> Account:
    """`account`, if it may send files for `revision`; None is a pull request that is still to be opened.

    Everybody who may download a repo may open a pull request, and add commits to it while it is open.

    Raises:
        HubError: As `check_writer` and `check_download`.
    """
    if account and account.role == "write" and not _may_write(repo, account):
        pulls = [] if revision is None else list_pulls(repo)
        own = [pull.ref for pull in pulls if (pull.author, pull.status) == (account.name, "open")]
        if revision is None or revision in own:
            check_download(repo, account)
            return account
    return check_repo_writer(repo, account)
