"""A user's folder, and the skill's scripts as they are called there."""

from __future__ import annotations

import contextlib
import runpy
import sys
from pathlib import Path

import pytest

from release.agents import check


class Desk:
    """Runs a script there as `python .agents/skills/.../scripts/NAME.py` would, in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.capsys, self.monkeypatch = folder, capsys, monkeypatch

    def __call__(self, name: str, *words: str) -> tuple[int, list[str], str]:
        """Exit status, lines of the output, and the error stream."""
        script = Path(".agents/skills") / check.NAME / f"scripts/{name}.py"
        self.monkeypatch.setattr(sys, "argv", [str(script), *words])
        self.monkeypatch.setattr(sys, "path", list(sys.path))
        self.capsys.readouterr()
        with contextlib.chdir(self.folder), pytest.raises(SystemExit) as ended:
            runpy.run_path(str(script), run_name="__main__")
        said = self.capsys.readouterr()
        return int(ended.value.code or 0), said.out.splitlines(), said.err
