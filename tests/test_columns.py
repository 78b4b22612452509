"""Whatever a verb prints reads well in a terminal of 80 columns: lines end between words, nothing is cut. JSON is for programs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from release import __main__, console
from release.__main__ import VERBS, main
from release.command_line import exit_status
from release.errors import ReleaseError
from tests import built

WIDTH = 80
DEMO = ["--family", str(built.DEMO), "--size", built.SIZE]
ETTIN = [str(built.DEMO.with_name("ettin.toml"))]
WORDS = [
    ["nosuch"],
    ["plan"],
    ["plan", "--size", "99m", "--family", *ETTIN],
    ["plan", "--size", "17m", "--family", *ETTIN],
    ["plan", *DEMO],
    ["preflight", *DEMO],
    ["preflight", "--size", "17m", "--family", *ETTIN],
    ["preflight", "--size", "17m", "--far", "--family", *ETTIN],
    ["plan-data", "--family", *ETTIN],
    ["plan-data", "--family", str(built.DEMO)],
    ["plan-evaluate", "--family", *ETTIN, "--pairs-per-second", "1000"],
    ["mix", "--family", "a/folder/that/is/not/there/and/has/a/long/name.toml"],
    ["score", *DEMO[:2]],
    ["speed", "--size", "99m"],
    ["check", *DEMO],
    ["card", *DEMO],
    ["stage", *DEMO],
    ["publish", *DEMO],
    ["verify", *DEMO],
    ["compare", "--family", *ETTIN],
]


@pytest.fixture
def terminal(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighty columns, a finished build of the demo, and no Hub."""
    built.workspace(tmp_path, reranker, monkeypatch)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    for name in ("HF_TOKEN", "HF_ENDPOINT", "SIZE"):
        monkeypatch.delenv(name, raising=False)


def check_width(said: str) -> None:
    """No line is wider, but a single word that is, and JSON."""
    assert said.strip()
    wide = [line for line in said.splitlines() if len(line) > WIDTH and not line.startswith("{")]
    assert [line for line in wide if len(line.split()) > 1 and max(map(len, line.split())) < WIDTH - 6] == []
    assert "…" not in said and "Traceback" not in said


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words)[:40])
@pytest.mark.usefixtures("terminal")
def test_what_a_verb_says_fits_a_terminal(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(words)
    out, err = capsys.readouterr()
    check_width(out + err)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if not VERBS[verb][0].endswith(".py")])
def test_the_help_of_every_verb_fits_a_terminal(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    assert __main__.main([verb, "--help"]) == 0
    check_width(capsys.readouterr().out)


def test_an_error_breaks_between_words_in_a_terminal_and_stays_one_line_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = ReleaseError(f"what is wrong {'with it ' * 20}", where="a/file", hint="do something about it")

    def fail() -> None:
        raise error

    monkeypatch.delenv("COLUMNS", raising=False)
    assert exit_status(fail, usage=str, extra="demo") == 1
    assert capsys.readouterr().err == f"error: {error}\n"
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    assert exit_status(fail, usage=str, extra="demo") == 1
    shown = capsys.readouterr().err
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert " ".join(shown.split()) == " ".join(f"error: {error}".split())


def test_lines_keep_their_indent_where_they_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = io.StringIO()
    console.say("title:\n  - one two three four five six\nlast", stream)
    assert stream.getvalue() == "title:\n  - one two three\n    four five six\nlast\n"
