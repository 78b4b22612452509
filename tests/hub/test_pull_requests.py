"""PR=1: every change waits in one open pull request of its repository for a person, and goes on as always when it is merged."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from release.errors import ReleaseError
from release.family import Family, load
from release.hub import anywhere, change, plan, publish, pulled, stage, state
from release.localhub import Account, running_hub
from tests import built

TOKEN = "hf_" + "loopback" * 4


@pytest.fixture
def hub(fast_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(pulled, "elsewhere", lambda *_: [])  # ten seconds each; tests/hub/test_verify.py runs it
    with running_hub(fast_folder / "pull-requests", [Account("maker", TOKEN, ("local",))]) as (endpoint, _):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield endpoint


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    built.workspace(tmp_path, reranker, monkeypatch)
    facts = built.renamed(tmp_path / "family.toml", "pulls")
    stage.stage_dataset(facts)
    stage.stage_model(facts, built.SIZE)
    return facts


def with_summary(family: Family, text: str) -> Family:
    family.path.write_text(family.path.read_text().replace(family.about.summary, text))
    changed = load(family.path)
    stage.stage_dataset(changed)
    stage.stage_model(changed, built.SIZE)
    return changed


def open_requests(api: Any, name: str) -> list[int]:
    return [each.num for each in api.get_repo_discussions(name, discussion_status="open")]


def test_one_pull_request_is_opened_added_to_merged_by_a_person_and_then_released(
    family: Family, hub: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api, name = state.connect(hub), family.model_id(built.SIZE)
    options: dict[str, Any] = {"push": True, "pull": True}
    change.command(built.SIZE, family.path, **options)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["pull_requests"] == {family.data_id: 1, name: 1}
    assert api.repo_info(name).private and api.list_repo_files(name) == [".gitattributes"]  # main is as it was

    change.command(built.SIZE, family.path, **options)
    changed = with_summary(family, "Said better.")
    plan.show_diff(changed, built.SIZE, pull=True)
    assert "3 files in pull request #1, which is open" in " ".join(capsys.readouterr().out.split())
    change.command(built.SIZE, changed.path, **options)
    assert open_requests(api, name) == [1]

    for repo in state.desired_repos(changed, built.SIZE):
        api.merge_pull_request(repo.id, 1, repo_type=repo.type)
    assert publish.publish(changed, built.SIZE, hub) == []
    heads = {r.id: state.remote_repo(api, r).head or "" for r in state.desired_repos(changed, built.SIZE)}
    publish.finish(changed, built.SIZE, api, heads)
    stranger = HfApi(endpoint=hub, token=False)
    for repo in heads:
        assert "sha256 of release.json" in anywhere.verify(repo, stranger)["commit"]

    card = with_summary(changed, "Said once more.")
    change.command(built.SIZE, card.path, what="card", **options)
    assert open_requests(api, name) == [2]
    api.merge_pull_request(name, 2)
    change.command(built.SIZE, card.path, what="card", push=True)
    assert {ref.name for ref in api.list_repo_refs(name).tags} == {"pulls", "pulls-card2"}
    assert plan.diff(card, built.SIZE, api) == []
    assert "sha256 of release.json" in anywhere.verify(name, stranger)["commit"]

    with pytest.raises(ReleaseError, match=r"a pull request is opened with PUSH=1 only.*make plan PR=1"):
        change.command(built.SIZE, family.path, pull=True)
