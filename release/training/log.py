"""What a training run says: its own lines on the terminal, everything in a file, and one line where it stops."""

from __future__ import annotations

import logging
import math
import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

from transformers import TrainerCallback

from release import hub_access
from release.console import say
from release.errors import ReleaseError, disk_is_full

log = logging.getLogger("distill")
QUIET = ("httpx", "filelock", "fsspec", "urllib3", "huggingface_hub", "codecarbon")
CONTINUE = "run the same command again: it continues from the last checkpoint"


class LogFile(TrainerCallback):
    """What the trainer reports goes into the log file too; a training whose weights are lost ends there and then.

    The trainer itself would go on to its last step, and show a loss of 0 for every NaN.
    """

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            log.debug("step %d %s", state.global_step, logs)
        if not math.isfinite(norm := (logs or {}).get("grad_norm", 0.0)):
            hint = "lower the learning rate, or take precision = 'fp32'; a checkpoint before that step is good"
            raise ReleaseError(f"the gradient is {norm} at step {state.global_step}", where="the training", hint=hint)


def start_log(file: Path) -> None:
    """The project's own lines to the terminal and, with all that the trainer reports, to `file`; libraries stay quiet.

    Raises:
        ReleaseError: The file cannot be written.
    """
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        terminal, whole = logging.StreamHandler(), logging.FileHandler(file)
    except OSError as error:
        hint = "choose another folder with --output"
        raise ReleaseError(f"cannot write ({error.strerror})", where=str(file), hint=hint) from error
    terminal.setLevel(logging.INFO)
    log.handlers.clear()
    log.addHandler(terminal)
    log.addHandler(whole)
    log.propagate = False
    log.setLevel(logging.DEBUG)
    end_in_one_line(file)


def end_in_one_line(file: Path | None = None) -> None:
    """Let the program end with one line instead of a traceback, which goes into the log `file` where there is one already."""
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # Ctrl-C is an error like others, once libraries are loaded
    sys.excepthook = lambda kind, error, trace: _log_error(error, trace, file)


def _log_error(error: BaseException, trace: TracebackType | None, file: Path | None) -> None:
    if file is None and not isinstance(error, ReleaseError | KeyboardInterrupt | OSError):
        sys.__excepthook__(type(error), error, trace)
        return
    log.debug("%s", "".join(traceback.format_exception(type(error), error, trace)))
    say(f"error: {explain(error, file)}", sys.stderr)


def explain(error: BaseException, file: Path | None) -> str:
    """What stopped a training, in one line: what, where, hint."""
    if isinstance(error, ReleaseError):
        return str(error)
    where = f"; in {file}, which has the traceback" if file else ""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by hand; hint: {CONTINUE}"
    if disk_is_full(error):
        return f"the disk is full; in {file.parent if file else '.'}; hint: free some space, then {CONTINUE}"
    if why := hub_access.reason(error):
        return f"{why.what}{where}; hint: {why.hint}"
    reason, kind = (
        " ".join(str(error).split())[:300],
        "missing" if isinstance(error, KeyError) else type(error).__name__,
    )
    return f"{kind}: {reason}{where}; hint: then {CONTINUE}"
