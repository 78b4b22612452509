"""What the skill's scripts share: how they read their options and how they end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import typer

from release.command_line import exit_status
from release.console import hide_bars

SMOKE = "SMOKE_TEST"


def smoke() -> bool:
    """Whether this is a test of the path in under a minute, whose numbers mean nothing: SMOKE_TEST=1."""
    return os.environ.get(SMOKE, "") not in ("", "0")


def run(command: Callable[..., None]) -> NoReturn:
    """Run a script whose options are the parameters of `command`; an error is one line, and the exit status says which kind."""
    # Read where the libraries are imported, which the commands do.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its report calls the second form of the head unexpected
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    hide_bars()
    name = Path(sys.argv[0]).name
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    sys.exit(
        exit_status(
            lambda: app(prog_name=name, standalone_mode=False),
            usage=lambda message: f"{message}; hint: python {name} --help",
            extra="finetune",
        )
    )
