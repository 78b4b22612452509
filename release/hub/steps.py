"""One change on a Hub: what plans list, what is carried out, and what of it a token for one repository may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from release import keyless
from release.errors import ReleaseError
from release.family import Family
from release.hub.state import DesiredRepo


@dataclass(frozen=True)
class PlanStep:
    """One change on a Hub.

    Attributes:
        phase: `push` (before verification, private) or `finish` (after it).
        verb, target, detail: What is done, for people.
        repo: Whose change it is, None for the collection's.
        upload, delete: Files of the repository.
        commit: What is tagged, or what a push comes after; None for a repository that is still to be created.
        tag: The tag that it makes, or that a correction leads to.
        pull: The number of the open pull request that it adds to.
        shown: Lines of a difference, for people.
    """

    phase: Literal["push", "finish"]
    verb: str
    target: str
    detail: str
    repo: DesiredRepo | None = field(default=None, repr=False)
    upload: tuple[str, ...] = field(default=(), repr=False)
    delete: tuple[str, ...] = field(default=(), repr=False)
    commit: str | None = field(default=None, repr=False)
    tag: str | None = field(default=None, repr=False)
    pull: int | None = field(default=None, repr=False)
    shown: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Ways:
    """How a maintainer goes on where a step is refused, for hints; None where there is no such way.

    Attributes:
        another: How the same is released under another name.
        card: What corrects a card alone.
        replace: What overwrites, or takes back, what is there.
    """

    another: str
    card: str | None = None
    replace: str | None = None

    @classmethod
    def of(cls, family: Family, verb: str = "publish") -> Ways:
        """Those of a family, or with `release-data` of its data alone."""
        return cls(f"raise `version` in {family.path}", f"make {verb} WHAT=card PUSH=1", f"make {verb} REPLACE=1")

    def hint(self, *parts: str | None) -> str:
        """What is there of several ways, as one hint."""
        return "; or ".join(part for part in parts if part)


def own(steps: Iterable[PlanStep]) -> list[PlanStep]:
    """The steps that this token may take: all, or without the collection's where it is limited to a repository.

    Raises:
        ReleaseError: Another repository of the release is to be written.
    """
    limit, steps = keyless.resource(), list(steps)
    if limit is None:
        return steps
    for step in steps:
        if step.repo is not None and _resource(step.repo) != limit:
            what = f"this token may write {limit} alone, and the release has to {step.verb} {step.target}"
            hint = f"make release-data PUSH=1 with {keyless.RESOURCE}=datasets/... first, then the model with its own"
            raise ReleaseError(what, hint=hint)
    return [step for step in steps if step.repo is not None]


def left_for_others(steps: Iterable[PlanStep]) -> list[str]:
    """What is left for somebody who may write the collection, a line each."""
    return [f"{step.verb} {step.target}" for step in steps if step.repo is None] if keyless.resource() else []


def _resource(repo: DesiredRepo) -> str:
    return repo.id if repo.type == "model" else f"{repo.type}s/{repo.id}"
