"""What the administrator of an embedded Hub may do and no client can: put a commit under a given id."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from release.errors import ReleaseError
from release.localhub.errors import HubError
from release.localhub.history import load_repos
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
    if not (root / "hub.sqlite").exists():
        raise ReleaseError("no Hub is kept here", where=str(root), hint="name the folder that --root names")
    with closing(Database(root / "hub.sqlite")) as database, database.change():
        repos = load_repos(database, "WHERE kind = ? AND id = ? COLLATE NOCASE", kind, repo_id)
        if not repos:
            raise ReleaseError(f"there is no {kind} {repo_id}", where=str(root), hint="create it first")
        repo = repos[0]
        try:
            reference = repo.writable_ref(branch)
            head = repo.resolve(reference)
        except HubError as error:
            raise ReleaseError(error.message, where=f"{kind} {repo.id}", hint="name a branch") from error
        if head.id == commit_id:
            return
        if database("SELECT 1 FROM history WHERE repo = ? AND id = ?", repo.key, commit_id):
            raise ReleaseError(f"{commit_id} is another commit already", where=f"{kind} {repo.id}")
        repo.add_commit(reference, (head.id,), head.title, head.message, head.author, head.files, given_id=commit_id)
