"""croissant.json is what catalogues and programs read of the training data: valid, complete, and from the manifest alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release.card import acceptance, croissant
from release.family import Family
from tests import built


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    return built.workspace(tmp_path, reranker, monkeypatch)


def test_the_library_of_the_standard_finds_nothing_wrong(family: Family) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed: pip install '.[croissant]'")
    path = Path("croissant.json")
    path.write_text(croissant.text(family, *acceptance.data_records(family)))
    metadata = mlcroissant.Dataset(jsonld=path).metadata
    assert not metadata.ctx.issues.errors and not metadata.ctx.issues.warnings
    assert [record.name for record in metadata.record_sets] == ["docstrings"]
    assert [field.name for field in metadata.record_sets[0].fields] == ["query", "document", "label"]
    value = json.loads(path.read_text())
    value["recordSet"][0]["field"][0]["source"]["fileSet"]["@id"] = "nowhere"  # what is wrong is found
    path.write_text(json.dumps(value))
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=path)


def test_the_fields_for_responsible_ai_say_who_labelled_and_what_is_not_known(family: Family) -> None:
    data, manifest = acceptance.data_records(family)
    value = json.loads(croissant.text(family, data, manifest))
    assert value["rai:machineAnnotationTools"] == ["bm25-minilm-hybrid"]
    assert "Nobody judged" in value["rai:dataAnnotationProtocol"]
    assert "docstrings: 2 duplicates; 1 unreadable for the teacher" in value["rai:dataPreprocessingProtocol"][0]
    rows = sum(shard["rows"] for shard in manifest["configs"]["docstrings"]["shards"])
    assert f"{rows} pairs" in value["recordSet"][0]["description"]
