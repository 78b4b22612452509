"""A release that a person merges: every change goes into one open pull request of its repository. Nothing here writes.

A repository that is still to be made is private, and so is its pull request; the card of a public one is proposed in public. After
the merge, `make publish` finds main as it is staged, and verification, tag and all else go on as without a pull request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from release.errors import ReleaseError
from release.hub.state import DesiredRepo, RemoteRepo, changed, hub_errors, tree
from release.hub.steps import PlanStep
from release.hub_commits import is_ours

PROPOSED = {"upload", "delete", "correct"}  # what goes into a pull request; a repository is made as always


def steps(push: list[PlanStep], api: Any) -> list[PlanStep]:
    """The steps of a push, as changes of the pull request of each repository: of the open one, or of one that is opened."""
    proposed: list[PlanStep] = []
    for step in push:
        proposed += _proposed(step, step.repo, api) if step.repo and step.verb in PROPOSED else [step]
    return proposed


def _proposed(step: PlanStep, repo: DesiredRepo, api: Any) -> list[PlanStep]:
    number = find(api, repo) if api and step.commit else None
    if number is None:
        count = len(step.upload) + len(step.delete)
        return [replace(step, verb="propose", detail=f"{count} files in a new pull request")]
    with hub_errors(api, f"look at pull request #{number} of {repo.id}"):
        there = tree(api, repo, reference(number))
        head = api.repo_info(repo.id, repo_type=repo.type, revision=reference(number)).sha
    upload, delete = changed(repo, RemoteRepo(files=there))
    if not upload and not delete:
        return []
    detail = f"{len(upload) + len(delete)} files in pull request #{number}, which is open"
    return [
        replace(
            step, verb="propose", detail=detail, upload=tuple(upload), delete=tuple(delete), commit=head, pull=number
        )
    ]


def find(api: Any, repo: DesiredRepo) -> int | None:
    """The number of the open pull request of this release or card, None where there is none.

    Raises:
        ReleaseError: There are several.
    """
    with hub_errors(api, f"look at the pull requests of {repo.id}"):
        query = {"repo_type": repo.type, "discussion_type": "pull_request", "discussion_status": "open"}
        numbers = sorted(
            each.num for each in api.get_repo_discussions(repo.id, **query) if is_ours(each.title, repo.tag)
        )
    if len(numbers) > 1:
        what = f"{repo.id} has {len(numbers)} open pull requests of this release: {', '.join(f'#{n}' for n in numbers)}"
        raise ReleaseError(what, where=str(api.endpoint), hint="close all but one of them there")
    return numbers[0] if numbers else None


def reference(number: int) -> str:
    """The revision of a pull request."""
    return f"refs/pr/{number}"
