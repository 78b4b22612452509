"""Imports go one way: no circle between files or packages, late imports included, and none from the library to the recipe."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("release", "recipes")
    for path in (ROOT / folder).rglob("*.py")
}


def imported(name: str) -> Iterator[str]:
    """The modules of ours that one imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (full if full in FILES else node.module for full in inner)


def package(name: str) -> str:
    """`release.data.mix` and `release.data` are in release.data; `release.files` stands for itself."""
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("unit", [str, package], ids=["files", "packages"])
def test_there_is_no_circle(unit: type[str]) -> None:
    below: dict[str, set[str]] = {}
    for name in FILES:
        if name != "release":
            below.setdefault(unit(name), set()).update(map(unit, imported(name)))
    for name, others in below.items():
        others.discard(name)
    assert list(TopologicalSorter(below).static_order())  # a circle is a CycleError that names it


def test_the_library_does_not_import_the_recipe() -> None:
    assert not [name for name in FILES if name.startswith("release") for other in imported(name) if "recipes" in other]


def test_no_class_name_is_defined_twice() -> None:
    """One class name, one meaning: who searches for a name finds one class."""
    defined: dict[str, list[str]] = {}
    for name, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                defined.setdefault(node.name, []).append(name)
    assert not {name: modules for name, modules in defined.items() if len(modules) > 1}
