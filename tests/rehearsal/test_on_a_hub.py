"""Stand-ins on a Hub: read at their commits, known by their commits, and refused where nobody can say how they are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mteb
import pytest

from release.localhub import Account, fsck, running_hub
from tests.localhub.hub_fixtures import client_environment, run_client

ORGANIZATIONS = ("Qwen", "acme", "google", "jinaai", "lightonai", "mixedbread-ai", "mteb", "sentence-transformers")
UPSTREAM = Account("upstream", "hf_upstream_owns_all", ORGANIZATIONS)


@pytest.fixture(scope="module")
def root(fast_folder: Path) -> Path:
    return fast_folder / "stand-ins"


@pytest.fixture(scope="module")
def facts(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What hub_reads.py saw."""
    with running_hub(root, [UPSTREAM]) as (endpoint, token):
        environment = client_environment(endpoint, tmp_path_factory.mktemp("home"), token=token)
        return run_client(Path(__file__).with_name("hub_reads.py"), str(root), environment=environment)


def test_another_commit_under_the_same_name_is_another_revision(facts: dict[str, Any]) -> None:
    assert facts["revisions"] == facts["commits"]
    assert len(set(facts["revisions"])) == 2
    named, commit = facts["teacher"]
    assert named == commit


def test_a_model_that_cannot_be_run_is_refused_by_its_reason(facts: dict[str, Any]) -> None:
    kind, line = facts["refused"]["jinaai/jina-reranker-m0"]
    assert (kind, "it needs code of its own" in line) == ("CannotRun", True)
    kind, line = facts["refused"]["acme/own-code"]  # no table names it
    assert (kind, "Qwen2VLConfig" in line) == ("CannotRun", True)
    assert "make train" not in line
    kind, line = facts["refused"]["mixedbread-ai/mxbai-rerank-large-v2"]
    assert (kind, "a causal reranker without modules.json" in line) == ("CannotRun", True)
    kind, line = facts["refused"]["acme/none"]  # it may be there tomorrow
    assert (kind, "hf download acme/none" in line) == ("ReleaseError", True)


def test_a_model_is_read_where_its_form_is_documented(facts: dict[str, Any]) -> None:
    read, pull, main, form = facts["pulled"]
    assert read == pull != main
    assert form.startswith("Qwen3ForCausalLM, logit of yes minus logit of no, chat template ")


def test_mteb_reads_the_commit_that_it_pins(facts: dict[str, Any], root: Path) -> None:
    revision, documents = facts["task"]
    assert revision == mteb.get_task("TRECCOVID").metadata.dataset["revision"]
    assert documents > 0
    assert fsck(root).problems == []


def test_an_embedder_that_was_loaded_is_known_without_the_hub(facts: dict[str, Any]) -> None:
    again, first = facts["embedder"]
    assert again == first
    assert len(first) == 40
