"""What a run of the tests makes once: whichever of its workers comes first makes it, the others wait and take it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def once(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` as `make` filled it; `folder` is pytest's own of this process, `tmp_path_factory.getbasetemp()`."""
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    made, begun = shared / name, shared / f"{name}-begun"
    with FileLock(shared / f"{name}.lock"):
        if not made.is_dir():
            shutil.rmtree(begun, ignore_errors=True)  # of an earlier try that failed
            begun.mkdir()
            make(begun)
            begun.rename(made)
    return made
