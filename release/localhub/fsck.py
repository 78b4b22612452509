"""Check every hash under a Hub's folder; read only, so that it can run beside a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from release.errors import ReleaseError
from release.files import sha256_file
from release.localhub.errors import HubError
from release.localhub.history import Commit, Repo, is_intact, load_repos, parse_commit
from release.localhub.storage.blobs import Store, git_oid
from release.localhub.storage.database import Database
from release.localhub.storage.xet import XetStore
from release.localhub.storage.xet_format import check_xorb


@dataclass
class Report:
    """The result of a check: counts, the bytes that were hashed, and one line per problem."""

    repos: int = 0
    commits: int = 0
    contents: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for people, and one per problem."""
        result = f"{len(self.problems)} problems" if self.problems else "all hashes agree"
        counts = f"{self.repos} repos, {self.commits} commits, {self.contents} contents, {self.bytes / 1e6:.1f} MB"
        return "\n".join([f"{counts}: {result}", *self.problems])


def fsck(root: Path) -> Report:
    """Check content against its name, then that every commit is whole.

    Raises:
        ReleaseError: The folder holds no Hub.
    """
    if not (root / "hub.sqlite").exists():
        raise ReleaseError("no Hub is kept here", where=str(root), hint="name its folder with --root")
    report = Report()
    try:
        with closing(Database(root / "hub.sqlite", read_only=True)) as database:
            _check(Store(root), database, report)
    except sqlite3.DatabaseError as error:
        report.problems.append(f"database: {error}; what follows was not checked")
    return report


def _check(store: Store, database: Database, report: Report) -> None:
    database("BEGIN")  # one view of all rows, from before the files are read: content comes before its row
    report.problems += [f"database: {row[0]}" for row in database("PRAGMA integrity_check") if row[0] != "ok"]
    intact = _check_content(store, database, report)
    for repo in load_repos(database):
        report.repos += 1
        for commit, problems in _history(repo):
            report.commits += 1
            problems += _files(commit, store, intact) if commit else []
            report.problems += [f"{repo.kind} {repo.id} {problem}" for problem in problems]


def _check_content(store: Store, database: Database, report: Report) -> set[str]:
    """The sha256 of every content whose bytes have their hash."""
    xet, intact = XetStore(store, database), set()
    for path in sorted(store.root.glob("blobs/??/*")):
        report.contents, report.bytes = report.contents + 1, report.bytes + path.stat().st_size
        if sha256_file(path) == path.name:
            intact.add(path.name)
        else:
            report.problems.append(f"blobs {path.name}: its content has another sha256")
    for row in database("SELECT hash FROM xorb"):
        report.problems += [f"xorbs {row['hash']}: {problem}" for problem in _xorb(xet, row["hash"])]
    for name, file in xet.files():
        try:
            if isinstance(file, Exception) or xet.verify(file) != file:
                raise ValueError("its row does not fit its content")
            report.contents, report.bytes = report.contents + 1, report.bytes + file.size
            intact.add(str(file.sha256))
        except (HubError, OSError, ValueError) as error:
            report.problems.append(f"files {name}: {error}")
    return intact


def _xorb(xet: XetStore, name: str) -> Iterator[str]:
    try:
        if tuple(check_xorb(name, xet.store.path("xorbs", name))) != xet.chunks(name):
            yield "the table of its chunks disagrees with it"
    except (HubError, OSError) as error:
        yield str(error)


def _history(repo: Repo) -> Iterator[tuple[Commit | None, list[str]]]:
    """Every commit of a repo, and whatever a branch, tag or pull request names that is none."""
    known = {row["id"]: row["content"] for row in repo.db("SELECT * FROM history WHERE repo = ?", repo.key)}
    named = {target for group in ("heads", "tags", "pr") for target in repo.refs(group).values()}
    for commit_id, content in known.items():
        if not is_intact(commit_id, content):
            yield None, [f"commit {commit_id}: it hashes to another id"]
            continue
        commit = parse_commit(commit_id, content)
        named.update(commit.parents)
        yield commit, []
    yield from ((None, [f"commit {commit_id}: it is missing"]) for commit_id in named - known.keys())


def _files(commit: Commit, store: Store, intact: set[str]) -> Iterator[str]:
    for path, entry in commit.files.items():
        if entry.sha256 not in intact:
            yield f"commit {commit.id}: {path}: the content {entry.sha256} is missing or broken"
        elif not entry.lfs and git_oid(store.path("blobs", entry.sha256).read_bytes()) != entry.oid:
            yield f"commit {commit.id}: {path}: git's id disagrees with its content"
