"""Where a rehearsal works: the project as make needs it, the declaration in small, and a build folder and cache of its own."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from release import mode
from release.errors import ReleaseError
from release.family import Family
from release.mode import ORGANIZATION
from release.rehearsal import sources

LINKED = ("Makefile", "cards", "datasets", "recipes", "release", "pyproject.toml", "constraints.txt", ".venv", ".git")
ROOT = Path("build/rehearsal")
MIXTURE = re.compile(r"^mixture(_revision)? *=.*\n", re.MULTILINE)  # in a family file
CLEARED = (
    "HF_",
    "HUGGING",
    "MAKE",
    "MFLAGS",
    "TRANSFORMERS_",
    "RELEASE_",
)  # of the environment: a rehearsal knows no real Hub


@dataclass(frozen=True)
class Workspace:
    """The folders of one family's rehearsal.

    Attributes:
        root: All of it; only `stand_ins` outlives a run.
        family: The family file, relative to `work` as it is to the project.
    """

    root: Path
    family: Path

    @property
    def work(self) -> Path:
        """Where make runs: links to the project, and a build folder of its own."""
        return self.root / "work"

    @property
    def stand_ins(self) -> Path:
        """The stand-ins' files, kept for the next rehearsal."""
        return self.root / "stand-ins"

    @property
    def hub(self) -> Path:
        """What the Hub keeps."""
        return self.root / "hub"

    @property
    def logs(self) -> Path:
        """What each step printed."""
        return self.root / "logs"

    def environment(self, endpoint: str, token: str, threads: int) -> dict[str, str]:
        """For every verb: this Hub alone, an empty cache at first, and the switch of rehearsals."""
        inherited = {
            name: value for name, value in os.environ.items() if name == ORGANIZATION or not name.startswith(CLEARED)
        }
        own = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HOME": str((self.root / "home").resolve())}
        own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0", "PYTHONUNBUFFERED": "1"}
        return (
            inherited | own | {mode.VARIABLE: "1", "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        )


def mixed_anew(family: Family) -> Family:
    """The family as a rehearsal has it: where a mixture is only taken from the Hub, nothing of the data is rehearsed."""
    return replace(family, data=replace(family.data, mixture=None, mixture_revision=None))


def prepare(family: Family, project: Path = Path()) -> Workspace:
    """Lay out a fresh workspace under build/rehearsal/<family>; the files of stand-ins stay.

    Raises:
        ReleaseError: The family file or its declaration is not below the project, so that make could not name it there.
    """
    workspace = Workspace((project / ROOT / family.about.name).resolve(), family.path)
    for path in (family.path, family.data.declaration):
        if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
            hint = "name it relative to the project, such as recipes/ettin.toml"
            raise ReleaseError("a rehearsal takes files in a folder of the project", where=str(path), hint=hint)
    for folder in (workspace.work, workspace.hub, workspace.logs, workspace.root / "home"):
        shutil.rmtree(folder, ignore_errors=True)
    workspace.work.mkdir(parents=True)
    workspace.logs.mkdir()
    copied = {family.path.parts[0], family.data.declaration.parts[0]}  # to be changed here and nowhere else
    for folder in copied:
        shutil.copytree(project / folder, workspace.work / folder)
    for name in LINKED:
        if (project / name).exists() and name not in copied:
            (workspace.work / name).symlink_to((project / name).resolve())
    recipe = workspace.work / family.path  # as `mixed_anew`
    recipe.write_text(MIXTURE.sub("", recipe.read_text(encoding="utf-8")), encoding="utf-8")
    declaration = workspace.work / family.data.declaration
    declaration.write_text(sources.scaled(declaration.read_text(encoding="utf-8")), encoding="utf-8")
    return workspace
