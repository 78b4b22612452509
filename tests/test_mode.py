"""What is rehearsed says so: its records, its cards; and it goes to a Hub on loopback and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release import mode, records, results
from release.card import acceptance, compare, comparison, render
from release.errors import ReleaseError
from release.hub import checks, publish, stage
from release.preflight.check import missing
from tests import built


@pytest.fixture(autouse=True)
def not_rehearsing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mode.VARIABLE, raising=False)


def rehearse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mode.VARIABLE, "1")


def mark(folder: Path) -> None:
    """Let every record say that it was measured in a rehearsal."""
    for path in folder.glob("**/records/*.json"):
        built.edit(path, lambda value: value.update(rehearsal=True))


def test_a_record_says_that_it_was_rehearsed(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = built.workspace(tmp_path, reranker, monkeypatch)
    folder = family.folder(built.SIZE) / "records"
    old = records.read(folder, results.SPEED)
    assert not old.rehearsal
    rehearse(monkeypatch)
    about = {"family": old.family, "size": old.size, "model_sha256": old.model_sha256}
    new = records.new(results.SPEED, **about, measured=old.measured, subject=old.subject)
    records.write(new, folder)
    assert records.read(folder, results.SPEED).rehearsal


def test_cards_of_a_rehearsal_carry_a_banner_and_others_none(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = built.workspace(tmp_path, reranker, monkeypatch)

    def cards() -> list[str]:
        data, manifest = acceptance.data_records(family)
        model = render.model_card(family, built.SIZE, acceptance.card_records(family, built.SIZE))
        return [model, render.dataset_card(family, data, manifest), compare.text(family, comparison.gather(family), [])]

    assert not any("rehearsal, not a release" in card for card in cards())
    rehearse(monkeypatch)
    assert all(card.partition("# ")[0].count(mode.BANNER) == 1 for card in cards())


def test_a_rehearsed_record_is_refused_by_everything_but_a_rehearsal(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = built.workspace(tmp_path, reranker, monkeypatch)
    for step in (stage.stage_dataset(family), stage.stage_model(family, built.SIZE)):
        mark(step.parent)
    with pytest.raises(ReleaseError, match=r"measured in a rehearsal.*hint: remove it, then make"):
        acceptance.card_records(family, built.SIZE)
    mark(family.build)
    with pytest.raises(ReleaseError, match="measured in a rehearsal"):
        acceptance.data_records(family)
    messages = [line for line in checks.problems(family, built.SIZE) if "rehearsal" in line]
    assert {Path(line.partition(":")[0]).stem for line in messages} >= {*stage.RECORDS, "data"}
    rehearse(monkeypatch)
    assert acceptance.card_records(family, built.SIZE).speed.rehearsal
    assert not any("rehearsal" in line for line in checks.problems(family, built.SIZE))


def test_a_cpu_stands_for_the_device_in_a_rehearsal_only(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    family = built.workspace(tmp_path, reranker, monkeypatch)
    h100 = dataclasses.replace(family, speed=dataclasses.replace(family.speed, device="H100"))
    folder = family.folder(built.SIZE) / "records"
    measured, rehearsed = records.read(folder, results.SPEED), "speed was measured on CPU"
    monkeypatch.setattr("release.preflight.machine.gpus", list)
    with pytest.raises(ReleaseError, match=rehearsed):
        acceptance.speed(measured, h100, folder)
    assert any("no H100" in lack.what for lack in missing(h100, built.SIZE))
    rehearse(monkeypatch)
    with pytest.raises(ReleaseError, match=rehearsed):
        acceptance.speed(measured, h100, folder)  # it was no rehearsal when this was measured
    acceptance.speed(dataclasses.replace(measured, rehearsal=True), h100, folder)
    assert not any("H100" in lack.what for lack in missing(h100, built.SIZE))


@pytest.mark.parametrize("endpoint", ["https://huggingface.co", "http://10.0.0.7:8080", "http://localhost.example.com"])
def test_a_rehearsal_is_published_on_loopback_only(
    endpoint: str, tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = built.workspace(tmp_path, reranker, monkeypatch)
    rehearse(monkeypatch)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with pytest.raises(ReleaseError, match=rf"loopback only.*{endpoint}"):
        publish.publish(family, built.SIZE, endpoint)
    for near in ("http://127.0.0.1:8765", "http://[::1]:9", "http://localhost:1"):
        mode.check_endpoint(near, True)
    mode.check_endpoint(endpoint, False)


def test_the_switch_is_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mode.VARIABLE, "yes")
    with pytest.raises(ReleaseError, match="RELEASE_REHEARSAL is 'yes'"):
        mode.active()


def test_an_older_record_was_no_rehearsal(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    family = built.workspace(tmp_path, reranker, monkeypatch)
    path = family.folder(built.SIZE) / "records/speed.json"
    built.edit(path, lambda value: value.pop("rehearsal"))
    assert "rehearsal" not in json.loads(path.read_text())
    assert not records.read(path.parent, results.SPEED).rehearsal


def test_records_and_the_switch_know_nothing_of_the_package_that_rehearses() -> None:
    import subprocess
    import sys

    code = "import sys, release.records, release.mode; print([name for name in sys.modules if 'rehearsal' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
