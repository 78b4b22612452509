"""What people see while something is measured: progress on the error stream, tables and one JSON line on the output."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

NUMBER = re.compile(r"[-+]?\d|[-?]$")  # how a cell begins that stands to the right


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
    """Print a table that is no wider than the terminal and in which no cell is cut."""
    print("\n".join([title, *lay_out(columns, rows, Console().width), ""]))


def lay_out(columns: list[str], rows: list[list[Any]], width: int) -> list[str]:
    """The lines of a table, at most `width` characters each; the first column names what the others describe.

    In one piece if it fits; else with each name on a line of its own, above its cells; else with each cell on a line of its own,
    after its heading. Only a word that is longer than `width` makes a longer line.
    """
    cells = [[as_text(cell) for cell in row] for row in rows]
    head, lines = _aligned(columns, cells)
    if max(map(len, [*head, *lines])) <= width:
        return [*head, *lines]
    names = [wrapped(row[0], width) for row in cells]
    head, lines = _aligned(["", *columns[1:]], [["  ", *row[1:]] for row in cells])
    if max(map(len, [*head, *lines])) <= width:
        return [*head, *(line for name, line in zip(names, lines, strict=True) for line in [*name, line])]
    told = [zip(columns[1:], row[1:], strict=True) for row in cells]
    return [
        line
        for name, pairs in zip(names, told, strict=True)
        for line in [
            *name,
            *(part for heading, cell in pairs for part in wrapped(f"{heading}: {cell}", width, "    ")),
        ]
    ]


def as_text(cell: Any) -> str:
    """A cell: small fractions with four decimals, large numbers in groups of three digits, nothing as a dash."""
    if cell is None or isinstance(cell, bool):
        return {None: "-", True: "yes", False: "no"}[cell]
    if isinstance(cell, float):
        return f"{cell:.4f}" if abs(cell) < 10 else f"{cell:,.1f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _aligned(columns: list[str], cells: list[list[str]]) -> tuple[list[str], list[str]]:
    """Lines of the headings, which break between words, and one line per row; numbers stand to the right."""
    below = [[row[index] for row in cells] for index in range(len(columns))]
    widths = [
        max(map(len, [*column, *heading.split()]), default=0) for heading, column in zip(columns, below, strict=True)
    ]
    heads = [wrapped(heading, width or 1) for heading, width in zip(columns, widths, strict=True)]
    height = max(map(len, heads))
    padded = [[*[""] * (height - len(lines)), *lines] for lines in heads]
    aligns = [str.ljust, *(str.rjust if all(map(NUMBER.match, column)) else str.ljust for column in below[1:])]

    def line(row: Iterable[str]) -> str:
        return "  ".join(align(cell, width) for align, cell, width in zip(aligns, row, widths, strict=True)).rstrip()

    rule = ("-" * width if heading else "" for heading, width in zip(columns, widths, strict=True))
    return [*map(line, zip(*padded, strict=True)), line(rule)], [*map(line, cells)]


def wrapped(text: str, width: int | None = None, indent: str = "", further: str | None = None) -> list[str]:
    """`text` in lines of at most `width` characters (default: the terminal's), broken at spaces only.

    Args:
        indent: Before the first line; `further` before all others, by default two blanks more where there is an indent.
    """
    lines = textwrap.TextWrapper(
        width or Console().width,
        initial_indent=indent,
        subsequent_indent=(indent and f"{indent}  ") if further is None else further,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines.wrap(text) or [""]


def say(text: str, stream: TextIO | None = None) -> None:
    """Print `text`; in a terminal its lines break at spaces, in a log or a pipe, where nobody counts columns, they stay whole."""
    stream = stream or sys.stdout
    limit = Console(file=stream).width if stream.isatty() or os.environ.get("COLUMNS") else None
    for line in text.split("\n"):
        if limit is None or len(line) <= limit:
            print(line, file=stream, flush=True)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        print(*wrapped(line.lstrip(), limit, indent, f"{indent}  "), sep="\n", file=stream, flush=True)


def print_hint(what: str, hint: str) -> None:
    """Print what is so, and below it what can be done about it, in lines of the terminal's width."""
    print(*wrapped(what), *wrapped(f"hint: {hint}", indent="  "), sep="\n")


def print_json(value: dict[str, Any]) -> None:
    """Print `value` as the one JSON line that programs read: nothing may be printed after it."""
    print(json.dumps(value, allow_nan=False), flush=True)


def note(line: str) -> None:
    """Print one line of progress on the error stream where no bar moves there: in a log, on a cluster."""
    if not sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


def hide_bars() -> None:
    """Let no library draw a bar into a log: to be called before any of them is imported."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")


@contextmanager
def quiet() -> Generator[None]:
    """Hold back progress bars and notes of the libraries, hundreds of lines about their own state."""
    from transformers.utils import logging as notes  # late: it takes seconds

    verbosity, bars = notes.get_verbosity(), notes.is_progress_bar_enabled()
    notes.set_verbosity_error()
    notes.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        notes.set_verbosity(verbosity)
        if bars:
            notes.enable_progress_bar()
