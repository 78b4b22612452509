"""Ctrl-C ends every verb with a word, never with a traceback; so does a Hub that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from release import hub_access
from release.command_line import exit_status
from release.errors import ReleaseError

ROOT = Path(__file__).resolve().parent.parent


def end(action) -> int:
    return exit_status(action, usage=lambda line: line, extra="demo")


def stop(words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Start a program, and press Ctrl-C after some seconds."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("-m release plan-train --size 17m", 0.3),
        ("-m release plan-train --size 17m", 1.5),
        ("skills/finetune-ettin-reranker/scripts/finetune.py absent", 0.3),
    ],
)
def test_while_the_libraries_load_there_is_no_traceback(words: str, seconds: float) -> None:
    done = stop(words.split(), seconds)
    assert done.returncode in (-signal.SIGINT, 130, 0, 1)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_while_the_recipe_loads_its_libraries_it_is_one_line(seconds: float) -> None:
    done = stop(["recipes/distill.py", "--size", "17m", "--output", "/dev/null/nowhere"], seconds)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert done.stderr == "" or (done.stderr.startswith("error: ") and done.stderr.count("\n") == 1), done.stderr


def test_inside_a_verb_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    app = typer.Typer()

    @app.command()
    def verb() -> None:
        raise KeyboardInterrupt

    for action in (lambda: app([], standalone_mode=False), verb):
        assert end(action) == 130
        said = capsys.readouterr().err
        assert said == "stopped; nothing half written was kept: run the same command again to continue\n"


def test_a_hub_that_goes_away_inside_any_verb_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    def wrapped() -> None:
        try:
            HfApi(endpoint="http://127.0.0.1:9").model_info("a/b")  # the real client, without a Hub
        except Exception as error:
            raise ValueError("what a library makes of it") from error

    patch = pytest.MonkeyPatch()
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    try:
        assert end(wrapped) == 1
    finally:
        patch.undo()
    said = capsys.readouterr().err
    assert "cannot be reached" in said and said.startswith("error: ") and said.count("\n") == 1
    assert hub_access.reason(OfflineModeIsEnabled("no")).kind == "offline"  # ty: ignore[unresolved-attribute]


def test_what_is_not_the_hubs_stays_what_it_is() -> None:
    assert hub_access.reason(BrokenPipeError("a pipe")) is None
    assert hub_access.reason(ReleaseError("x")) is None
    with pytest.raises(ZeroDivisionError):
        end(lambda: 1 // 0)
