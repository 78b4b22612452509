"""Imports go one way: no circle between files or packages, late imports included, and none from the library to the recipe."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from release.__main__ import VERBS

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("release", "recipes")
    for path in (ROOT / folder).rglob("*.py")
}


@cache
def parsed(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def named(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom) or node.module is None:
        return []
    inner = [f"{node.module}.{alias.name}" for alias in node.names]
    return [full if full in FILES else node.module for full in inner]


def imported(name: str) -> Iterator[str]:
    """The modules of ours that one imports, at its top or inside a function."""
    for node in ast.walk(parsed(name)):
        yield from (module for module in named(node) if module in FILES)


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


SLOW = {  # for these an import waits inside a function: they take seconds, or an extra brings them
    *("torch", "transformers", "sentence_transformers", "datasets", "mteb", "scipy"),
    *("onnx", "onnx_ir", "onnxruntime", "nncf", "openvino", "pytrec_eval", "peft", "datatrove", "ray", "skills_ref"),
}
BRINGS = {"safetensors.torch": "torch"}  # a module of a quick package that loads a slow one
QUICK_VERBS = ("card", "stage", "publish", "verify", "check", "plan", "preflight", "hub", "compare")


def at_the_top(name: str) -> set[str]:
    """What a module of ours imports when it is imported, below `if TYPE_CHECKING` nothing."""
    return {module for node in parsed(name).body for module in named(node)}


def slow(module: str) -> set[str]:
    """The slow packages that come with a module, ours or another's."""
    seen, rest = set(), [module]
    while rest:
        if (one := rest.pop()) not in seen:
            seen.add(one)
            parents = (".".join(one.split(".")[:depth]) for depth in range(1, one.count(".") + 1))
            rest += [each for each in (one, *parents) if each in FILES and each not in seen]
            rest += at_the_top(one) if one in FILES else []
    return {BRINGS.get(one, one.split(".")[0]) for one in seen} & SLOW


def late(name: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports inside functions, without those that are tried because the package may be absent."""
    tree = parsed(name)
    tried = {id(node) for block in ast.walk(tree) if isinstance(block, ast.Try) for node in block.body}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in tried:
                    yield node


def test_an_import_inside_a_function_waits_for_a_slow_package_or_says_why() -> None:
    unexplained = []
    for name, path in FILES.items():
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in late(name):
            said = any("#" in line for line in lines[node.lineno - 3 : node.lineno])  # there, or above two of them
            if not said and not any(map(slow, named(node))):
                unexplained.append(f"{name}:{node.lineno}")
    assert not unexplained


def test_an_import_inside_a_function_is_not_one_that_the_module_has_made_already() -> None:
    useless = [
        f"{name}:{node.lineno}"
        for name in FILES
        for node in late(name)
        if all(module in at_the_top(name) for module in named(node))
    ]
    assert not useless


@pytest.mark.parametrize("verb", ["", *QUICK_VERBS])
def test_what_describes_and_publishes_starts_without_the_slow_packages(verb: str) -> None:
    module = VERBS[verb][0].partition(":")[0] if verb else "release.__main__"
    assert not slow(module)


def test_no_class_name_is_defined_twice() -> None:
    """One class name, one meaning: who searches for a name finds one class."""
    defined: dict[str, list[str]] = {}
    for name in FILES:
        for node in ast.walk(parsed(name)):
            if isinstance(node, ast.ClassDef):
                defined.setdefault(node.name, []).append(name)
    assert not {name: modules for name, modules in defined.items() if len(modules) > 1}
