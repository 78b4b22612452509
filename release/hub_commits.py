"""What the commits of a release are called, by which a repository on a Hub is known again: one rule for all who ask."""

from __future__ import annotations

import re
from typing import Any


def commit_title(tag: str) -> str:
    """What the commits of a release, or of a revision of its card, are called."""
    return f"Release {tag}"


def is_ours(title: str, tag: str) -> bool:
    """Whether a commit of this title was made by a release of `tag` or a revision of its card, merged by a person or not."""
    return re.fullmatch(rf"{re.escape(commit_title(tag))}(-card\d+)?( \(#\d+\))?", title) is not None


def merged_pull(title: str) -> int | None:
    """The number of the pull request that a commit of this title merged, None where it merged none."""
    match = re.search(r" \(#(\d+)\)$", title)
    return int(match[1]) if match else None


def has_ours(api: Any, repo_id: str, repo_type: str, tag: str) -> bool:
    """Whether any commit of a repository was made by a release of `tag`, so that this project may go on with it."""
    return any(is_ours(commit.title, tag) for commit in api.list_repo_commits(repo_id, repo_type=repo_type))
