"""The data set is released on its own, once; every model after it refers to it at its commit and sends nothing of it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from release import records, results
from release.errors import ReleaseError
from release.family import Family, load
from release.files import sha256_file
from release.hub import change, data, plan, publish, pulled, stage, state, verify
from tests import built


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Family:
    built.workspace(tmp_path, reranker, monkeypatch)
    facts = built.renamed(tmp_path / "family.toml", f"d{abs(hash(request.node.name)) % 10**6}")
    stage.stage_model(facts, built.SIZE)
    return facts


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a fresh process would do, which costs ten seconds; tests/hub/test_verify.py runs it."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(pulled, "elsewhere", lambda task, *_: seen.append(task) or [])
    return seen


def test_the_data_are_released_alone_and_once_and_a_model_refers_to_them(
    family: Family, hub: str, tasks: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    api = state.connect(hub)
    change.data_command(family.path, endpoint=hub)
    assert f"create {family.data_id}: dataset, private" in capsys.readouterr().out
    assert not api.repo_exists(family.data_id, repo_type="dataset")

    change.data_command(family.path, push=True, endpoint=hub)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    info = api.repo_info(family.data_id, repo_type="dataset")
    assert not info.private and said["commit"] == info.sha and said["files"] == len(list_of(family))
    assert [repository["id"] for repository in tasks[0]["repositories"]] == [family.data_id]
    assert not api.repo_exists(family.model_id(built.SIZE))

    change.data_command(family.path, push=True, endpoint=hub)
    assert len(tasks) == 1 and "Nothing to do" in capsys.readouterr().out

    steps = publish.publish(family, built.SIZE, hub)
    assert [(step.verb, step.target) for step in steps] == [
        ("create", family.model_id(built.SIZE)),
        ("upload", family.model_id(built.SIZE)),
    ]
    verify.command(built.SIZE, family.path, push=True, endpoint=hub)
    assert [repository["id"] for repository in tasks[1]["repositories"]] == [family.model_id(built.SIZE)]
    record = records.read(family.folder(built.SIZE) / "records", results.VERIFY).measured
    assert record.repositories[family.data_id].commit == info.sha
    assert plan.diff(family, built.SIZE, api) == []


def list_of(family: Family) -> list[str]:
    (repo, _) = state.desired_repos(family, built.SIZE)
    return repo.files


def test_other_data_than_were_released_stop_a_model(family: Family, hub: str, tasks: list[dict[str, Any]]) -> None:
    change.data_command(family.path, push=True, endpoint=hub)
    shard = family.mixture_folder / "docstrings/train-00000-of-00001.parquet"
    content = bytearray(shard.read_bytes())
    content[-9] ^= 1
    shard.write_bytes(content)
    sha256 = sha256_file(shard)
    built.edit(
        family.mixture_folder / "manifest.json",
        lambda manifest: manifest["configs"]["docstrings"]["shards"][0].update(sha256=sha256),
    )
    with pytest.raises(
        ReleaseError, match=r"is released, and manifest\.json, docstrings/train-.* is not as it is here"
    ):
        data.released(family, state.connect(hub))


def test_data_of_somebody_else_are_not_released_again(family: Family) -> None:
    text = family.path.read_text().replace("[data]\n", '[data]\nmixture = "somebody/else"\n')
    family.path.write_text(text)
    with pytest.raises(ReleaseError, match=r"are somebody/else, which is published already"):
        change.data_command(load(family.path).path)
