"""Two Hubs that the tests of this folder share, one of them with faults on demand."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from release.localhub import running_hub
from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import ACCOUNTS, SECRET, Http


@pytest.fixture(scope="session")
def root(fast_folder: Path) -> Path:
    (fast_folder / "plain").mkdir()
    return fast_folder / "plain" / "hub"


@pytest.fixture(scope="session")
def hub(root: Path) -> Generator[Http]:
    """A Hub with a public repo, acme/open, and a private one, acme/closed."""
    with running_hub(root, ACCOUNTS) as (endpoint, token):
        http = Http(endpoint, token)
        http.create("acme/open")
        http.create("acme/closed", private=True)
        assert http.commit_lfs("acme/closed", "secret.bin", http.lfs("acme/closed", SECRET)).status == 200
        yield http


@pytest.fixture
def nothing_changes(hub: Http, root: Path) -> Generator[None]:
    """Whatever a test tries: the branches stay where they are, and no file appears beside the Hub's own."""
    before = hub.head("acme/open"), hub.head("acme/closed")
    outside = sorted(root.parent.iterdir())
    yield
    assert (hub.head("acme/open"), hub.head("acme/closed")) == before
    assert sorted(root.parent.iterdir()) == outside
    assert not list((root / "tmp").glob("*")), "an upload that was refused is still there"


@pytest.fixture(scope="session")
def faulty_root(fast_folder: Path) -> Path:
    return fast_folder / "faulty"


@pytest.fixture(scope="session")
def faulty_hub(faulty_root: Path) -> Generator[Http]:
    """A Hub with faults on demand, and a log of its requests."""
    with running_faulty_hub(faulty_root, ACCOUNTS) as (endpoint, token):
        yield Http(endpoint, token)
