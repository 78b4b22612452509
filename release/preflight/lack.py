"""One thing that is missing for a release."""

from __future__ import annotations

from typing import NamedTuple


class Lack(NamedTuple):
    """Something that is missing.

    Attributes:
        what: What is missing, and where.
        hint: How to get it.
        stage: The first stage that cannot be done without it, `compare`, or "" where nothing can begin.
        elsewhere: Whether another machine can do that stage, so that all others can be done here.
    """

    what: str
    hint: str
    stage: str = ""
    elsewhere: bool = False
