"""Folders that the library `datasets` reads, under a name of their contents.

Its cache knows a folder with a README by the folder's name and the README alone: a file that changed beside them, or another folder
of that name, would be answered with the old rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from release.files import sha256_folder


@contextmanager
def named_by_contents(source: str) -> Generator[str]:
    """What to load instead of `source` within the block: a link whose name holds a hash of the folder, or the same Hub id."""
    folder = Path(source)
    if not folder.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="datasets-") as directory:
        link = Path(directory, f"{folder.resolve().name}-{sha256_folder(folder)[:16]}")
        link.symlink_to(folder.resolve(), target_is_directory=True)
        yield str(link)
