"""One repo's history: commits that never change, and the branches, tags and pull requests that point at them."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import NamedTuple

from release.localhub.store import Database
from release.localhub.web import HubError, bad, no_revision

COMMIT = re.compile(r"[0-9a-f]{40}")
# What `git check-ref-format` allows, without characters that only confuse URLs.
REFERENCE = re.compile(r"(?!.*(?:\.\.|//|/\.|@\{|\.lock(?:/|$)))[\w][\w./+@-]{0,200}(?<![./])")


class Entry(NamedTuple):
    """One file of a commit: `oid` is git's, `sha256` that of the content, `lfs` whether git would hold a pointer."""

    size: int
    oid: str
    sha256: str
    lfs: bool = False


Files = dict[str, Entry]


@dataclass(frozen=True)
class Commit:
    """A state of all files, by path, with who made it from what, why and when; `id` is the sha1 of all that."""

    id: str
    parents: tuple[str, ...]
    title: str
    message: str
    author: str
    date: str
    files: Files


@dataclass(frozen=True)
class Repo:
    """A repo as its row says; what changes later is asked of the database. `kind`: model, dataset or space."""

    db: Database = field(repr=False, compare=False)
    key: int
    kind: str
    id: str
    private: bool
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
        start = f"refs/{group}/"
        rows = self.db("SELECT name, target FROM ref WHERE repo = ? ORDER BY name", self.key)
        return {name.removeprefix(start): target for name, target in rows if name.startswith(start)}

    def head(self, revision: str) -> Commit:
        """The commit that a branch, tag, refs/... or commit id means.

        Raises:
            HubError: 404 RevisionNotFound.
        """
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        for name in names:
            if rows := self.db("SELECT target FROM ref WHERE repo = ? AND name = ?", self.key, name):
                return self.commit(rows[0]["target"])
        return self.commit(revision)

    def commit(self, commit_id: str) -> Commit:
        """A commit by its id.

        Raises:
            HubError: 404 RevisionNotFound.
        """
        rows = self.db("SELECT content FROM history WHERE repo = ? AND id = ?", self.key, commit_id)
        if not rows:
            raise no_revision(commit_id)
        return parse_commit(commit_id, rows[0]["content"])

    def log(self, revision: str) -> Iterator[Commit]:
        """The commits from `revision` back to the first."""
        commit = self.head(revision)
        yield commit
        while commit.parents:
            commit = self.commit(commit.parents[0])
            yield commit

    def add_commit(
        self, reference: str, parents: tuple[str, ...], title: str, message: str, author: str, files: Files
    ) -> Commit:
        """Put a commit onto a reference of the form refs/...; the caller read the parent in the same change.

        Raises:
            HubError: 400, one path is both a file and a folder.
        """
        folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
        if clash := folders & files.keys():
            raise bad(f"{min(clash)} cannot be both a file and a folder")
        value = {"parents": parents, "title": title, "message": message, "author": author, "date": now()}
        content = json.dumps(value | {"files": dict(sorted(files.items()))}, sort_keys=True)
        commit_id = hashlib.sha1(content.encode()).hexdigest()
        with self.db.change():
            self.db("INSERT OR IGNORE INTO history VALUES (?, ?, ?)", self.key, commit_id, content)
            self.db("INSERT OR REPLACE INTO ref VALUES (?, ?, ?)", self.key, reference, commit_id)
        return parse_commit(commit_id, content)

    def writable(self, revision: str) -> str:
        """The full name of a branch or pull request, onto which a commit can be put.

        Raises:
            HubError: 404 there is no such branch, or 400 it is a tag or a commit.
        """
        for name in (revision, f"refs/heads/{revision}"):
            known = self.db("SELECT 1 FROM ref WHERE repo = ? AND name = ?", self.key, name)
            if known and name.startswith(("refs/heads/", "refs/pr/")):
                return name
        self.head(revision)
        raise bad(f"Not a branch: {revision}")

    def add_reference(self, group: str, name: str, target: str) -> None:
        """Make a branch ("heads") or a tag ("tags") at a commit.

        Raises:
            HubError: 409 it exists, 400 the name cannot be used.
        """
        if not REFERENCE.fullmatch(name) or COMMIT.fullmatch(name) or name.startswith("refs/"):
            raise bad(f"Invalid reference name: {name[:200]!r}")
        try:
            self.db("INSERT INTO ref VALUES (?, ?, ?)", self.key, f"refs/{group}/{name}", target)
        except sqlite3.IntegrityError as error:
            raise HubError(409, f"Reference already exists: {name}") from error

    def drop_reference(self, group: str, name: str) -> None:
        """Delete a branch or tag.

        Raises:
            HubError: 404 there is none, 403 it is main.
        """
        if (group, name) == ("heads", "main"):
            raise HubError(403, "The branch main cannot be deleted")
        if not self.db("DELETE FROM ref WHERE repo = ? AND name = ? RETURNING 1", self.key, f"refs/{group}/{name}"):
            raise no_revision(name)

    def pulls(self) -> list[sqlite3.Row]:
        """Every pull request, the newest first."""
        return self.db("SELECT * FROM pull WHERE repo = ? ORDER BY number DESC", self.key)

    def pull(self, number: int) -> sqlite3.Row:
        """The pull request `number`: title, description, author, created, status, base, start, merged.

        Raises:
            HubError: 404 there is none.
        """
        rows = self.db("SELECT * FROM pull WHERE repo = ? AND number = ?", self.key, number)
        if not rows:
            raise no_revision(f"refs/pr/{number}")
        return rows[0]

    def open_pull(self, title: str, description: str, author: str, base: str = "main") -> int:
        """Open a pull request onto branch `base`; gives its number.

        Raises:
            HubError: 404 or 400, there is no such branch.
        """
        with self.db.change():
            start, number = self.head(self.writable(base)).id, len(self.pulls()) + 1
            row = (self.key, number, title, description, author, now(), "open", base, start, None)
            self.db("INSERT INTO pull VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
            self.db("INSERT INTO ref VALUES (?, ?, ?)", self.key, f"refs/pr/{number}", start)
        return number

    def pull_changes(self, number: int) -> tuple[dict[str, Entry | None], list[str]]:
        """What a pull request changes (None: it deletes the path), and the paths that its base changed otherwise."""
        pull = self.pull(number)
        start, theirs = self.commit(pull["start"]).files, self.head(f"refs/pr/{number}").files
        try:
            ours = self.head(pull["base"]).files
        except HubError:  # a pull request outlives its base, but cannot be merged
            ours = start
        changed = {path: theirs.get(path) for path in changed_paths(start, theirs)}
        return changed, [path for path, new in changed.items() if ours.get(path) not in (start.get(path), new)]

    def merge_pull(self, number: int, author: str) -> None:
        """Bring what a pull request changed onto its base, as one commit.

        Raises:
            HubError: 409 it is merged, or both sides changed one file (the message names it); 404 its base has been
                deleted; 400 as `add_commit`.
        """
        with self.db.change():
            pull, (changed, clashes) = self.pull(number), self.pull_changes(number)
            if pull["status"] != "open":
                raise HubError(409, f"Pull request {number} is {pull['status']}")
            if clashes:
                raise HubError(409, f"Both sides changed {', '.join(clashes)}")
            ours = self.head(pull["base"])
            files = {path: entry for path, entry in (ours.files | changed).items() if entry}
            parents = (ours.id, self.head(f"refs/pr/{number}").id)
            title = f"{pull['title']} (#{number})"
            made = self.add_commit(self.writable(pull["base"]), parents, title, "", author, files)
            done = "UPDATE pull SET status = 'merged', merged = ? WHERE repo = ? AND number = ?"
            self.db(done, made.id, self.key, number)

    def squash(self, branch: str, title: str, author: str) -> None:
        """Replace a branch's history by one commit; tags keep theirs."""
        with self.db.change():
            self.add_commit(self.writable(branch), (), title, "", author, self.head(branch).files)


def url_path(kind: str, repo_id: str) -> str:
    """The path of a repo's page, whether there is such a repo or not."""
    return f"/{'' if kind == 'model' else kind + 's/'}{repo_id}"


def parse_commit(commit_id: str, content: str) -> Commit:
    """A commit from what the database holds of it."""
    value = json.loads(content)
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
