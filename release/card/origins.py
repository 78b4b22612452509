"""Where every number on a card comes from: records whose numbers know their place, and say so when they become text.

A number that is traced is a float or an int like any other; what is rendered from it is the same to the byte. Whatever formats it
(an f-string, a filter, a template) notes what it was printed as.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from operator import add, mul, sub, truediv
from pathlib import Path
from typing import Any, TypeVar

from release.files import PACKAGE, RESOURCES

Value = TypeVar("Value")
NUMBER = re.compile(
    r"(?<![\w.\-/])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?(?![\w]|[.,]\d)"
)  # no part of a name, date or version
TEMPLATES = ("sections/*", "citations/*", "notices/*", "model.md.j2", "collection.yaml.j2")  # of a model's card
EXPRESSION = re.compile(r"\{[{%#].*?[}%#]\}", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Origin:
    """One place that a number comes from.

    Attributes:
        file: Below the repository, `records/evaluate.json`; the family file; or a template or module of the project.
        key: With dots, or the line.
        how: `value`, `text` that holds it, `count` of what is there, `constant` of the text itself.
    """

    file: str
    key: str
    how: str = "value"


@dataclasses.dataclass
class Prints:
    """What traced numbers were printed as while a card was rendered."""

    origins: dict[Decimal, list[Origin]] = dataclasses.field(default_factory=dict)

    def note(self, text: str, origins: Iterable[Origin]) -> None:
        for number in numbers(text):
            known = self.origins.setdefault(number, [])
            known += [origin for origin in origins if origin not in known]


_PRINTS: ContextVar[Prints | None] = ContextVar("prints", default=None)


@contextmanager
def tracing() -> Generator[Prints]:
    """Collect what is printed inside."""
    prints = Prints()
    token = _PRINTS.set(prints)
    try:
        yield prints
    finally:
        _PRINTS.reset(token)


def collecting() -> bool:
    """Whether prints are collected now."""
    return _PRINTS.get() is not None


def numbers(text: str) -> list[Decimal]:
    """Every number in a text as people read it: with its sign, without separators; +0.010 is 0.01."""
    return [Decimal(match.replace(",", "")).normalize() for match in NUMBER.findall(text)]


class _Traced:
    """What a traced int and a traced float share."""

    origins: tuple[Origin, ...] = ()

    def __format__(self, how: str) -> str:
        return _noted(format(self.plain, how), self.origins)

    def __str__(self) -> str:
        return _noted(str(self.plain), self.origins)

    @property
    def plain(self) -> float:
        return int(self) if isinstance(self, int) else float(self)  # ty: ignore[invalid-argument-type]


class TracedFloat(_Traced, float):
    """A float that knows where it comes from."""


class TracedInt(_Traced, int):
    """An int that knows where it comes from."""


def _calculated(function: Callable[..., Any], *, reflected: bool = False) -> Any:
    def calculate(self: Any, *others: Any) -> Any:
        plain = [each.plain if isinstance(each, _Traced) else each for each in (self, *others)]
        origins = dict.fromkeys(origin for each in (self, *others) for origin in getattr(each, "origins", ()))
        return _with(function(*(reversed(plain) if reflected else plain)), tuple(origins))

    return calculate


for _kind in (TracedFloat, TracedInt):
    _kind.__round__ = _calculated(round)
    for _name, _function in (("add", add), ("sub", sub), ("mul", mul), ("truediv", truediv), ("divmod", divmod)):
        setattr(_kind, f"__{_name}__", _calculated(_function))
        setattr(_kind, f"__r{_name}__", _calculated(_function, reflected=True))


def _with(value: Any, origins: tuple[Origin, ...]) -> Any:
    if isinstance(value, tuple):
        return tuple(_with(each, origins) for each in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    traced = (TracedInt if isinstance(value, int) else TracedFloat)(value)
    traced.origins = origins
    return traced


def _noted(text: str, origins: tuple[Origin, ...]) -> str:
    if (prints := _PRINTS.get()) is not None:
        prints.note(text, origins)
    return text


def traced(value: Value, file: str, key: str = "") -> Value:
    """A copy of a record, a family or a manifest whose numbers know their place; the thing itself where nothing is collected."""
    return _traced(value, file, key) if collecting() else value


def _traced(value: Any, file: str, key: str) -> Any:
    at = f"{key}." if key else ""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        copy = object.__new__(type(value))  # never through a validator, which makes plain numbers of them
        for name, part in vars(value).items():
            object.__setattr__(copy, name, _traced(part, file, f"{at}{name}"))
        return copy
    if isinstance(value, dict):
        return {name: _traced(part, file, f"{at}{name}") for name, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_traced(part, file, f"{at}{index}") for index, part in enumerate(value))
    return _with(value, (Origin(file, key),))


def leaves(value: Any, file: str, key: str = "") -> Iterator[tuple[Any, Origin]]:
    """Every text of a record, and every container with its place."""
    at = f"{key}." if key else ""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    elif isinstance(value, dict | tuple | list):
        yield value, Origin(file, key, "count")
    if isinstance(value, dict):
        for name, part in value.items():
            yield str(name), Origin(file, f"{at}{name}", "text")
            yield from leaves(part, file, f"{at}{name}")
    elif isinstance(value, tuple | list):
        for index, part in enumerate(value):
            yield from leaves(part, file, f"{at}{index}")
    elif isinstance(value, str | Path):
        yield str(value)[: 10 if key == "created" else None], Origin(file, key, "text")  # no number is a minute


def mentioned(number: Decimal, sources: dict[str, Any]) -> list[Origin]:
    """Where texts of the records name a number; else what there is that many of."""
    entries = [each for file, value in sources.items() for each in leaves(value, file)]
    texts = [origin for value, origin in entries if isinstance(value, str) and number in numbers(value)]
    counts = [origin for value, origin in entries if not isinstance(value, str) and len(value) == number]
    return texts or counts


def constants(number: Decimal) -> list[Origin]:
    """Lines of templates and of this package whose own text has a number."""
    origins = []
    for path in sorted(path for pattern in TEMPLATES for path in (RESOURCES / "cards").glob(pattern)):
        text = EXPRESSION.sub(lambda part: "\n" * part.group().count("\n"), path.read_text(encoding="utf-8"))
        lines = enumerate(text.splitlines(), start=1)
        file = path.relative_to(RESOURCES).as_posix()
        origins += [Origin(file, f"line {line}", "constant") for line, own in lines if number in numbers(own)]
    for path in sorted((PACKAGE / "card").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and number in numbers(node.value):
                origins.append(Origin(f"release/card/{path.name}", f"line {node.lineno}", "constant"))
    return origins
