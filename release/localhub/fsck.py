"""Check every hash under a Hub's folder; read only, so that it can run beside a server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from release.localhub.errors import HubError
from release.localhub.formats import Malformed, ShardFile
from release.localhub.history import Commit, Repo
from release.localhub.hub import load_repos
from release.localhub.store import STEP, Store, git_oid
from release.localhub.xet import Xet, check_xorb


@dataclass
class Report:
    """What was found: counts, the bytes that were hashed, and one line per problem."""

    repos: int = 0
    commits: int = 0
    contents: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line for people, and one per problem."""
        size = f"{self.bytes / 1e6:.1f} MB"
        found = f"{self.repos} repos, {self.commits} commits, {self.contents} contents, {size}: "
        return "\n".join(
            [found + (f"{len(self.problems)} problems" if self.problems else "all hashes agree"), *self.problems]
        )


def fsck(root: Path) -> Report:
    """Check content against its name, then that every commit that counts is whole."""
    report, store = Report(), Store(root)
    xet = Xet(store)
    good: set[str] = set()
    for kind, check in (("blobs", _blob), ("xorbs", _xorb), ("recipes", _recipe)):
        for path in sorted(root.glob(f"{kind}/??/*")):
            try:
                good.update(check(path, xet, report))
                report.contents += 1
            except (ValueError, TypeError, KeyError, OSError, HubError) as error:
                report.problems.append(f"{kind} {path.name}: {error}")
    for repo in load_repos(root):
        report.repos += 1
        _repo(repo, store, good, report)
    return report


def _blob(path: Path, _: Xet, report: Report) -> Iterator[str]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while step := stream.read(STEP):
            digest.update(step)
            report.bytes += len(step)
    if digest.hexdigest() != path.name:
        raise Malformed("its content has another sha256")
    yield path.name


def _xorb(path: Path, xet: Xet, report: Report) -> Iterator[str]:
    hashes = b"".join(check_xorb(path.name, path))
    report.bytes += path.stat().st_size
    if xet.store.place("chunks", path.name).read_bytes() != hashes:
        raise Malformed("the list of its chunks disagrees with it")
    return iter(())


def _recipe(path: Path, xet: Xet, report: Report) -> Iterator[str]:
    recipe = xet.recipe(path.name)
    if recipe is None:
        raise Malformed("it is gone")
    if xet.verify(ShardFile(recipe.hash, recipe.sha256, recipe.terms)) != recipe:
        raise Malformed("its content has another size")
    report.bytes += recipe.size
    if xet.of_content(recipe.sha256):
        yield recipe.sha256


def _repo(repo: Repo, store: Store, good: set[str], report: Report) -> None:
    """Every commit that a branch, tag or pull request leads to, and every file in it."""
    state = repo.state
    heads = [*state["branches"].values(), *(tag["commit"] for tag in state["tags"].values())]
    heads += [pull[end] for pull in state["pulls"] for end in ("head", "start")]
    left, seen = list(heads), set()
    while left:
        commit_id = left.pop()
        if commit_id in seen:
            continue
        seen.add(commit_id)
        where = f"{repo.kind} {repo.id} commit {commit_id}"
        try:
            commit = repo.commit(commit_id)
            if hashlib.sha1((repo.folder / "commits" / commit_id).read_bytes()).hexdigest() != commit_id:
                report.problems.append(f"{where}: it hashes to another id")
        except (OSError, ValueError, TypeError) as error:
            report.problems.append(f"{where}: {error}")
            continue
        report.commits += 1
        left += commit.parents
        report.problems += [f"{where}: {path}: {problem}" for path, problem in _files(commit, store, good)]


def _files(commit: Commit, store: Store, good: set[str]) -> Iterator[tuple[str, str]]:
    for path, entry in commit.files.items():
        if entry.sha256 not in good:
            yield path, f"the content {entry.sha256} is missing or broken"
        elif not entry.lfs and git_oid(store.place("blobs", entry.sha256).read_bytes()) != entry.oid:
            yield path, "git's id disagrees with its content"
