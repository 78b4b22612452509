"""The one switch of a rehearsal, RELEASE_REHEARSAL=1: what is measured under it says so, and never leaves this machine.

With it a CPU stands for the family's device and a short training counts; records say `rehearsal`, cards carry a banner, and
publishing refuses every Hub but one on loopback.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from release.errors import ReleaseError

VARIABLE = "RELEASE_REHEARSAL"
ORGANIZATION = "RELEASE_ORG"  # ORG=name of make, --org of every verb: releases any family under another organisation
BANNER = (
    "> **A rehearsal, not a release.** The models are stand-ins with random weights and so is all data; every number below only "
    "shows that the path from mixture to publication works.\n"
)


def active() -> bool:
    """Whether this process rehearses.

    Raises:
        ReleaseError: The variable holds something else than nothing, 0 or 1.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise ReleaseError(f"{VARIABLE} is {value!r}", hint="1 rehearses, anything else must be removed")
    return value == "1"


def amount(usual: int, rehearsed: int) -> int:
    """How many texts a stage takes: in a rehearsal few, as random weights say no more on many."""
    return rehearsed if active() else usual


def check_endpoint(endpoint: str, rehearsed: bool) -> None:
    """Refuse to write what was rehearsed to a Hub that others can reach.

    Raises:
        ReleaseError: The endpoint is not on loopback.
    """
    if rehearsed and not on_loopback(endpoint):
        what = "a rehearsal is published on a Hub on loopback only"
        hint = f"measure it without {VARIABLE}, in a build folder of its own"
        raise ReleaseError(what, where=endpoint, hint=hint)


def on_loopback(endpoint: str) -> bool:
    """Whether only this machine reaches an endpoint."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
