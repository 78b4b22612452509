"""What make asks about a family file: its name and sizes, and whether a fact that a stage rests on has changed.

    python -m release.facts [--write] [--org NAME] FILE [SIZE]

prints `ok NAME SIZE SIZES...` (with --organization FILE: its organisation), or one line that says what is wrong.
With --write, the values that decide a stage's result are kept in a file of the stage, which make compares with the age of its
output. The file is written only where they changed, so a comment remakes nothing, in the declaration of the data neither, and
[speed] trains nothing anew. No package is needed: make asks before the virtual environment is there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.files import resource, sha256_file, sha256_yaml, write_atomic
from release.stages import STAGES
from release.text_files import toml_tables

# release/family.py is stricter; this keeps paths inside build/
NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)

HASHES = {"sha256", "says"}  # of a declaration


def read(path: Path, organization: str = "") -> dict[str, Any]:
    """The tables of a family file, of which only name and sizes have been checked.

    Args:
        organization: Under which it is released instead of its own.

    Raises:
        ReleaseError: No such file, no TOML, or a name that can be no folder.
    """
    if find_spec("tomllib") is None:
        raise ReleaseError("Python 3.11 or newer is needed", hint="make PYTHON=python3.12")
    if not path.is_file():
        known = ", ".join(sorted(map(str, resource("recipes").glob("*.toml"))))
        raise ReleaseError(f"no family file {str(path)!r}", hint=f"FAMILY is one of {known}, or one of your own")
    tables = toml_tables(path)
    name, sizes = value(tables, "family.name"), tables.get("sizes")
    if not isinstance(sizes, dict) or not sizes:
        raise ReleaseError("a family needs at least one size", where=str(path), hint="add a table [sizes.<name>]")
    for word in (name, *sizes):
        if not isinstance(word, str) or not NAME.fullmatch(word):
            hint = "use letters, digits, '-', '_' and '.'"
            raise ReleaseError(f"{word!r} is no name of a family or size", where=str(path), hint=hint)
    if organization:
        if not NAME.fullmatch(organization):
            raise ReleaseError(
                f"{organization!r} is no organisation", where="ORG", hint="write its name as the Hub shows it"
            )
        tables["family"]["organization"] = organization
    return tables


def value(tables: dict[str, Any], key: str, size: str = "") -> Any:
    """What stands under a dotted key, None if nothing does.

    {size} in it is that size, {teacher} the teacher's model, and {embedders} at its end all first stages that have an entry.
    """
    table, each, _ = key.partition(".{embedders}")
    if each:
        entries, embedders = value(tables, table, size) or {}, value(tables, "evaluation.embedders") or ()
        return {name: entries[name] for name in embedders if name in entries} or None
    teacher = value(tables, "teacher.model") if "{teacher}" in key else None
    entry: Any = tables
    for part in key.split("."):
        entry = entry.get(part.format(size=size, teacher=teacher)) if isinstance(entry, dict) else None
    return entry


def write(path: Path, tables: dict[str, Any], size: str) -> None:
    """Write the facts of every stage that differ from those that are there.

    The first time they get the age of their sources: what was built since counts as built from them.
    """
    build = Path("build") / value(tables, "family.name")
    for stage in STAGES:
        if (file := stage.facts_file(build, size)) is None:
            continue
        old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        current, sources = {key: value(tables, key, size) for key in stage.facts}, [path]
        declaration = resource(str(current.get("data.declaration", "")))
        if declaration.is_file():  # its content is a fact too
            current |= _content(declaration, old)
            sources.append(declaration)
        current = json.loads(json.dumps(current, default=str))
        if current == old:
            continue
        age = max(source.stat().st_mtime for source in sources)
        if old:
            age = file.stat().st_mtime if _same(current, old) else None
        write_atomic(file, json.dumps(current, indent=2, sort_keys=True))
        if age is not None:
            os.utime(file, (age, age))


def _content(declaration: Path, old: dict[str, Any]) -> dict[str, Any]:
    """The hashes of a declaration: of its bytes, and of what it says, which is read where the bytes have changed."""
    sha256 = sha256_file(declaration)
    known = old.get("says") if old.get("sha256") == sha256 else None
    return {"sha256": sha256, "says": known or sha256_yaml(declaration)}


def _same(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether nothing differs but keys without value, and the wording of a declaration: comments, blanks, the order of its keys.

    Of a table that was a fact as a whole, and is no longer, what is a fact now is compared.
    """
    wholes = {name for name in old if any(key.startswith(f"{name}.") for key in new)}
    before = {key: value(_tables(old), key) for key in new} | old
    if any(new.get(key) != before.get(key) for key in before.keys() - wholes - HASHES):
        return False
    if "sha256" not in new:
        return True
    return new["sha256"] == old.get("sha256") or (new["says"] is not None and new["says"] == old.get("says"))


def _tables(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts as the tables of a family file have them, as far as they say."""
    tables: dict[str, Any] = {}
    for key, fact in facts.items():
        *path, last = key.split(".")
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[last] = fact
    return tables


def answer(write_facts: bool, file: str, size: str = "", organization: str = "") -> str:
    """What make reads: `ok`, the family's name, the size that was asked for or the first one, and all sizes."""
    tables = read(path := Path(file), organization)
    sizes = list(tables["sizes"])
    size = size or sizes[0]
    if size not in sizes:
        raise ReleaseError(f"unknown size {size!r}", where=str(path), hint=f"SIZE is one of {' '.join(sizes)}")
    if write_facts:
        write(path, tables, size)
    return " ".join(["ok", value(tables, "family.name"), size, *sizes])


def main() -> None:
    """Answer make, or say what is wrong in one line: where it reads words, or as an error where it asks for the organisation."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--organization", action="store_true")
    parser.add_argument("--org", default="")
    parser.add_argument("file")
    parser.add_argument("size", nargs="?", default="")
    args = parser.parse_args()
    try:
        if args.organization:
            print(value(read(Path(args.file), args.org), "family.organization") or "local")
        else:
            print(answer(args.write, args.file, args.size, args.org))
    except ReleaseError as error:
        if args.organization:
            sys.exit(f"error: {error}")
        print(error)  # make shows it


if __name__ == "__main__":
    main()
