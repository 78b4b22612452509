"""The staged folders are exactly what the Hub will hold, and the same inputs give the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.card import acceptance
from release.errors import ReleaseError
from release.family import Family
from release.files import list_files, sha256_folder
from release.hub import stage
from tests import built


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    return built.workspace(tmp_path, reranker, monkeypatch)


def test_staging_again_gives_the_same_bytes(family: Family) -> None:
    first = [sha256_folder(stage.stage_model(family, built.SIZE)), sha256_folder(stage.stage_dataset(family))]
    again = [sha256_folder(stage.stage_model(family, built.SIZE)), sha256_folder(stage.stage_dataset(family))]
    assert first == again


def test_the_folders_hold_the_release_and_its_evidence(family: Family) -> None:
    model = list_files(stage.stage_model(family, built.SIZE))
    assert {"README.md", "modules.json", "model.safetensors", "onnx/model.onnx", "4_Dense/config.json"} <= set(model)
    assert [name for name in model if name.startswith("records/")] == [
        f"records/{kind}.json" for kind in ("choice", "data", "engines", "evaluate", "export")
    ] + ["records/family.json"] + [f"records/{kind}.json" for kind in ("mixture", "queries", "run", "speed")]
    assert list_files(stage.stage_dataset(family)) == [
        "README.md",
        "croissant.json",
        "docstrings/train-00000-of-00001.parquet",
        "docstrings/validation-00000-of-00001.parquet",
        "manifest.json",
        "records/data.json",
        "records/family.json",
        "release.json",
    ]


def test_what_was_not_compared_is_not_staged(family: Family) -> None:
    built.edit(family.folder(built.SIZE) / "export/config.json", lambda config: config.update(hidden_size=1))
    with pytest.raises(ReleaseError, match=r"not the one that was compared.*make export"):
        stage.stage_model(family, built.SIZE)
    assert not stage.model_repo(family, built.SIZE).exists()


def test_a_failed_stage_leaves_the_earlier_one(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sha256_folder(stage.stage_model(family, built.SIZE))

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stage, "copy_file", full)
    with pytest.raises(ReleaseError, match=r"No space left.*free some space"):
        stage.stage_model(family, built.SIZE)
    assert sha256_folder(stage.model_repo(family, built.SIZE)) == before
    assert not list(family.folder(built.SIZE).glob(".*.tmp"))


def test_nothing_staged_is_shared_with_what_it_was_made_from(family: Family) -> None:
    size, folder = built.SIZE, stage.model_repo(family, built.SIZE)
    stage.stage_model(family, size)
    stage.stage_dataset(family)
    for repo in (folder, stage.dataset_repo(family)):
        assert all((repo / name).stat().st_nlink == 1 for name in list_files(repo))
    weights = folder / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\xff")
    assert list(
        stage.differences(stage.model_contents(family, size, acceptance.card_records(family, size)), folder)
    ) == ["model.safetensors: not what its sources give, make stage"]


def test_a_link_is_not_staged(family: Family) -> None:
    config = family.build / "data/mixture/manifest.json"
    config.rename(family.build / "elsewhere.json")
    config.symlink_to((family.build / "elsewhere.json").resolve())
    with pytest.raises(ReleaseError, match=r"a link, where a file belongs.*manifest\.json"):
        stage.stage_dataset(family)
