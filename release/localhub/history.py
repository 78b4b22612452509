"""One repo's history: commits, branches, tags and pull requests.

A commit is a file under commits/ that never changes and is named by the sha1 of its bytes. Everything that can
change is in one file, repo.json, which is replaced in one step after the commit is on the disk: a crash leaves
the old state or the new one, never half of one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from release.files import write_atomic, write_json
from release.localhub.errors import HubError, bad, no_revision
from release.localhub.store import sync_folder

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
COMMIT = re.compile(r"[0-9a-f]{40}")
# What `git check-ref-format` allows, without characters that only confuse URLs.
REFERENCE = re.compile(r"(?!.*(?:\.\.|//|/\.|@\{|\.lock(?:/|$)))[\w][\w./+@-]{0,200}(?<![./])")


@dataclass(frozen=True)
class Entry:
    """One file of a commit: `oid` is git's, `sha256` that of the content, `lfs` whether git would hold a pointer."""

    size: int
    oid: str
    sha256: str
    lfs: bool = False


Files = dict[str, Entry]


@dataclass(frozen=True)
class Commit:
    """A state of all files, by path, with who made it from what, why and when."""

    id: str
    parents: tuple[str, ...]
    title: str
    message: str
    author: str
    date: str
    files: Files


class Repo:
    """A repo in its folder. Reading needs no lock; every change goes through `change` or `add_commit`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder, threading.RLock()
        self.state: dict[str, Any] = json.loads((folder / "repo.json").read_text())
        self._draft: dict[str, Any] | None = None
        self.commit = lru_cache(32)(self._read_commit)

    @classmethod
    def create(cls, folder: Path, kind: str, repo_id: str, *, private: bool, author: str, files: Files) -> Repo:
        """Make a repo with one commit that holds `files`; `kind` is "model", "dataset" or "space"."""
        commit_id, content = _commit((), "initial commit", "", author, files)
        write_atomic(folder / "commits" / commit_id, content)
        state = {
            "id": repo_id,
            "kind": kind,
            "private": private,
            "created": now(),
            "branches": {"main": commit_id},
            "tags": {},
            "pulls": [],
        }
        write_json(folder / "repo.json", state)
        return cls(folder)

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return self.state["id"]

    @property
    def kind(self) -> str:
        """model, dataset or space."""
        return self.state["kind"]

    @property
    def url_path(self) -> str:
        """The path of the repo's page."""
        return f"/{'' if self.kind == 'model' else self.kind + 's/'}{self.id}"

    @contextmanager
    def change(self) -> Generator[dict[str, Any]]:
        """Edit a draft of the state; it counts, on disk first and then for readers, only if the block succeeds.

        A change inside a change edits the same draft, so that both count together or not at all.
        """
        with self.lock:
            if self._draft is not None:
                yield self._draft
                return
            self._draft = copy.deepcopy(self.state)
            try:
                yield self._draft
                write_json(self.folder / "repo.json", self._draft)
                sync_folder(self.folder)
                self.state = self._draft
            finally:
                self._draft = None

    def head(self, revision: str) -> Commit:
        """The commit that a branch, tag, refs/pr/N or commit id means.

        Raises:
            HubError: 404 RevisionNotFound.
        """
        found = self._reference(self.state, revision)
        if found is None and COMMIT.fullmatch(revision) and (self.folder / "commits" / revision).exists():
            found = revision
        if found is None:
            raise no_revision(revision)
        return self.commit(found)

    def log(self, revision: str) -> Iterator[Commit]:
        """The commits from `revision` back to the first."""
        commit = self.head(revision)
        yield commit
        while commit.parents:
            commit = self.commit(commit.parents[0])
            yield commit

    def add_commit(
        self, revision: str, files: Files, title: str, message: str, author: str, *, parents: tuple[str, ...]
    ) -> Commit:
        """Put a commit onto a branch or pull request. The caller holds `lock` since it read the parent.

        Raises:
            HubError: 404 there is no such branch, or 400 it is a tag or a commit, onto which nothing can be put.
        """
        commit_id, content = _commit(parents, title, message, author, files)
        with self.change() as draft:
            if number := pull_number(revision):
                _pull(draft, number)["head"] = commit_id
            elif revision in draft["branches"]:
                draft["branches"][revision] = commit_id
            elif self._reference(draft, revision) or COMMIT.fullmatch(revision):
                raise bad(f"Not a branch: {revision}")
            else:
                raise no_revision(revision)
            write_atomic(self.folder / "commits" / commit_id, content)
            sync_folder(self.folder / "commits")
        return self.commit(commit_id)

    def add_reference(self, group: str, name: str, target: Any) -> None:
        """Make a branch (`target`: a commit id) or a tag (`target`: its commit and message).

        Raises:
            HubError: 409 it exists, 400 the name cannot be used.
        """
        if not REFERENCE.fullmatch(name) or COMMIT.fullmatch(name) or name.startswith("refs/"):
            raise bad(f"Invalid reference name: {name[:200]!r}")
        with self.change() as draft:
            if name in draft[group]:
                raise HubError(409, f"Reference already exists: {name}")
            draft[group][name] = target

    def drop_reference(self, group: str, name: str) -> None:
        """Delete a branch or tag.

        Raises:
            HubError: 404 there is none, 403 it is main.
        """
        if (group, name) == ("branches", "main"):
            raise HubError(403, "The branch main cannot be deleted")
        with self.change() as draft:
            if draft[group].pop(name, None) is None:
                raise no_revision(name)

    def open_pull(self, title: str, description: str, author: str, base: str = "main") -> dict[str, Any]:
        """Open a pull request onto branch `base`."""
        with self.change() as draft:
            if base not in draft["branches"]:
                raise no_revision(base)
            head = draft["branches"][base]
            pull = {"num": len(draft["pulls"]) + 1, "title": title, "description": description, "author": author}
            pull |= {"status": "open", "created": now(), "base": base, "start": head, "head": head}
            draft["pulls"].append(pull)
        return pull

    def pull(self, number: int) -> dict[str, Any]:
        """The pull request `number`.

        Raises:
            HubError: 404 there is none.
        """
        return _pull(self.state, number)

    def merge_pull(self, number: int, author: str) -> Commit:
        """Bring what a pull request changed onto its base, as one commit.

        Raises:
            HubError: 409 it is closed, or both sides changed one file (the message names it).
        """
        with self.change() as draft:
            pull = self.pull(number)
            if pull["status"] not in ("open", "draft"):
                raise HubError(409, f"Pull request {number} is {pull['status']}")
            start, theirs, ours = self.commit(pull["start"]).files, self.commit(pull["head"]), self.head(pull["base"])
            files = dict(ours.files)
            for path in changed_paths(start, theirs.files):
                if ours.files.get(path) not in (start.get(path), theirs.files.get(path)):
                    raise HubError(409, f"Both sides changed {path}")
                if path in theirs.files:
                    files[path] = theirs.files[path]
                else:
                    files.pop(path, None)
            title = f"{pull['title']} (#{number})"
            commit = self.add_commit(pull["base"], files, title, "", author, parents=(ours.id, theirs.id))
            _pull(draft, number).update(status="merged", merge=commit.id)
            return commit

    def squash(self, branch: str, title: str, author: str) -> None:
        """Replace a branch's history by one commit; tags keep theirs."""
        with self.lock:
            self.add_commit(branch, self.head(branch).files, title, "", author, parents=())

    def _reference(self, state: dict[str, Any], revision: str) -> str | None:
        if number := pull_number(revision):
            return _pull(state, number)["head"]
        tag = state["tags"].get(revision.removeprefix("refs/tags/"), {})
        return state["branches"].get(revision.removeprefix("refs/heads/")) or tag.get("commit")

    def _read_commit(self, commit_id: str) -> Commit:
        value = json.loads((self.folder / "commits" / commit_id).read_bytes())
        value["parents"] = tuple(value["parents"])
        value["files"] = {path: Entry(*entry) for path, entry in value["files"].items()}
        return Commit(commit_id, **value)


def _commit(parents: tuple[str, ...], title: str, message: str, author: str, files: Files) -> tuple[str, bytes]:
    """The id and the bytes of a commit made now."""
    rows = {path: list(asdict(files[path]).values()) for path in sorted(files)}
    value = {"parents": parents, "title": title, "message": message, "author": author, "date": now(), "files": rows}
    content = json.dumps(value, sort_keys=True).encode()
    return hashlib.sha1(content).hexdigest(), content


def _pull(state: dict[str, Any], number: int) -> dict[str, Any]:
    if not 1 <= number <= len(state["pulls"]):
        raise no_revision(f"refs/pr/{number}")
    return state["pulls"][number - 1]


def pull_number(revision: str) -> int | None:
    """N for refs/pr/N, else None."""
    match = re.fullmatch(r"refs/pr/([1-9][0-9]{0,8})", revision)
    return int(match[1]) if match else None


def changed_paths(old: Files, new: Files) -> list[str]:
    """The paths that were added, removed or changed."""
    return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
