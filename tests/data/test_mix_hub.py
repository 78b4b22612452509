"""Mixing from a Hub: only the declared config at the pinned commit is read, and what is gone there is one clear line."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import ACCOUNTS, Http, client_environment, run_client


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Generator[Http]:
    with running_faulty_hub(tmp_path_factory.mktemp("hub"), ACCOUNTS) as (endpoint, _):
        yield Http(endpoint)


@pytest.fixture(scope="module")
def facts(http: Http, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/localhub/hub_mixing.py saw."""
    environment = client_environment(http.endpoint, tmp_path_factory.mktemp("home"))
    root = Path(__file__).resolve().parents[2]
    environment |= {"PYTHONPATH": str(root)}
    return run_client(root / "tests/localhub/hub_mixing.py", "acme", environment=environment)


def test_a_pinned_commit_is_read_and_the_newest_one_is_recorded(facts: dict[str, Any]) -> None:
    old, new = facts["commits"]
    assert (facts["revisions"]["pinned"], facts["revisions"]["newest"]) == (old, new)
    assert facts["rows"]["pinned"] == [2000, 2 * 772]
    assert facts["rows"]["newest"][0] == 1500
    assert facts["dropped"] == {"drop": 200, "duplicate": 2 * 128}
    assert facts["first and last"] == ["one 1", "two 999"]  # the files in the order of their names


def test_a_licence_that_nobody_declared_is_the_one_that_the_source_names(facts: dict[str, Any]) -> None:
    assert facts["licences"]["pinned"] == ["cc-by-4.0", "by the card of its source"]
    assert facts["licences"]["newest"] == ["cc0-1.0", None]  # declared
    assert facts["licences"]["rerank_nq"] == ["unknown", "the card of its source names none"]


def test_a_retrieval_source_gives_the_same_rows_as_its_local_copy(facts: dict[str, Any]) -> None:
    assert facts["rows"]["rerank_nq"] == [250, 40]
    assert facts["same as local"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("revision", r"revision 0{40} of acme/pretraining is gone.*config agnews.*pin a commit that exists"),
        ("repository", r"no dataset acme/none, or it is private.*config agnews.*correct source.repository"),
        ("config", r"'agnew'.*agnews.*quora.*correct source.config"),
        ("split", r"no split 'test' \(there are: train\).*correct source.split"),
        ("domain", r"no split 'fever' \(there are: nq\).*correct source.domain"),
        ("column", r"no column 'score' \(there are: query.*correct columns.label"),
        ("format", r"notes.csv is no parquet file.*source of kind files"),
    ],
)
def test_what_is_not_on_the_hub_is_one_clear_line(facts: dict[str, Any], wrong: str, says: str) -> None:
    message = facts["refused"][wrong]
    assert re.search(says, message), message
    assert "\n" not in message


def test_only_the_declared_configs_are_read(facts: dict[str, Any], http: Http) -> None:
    read = {path for method, path, status in http.log() if method == "GET" and path.endswith(".parquet")}
    assert any("/agnews/part-0.parquet" in path for path in read)
    assert not any("/quora/" in path for path in read)


@pytest.fixture(scope="module")
def published(facts: dict[str, Any], http: Http, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tests/localhub/hub_data.py saw, and the parquet files that were read meanwhile."""
    http.clear_log()
    root = Path(__file__).resolve().parents[2]
    environment = client_environment(http.endpoint, tmp_path_factory.mktemp("home")) | {"PYTHONPATH": str(root)}
    result = run_client(root / "tests/localhub/hub_data.py", "acme", environment=environment)
    read = {path for method, path, _ in http.log() if method == "GET" and path.endswith(".parquet")}
    return result | {"read": {path.partition("/resolve/")[2].partition("/")[2] for path in read}}


def test_one_config_comes_back_as_it_was_sent_and_no_other_is_fetched(published: dict[str, Any]) -> None:
    assert published["streamed"] == published["sent"]
    train = {f"quora/{name}" for name in published["files"] if name.startswith("train-")}
    assert train
    assert published["read"] == train


def test_the_card_declares_every_config_with_the_rows_it_has(published: dict[str, Any]) -> None:
    assert published["configs"] == ["default", "agnews", "quora"]
    quora = {"train": 722, "validation": 50}
    assert published["splits"]["quora"] == quora
    assert published["splits"]["default"] == {"train": 722 + 772, "validation": 50}
    assert "The labels of agnews came with the source" in published["card"]
    assert published["features"] == {"query": "string", "document": "string", "label": "float32"}


def test_shards_have_a_page_index(published: dict[str, Any]) -> None:
    assert published["page index"] == [True, True]


def test_a_published_mixture_is_taken_as_it_is_at_the_commit_that_was_settled_first(facts: dict[str, Any]) -> None:
    taken = facts["taken"]
    assert taken["settled"] == [f"acme/published at {taken['commit']}"] * 2  # although something was pushed in between
    manifest = taken["manifest"]
    assert (manifest["mixture"], manifest["revision"], manifest["teacher"]) == ("acme/published", taken["commit"], {})
    rows = {name: sum(shard["rows"] for shard in entry["shards"]) for name, entry in manifest["configs"].items()}
    assert rows == {"words": 70, "more": 30}  # repeated pairs stay: they were published
    assert {entry["revision"] for entry in manifest["configs"].values()} == {taken["commit"]}
    assert (manifest["overlap"], manifest["in_domain"]) == ("ignore", [])
    assert taken["labels"] == [float(row) for row in range(70)]
    assert taken["repositories"] == ["local/taken-mini-v1"]  # the data set is published already


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("early", "make mix"),
        ("total", r"100 pairs to train on, where 101 were published \(-1\)"),
        ("configs", "differ in the configs more"),
        ("none", "the mixture cannot be fetched.*remove `mixture` to mix the sources anew"),
    ],
)
def test_what_hinders_taking_a_mixture_is_one_line(wrong: str, says: str, facts: dict[str, Any]) -> None:
    assert re.search(says, facts["taken"]["refused"][wrong])
