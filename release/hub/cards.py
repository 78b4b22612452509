"""A card that is corrected after its release: a further revision of the same version, in which nothing else differs.

The tag of a release never moves, so whoever pinned it or its commit keeps what they have. A correction is a commit on the main
branch with a tag of its own, `v1-card2`, then `v1-card3`: main is always the newest of them. That all else is as it was
released is proven by the hashes of every other file. Nothing here writes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.hub.state import (
    DesiredRepo,
    RemoteRepo,
    card_tag,
    changed,
    different,
    hub_errors,
    remote_repo,
    revision,
    tree,
)
from release.hub.steps import PlanStep, Ways
from release.hub_commits import is_ours
from release.truth import manifest, signing

# What says the same for programs, what the card is rendered from, what lists the hashes, and what signs that list follow it.
CARD = frozenset({"README.md", "croissant.json", manifest.FAMILY_FILE, manifest.FILE, *signing.FILES})
SHOWN = 40  # lines of a difference that a plan prints


def steps(
    repos: list[DesiredRepo], api: Any, ways: Ways, *, replace: bool = False
) -> tuple[list[PlanStep], list[PlanStep]]:
    """What is to be pushed and then tagged so that the cards of released `repos` are the staged ones.

    Args:
        ways: How to go on where that is refused.
        replace: What somebody else wrote into a card on the main branch may be overwritten.

    Raises:
        ReleaseError: One was not released, or more than its card would change: every file is named.
    """
    push, tags = [], []
    for repo in repos:
        remote = remote_repo(api, repo)
        if remote.private and not remote.tagged:
            what = f"{repo.id} is not released, so there is no card to correct"
            raise ReleaseError(what, where=str(api.endpoint), hint="make publish without WHAT=card uploads all of it")
        main = tree_of(api, repo, remote.head) if remote.moved else remote.files
        upload, delete = changed(repo, RemoteRepo(files=main))
        _check_only_cards(api, repo, remote, {*upload, *delete, *remote.moved}, ways)
        if (upload or delete) and not replace:
            _check_authors(api, repo, remote, ways)
        tag = card_tag(repo.tag, revision(repo.tag, remote.tag or "") + 1)
        if upload or delete:
            lines = tuple(_difference(api, repo, remote)) if "README.md" in upload else ()
            named, files = ", ".join([*upload, *delete]), (tuple(upload), tuple(delete))
            push.append(PlanStep("push", "correct", repo.id, named, repo, *files, remote.head, tag, shown=lines))
        if upload or delete or remote.head != remote.commit or not remote.tagged:
            tags.append(PlanStep("finish", "tag", repo.id, tag, repo, commit=remote.head, tag=tag))
    return push, tags


def tree_of(api: Any, repo: DesiredRepo, commit: str | None) -> dict[str, Any]:
    """The files of a repository at a commit; an error is one line."""
    with hub_errors(api, f"look at {repo.id}"):
        return tree(api, repo, commit or "main")


def _check_only_cards(api: Any, repo: DesiredRepo, remote: RemoteRepo, names: Iterable[str], ways: Ways) -> None:
    """Refuse where anything but the card differs: what is staged, the main branch, the newest tag and the release's own."""
    others = set(names)
    if remote.tag not in (None, repo.tag):
        others |= set(different(tree_of(api, repo, repo.tag), remote.files))
    if others := others - CARD:
        what = f"WHAT=card corrects a card alone, and of {repo.id} {', '.join(sorted(others)[:3])} would change"
        raise ReleaseError(what, where=str(api.endpoint), hint=f"{ways.another}: that is another release")


def _check_authors(api: Any, repo: DesiredRepo, remote: RemoteRepo, ways: Ways) -> None:
    """Refuse to overwrite what somebody else wrote on the main branch since the newest tag."""
    if not remote.moved:
        return
    with hub_errors(api, f"look at the commits of {repo.id}"):
        commits = api.list_repo_commits(repo.id, repo_type=repo.type)
    for commit in commits:
        if commit.commit_id == remote.commit:
            return
        if not is_ours(commit.title, repo.tag):
            what = f"somebody else changed the card of {repo.id} on main: {commit.title!r}"
            hint = ways.hint("take that change over into the card here", ways.card and f"{ways.card} REPLACE=1")
            raise ReleaseError(what, where=str(api.endpoint), hint=hint)


def _difference(api: Any, repo: DesiredRepo, remote: RemoteRepo) -> list[str]:
    """The lines by which the staged card differs from the one that people see now."""
    with hub_errors(api, f"read the card of {repo.id}"):
        there = api.hf_hub_download(repo.id, "README.md", repo_type=repo.type, revision=remote.head)
    old, new = (Path(path).read_text(encoding="utf-8").splitlines() for path in (there, repo.folder / "README.md"))
    lines = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:]  # without the names of the two files
    left = len(lines) - SHOWN
    return [*lines[:SHOWN], f"... and {left} more lines"] if left > 0 else lines
