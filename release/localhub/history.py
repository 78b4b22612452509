"""One repo's history: commits that never change, and the branches, tags and pull requests that point at them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from release.localhub.errors import HubError, bad_request, revision_not_found
from release.localhub.names import SHORT_COMMIT_ID, is_reference_name
from release.localhub.storage.database import Database


class Entry(NamedTuple):
    """One file of a commit: `oid` is git's, `sha256` that of the content, `lfs` whether git would hold a pointer."""

    size: int
    oid: str
    sha256: str
    lfs: bool = False


Files = dict[str, Entry]


@dataclass(frozen=True)
class Commit:
    """A state of all files, by path, with who made it from what, why and when.

    `id` is the sha1 of all that, unless the commit was added under a given id.
    """

    id: str
    parents: tuple[str, ...]
    title: str
    message: str
    author: str
    date: str
    files: Files


@dataclass(frozen=True)
class Repo:
    """A repo's row; what changes later is read from the database.

    `kind`: model, dataset or space. `gated`: "auto" or "manual" if downloads need an accepted request, else "".
    """

    db: Database = field(repr=False, compare=False)
    key: int
    kind: str
    id: str
    private: bool
    gated: str
    created: str

    @property
    def namespace(self) -> str:
        """The user or organisation."""
        return self.id.partition("/")[0]

    @property
    def url_path(self) -> str:
        """The path of the repo's page."""
        return url_path(self.kind, self.id)

    def refs(self, group: str) -> dict[str, str]:
        """The commits of the references under refs/`group`/ ("heads", "tags" or "pr"), by short name."""
        prefix = f"refs/{group}/"
        rows = self.db("SELECT name, target FROM ref WHERE repo = ? ORDER BY name", self.key)
        return {name.removeprefix(prefix): target for name, target in rows if name.startswith(prefix)}

    def resolve(self, revision: str) -> Commit:
        """The commit of a branch, a tag, a full reference (refs/...), or a commit id or its beginning.

        Raises:
            HubError: 404 RevisionNotFound.
        """
        for name in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if rows := self.db("SELECT target FROM ref WHERE repo = ? AND name = ?", self.key, name):
                return self.commit(rows[0]["target"])
        if SHORT_COMMIT_ID.fullmatch(revision):
            rows = self.db("SELECT id FROM history WHERE repo = ? AND id GLOB ?", self.key, f"{revision}*")
            if len(rows) == 1:
                return self.commit(rows[0]["id"])
        return self.commit(revision)

    def commit(self, commit_id: str) -> Commit:
        """A commit by its id.

        Raises:
            HubError: 404 RevisionNotFound.
        """
        rows = self.db("SELECT content FROM history WHERE repo = ? AND id = ?", self.key, commit_id)
        if not rows:
            raise revision_not_found(commit_id)
        return parse_commit(commit_id, rows[0]["content"])

    def log(self, revision: str) -> Iterator[Commit]:
        """The commits from `revision` back to the first."""
        commit = self.resolve(revision)
        yield commit
        while commit.parents:
            commit = self.commit(commit.parents[0])
            yield commit

    def add_commit(
        self,
        reference: str,
        parents: tuple[str, ...],
        title: str,
        message: str,
        author: str,
        files: Files,
        *,
        given_id: str | None = None,
    ) -> Commit:
        """Add a commit to a reference of the form refs/...; the caller read the parent in the same transaction.

        With `given_id` (40 hexadecimal digits) that is its id, and the row holds the sha1 of its content beside it.

        Raises:
            HubError: 400, one path is both a file and a folder.
        """
        folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
        if both := folders & files.keys():
            raise bad_request(f"{min(both)} cannot be both a file and a folder")
        value: dict[str, Any] = {
            "parents": parents,
            "title": title,
            "message": message,
            "author": author,
            "date": now(),
        }
        value["files"] = dict(sorted(files.items()))
        commit_id = _content_id(value)
        if given_id:
            value |= {"given_id": given_id}
            value |= {"content_id": _content_id(value)}
            commit_id = given_id
        content = _serialize(value)
        with self.db.change():
            self.db("INSERT OR IGNORE INTO history VALUES (?, ?, ?)", self.key, commit_id, content)
            self.db("INSERT OR REPLACE INTO ref VALUES (?, ?, ?)", self.key, reference, commit_id)
        return parse_commit(commit_id, content)

    def writable_ref(self, revision: str) -> str:
        """The full name of a branch or pull request, to which a commit can be added.

        Raises:
            HubError: 404 there is no such branch, or 400 it is a tag or a commit.
        """
        for name in (revision, f"refs/heads/{revision}"):
            known = self.db("SELECT 1 FROM ref WHERE repo = ? AND name = ?", self.key, name)
            if known and name.startswith(("refs/heads/", "refs/pr/")):
                return name
        self.resolve(revision)
        raise bad_request(f"Not a branch: {revision}")

    def add_ref(self, group: str, name: str, target: str) -> None:
        """Make a branch ("heads") or a tag ("tags") at a commit.

        Raises:
            HubError: 409 it exists, 400 the name cannot be used.
        """
        if not is_reference_name(name):
            raise bad_request(f"Invalid reference name: {name[:200]!r}")
        try:
            self.db("INSERT INTO ref VALUES (?, ?, ?)", self.key, f"refs/{group}/{name}", target)
        except sqlite3.IntegrityError as error:
            raise HubError(409, f"Reference refs/{group}/{name} already exists") from error

    def delete_ref(self, group: str, name: str) -> None:
        """Delete a branch or tag.

        Raises:
            HubError: 404 there is none, 403 it is main.
        """
        if (group, name) == ("heads", "main"):
            raise HubError(403, "Cannot delete refs/heads/main")
        if not self.db("DELETE FROM ref WHERE repo = ? AND name = ? RETURNING 1", self.key, f"refs/{group}/{name}"):
            raise revision_not_found(name)

    def squash(self, branch: str, title: str, author: str) -> None:
        """Replace a branch's history by one commit; tags keep theirs."""
        with self.db.change():
            self.add_commit(self.writable_ref(branch), (), title, "", author, self.resolve(branch).files)


def load_repos(db: Database, clause: str = "", *values: object) -> list[Repo]:
    """The repos that the SQL `clause` selects."""
    rows = db(f"SELECT key, kind, id, private, gated, created FROM repo {clause}", *values)
    return [Repo(db, key, kind, id, bool(private), gated, created) for key, kind, id, private, gated, created in rows]


def url_path(kind: str, repo_id: str) -> str:
    """The path of a repo's page, whether there is such a repo or not."""
    return f"/{'' if kind == 'model' else kind + 's/'}{repo_id}"


def is_intact(commit_id: str, content: str) -> bool:
    """Whether the content of a commit's row has the hash that its id, or with a given id the row itself, says."""
    try:
        value = json.loads(content)
        whole = _serialize(value) == content
        content_id, given_id = value.pop("content_id", commit_id), value.get("given_id", commit_id)
    except (ValueError, AttributeError, TypeError):  # no JSON, or no mapping
        return False
    return whole and given_id == commit_id and _content_id(value) == content_id


def _serialize(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def _content_id(value: dict[str, Any]) -> str:
    return hashlib.sha1(_serialize(value).encode()).hexdigest()


def parse_commit(commit_id: str, content: str) -> Commit:
    """A commit from its row."""
    value = json.loads(content)
    for key in ("given_id", "content_id"):
        value.pop(key, None)
    value["files"] = {path: Entry(*entry) for path, entry in value["files"].items()}
    return Commit(commit_id, tuple(value.pop("parents")), **value)


def changed_paths(old: Files, new: Files) -> list[str]:
    """The paths that were added, removed or changed."""
    return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def hub_time(moment: datetime) -> str:
    """A moment in UTC as the Hub writes it."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """The present moment as the Hub writes it."""
    return hub_time(datetime.now(UTC))
