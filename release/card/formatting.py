"""How numbers read on a card: the only place where a measured value becomes text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from release.results.evaluation import Quality

MISSING = "not measured"


def score(value: float) -> str:
    """A quality measure between 0 and 1, three digits: the bootstrap's noise hides the fourth."""
    return f"{value:.3f}"


def signed(value: float) -> str:
    """A gain with its sign, three digits."""
    return f"{value:+.3f}"


def interval(quality: Quality) -> str:
    """A gain's 95 % interval."""
    return f"{signed(quality.ci_low)} to {signed(quality.ci_high)}"


def count(value: int) -> str:
    """A whole number with thousands separated."""
    return f"{value:,}"


def whole(value: float) -> str:
    """A measured number without its decimals, thousands separated."""
    return f"{value:,.0f}"


def rate(value: float) -> str:
    """Things per second: whole above 100, else three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def megabytes(value: float) -> str:
    """Bytes as megabytes (10^6)."""
    return f"{value / 1e6:,.1f} MB"


def share(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.3g} %"


def plain(value: float) -> str:
    """Any other measured number, three significant digits."""
    return f"{value:.3g}"


def difference(value: float) -> str:
    """A difference between scores: an order of magnitude says enough, and none is said in words."""
    return "none" if value == 0 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """Seconds in the two largest units that fit."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def measured(value: Any, how: str) -> str:
    """A value by the filter called `how`; one that nobody measured is said to be so."""
    return MISSING if value is None else FILTERS[how](value)


def cell(text: str, most: int = 240) -> str:
    """Somebody's text in one cell of a table: one line, cut, and none of it read as Markdown or HTML."""
    line = " ".join(text.split())
    line = line if len(line) <= most else f"{line[: most - 1].rstrip()}…"
    return re.sub(r"([\\`*_{}\[\]<>#|~!&$])", r"\\\1", line)


def code(text: str) -> str:
    """A name as code in a line or a cell; one that would end the code, the cell or the line as text."""
    return cell(text) if re.search(r"[`|]|\s\s|[^\S ]", text) else f"`{text}`"


def python(value: Any) -> str:
    """Text, or a list of texts, as it stands in a snippet of Python."""
    return json.dumps(value, ensure_ascii=False)


def listing(items: Sequence[str]) -> str:
    """Words as a sentence lists them."""
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else "none"


def verdict(quality: Quality) -> str:
    """What a gain's 95 % interval says, in one word that readers and programs both understand."""
    if quality.ci_low > 0:
        return "gain"
    return "loss" if quality.ci_high < 0 else "undecided"


def verdict_in_words(quality: Quality) -> str:
    """What a gain's 95 % interval says, as the second half of a sentence."""
    return {
        "gain": "the whole interval lies above zero, so the reranking helps on these queries",
        "undecided": "the interval spans zero, so on these queries no gain is shown",
        "loss": "the whole interval lies below zero, so the reranking makes the order worse: do not use it here",
    }[verdict(quality)]


FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(score, signed, count, whole, rate, megabytes, share, plain, difference, duration),
        *(listing, measured, interval, verdict_in_words, cell, python),
    )
}
