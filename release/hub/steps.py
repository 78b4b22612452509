"""One change on a Hub: what plans list and what is carried out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
