"""A process that does one job after another, and is replaced when one kills it or takes too long.

On a GPU one wrong access to memory spoils the process for good, and a kernel may never return; the jobs after it still count.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self

CONTEXT = multiprocessing.get_context("spawn")
SPOILED = "CUDA error"  # of these a process does not recover


class Worker:
    """Calls `work` with each job in a process of its own, which is started when a job needs it."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pipe is not None:
            self._pipe.close()  # which ends it once it has answered
            self._pipe = None
            self._process.join(1)
            self._process.kill()

    def run(self, job: Any, seconds: float) -> tuple[Any, str | None]:
        """What `work` returned, or None and the reason: its error, its end, or no answer within `seconds`."""
        pipe = self._start()
        try:
            pipe.send(job)
            if not pipe.poll(seconds):
                self._stop()
                return None, f"no answer within {seconds:.0f} s"
            result, error = pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self._stop()
            return None, f"the process ended with status {code}"
        if error and SPOILED in error:
            self._stop()
        return result, error

    def _start(self) -> Connection:
        if self._pipe is not None and not self._process.is_alive():  # ended between two jobs
            self._stop()
        if self._pipe is None:
            self._pipe, theirs = CONTEXT.Pipe()
            self._process = CONTEXT.Process(target=_serve, args=(self._work, theirs), daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe

    def _stop(self) -> None:
        if self._pipe is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._pipe = None


def _serve(work: Callable[[Any], Any], pipe: Connection) -> None:
    """Answer every job with what `work` returns or with the first line of its error, until the other side is gone."""
    gc.freeze()  # no collection between two measurements goes through the libraries
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        try:
            answer = work(job), None
        except Exception as error:
            first_line = next(iter(str(error).strip().splitlines()), "")
            answer = None, f"{type(error).__name__}: {first_line}"
        pipe.send(answer)
