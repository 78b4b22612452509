"""A Hub for the tests of a file that release to the same one."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from huggingface_hub import constants

from release.localhub import Account, running_hub

TOKEN = "hf_" + "loopback" * 4


@pytest.fixture(scope="module")
def patch() -> Generator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        yield patched


@pytest.fixture(scope="module")
def hub(fast_folder: Path, patch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Generator[str]:
    """A Hub whose account belongs to the embedded family's organisation, and a client that may make requests."""
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setenv("HF_TOKEN", TOKEN)
    with running_hub(fast_folder / request.path.stem, [Account("maker", TOKEN, ("local",))]) as (endpoint, _):
        yield endpoint
