"""How every command of the project ends: with 0, or with one line on the error stream and a status that says why."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from release import hub_access
from release.console import say
from release.errors import ReleaseError, disk_is_full

INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


def exit_status(call: Callable[[], int | None], *, usage: Callable[[str], str | None], extra: str) -> int:
    """Run `call`; return 0 or what it returns, 1 for an error that people can correct, 2 for wrong usage, or 130 for Ctrl-C.

    Args:
        usage: From typer's message about wrong options to the line that is shown, None to show none.
        extra: The extra of the project that holds every package of the command.
    """
    try:
        status = call() or 0
        if status == INTERRUPTED:  # typer makes it of Ctrl-C inside a command, without a word
            raise KeyboardInterrupt
        return status
    except typer.TyperException as error:  # wrong usage
        if line := usage(error.format_message().rstrip(".")):
            say(f"error: {line}", sys.stderr)
        return error.exit_code
    except ReleaseError as error:
        say(f"error: {error}", sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if str(error.name).startswith("release"):
            raise
        hint = f"pip install 'ettin-release[{extra}]'"
        say(f"error: the package {error.name!r} is not installed; hint: {hint}", sys.stderr)
        return 1
    except (typer.Abort, KeyboardInterrupt):
        say("stopped; nothing half written was kept: run the same command again to continue", sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if why := hub_access.reason(error):
            say(f"error: {why.what}; hint: {why.hint}", sys.stderr)
            return 1
        file = getattr(error, "filename", None)
        if disk_is_full(error):
            say(f"error: the disk is full; in {file or 'build'}; hint: free some space", sys.stderr)
            return 1
        if not isinstance(error, OSError):
            raise
        reason = (error.strerror if file else " ".join(str(error).split())[:200]) or type(error).__name__
        say(f"error: cannot be read or written ({reason}); in {file or 'build'}; hint: look at it", sys.stderr)
        return 1
