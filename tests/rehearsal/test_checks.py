"""What a rehearsal holds against the family: a wrong choice of checkpoints, repositories that were not requested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from release.family import Family
from release.localhub import Account, running_hub
from release.rehearsal import checks, workspace
from tests import built

MAINTAINER = Account("maintainer", "hf_maintainer_publishes_here", ("local",))


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    return built.workspace(tmp_path, reranker, monkeypatch)


def choose(family: Family, **changed: Any) -> None:
    path = family.folder(built.SIZE) / "records/choice.json"
    built.edit(path, lambda record: record["measured"].update(changed))


def candidate(step: int, ndcg: float | None) -> dict[str, Any]:
    return {"step": step, "score": 0.7, "eval_loss": 2.5, "reranked_ndcg": ndcg}


@pytest.mark.parametrize(
    ("best", "last", "released", "says"),
    [
        (candidate(1, 0.6), candidate(2, 0.5), "best", None),
        (candidate(1, 0.5), candidate(2, 0.6), "last", None),
        (candidate(2, None), candidate(2, None), "best", None),
        (candidate(1, 0.5), candidate(2, 0.6), "best", "the best checkpoint is released, with 0.5 for the best"),
        (candidate(1, 0.5), candidate(2, None), "best", "chosen without measuring both"),
    ],
)
def test_the_released_checkpoint_is_the_better_one(
    best: dict[str, Any], last: dict[str, Any], released: str, says: str | None, family: Family, tmp_path: Path
) -> None:
    choose(family, candidates={"best": best, "last": last}, released=released)
    problems = list(checks._checkpoints(family, [built.SIZE]))
    assert len(problems) == bool(says) and (says is None or says in problems[0])
    work = tmp_path / "root/work"
    work.mkdir(parents=True)
    (work / "build").symlink_to(family.build.parent.resolve())
    new_workspace = workspace.Workspace(tmp_path / "root", family.path)
    assert len(checks.not_rehearsed(family, [built.SIZE], new_workspace)) == (best["step"] == last["step"])


def test_a_repository_that_nobody_asked_for_is_named(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with running_hub(tmp_path / "hub", [MAINTAINER]) as (endpoint, token):
        api = HfApi(endpoint, token=token)
        for name, kind in ((family.data_id, "dataset"), ("local/known", "model"), ("local/stray", "model")):
            api.create_repo(name, repo_type=kind)
        problems = list(checks._unexpected(family, [built.SIZE], api, ["local/known"]))
    assert problems == ["local/stray: it was not requested"]
