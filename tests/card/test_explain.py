"""Every number on the card and in the collection says where it comes from; one that is not there is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from release import records, results
from release.card import explain, formatting, origins
from release.card.explain import Explained
from release.errors import ReleaseError
from release.family import Family
from tests import built


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    return built.workspace(tmp_path, reranker, monkeypatch)


def test_every_number_of_card_and_collection_has_its_origin(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: list[Any] = []

    def watched(how: Any) -> Any:
        def filled(value: Any, *more: Any) -> Any:
            if origins.collecting() and isinstance(value, int | float) and not hasattr(value, "origins"):
                plain.append(value)
            return how(value, *more)

        return filled

    for name in ("score", "signed", "count", "whole", "rate", "megabytes", "share", "plain", "difference", "duration"):
        monkeypatch.setitem(formatting.FILTERS, name, watched(formatting.FILTERS[name]))
    explained = Explained(family, built.SIZE)
    assert not plain, "numbers that a filter got without their origin"
    assert len(explained.shown) > 80
    assert [figure for figure in explained.shown if not explained.origins(figure)] == []
    measured = [figure for figure in explained.shown if any(o.how == "value" for o in explained.origins(figure))]
    assert len(measured) > 0.8 * len(explained.shown)
    for figure in explained.shown:
        assert explained.lines(figure) and all(map(explained.says, explained.origins(figure)))


def test_a_number_is_a_key_of_a_record_with_its_command_machine_commit_and_scores(
    family: Family, capsys: pytest.CaptureFixture[str]
) -> None:
    explain.command(built.SIZE, "0.605", built.DEMO)
    out = capsys.readouterr().out
    facts = json.loads(out.splitlines()[-1])["origins"]
    mean = next(fact for fact in facts if fact["key"] == "measured.means.all.reranked_ndcg")
    assert (mean["file"], mean["queries"]) == ("records/evaluate.json", "records/queries.json")
    record = records.read(family.folder(built.SIZE) / "records", results.EVALUATE)
    assert (mean["command"], mean["commit"], mean["created"]) == (record.command, record.commit, record.created)
    assert mean["machine"].startswith("CPU (")
    assert "NDCG@10 0." in out and "records/evaluate.json" in out


@pytest.mark.parametrize(
    ("figure", "file", "key"),
    [
        ("153,345", "records/run.json", "measured.parameters"),
        ("153345", "records/run.json", "measured.parameters"),
        ("20", "records/evaluate.json", "measured.tasks.0.top_k"),
        ("0.813", "records/evaluate.json", "measured.calibration.temperature"),
        ("876", "records/speed.json", "measured.configurations.1.peak_memory_mb"),
        ("95", "release/card/tables.py", "line "),
        ("2019", "cards/citations/sentence-transformers.bib", "line "),
    ],
)
def test_each_kind_of_number_is_found(family: Family, figure: str, file: str, key: str) -> None:
    explained = Explained(family, built.SIZE)
    matches = explained.origins(explain.number(figure, explained))
    assert any(origin.file == file and origin.key.startswith(key) for origin in matches), matches


def test_a_number_that_is_not_there_is_refused_with_the_nearest(family: Family) -> None:
    explained = Explained(family, built.SIZE)
    with pytest.raises(ReleaseError, match=r"no 0\.6051 there; .*the nearest that is shown is 0\.605"):
        explain.number("0.6051", explained)
    with pytest.raises(ReleaseError, match=r"'fast' is no number"):
        explain.number("fast", explained)


def test_another_record_is_another_origin(family: Family) -> None:
    measured = Explained(family, built.SIZE)
    calibration = dataclasses.replace(built.evaluation().calibration, temperature=0.719)
    built.measure_again(family, "evaluate", calibration=calibration)
    assert explain.number("0.719", Explained(family, built.SIZE)) not in measured.shown
