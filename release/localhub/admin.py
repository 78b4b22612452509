"""What the administrator of an embedded Hub may do and no client can: give a commit its id, and a pull request its number."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from release.errors import ReleaseError
from release.localhub.errors import HubError
from release.localhub.history import Repo, load_repos
from release.localhub.names import COMMIT_ID
from release.localhub.storage.database import Database


def add_commit_under_id(root: Path, repo_id: str, commit_id: str, *, kind: str = "model", branch: str = "main") -> None:
    """Put a commit with the id `commit_id` onto a branch, with the files that the branch has.

    A family pins revisions of models and data sets on the real Hub. For a rehearsal, a stand-in is uploaded as usual,
    and then gets the pinned revision's id. The Hub over `root` may be running. Nothing happens if the branch is at
    this commit already.

    Args:
        root: The Hub's folder.
        repo_id: `namespace/name`.
        commit_id: 40 hexadecimal digits.
        kind: model, dataset or space.
        branch: The branch, whose next commit this is.

    Raises:
        ReleaseError: There is no Hub, repo or branch of this name; the id has another form, or is another commit's.
    """
    if not COMMIT_ID.fullmatch(commit_id):
        raise ReleaseError(f"{commit_id!r} is no commit id", hint="give 40 hexadecimal digits in lower case")
    with _repo(root, repo_id, kind) as repo:
        try:
            reference = repo.writable_ref(branch)
            head = repo.resolve(reference)
        except HubError as error:
            raise ReleaseError(error.message, where=f"{kind} {repo.id}", hint="name a branch") from error
        if head.id == commit_id:
            return
        if repo.db("SELECT 1 FROM history WHERE repo = ? AND id = ?", repo.key, commit_id):
            raise ReleaseError(f"{commit_id} is another commit already", where=f"{kind} {repo.id}")
        repo.add_commit(reference, (head.id,), head.title, head.message, head.author, head.files, given_id=commit_id)


def add_pull_reference(root: Path, repo_id: str, number: int, *, kind: str = "model") -> None:
    """Let refs/pr/`number` be where main is: for what is read from a pull request of the real Hub. Nothing happens if it is there.

    Raises:
        ReleaseError: There is no Hub or repo of this name.
    """
    with _repo(root, repo_id, kind) as repo:
        if str(number) not in repo.refs("pr"):
            repo.add_ref("pr", str(number), repo.resolve("main").id)


@contextmanager
def _repo(root: Path, repo_id: str, kind: str) -> Generator[Repo]:
    """A repo, inside one transaction.

    Raises:
        ReleaseError: There is no Hub or repo of this name.
    """
    if not (root / "hub.sqlite").exists():
        raise ReleaseError("no Hub is kept here", where=str(root), hint="name the folder that --root names")
    with closing(Database(root / "hub.sqlite")) as database, database.change():
        repos = load_repos(database, "WHERE kind = ? AND id = ? COLLATE NOCASE", kind, repo_id)
        if not repos:
            raise ReleaseError(f"there is no {kind} {repo_id}", where=str(root), hint="create it first")
        yield repos[0]
