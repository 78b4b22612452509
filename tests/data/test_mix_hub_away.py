"""A Hub that goes away while a config streams is one line; finished configs stay, and the same command goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import ACCOUNTS, client_environment, run_client


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What hub_goes_away.py saw."""
    root = tmp_path_factory.mktemp("hub")
    with running_faulty_hub(root, ACCOUNTS) as (endpoint, _):
        environment = client_environment(endpoint, tmp_path_factory.mktemp("home"), xet=False)
        return run_client(Path(__file__).with_name("hub_goes_away.py"), endpoint, environment=environment)


@pytest.mark.parametrize(("fault", "says"), [("drop", "cannot be reached"), ("503", "answers 503")])
def test_it_is_one_line_that_names_the_config(facts: dict[str, Any], fault: str, says: str) -> None:
    line = facts[fault]
    assert says in line and "config b" in line and "again" in line and "\n" not in line, line
    assert facts[f"{fault} left"] == ["a"]


def test_the_same_command_goes_on(facts: dict[str, Any]) -> None:
    assert facts["then"] == 30_000
