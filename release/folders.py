"""Folders that are whole or absent, and files that are in two places without being stored twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from release.errors import ReleaseError


@contextmanager
def appearing(folder: Path) -> Generator[Path]:
    """A temporary sibling that becomes `folder` when the block ends well, and vanishes when it does not.

    Raises:
        ReleaseError: The disk is full or the folder cannot be written; an earlier `folder` stays as it was.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    except OSError as error:
        mend = "free some space if the disk is full, and run again"
        raise ReleaseError(f"stopped: {error}", where=str(folder), mend=mend) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def place(source: Path, target: Path) -> None:
    """Let `target` be the file `source`: a hard link where the disk allows it, for gigabytes of weights and shards.

    Safe because generated files are never changed in place, only replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def files_in(folder: Path) -> list[str]:
    """The relative POSIX paths of all files in `folder`, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
