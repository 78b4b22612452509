"""Text that every machine has: docstrings of installed packages as (summary, body) pairs, without importing them.

A function's first docstring line says in a few words what the rest explains at length: a query and its document.
Sources are parsed, never imported. The split into train and held-out depends only on the object's name, so that it
stays the same between package versions and whatever else is installed; what is held out must never be trained on.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import inspect
import re
import sysconfig
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PACKAGES = (  # all of them installed by this project's own requirements
    *(
        "stdlib",
        "numpy",
        "scipy",
        "torch",
        "transformers",
        "pandas",
        "polars",
        "sklearn",
        "matplotlib",
        "sympy",
        "networkx",
    ),
    *("datasets", "mteb", "sentence_transformers", "huggingface_hub", "pyarrow", "accelerate", "PIL"),
)
HELD_OUT_PERCENT = 15
SKIPPED_FOLDERS = {
    "site-packages",
    "dist-packages",
    "tests",
    "test",
    "testing",
    "_vendor",
    "vendored",
    "__pycache__",
    "idlelib",
    "lib2to3",
}
MARKUP = re.compile(r":[a-zA-Z:]+:`~?([^`]+)`|``([^`]+)``|`([^`]+)`")
WORDS = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class DocstringPair:
    """One documented object: `summary` is the query, `body` (without that line) the document."""

    name: str
    package: str
    summary: str
    body: str
    split: str  # "train" or "heldout"


def pairs(packages: Iterable[str] = PACKAGES, *, more: Path | None = None, workers: int = 2) -> list[DocstringPair]:
    """All distinct documented objects of the installed ones among `packages` and of every package in folder `more`.

    Of objects with one name (overloads) the first is kept. Near-duplicates are removed on both sides: of two pairs whose
    summaries, or whose bodies' first 40 words, are equal up to case, punctuation and digits, only the first is kept. A
    held-out object wins over a training object, so that nothing held out has a near-copy that is trained on.
    """
    roots = [(package, root) for package in packages for root in _roots(package)]
    if more is not None:
        roots += [(root.name, root) for root in sorted(more.iterdir()) if root.is_dir()]
    files = [(package, root, path) for package, root in roots for path in _sources(root)]
    with ProcessPoolExecutor(workers, initializer=gc.disable) as pool:  # a syntax tree is no garbage, and frees itself
        candidates = [pair for group in pool.map(_read, files, chunksize=32) for pair in group]
    candidates.sort(key=lambda pair: (pair.split, pair.name))  # "heldout" sorts before "train"
    seen: set[str] = set()
    distinct = []
    for pair in candidates:
        keys = {"n:" + pair.name, "s:" + _key(pair.summary), "b:" + _key(pair.body, count=40)}
        if not keys & seen:
            distinct.append(pair)
        seen |= keys
    return distinct


def split_of(name: str) -> str:
    """`heldout` or `train`, by a hash of the object's qualified name."""
    return "heldout" if int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 100 < HELD_OUT_PERCENT else "train"


def clean(text: str) -> str:
    """Plain words: reST roles and backticks are unwrapped, doctest prompts and runs of blanks removed."""
    text = MARKUP.sub(lambda match: next(group for group in match.groups() if group), text)
    text = re.sub(r"^\s*(>>>|\.\.\.)\s?", "", text, flags=re.MULTILINE)
    text = re.sub(r"[-=~^]{3,}", " ", text)
    return " ".join(text.split())


def _roots(package: str) -> list[Path]:
    if package == "stdlib":
        return [Path(sysconfig.get_paths()["stdlib"])]
    spec = find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []


def _sources(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        if not SKIPPED_FOLDERS & set(path.relative_to(root).parts) and not path.name.startswith("test_"):
            yield path


def _read(source: tuple[str, Path, Path]) -> list[DocstringPair]:
    package, root, path = source
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError):
        return []
    module = ".".join([package, *path.relative_to(root).with_suffix("").parts])
    return [pair for name, text in _documented(tree, module) if (pair := _pair(package, name, text))]


def _documented(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{name}.{child.name}"
            if text := ast.get_docstring(child, clean=False):
                yield inner, text
            yield from _documented(child, inner)


def _pair(package: str, name: str, text: str) -> DocstringPair | None:
    """Split a docstring after its first paragraph; too short, too long or templated ones are no pair."""
    lines = inspect.cleandoc(text).strip().splitlines()
    end = next((i for i, line in enumerate(lines) if not line.strip()), len(lines))
    if end == len(lines):
        return None  # most have one paragraph only
    summary, body = clean(" ".join(lines[:end])), clean("\n".join(lines[end:]))
    if not 3 <= len(summary.split()) <= 40 or len(body.split()) < 12 or "{" in summary or "%(" in summary:
        return None
    return DocstringPair(name=name, package=package, summary=summary, body=body, split=split_of(name))


def _key(text: str, count: int | None = None) -> str:
    return " ".join(WORDS.findall(re.sub(r"\d+", "0", text.lower()))[:count])
