"""Preflight asks for everything that a family names, by metadata, and says in its own words what cannot be fetched."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release import spec
from release.family import load
from release.localhub import running_hub
from release.preflight import objects
from tests.localhub.hub_fixtures import client_environment, run_client
from tests.preflight.people import READER, UPSTREAM

ROOT = Path(__file__).resolve().parents[2]
SMALL = "tests/rehearsal/small.toml"


@pytest.fixture(scope="module")
def facts(fast_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What hub_asks.py saw."""
    root = fast_folder / "asked"
    with running_hub(root, [UPSTREAM, READER]) as (endpoint, token):
        environment = client_environment(endpoint, tmp_path_factory.mktemp("home"), token=token)
        return run_client(Path(__file__).with_name("hub_asks.py"), str(root), environment=environment)


def test_an_empty_hub_lacks_every_object_and_says_for_which_stage(facts: dict[str, Any]) -> None:
    assert len(facts["ids"]) == 11  # without jina-reranker-m0, which nothing runs
    for name in facts["ids"]:
        (line,) = (what for what, *_ in facts["empty"] if repr(name) in what)
        assert f"{name} is not on http://127.0.0.1:" in line
    assert len(facts["empty"]) == 11
    stages = {what.split()[1]: stage for what, _, stage in facts["empty"]}
    assert stages == {
        "source": "mix",
        "task": "mix",
        "teacher": "score",
        "encoder": "train",
        "nano": "train",
        "embedder": "select",
        "speed": "speed",
        "compared": "compare",
    }


def test_what_a_repository_lacks_is_named(facts: dict[str, Any]) -> None:
    lines = {what: (hint, stage) for what, hint, stage in facts["odd"]}
    said = "\n".join(lines)
    assert "no source 'lightonai/embeddings-pre-training': it has no config 'amazon_reviews'" in said
    assert "no source 'acme/reranked': it has no config 'documents'" in said
    assert "no nano 'sentence-transformers/NanoBEIR-en': config 'corpus' has no split 'NanoFiQA2018'" in said
    assert "no task 'mteb/trec-covid': the pinned commit of mteb/trec-covid is gone" in said
    (gate,) = (what for what in lines if "gated" in what)
    assert gate.startswith("no embedder 'google/embeddinggemma-300m': google/embeddinggemma-300m is gated")
    assert "accept the conditions on http://127.0.0.1:" in lines[gate][0] and lines[gate][1] == "select"
    assert len(lines) == 5
    (hint,) = facts["gated data"]  # where a data set's page is, and not a model's
    assert "/datasets/acme/reranked, " in hint
    assert "/google/embeddinggemma-300m, " in lines[gate][0] and "/datasets/" not in lines[gate][0]


def test_a_citation_and_a_config_that_nobody_wrote_are_said_before_anything_is_made() -> None:
    demo, mixture = load(ROOT / "recipes/demo.toml"), spec.load(ROOT / "datasets/docstring-reranker-data.yaml")
    assert objects.local(demo, mixture, "mini", {"mix", "card"}) == []
    data, card = replace(demo.data, validation="quora"), replace(demo.card, citations=("nobody",))
    lacks = objects.local(replace(demo, data=data, card=card), mixture, "mini", {"mix", "card"})
    assert [(lack.what.split(" in ")[0], lack.stage) for lack in lacks] == [
        ("no config 'quora'", "mix"),
        ("no citation 'nobody'", "card"),
    ]


def test_only_what_is_still_to_be_done_needs_anything(facts: dict[str, Any]) -> None:
    assert facts["only score"] == []


def test_a_token_that_is_not_valid_is_said_once_and_is_no_missing_encoder(facts: dict[str, Any]) -> None:
    ((what, hint, stage),) = facts["invalid"]
    assert what.startswith("the token is not valid at http://127.0.0.1:") and "11 objects" in what
    assert "HF_TOKEN" in hint and stage == "mix"


def test_every_reader_calls_a_gate_and_an_invalid_token_by_their_names(facts: dict[str, Any]) -> None:
    gate, nobody = facts["read"].values()
    assert len(gate) == len(nobody) == 4
    for line in gate:
        assert "is gated, and this token has no access to it" in line and "accept the conditions" in line, line
    for line in nobody:
        assert "the token is not valid at http://127.0.0.1:" in line, line


def test_a_whole_hub_lacks_nothing_and_says_how_much_is_to_be_fetched(facts: dict[str, Any]) -> None:
    assert facts["whole"] == []
    assert facts["fetched"]["build/small-reranker"] == 2 * 2 * 1000  # pairs and mixture of two configs
    assert sum(facts["fetched"].values()) > 10_000


def test_a_hub_that_cannot_be_reached_is_one_line_and_no_stack_of_errors(tmp_path: Path) -> None:
    environment = client_environment("http://127.0.0.1:9", tmp_path, token=None)
    command = [sys.executable, "-m", "release", "preflight", "--family", SMALL, "--size", "tiny"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "http://127.0.0.1:9 cannot be reached" in done.stderr and "11 objects" in done.stderr
    assert "no H100 (no CUDA device is here) (for make speed)" in done.stderr
    assert "token" not in done.stderr and "Traceback" not in done.stderr
    assert os.environ.get("HF_TOKEN") is None
