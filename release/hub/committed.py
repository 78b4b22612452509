"""What leaves this machine was measured and rendered by code that is in a commit: the only one that anybody else can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from release import mode, records
from release.errors import ReleaseError


def check(folders: list[Path], endpoint: str) -> None:
    """Refuse staged folders whose records, or whose cards as they are now, come from a work tree with changes.

    A Hub on loopback takes them, so that a rehearsal and the demo work while somebody develops. An installed package has no work
    tree, and its records name no commit.

    Raises:
        ReleaseError: The first record, or the work tree, is named.
    """
    if mode.on_loopback(endpoint):
        return
    if dirty := next(_dirty(folders), None):
        hint = f"commit the changes, then {records.remake_hint(dirty.stem)}"
        raise ReleaseError("measured with changes that are in no commit", where=str(dirty), hint=hint)
    if records.git_commit().endswith("+changes"):
        what = "the work tree has changes that are in no commit, and a card is made by what is there"
        raise ReleaseError(what, where=endpoint, hint="commit or remove them, make stage, then publish")


def _dirty(folders: list[Path]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.glob("records/**/*.json")):
            value = json.loads(path.read_text(encoding="utf-8"))
            if str(value.get("commit", "") if isinstance(value, dict) else "").endswith("+changes"):
                yield path
