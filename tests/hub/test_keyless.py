"""The workflow of docs/keyless.md, run: data and model are released without a stored token, each by one for it alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub.utils import _auth

from release import __main__ as cli
from release.agents import pages
from release.errors import ReleaseError
from release.family import Family
from release.hub import change, plan, pulled, stage, state
from release.localhub import Account, running_hub
from release.preflight import rights
from tests import built

PAGE = Path(__file__).parents[2] / "docs/keyless.md"
TOKEN = "hf_" + "loopback" * 4
OF = ["--family", str(built.DEMO)]
VERBS: dict[str, list[list[str]]] = {  # what make runs for its targets, with PUSH=1, once everything is staged
    "release-data": [["release-data", *OF, "--push"]],
    "verify": [["publish", *OF, "--size", "mini", "--push"], ["verify", *OF, "--size", "mini", "--push"]],
}


def steps() -> list[dict[str, Any]]:
    (block,) = [block for block in pages.blocks(PAGE) if block.language == "yaml"]
    job = yaml.safe_load(block.text)["jobs"]["release"]
    assert job["permissions"] == {"id-token": "write", "contents": "read"}
    return [step for step in job["steps"] if "HF_OIDC_RESOURCE" in step.get("env", {})]


def test_the_workflow_releases_data_and_model_without_a_token(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    family: Family = built.workspace(tmp_path, reranker, monkeypatch)
    monkeypatch.setattr(pulled, "elsewhere", lambda *_: [])  # it loads torch; tests/hub/test_verify.py runs it
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_auth, "_OIDC_TOKEN_CACHE", None)
    stage.stage_dataset(family)
    stage.stage_model(family, built.SIZE)
    jobs = steps()
    resources = [step["env"]["HF_OIDC_RESOURCE"] for step in jobs]
    model = family.model_id(built.SIZE)
    assert resources == [f"datasets/{family.data_id}", model]
    with running_hub(tmp_path / "hub", [Account("maker", TOKEN, ("local",))], trust=resources) as (endpoint, _):
        owner = state.HfApi(endpoint=endpoint, token=TOKEN)
        owner.create_repo(family.data_id, repo_type="dataset", private=True)
        owner.create_repo(model, private=True)
        for line in (tmp_path / "hub/ci.env").read_text().splitlines():
            monkeypatch.setenv(*line.removeprefix("export ").split("=", 1))
        monkeypatch.delenv("HF_TOKEN", raising=False)

        monkeypatch.setenv("HF_OIDC_RESOURCE", model)  # in another order nothing is sent
        assert list(rights.publishing(family, built.SIZE)) == []
        with pytest.raises(ReleaseError, match=rf"may write {model} alone, and the release has to \w+ local/docstring"):
            change.command(built.SIZE, family.path, push=True)
        refused(monkeypatch, "local/another", lambda: state.connect(endpoint), r"no token for local/another \(")

        said = ""
        for step in jobs:
            command, *arguments = shlex.split(step["run"])
            assert (command, arguments[-1]) == ("make", "PUSH=1")
            monkeypatch.setenv("HF_OIDC_RESOURCE", step["env"]["HF_OIDC_RESOURCE"])
            for verb in VERBS[arguments[0]]:
                assert cli.main(verb) == 0
            said = capsys.readouterr().out
        assert "left: create Docstring Rerankers" in said and "hf_jwt" not in said

        monkeypatch.delenv("HF_OIDC_RESOURCE")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert [step.verb for step in plan.diff(family, built.SIZE, state.connect(endpoint))] == ["create"]
        assert cli.main(VERBS["verify"][1]) == 0  # a person adds the entry of the collection
        assert plan.diff(family, built.SIZE, state.connect(endpoint)) == []
        infos = [owner.repo_info(family.data_id, repo_type="dataset"), owner.repo_info(model)]
        assert not any(info.private for info in infos)


def refused(patch: pytest.MonkeyPatch, resource: str, do: Callable[[], object], says: str) -> None:
    """What happens where a job asks for a repository that does not trust it."""
    with patch.context() as other:
        other.setenv("HF_OIDC_RESOURCE", resource)
        with pytest.raises(ReleaseError, match=says):
            do()
