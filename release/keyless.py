"""Publishing without a stored token: the Hub's Trusted Publishers (https://huggingface.co/docs/hub/trusted-publishers).

Where HF_OIDC_RESOURCE names a repository, the Hub's client proves by itself which CI job this is, and gets a token that may
write that repository for an hour. It may write nothing else: no other repository of the release, no collection.
"""

from __future__ import annotations

import os

from huggingface_hub import constants, get_token
from huggingface_hub.errors import HfHubHTTPError, OIDCError

from release.errors import ReleaseError

RESOURCE = "HF_OIDC_RESOURCE"
IDENTITY = ("HF_OIDC_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")  # by which others could be this job
SETUP = "name this CI job as a trusted publisher in that repository's settings (it must exist), with id-token: write"


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
