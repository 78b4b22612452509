"""Work in a child of the test process, which has the libraries already: a fresh interpreter takes seconds to load them.

A child ends as a program of Python would: with the same status, and with `sys.excepthook` for what it does not catch.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path


def start(work: Callable[[], object], said: Path) -> int:
    """Begin `work` in a child; returns its process. What it says goes to the files `stdout` and `stderr` in `said`."""
    sys.stdout.flush()
    sys.stderr.flush()
    if child := os.fork():
        return child
    status = 70  # no program ends so
    try:
        status = _child(work, said)
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Its exit status, negative for a signal, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def runs(child: int) -> bool:
    """Whether it has not ended; `wait` still gives its status afterwards."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def script(path: Path, *words: str) -> Callable[[], object]:
    """The work of `python PATH WORDS`."""

    def work() -> None:
        sys.argv = [str(path), *words]
        runpy.run_path(str(path), run_name="__main__")

    return work


def _child(work: Callable[[], object], said: Path) -> int:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(("stdout", "stderr"), 1):
        stream = (said / name).open("w", encoding="utf-8")
        os.dup2(stream.fileno(), number)
        setattr(sys, name, stream)
    sys.excepthook = sys.__excepthook__
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        work()
        return 0
    except SystemExit as stopped:
        if isinstance(stopped.code, str):
            print(stopped.code, file=sys.stderr)
            return 1
        return stopped.code or 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
