"""`make compare` measures what no record shows yet, and says why a model cannot be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from release import compared, family, mode
from release.card import compare, comparison
from release.errors import CannotRun, ReleaseError
from release.family import Family
from release.preflight.machine import has_device
from tests import built

ETTIN = built.DEMO.parent / "ettin.toml"
M0 = "jinaai/jina-reranker-m0"


@pytest.fixture
def ettin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The Ettin family with records of the sizes, the teacher and the first three of the compared rerankers."""
    monkeypatch.chdir(tmp_path)
    facts = family.load(ETTIN)
    built.write_comparison(facts)
    return facts


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is measured, without the hours that it takes."""
    calls: list[tuple[str, str]] = []

    def measured(kind: str, name: str) -> None:
        if name == M0:
            raise CannotRun("it brings code of its own", where=name)
        calls.append((kind, name))

    monkeypatch.setattr("release.evaluation.evaluate.evaluate_compared", lambda _, name: measured("evaluate", name))
    monkeypatch.setattr("release.speed.benchmark.measure_other", lambda _, name: measured("speed", name))
    return calls


def test_only_what_no_record_shows_is_measured(ettin: Family, measurements: list[tuple[str, str]]) -> None:
    rest = [name for name in ettin.evaluation.compared[3:] if name != M0]
    assert compared.measure_missing(ettin) == 2 * len(rest)
    assert measurements == [(kind, name) for name in rest for kind in ("evaluate", "speed")]
    measurements.clear()
    (ettin.build / "teacher/records/speed.json").unlink()
    compared.measure_missing(ettin)
    assert measurements[0] == ("speed", ettin.teacher.model)


def test_a_model_that_cannot_be_run_is_listed_with_its_reason(
    ettin: Family, measurements: list[tuple[str, str]]
) -> None:
    assert M0 in comparison.gather(ettin).unmeasured
    compared.measure_missing(ettin)
    gathered = comparison.gather(ettin)
    assert f"{M0} cannot be run: it brings code of its own" in gathered.left_out
    assert M0 not in gathered.unmeasured
    assert f"- {M0} cannot be run" in compare.text(ettin, gathered, [])


def test_a_hub_that_is_away_is_no_reason(
    ettin: Family, measurements: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise ReleaseError("no CrossEncoder there (no network)")

    monkeypatch.setattr("release.evaluation.evaluate.evaluate_compared", away)
    with pytest.raises(ReleaseError, match="no network"):
        compared.measure_missing(ettin)
    assert not comparison.gather(ettin).left_out


def test_models_are_measured_on_the_familys_device_or_in_a_rehearsal(
    ettin: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(mode.VARIABLE, raising=False)
    for names, here in (([], False), (["NVIDIA A100"], False), (["NVIDIA H100 80GB HBM3"], True)):
        monkeypatch.setattr("release.preflight.machine.devices", lambda names=names: names)
        assert has_device(ettin) is here
    monkeypatch.setattr("release.preflight.machine.devices", list)
    assert has_device(family.load(built.DEMO))  # its device is a CPU
    monkeypatch.setenv(mode.VARIABLE, "1")
    assert has_device(ettin)
