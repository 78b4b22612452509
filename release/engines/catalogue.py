"""The engines of `engines.toml` as frozen dataclasses."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from release.schema import STRICT, parse

FILE = Path(__file__).with_name("engines.toml")


@dataclass(frozen=True, config=STRICT)
class Engine:
    """One engine; the attributes are the keys of the file, which explains them."""

    name: str
    title: str
    snippet: str = ""
    versions: tuple[str, ...] = ()
    core: bool = False
    rounding: bool = False
    option: str | None = None
    default: tuple[str, str] | None = None
    unequal: tuple[Literal["cut", "empty", "blanks"], ...] = ()
    packages: tuple[str, ...] = ()
    language: Literal["python", "javascript"] = "python"
    wrong: str | None = None
    read: str | None = None
    keys: tuple[str, ...] = ()

    @property
    def without_option(self) -> str | None:
        """The snippet as people write it who do not know the option."""
        return self.snippet.replace(*self.default) if self.default else None

    def titled(self, versions: Mapping[str, str]) -> str:
        """The title with the version of its first package, of those that were run: package -> version."""
        version = versions.get(self.versions[0], "") if self.versions else ""
        return self.title.replace("{version}", version).strip()


@dataclass(frozen=True, config=STRICT)
class _File:
    engine: tuple[Engine, ...]


def engines(*, every: bool = True) -> list[Engine]:
    """The core engines, then, with `every`, those with environments of their own, then those that are only read."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))["engine"]
    named = {table["name"]: table for table in tables}
    whole = [{**named[table["like"]], "core": False, **table} if "like" in table else table for table in tables]
    given = {"engine": [{key: value for key, value in table.items() if key != "like"} for table in whole]}
    rows = parse(_File, given, str(FILE), hint="its first lines explain the keys").engine
    others = [each for each in rows if not each.core]
    return [
        *(each for each in rows if each.core),
        *(each for each in others if every and not each.read),
        *(each for each in others if each.read),
    ]
