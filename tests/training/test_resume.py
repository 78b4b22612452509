"""A run that was stopped anywhere ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from torch.distributed import run as torchrun

from recipes import distill
from tests import forked
from tests.training.helpers import METRIC, ROOT, assert_equal, record, step_losses, weights


def test_cut_off_and_run_again_gives_the_same_weights(trained: Path, work: Path, recipe: Callable[..., None]) -> None:
    again = work / "again"
    shutil.copytree(trained / "checkpoints", again / "checkpoints")
    run = next((again / "checkpoints").iterdir())
    shutil.rmtree(run / "checkpoint-12")
    (run / "checkpoint-8/trainer_state.json").write_text('{"half a')  # as a crash while writing leaves it
    recipe("--output", str(again))
    assert record(again).measured.resumed_at == 4
    assert step_losses(again) == step_losses(trained)
    assert_equal(weights(again / "model"), weights(trained / "model"))
    assert_equal(weights(again / "checkpoints", "checkpoint-12"), weights(trained / "checkpoints", "checkpoint-12"))


def test_killed_at_work_and_run_again_gives_the_same_weights(
    trained: Path, work: Path, recipe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = work / "killed"
    said.mkdir()
    monkeypatch.chdir(work)
    words = ["--family", "family.toml", "--size", "mini", "--output", "killed"]
    child = forked.start(forked.script(ROOT / "recipes/distill.py", *words), said)
    log = said / "train.log"  # of step 5 only when the checkpoint of step 4 is whole
    while not (log.is_file() and "step 5" in log.read_text()) and forked.runs(child):
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert forked.wait(child) == -signal.SIGKILL and not (said / "records/run.json").exists()
    recipe("--output", "killed")
    assert record(work / "killed").measured.resumed_at in (4, 8)
    assert_equal(weights(work / "killed/model"), weights(trained / "model"))
    last = weights(work / "killed/checkpoints", "checkpoint-12")
    assert_equal(last, weights(trained / "checkpoints", "checkpoint-12"))


@pytest.mark.parametrize("limit", [1, 5], ids=lambda limit: f"{limit} checkpoints")
def test_the_last_checkpoint_lies_beside_the_best_one(limit: int, work: Path, recipe: Callable[..., None]) -> None:
    output, family = work / f"both-{limit}", f"limit-{limit}.toml"
    text = (work / "family.toml").read_text()
    (work / family).write_text(text.replace("checkpoints = 5", f"checkpoints = {limit}"))
    recipe("--output", str(output), family=family)
    (folder,) = (output / "checkpoints").iterdir()
    state = json.loads((folder / "checkpoint-12/trainer_state.json").read_text())
    oldest = min(int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*"))
    assert oldest < 12
    for entry in state["log_history"]:
        if METRIC in entry:
            entry[METRIC] = 0.999 if entry["step"] == oldest else 0.1  # as if that one had been the best
    state |= {
        "best_metric": 0.999,
        "best_global_step": oldest,
        "best_model_checkpoint": str(folder / f"checkpoint-{oldest}"),
    }
    (folder / "checkpoint-12/trainer_state.json").write_text(json.dumps(state))
    (output / "records/run.json").unlink()
    recipe("--output", str(output), family=family)
    measured = record(output).measured
    assert (measured.best.step, measured.last.step, measured.released) == (oldest, 12, "best")
    for name, step in (("model", oldest), ("last", 12)):
        assert_equal(weights(output / name), weights(folder, f"checkpoint-{step}"))


def test_a_finished_run_keeps_its_record_and_other_data_is_another_run(
    work: Path, recipe: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe("--output", str(tmp_path))
    before, text = weights(tmp_path / "model"), (tmp_path / "records/run.json").read_text()
    verdict = capsys.readouterr().out.strip().splitlines()[-1]
    recipe("--output", str(tmp_path))
    assert (tmp_path / "records/run.json").read_text() == text
    assert capsys.readouterr().out.strip().splitlines()[-1] == verdict
    assert_equal(weights(tmp_path / "model"), before)
    fewer = tmp_path / "fewer"
    shutil.copytree(work / "build/tiny/data/mixture/words", fewer / "words")
    recipe("--output", str(tmp_path), "--data", str(fewer))
    measured = record(tmp_path).measured
    assert (measured.resumed_at, measured.steps, measured.examples) == (0, 7, 56)
    assert [entry.step for entry in measured.checkpoints] == [3, 6, 7] and measured.last.step == 7


def test_two_processes_give_the_losses_of_one_and_go_on_where_they_stopped(
    trained: Path, work: Path, tmp_path: Path, recipe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Path(__file__).with_name("two_legs.py")
    # Children of this process have the libraries already; its own signals stay as they are.
    children = ["--start-method=fork", "--signals-to-handle=SIGUSR2", "--run-path"]
    words = ["--family", "family.toml", "--size", "mini", "--output", str(tmp_path)]
    torchrun.main(["--standalone", "--nproc_per_node=2", *children, str(script), *words])
    (tmp_path / "whole").mkdir()
    (tmp_path / "first").rename(tmp_path / "whole/records")
    run = record(tmp_path / "whole")
    assert (run.subject.processes, run.subject.per_device_batch_size, run.measured.steps) == (2, 4, 12)
    losses = step_losses(tmp_path / "whole")
    assert losses == pytest.approx(step_losses(trained), rel=1e-3)
    figures, expected = ([asdict(each) for each in run.nano] for run in (run.measured, record(trained).measured))
    assert [pytest.approx(each, abs=1e-3) for each in expected] == figures  # both processes share each evaluation
    assert record(tmp_path).measured.resumed_at == 8
    assert step_losses(tmp_path) == pytest.approx(losses, rel=1e-5)  # the same rows in the same order
    monkeypatch.setattr(distill, "project", None)
    recipe("--data", "build/tiny/data/mixture", "--output", str(tmp_path / "one"))
    assert logged(tmp_path / "alone") == pytest.approx(
        logged(tmp_path / "one"), rel=1e-3
    )  # the page without the project
    assert weights(tmp_path / "alone/model").keys() == weights(tmp_path / "one/model").keys()


def logged(folder: Path) -> list[float]:
    """Every training loss of a run without a record, and the score of each of its evaluations."""
    (state,) = folder.glob("checkpoints/*/checkpoint-12/trainer_state.json")
    history = json.loads(state.read_text())["log_history"]
    numbers = [float(entry[key]) for entry in history for key in ("loss", METRIC) if key in entry]
    assert len(numbers) == 12 + 4
    return numbers
