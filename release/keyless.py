"""Publishing without a stored token: the Hub's Trusted Publishers (https://huggingface.co/docs/hub/trusted-publishers).

Where HF_OIDC_RESOURCE names a repository, the Hub's client proves by itself which CI job this is, and gets a token that may
write that repository for an hour. It may write nothing else: no other repository of the release, no collection.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from huggingface_hub import constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OIDCError

from release.errors import ReleaseError

RESOURCE = "HF_OIDC_RESOURCE"
IDENTITY = ("HF_OIDC_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")  # by which others could be this job
SETUP = "name this CI job as a trusted publisher in that repository's settings (it must exist), with id-token: write"


class _Step(Protocol):
    verb: str
    target: str
    repo: Any


Step = TypeVar("Step", bound=_Step)


def resource() -> str | None:
    """The one repository that the token of this job may write, as in `datasets/org/name`; None where it is no such token."""
    return os.environ.get(RESOURCE) or None


def token(endpoint: str) -> str | None:
    """The token that the client uses at `endpoint`; None where there is none.

    Raises:
        ReleaseError: The Hub does not take this job for a trusted publisher, or there is no job.
    """
    constants.ENDPOINT = endpoint  # with which the client exchanges, and for which it says who this is
    try:
        return get_token()
    except (OIDCError, HfHubHTTPError, KeyError, ValueError) as error:
        what = f"no token for {resource()} ({str(error).strip().splitlines()[0]})"
        raise ReleaseError(what, where=endpoint, hint=SETUP) from error


def own(steps: Iterable[Step]) -> list[Step]:
    """The steps that this token may take: all, or without the collection's where it is limited to a repository.

    Raises:
        ReleaseError: Another repository of the release is to be written.
    """
    limit, steps = resource(), list(steps)
    if limit is None:
        return steps
    for step in steps:
        if step.repo is not None and _name(step.repo) != limit:
            what = f"this token may write {limit} alone, and the release has to {step.verb} {step.target}"
            hint = f"make release-data PUSH=1 with {RESOURCE}=datasets/... first, then the model with its own"
            raise ReleaseError(what, hint=hint)
    return [step for step in steps if step.repo is not None]


def left(steps: Iterable[Step]) -> list[str]:
    """What is left for somebody who may write the collection, a line each."""
    return [f"{step.verb} {step.target}" for step in steps if step.repo is None] if resource() else []


def _name(repo: Any) -> str:
    return repo.id if repo.type == "model" else f"{repo.type}s/{repo.id}"
