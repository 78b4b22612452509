"""Where a rehearsal works: the project as make needs it, the declaration in small, and a build folder and cache of its own."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import scan_cache_dir

from release import mode
from release.errors import ReleaseError
from release.family import Family, load
from release.mode import ORGANIZATION
from release.rehearsal import sources

NOT_LINKED = ("build",)
ROOT = Path("build/rehearsal")
ASIDE = ".former-"
DIRECT = ("NO_PROXY", "no_proxy")  # the Hub is on this machine, behind whatever proxy it works
MIXTURE = re.compile(r"^mixture(_revision)? *=.*\n", re.MULTILINE)  # in a family file
NUMBER = re.compile(r"^([ \t]*(global_batch_size|evaluations|checkpoints|top_k)[ \t]*=[ \t]*)([\d_]+)", re.MULTILINE)
BATCHES, LEAST_BATCH = 8, 8  # divides the global batch, down to a least one
AT_MOST = {"evaluations": 3, "checkpoints": 2, "top_k": 8}  # of a training; fewer candidates than a task has documents
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

    def load(self) -> Family:
        """The family as its file says here.

        Raises:
            ReleaseError: It takes its mixture from the Hub in a way that `small` does not see.
        """
        with contextlib.chdir(self.work):
            family = load(self.family)
        if family.data.mixture:
            raise ReleaseError(
                "a rehearsal mixes anew", where=str(self.family), hint="write `mixture` on a line of its own"
            )
        return family

    def give_back(self, family: Family, size: str) -> None:
        """Give back the disk that no later stage reads.

        Checkpoints, the one that was not chosen, the client's copy of the encoder, copies in the staged folder.
        """
        folder = self.work / family.folder(size)
        for name in ("checkpoints", "best", "last"):
            shutil.rmtree(folder / name, ignore_errors=True)
        self._forget(family.size(size).encoder)
        for exported in (folder / "export").rglob("*"):
            staged = folder / "repo" / exported.relative_to(folder / "export")
            if exported.is_file() and staged.is_file() and filecmp.cmp(exported, staged, shallow=False):
                link = staged.with_name(f".{staged.name}.link")
                link.hardlink_to(exported)
                link.replace(staged)

    def _forget(self, model: str) -> None:
        """Remove a model from the client's cache."""
        cache = self.root / "home/hub"
        if cache.is_dir():
            info = scan_cache_dir(cache)
            commits = [each.commit_hash for repo in info.repos if repo.repo_id == model for each in repo.revisions]
            info.delete_revisions(*commits).execute()

    def environment(self, endpoint: str, token: str, threads: int) -> dict[str, str]:
        """For every verb: this Hub alone, an empty cache at first, and the switch of rehearsals."""
        inherited = {
            name: value for name, value in os.environ.items() if name == ORGANIZATION or not name.startswith(CLEARED)
        }
        own = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HOME": str((self.root / "home").resolve())}
        own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0", "PYTHONUNBUFFERED": "1"}
        return (
            inherited
            | own
            | dict.fromkeys(DIRECT, "127.0.0.1,localhost")
            | {mode.VARIABLE: "1", "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        )


def small(text: str) -> str:
    """A family file as a rehearsal has it: its mixture is made, not only taken from the Hub; few rows are many steps still."""

    def smaller(match: re.Match[str]) -> str:
        number = int(match[3])
        batch = max(min(number, LEAST_BATCH), number // BATCHES)
        return match[1] + str(min(number, AT_MOST[match[2]]) if match[2] in AT_MOST else batch)

    return NUMBER.sub(smaller, MIXTURE.sub("", text))


def _clear(workspace: Workspace) -> None:
    """Remove what an earlier rehearsal left, all but stand-ins. A verb that outlived it goes on in a folder that has no name."""
    for folder in (workspace.work, workspace.hub, workspace.logs, workspace.root / "home"):
        if folder.exists():
            folder.rename(folder.with_name(f"{ASIDE}{folder.name}-{os.getpid()}"))
    for aside in workspace.root.glob(f"{ASIDE}*"):
        shutil.rmtree(aside, ignore_errors=True)


def prepare(family: Family, project: Path = Path()) -> Workspace:
    """Lay out a fresh workspace under build/rehearsal/<family>; the files of stand-ins stay.

    Raises:
        ReleaseError: No checkout, or the family file or its declaration is outside of it, so that make could not name it there.
    """
    if not (project / "Makefile").is_file():
        raise ReleaseError("a rehearsal runs make, and here is no Makefile", hint="run it in a checkout of the project")
    workspace = Workspace((project / ROOT / family.about.name).resolve(), family.path)
    changed = {family.path, family.data.declaration}
    for path in changed:
        if path.is_absolute() or ".." in path.parts or path.parts[0] in NOT_LINKED:
            hint = "name it relative to the project, such as recipes/ettin.toml"
            raise ReleaseError("a rehearsal takes files of the project", where=str(path), hint=hint)
    _clear(workspace)
    workspace.work.mkdir(parents=True)
    workspace.logs.mkdir()
    _link(project, workspace.work, changed)
    recipe = workspace.work / family.path
    recipe.write_text(small(recipe.read_text(encoding="utf-8-sig")), encoding="utf-8")
    declaration = workspace.work / family.data.declaration
    declaration.write_text(sources.scaled(declaration.read_text(encoding="utf-8")), encoding="utf-8")
    return workspace


def _link(project: Path, work: Path, changed: set[Path], folder: Path = Path()) -> None:
    """Let `folder` of `work` hold what it holds in the project: links, and copies of the files that will be changed."""
    for entry in sorted((project / folder).iterdir()):
        name = folder / entry.name
        if name in changed:
            shutil.copyfile(entry, work / name)
        elif any(name in path.parents for path in changed):
            (work / name).mkdir()
            _link(project, work, changed, name)
        elif entry.name not in NOT_LINKED:
            (work / name).symlink_to(entry.resolve())
