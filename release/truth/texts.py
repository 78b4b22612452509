"""Whether every text of a record is a line of plain text: cards show most of them as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from release.records import Record

MARKUP = re.compile(r"<[A-Za-z/!?]|\]\(|&(#|\w+;)|\|")  # HTML, a link or picture, an entity, the end of a table's cell
ESCAPED = {"command", "reason", "stopped", "skipped"}  # which cards show as text, whatever they hold
CODE = {"snippet"}  # which is what engines.toml has (declared.py)


def problems(record: Record[Any, Any]) -> Iterator[str]:
    """A line for each text with a letter that is not seen, a line break among them, or with markup."""
    for path, text in _texts(asdict(record), ()):
        if CODE.isdisjoint(path):
            at = ".".join(path)
            if not text.isprintable():
                yield f"{at}: not one line of letters that are seen"
            elif MARKUP.search(text) and ESCAPED.isdisjoint(path):
                yield f"{at}: holds markup, which a card would show as its own"


def _texts(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text, keys among them, with where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield path, str(key)
            yield from _texts(part, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _texts(part, (*path, str(index)))
