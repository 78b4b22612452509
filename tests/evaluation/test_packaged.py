"""MiniLM comes from a package where the family says so, and nowhere else: its scores have another dtype than the Hub's."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from release import family
from release.errors import ReleaseError
from release.evaluation import first_stage, retrievers
from release.family import MINILM
from tests import built


def test_a_cold_cache_gives_no_other_weights_than_the_family_names(tmp_path: Path) -> None:
    stage = first_stage.first_stage(MINILM)  # at the commit of mteb's registry
    with pytest.raises(ReleaseError, match=rf"{MINILM} is not here .*hf download {MINILM} --revision [0-9a-f]{{40}}`"):
        stage.load(tmp_path)  # the package is installed, and nobody asked for it
    with pytest.raises(ReleaseError, match=r"acme/embedder cannot be fetched: the client is offline.*hf download"):
        first_stage.first_stage("acme/embedder")  # whose newest commit nobody knows
    demo = family.load(built.DEMO)
    plain = dataclasses.replace(demo, evaluation=dataclasses.replace(demo.evaluation, packaged_embedders=()))
    assert first_stage.first_stages(plain)[1].revision == stage.revision
    bm25, packaged = first_stage.first_stages(demo)
    assert (bm25.name, packaged.name) == ("bm25", MINILM)
    assert packaged.revision == retrievers.packaged_revision() and "weights sha256" in packaged.revision


def test_a_package_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("release.teachers.minilm.PACKAGE", "no_such_package")
    with pytest.raises(ReleaseError, match=r"no package holds .*ettin-release\[demo\]"):
        first_stage.packaged_minilm()


def test_only_an_embedder_that_a_package_holds_can_be_packaged(tmp_path: Path) -> None:
    file = tmp_path / "family.toml"
    shutil.copy(built.DEMO, file)
    text = file.read_text()
    file.write_text(
        text.replace(f'packaged_embedders = ["{MINILM}"]', 'packaged_embedders = ["BAAI/bge-small-en-v1.5"]')
    )
    with pytest.raises(
        ReleaseError, match=r"names 'BAAI/bge-small-en-v1.5'.*only sentence-transformers/all-MiniLM-L6-v2"
    ):
        family.load(file)
