"""A release becomes public only after it came back from the Hub as it was staged, and works as its card says."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

import pytest

from release import records, results
from release.errors import ReleaseError
from release.family import Family
from release.hub import plan, publish, pulled, stage, state, verify
from release.localhub import Account, running_hub
from tests import built

TOKEN = "hf_" + "loopback" * 4


@pytest.fixture
def hub(fast_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """A fresh Hub, and a client that may make requests."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running_hub(fast_folder / tmp_path.name, [Account("maker", TOKEN, ("local",))]) as (endpoint, _):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        yield endpoint


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    facts = built.workspace(tmp_path, reranker, monkeypatch)
    stage.stage_dataset(facts)
    stage.stage_model(facts, built.SIZE)
    return facts


def private(family: Family, endpoint: str) -> list[bool]:
    api = state.connect(endpoint)
    return [state.remote_repo(api, repo).private for repo in state.desired_repos(family, built.SIZE)]


def test_whatever_a_record_says_it_is_pulled_back_and_compared_then_public_and_that_only_once(
    family: Family, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.publish(family, built.SIZE, hub)
    verify.command(built.SIZE, built.DEMO)  # looks, and changes nothing on the Hub
    assert private(family, hub) == [True, True]
    sha256 = records.model_hash(family.folder(built.SIZE) / "model")
    measured = records.read(family.folder(built.SIZE) / "records", results.VERIFY, model_sha256=sha256).measured
    assert [row.form for row in measured.forms] == ["CrossEncoder", "AutoModelForSequenceClassification", "ONNX"]
    assert all(row.max_score_difference <= row.tolerance for row in measured.forms)
    assert (measured.pairs, measured.snippets) == (64, 6)  # five of the model's card, one of the dataset's
    for repo in state.desired_repos(family, built.SIZE):
        assert measured.repositories[repo.id].files == len(repo.files)

    with monkeypatch.context() as patch:  # anybody can write that record: what is still private is pulled back again
        patch.setattr(pulled, "elsewhere", lambda *_: pytest.fail("pulled back"))
        with pytest.raises(pytest.fail.Exception, match="pulled back"):
            verify.command(built.SIZE, built.DEMO, push=True)
    assert private(family, hub) == [True, True]

    with monkeypatch.context() as patch:  # and comes back as it did above, which need not take eight seconds again
        patch.setattr(pulled, "elsewhere", lambda *_: [asdict(row) for row in measured.forms])
        verify.command(built.SIZE, built.DEMO, push=True)
    assert private(family, hub) == [False, False]
    monkeypatch.setattr(pulled, "elsewhere", lambda *_: pytest.fail("verified twice"))
    verify.command(built.SIZE, built.DEMO, push=True)
    assert plan.diff(family, built.SIZE, state.connect(hub)) == []


def test_what_is_not_there_as_staged_is_not_verified(family: Family, hub: str) -> None:
    with pytest.raises(ReleaseError, match=r"is not there as it is staged.*make publish PUSH=1"):
        verify.command(built.SIZE, built.DEMO, push=True)


SPOIL = """
import huggingface_hub
from pathlib import Path
download = huggingface_hub.snapshot_download
def spoiled(name, repo_type, revision, **options):
    path = Path(download(name, repo_type=repo_type, revision=revision, **options), "{file}")
    if repo_type == "model":
        path.unlink(missing_ok=True)
        {then}
    return str(path.parents[{depth}])
huggingface_hub.snapshot_download = spoiled
"""


SPOILT = {"README.md": "path.write_text('other')", "onnx/model.onnx": "pass", "added.json": "path.write_text('{}')"}


def test_a_file_that_comes_back_different_keeps_it_private(
    family: Family, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish.publish(family, built.SIZE, hub)
    fetch = pulled.FETCH
    for file, then in SPOILT.items():
        monkeypatch.setattr(pulled, "FETCH", SPOIL.format(file=file, then=then, depth=file.count("/")) + fetch)
        with pytest.raises(ReleaseError, match=rf"{re.escape(file)} came back different"):
            verify.command(built.SIZE, built.DEMO, push=True)
        assert private(family, hub) == [True, True]
        assert not (family.folder(built.SIZE) / "records/verify.json").exists()


def test_a_snippet_or_a_score_that_fails_is_one_line(family: Family, hub: str) -> None:
    api = state.connect(hub)
    with pytest.raises(ReleaseError, match=r"does not work when it is pulled back \(.*\).*http://127") as caught:
        pulled.elsewhere({"repositories": [{"id": "local/absent", "type": "model", "commit": "0" * 40}]}, api, 0)
    assert "\n" not in str(caught.value) and TOKEN not in str(caught.value)
