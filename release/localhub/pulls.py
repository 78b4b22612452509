"""Pull requests: a reference refs/pr/N that starts at its base branch, and the merge of what it changed."""

from __future__ import annotations

from dataclasses import dataclass

from release.localhub.errors import HubError, revision_not_found
from release.localhub.history import Entry, Repo, changed_paths, now


@dataclass(frozen=True)
class PullRequest:
    """A pull request; `start` is the commit it began at, `merged` the commit that merged it.

    `status`: open, closed or merged.
    """

    number: int
    title: str
    description: str
    author: str
    created: str
    status: str
    base: str
    start: str
    merged: str | None

    @property
    def ref(self) -> str:
        """The reference that its commits are added to."""
        return f"refs/pr/{self.number}"


def list_pulls(repo: Repo) -> list[PullRequest]:
    """Every pull request of a repo, the newest first."""
    return _load(repo, "ORDER BY number DESC")


def get_pull(repo: Repo, number: int) -> PullRequest:
    """One pull request.

    Raises:
        HubError: 404 there is none.
    """
    rows = _load(repo, "AND number = ?", number)
    if not rows:
        raise revision_not_found(f"refs/pr/{number}")
    return rows[0]


def open_pull(repo: Repo, title: str, description: str, author: str, base: str = "main") -> PullRequest:
    """Open a pull request for the branch `base`.

    Raises:
        HubError: 404 or 400, there is no such branch.
    """
    with repo.db.change():
        start, number = repo.resolve(repo.writable_ref(base)).id, len(list_pulls(repo)) + 1
        pull = PullRequest(number, title, description, author, now(), "open", base, start, None)
        values = (number, title, description, author, pull.created, "open", base, start, None)
        repo.db("INSERT INTO pull VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", repo.key, *values)
        repo.db("INSERT INTO ref VALUES (?, ?, ?)", repo.key, pull.ref, start)
    return pull


def pull_changes(repo: Repo, pull: PullRequest) -> tuple[dict[str, Entry | None], list[str]]:
    """What a pull request changes (None: it deletes the path), and the paths that its base changed differently."""
    start, theirs = repo.commit(pull.start).files, repo.resolve(pull.ref).files
    try:
        ours = repo.resolve(pull.base).files
    except HubError:  # the base was deleted: it can still be shown, but not merged
        ours = start
    changed = {path: theirs.get(path) for path in changed_paths(start, theirs)}
    return changed, [path for path, new in changed.items() if ours.get(path) not in (start.get(path), new)]


def merge_pull(repo: Repo, number: int, author: str) -> None:
    """Apply what a pull request changed to its base, as one commit.

    Raises:
        HubError: 409 it is not open, or both sides changed one file (the message names it); 404 its base was
            deleted; 400 as `add_commit`.
    """
    with repo.db.change():
        pull = get_pull(repo, number)
        changed, conflicts = pull_changes(repo, pull)
        if pull.status != "open":
            raise HubError(409, f"Pull request {number} is {pull.status}")
        if conflicts:
            raise HubError(409, f"Both sides changed {', '.join(conflicts)}")
        ours = repo.resolve(pull.base)
        files = {path: entry for path, entry in (ours.files | changed).items() if entry}
        parents = (ours.id, repo.resolve(pull.ref).id)
        title = f"{pull.title} (#{number})"
        merged = repo.add_commit(repo.writable_ref(pull.base), parents, title, "", author, files)
        statement = "UPDATE pull SET status = 'merged', merged = ? WHERE repo = ? AND number = ?"
        repo.db(statement, merged.id, repo.key, number)


def set_pull_status(repo: Repo, number: int, status: str) -> PullRequest:
    """Close a pull request ("closed"), or open it again ("open").

    Raises:
        HubError: 404 there is none, 409 it is merged.
    """
    get_pull(repo, number)
    statement = "UPDATE pull SET status = ? WHERE repo = ? AND number = ? AND status <> 'merged' RETURNING 1"
    if not repo.db(statement, status, repo.key, number):
        raise HubError(409, f"Pull request {number} is merged")
    return get_pull(repo, number)


def _load(repo: Repo, clause: str, *values: object) -> list[PullRequest]:
    columns = "number, title, description, author, created, status, base, start, merged"
    return [
        PullRequest(*row) for row in repo.db(f"SELECT {columns} FROM pull WHERE repo = ? {clause}", repo.key, *values)
    ]
