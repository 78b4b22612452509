"""Only a model that was trained as its family says gets a card: no smoke test, no part of a training, no model that got worse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from release import mode
from release.__main__ import main
from release.card import acceptance, comparison
from release.errors import ReleaseError
from release.family import Family
from tests import built

UNFIT: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a smoke test": (
        {},
        {"smoke": True, "data_rows": 64},
        r"SMOKE_TEST: the model learnt from 64 pairs.*unset SMOKE_TEST",
    ),
    "a short training": ({"steps": 616}, {}, r"stopped after 616 of 617 steps \(39,488 pairs\).*make train"),
    "another batch": ({"steps": 154}, {"global_batch_size": 256}, "stopped after 154 of 617 steps"),
    "a worse model": ({"score": 0.4999}, {}, "REGRESSION: NDCG@10 is 0.4999 on the nano sets and was 0.5000 before"),
}


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    monkeypatch.delenv(mode.VARIABLE, raising=False)
    return built.workspace(tmp_path, reranker, monkeypatch)


def edit(folder: Path, measured: dict[str, Any], subject: dict[str, Any], **more: Any) -> None:
    def change(record: dict[str, Any]) -> None:
        record["measured"].update(measured)
        record["subject"].update(subject)
        record.update(more)

    built.edit(folder / "records/run.json", change)


@pytest.mark.parametrize("case", UNFIT)
def test_a_model_that_was_not_trained_as_the_family_says_gets_no_card(
    case: str, family: Family, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured, subject, says = UNFIT[case]
    folder = family.folder(built.SIZE)
    acceptance.card_records(family, built.SIZE)
    edit(folder, measured, subject)
    with pytest.raises(ReleaseError, match=says):
        acceptance.card_records(family, built.SIZE)
    before = (folder / "README.md").read_bytes() if (folder / "README.md").is_file() else None
    assert main(["card", "--family", str(built.DEMO), "--size", built.SIZE]) == 1
    assert "records/run.json" in capsys.readouterr().err
    assert ((folder / "README.md").read_bytes() if (folder / "README.md").is_file() else None) == before
    monkeypatch.setenv(mode.VARIABLE, "1")
    with pytest.raises(ReleaseError, match=says):
        acceptance.card_records(family, built.SIZE)  # rehearsing now makes no rehearsal of what was trained before
    edit(folder, measured, subject, rehearsal=True)
    assert acceptance.card_records(family, built.SIZE).run.rehearsal


def test_a_batch_that_was_never_full_may_be_left_out(family: Family) -> None:
    edit(family.folder(built.SIZE), {"steps": 617}, {"data_rows": 617 * 64 + 63})
    acceptance.card_records(family, built.SIZE)


def test_what_was_not_trained_to_the_end_stands_in_no_comparison(family: Family) -> None:
    assert [model.label for model in comparison.gather(family).models if model.role == comparison.OURS] == [built.SIZE]
    edit(family.folder(built.SIZE), {"steps": 10}, {})
    collector = comparison.RecordCollector(family)
    name = family.model_name(built.SIZE)
    assert collector.model(family.folder(built.SIZE), built.SIZE, name, built.SIZE, comparison.OURS) is None
    assert ["stopped after 10 of 617 steps" in line for line in collector.left_out] == [True]


def test_evaluations_in_two_dtypes_do_not_stand_side_by_side(family: Family) -> None:
    from release import records, results

    path = family.folder(built.SIZE) / "records"
    ours = records.read(path, results.EVALUATE)
    other = dataclasses.replace(ours, subject=dataclasses.replace(ours.subject, dtype="bfloat16"), size="other")
    with pytest.raises(ReleaseError, match="measured in float32, not in bfloat16 as other"):
        acceptance.comparable(ours, other, path)
