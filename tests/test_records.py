"""A record is what its dataclasses say, on the disk too: anything else is one line that names file, key and command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from release import records, results
from release.errors import ReleaseError
from release.records import Record
from release.results.training import RunSubject, TrainingRun
from tests import built


@pytest.fixture
def run(tmp_path: Path) -> Record[TrainingRun, RunSubject]:
    """A record of training, not yet written."""
    measured, subject = built.training_run(), built.run_subject(tmp_path)
    return records.new(results.RUN, family="family", size="mini", measured=measured, subject=subject)


# The record of a verification is made by a Hub only: tests/hub/test_verify.py reads one from the disk.
@pytest.mark.parametrize("name", [name for name in results.KINDS if name not in ("verify", "finetune")])
def test_every_kind_is_read_as_it_was_written(name: str, tmp_path: Path, reranker: Path) -> None:
    family = built.family()
    folder = built.template(reranker) / (family.build if name == "data" else family.folder(built.SIZE)) / "records"
    record = records.read(folder, results.KINDS[name])
    assert isinstance(record.measured, results.KINDS[name].result)
    assert isinstance(record.subject, results.KINDS[name].subject)
    assert records.write(record, tmp_path).read_bytes() == (folder / f"{name}.json").read_bytes()


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a key is missing": (lambda value: value["measured"]["best"].pop("eval_loss"), "no key 'measured.best.eval_loss'"),
    "a key is unknown": (lambda value: value["measured"].update(speed=1), "unknown key 'measured.speed'"),
    "text for a number": (lambda value: value["measured"].update(steps="617"), "measured.steps: .*found '617'"),
    "a share of a step": (lambda value: value["measured"].update(steps=617.0), "measured.steps: .*found 617.0"),
    "null for a number": (lambda value: value["measured"].update(score=None), "measured.score: .*found None"),
    "not a number": (lambda value: value["measured"].update(score=float("nan")), "measured.score: .*finite.*found nan"),
    "a third name": (lambda value: value["measured"].update(released="first"), "measured.released: .*found 'first'"),
    "another form": (lambda value: value.update(measured={}), r"no key 'measured\.steps' \(and 17 more\)"),
    "time below zero": (
        lambda value: value["measured"].update(seconds=-1.5),
        "measured.seconds: it lies from 0 to inf",
    ),
    "a score above one": (
        lambda value: value["measured"].update(score=7.5),
        "measured.score: it lies from 0 to 1, found",
    ),
    "no tokens": (lambda value: value["subject"].update(max_length=0), "subject.max_length: it lies from 1 to"),
    "text in the log": (lambda value: value["measured"]["log_history"][0].update(loss="low"), "log_history.0.loss"),
    "a log without steps": (lambda value: value["measured"]["log_history"][0].pop("step"), "an entry without its step"),
    "a time without a zone": (lambda value: value.update(created="2026-11-26T08:00:00"), "created: .*without its zone"),
    "no encoder": (lambda value: value["subject"].update(encoder=" "), "subject.encoder: .*a name is empty"),
    "no hash": (lambda value: value["subject"].update(encoder_sha256="abc"), "subject.encoder_sha256: "),
    "another machine": (lambda value: value["machine"].pop("cores"), "no key 'machine.cores'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_record_lacks_or_misstates_is_one_line_with_file_key_and_command(
    fault: str, run: Record[TrainingRun, RunSubject], tmp_path: Path
) -> None:
    change, says = FAULTS[fault]
    built.edit(records.write(run, tmp_path), change)
    with pytest.raises(ReleaseError, match=says) as error:
        records.read(tmp_path, results.RUN)
    line = str(error.value)
    assert line.endswith(f"in {tmp_path}/run.json; hint: remove it, then make train") and "\n" not in line


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"kind": "run"}', "\x00", "é".encode("latin-1")])
def test_what_is_no_record_at_all_is_one_line_too(text: str | bytes, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ReleaseError, match=r"^damaged record: .*run\.json; hint: remove it, then make train$"):
        records.read(tmp_path, results.RUN)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "0.7", None])
def test_what_could_not_be_read_is_not_written(
    score: Any, run: Record[TrainingRun, RunSubject], tmp_path: Path
) -> None:
    wrong = replace(run, measured=replace(run.measured, score=score))
    with pytest.raises(ReleaseError, match=r"measured\.score: .*run\.json"):
        records.write(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_are_written_as_numbers(run: Record[TrainingRun, RunSubject], tmp_path: Path) -> None:
    path = records.write(replace(run, measured=replace(run.measured, score=np.float64(0.5))), tmp_path)
    assert json.loads(path.read_text())["measured"]["score"] == 0.5
    with pytest.raises(TypeError, match="float32"):  # rounded before it was measured
        records.write(replace(run, measured=replace(run.measured, score=np.float32(0.7))), tmp_path)


ANY_NUMBER = re.compile(
    r"\.(label|score_range|offset|hyperparameters)\b"
)  # what may lie below zero, with all that is in it


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every number of a JSON value: its path, what holds it, and its key there."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(part, dict | list):
            yield from numbers(part, f"{path}.{key}")
        elif isinstance(part, int | float) and not isinstance(part, bool):
            yield f"{path}.{key}", value, key


@pytest.mark.parametrize("name", [name for name in results.KINDS if name not in ("verify", "finetune")])
def test_a_number_that_cannot_be_is_refused_in_every_kind(name: str, reranker: Path) -> None:
    family = built.family()
    folder = built.template(reranker) / (family.build if name == "data" else family.folder(built.SIZE)) / "records"
    kind = results.KINDS[name]
    value = json.loads((folder / f"{name}.json").read_text())
    form: Any = records.Record
    taken = []
    for path, holder, key in [*numbers(value)]:
        true = holder[key]
        for lie in (-5, float("nan"), float("inf")):
            holder[key] = lie
            with suppress(ValueError):
                records.parse(form[kind.result, kind.subject], json.dumps(value))
                taken.append((path, lie))
        holder[key] = true
    assert [each for each in taken if each[1] != -5 or not ANY_NUMBER.search(each[0])] == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "m", "kinds": "x"}, "unknown key 'kinds'"),
        ({"model": "m", "max_length": 0}, "max_length cannot be 0"),
        ({"model": "m", "revision": 3}, "revision cannot be 3"),
        ({"model": ""}, "model cannot be ''"),
        ({"kind": "stand-in"}, "no key 'model'"),
        ("m", "valid dictionary|an object"),
    ],
)
def test_the_teacher_of_a_mixture_is_what_can_label(change: Any, says: str, tmp_path: Path, reranker: Path) -> None:
    file = built.template(reranker) / built.family().build / "records/data.json"
    value = json.loads(file.read_text())
    value["subject"]["teacher"] = change
    (tmp_path / "data.json").write_text(json.dumps(value))
    with pytest.raises(ReleaseError, match=f"subject.teacher.*{says}.*make score"):
        records.read(tmp_path, results.DATA)
