"""What people see while something is measured: progress on the error stream, tables and one JSON line on the output."""

from __future__ import annotations

import json
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text


class Rate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


class Bar:
    """A progress bar that is gone when its work is done; silent where the error stream is no terminal."""

    def __init__(self, title: str, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(title, total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, steps: int = 1) -> None:
        """Say that `steps` more are done."""
        self._progress.advance(self._task, steps)


def table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table: the first column to the left, the others to the right, numbers with as few digits as they need."""
    found = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        found.add_column(column, justify="left" if place == 0 else "right")
    for row in rows:
        found.add_row(*(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console().print(found)


def print_json(value: dict[str, Any]) -> None:
    """Print `value` as the one JSON line that programs read: nothing may be printed after it."""
    print(json.dumps(value, allow_nan=False), flush=True)
