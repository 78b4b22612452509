"""Everything that a family names on a Hub, as stand-ins: which repositories, at which commits, and how they are put there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from huggingface_hub import HfApi

from release.family import Family
from release.files import sha256_file, sha256_folder, short_hash, write_atomic
from release.hub_objects import HubObject, hub_objects
from release.localhub.admin import add_commit_under_id, add_pull_reference
from release.rehearsal import benchmarks, sources
from release.spec import MixtureSpec

if TYPE_CHECKING:
    from release.rehearsal import models

MODEL_CARD = "---\nlicense: {license}\nlibrary_name: {library}\n---\n\nA stand-in of {id}, made for a rehearsal.\n"


@dataclass(frozen=True)
class StandIn:
    """A repository to be put on the Hub.

    Attributes:
        id, type: As the family names it.
        role: What the family uses it for.
        commit: The commit under which it is read; None where the newest one is.
        pull: The pull request from which it is read instead; its main branch then lacks modules.json.
        write: Fills a folder with its files.
        made_of: Names what the files follow from, so that a later rehearsal knows whether they are still the ones.
    """

    id: str
    type: Literal["model", "dataset"]
    role: str
    commit: str | None
    write: Callable[[Path], object] = field(repr=False, compare=False)
    made_of: str
    pull: int | None = None


def stand_ins(
    family: Family, declaration: MixtureSpec, sizes: Sequence[str], *, most: int | None = None
) -> list[StandIn]:
    """Every repository that a release of `sizes` and its comparison read, each once.

    Args:
        declaration: The family's mixture, scaled (see `sources.scaled`).
        most: Parameters beyond which an encoder has fewer layers than published.
    """
    named = [_stand_in(each, family, most) for each in hub_objects(family, declaration, sizes)]
    unique = {(each.type, each.id): each for each in reversed(named)}
    return sorted(unique.values(), key=lambda each: (each.type, each.id))


def _stand_in(each: HubObject, family: Family, most: int | None) -> StandIn:
    """The stand-in of one object, in the form of its role."""
    pull = re.fullmatch(r"refs/pr/(\d+)", each.revision or "")
    match each.role:
        case "nano":
            write: Callable[[Path], object] = partial(benchmarks.nano, sets=family.evaluation.nano_sets)
        case "task":
            write = partial(benchmarks.mteb_data, task=each.task)
        case "speed":
            write = benchmarks.question_pairs
        case "source" | "mixture":  # a rehearsal mixes anew, see workspace.small
            write = partial(sources.write_source, configs=list(each.configs))
        case "encoder" | "teacher" | "embedder" | "compared":
            write = partial(_model, each.id, each.role, most)
    commit = None if pull else each.revision
    return StandIn(
        each.id,
        each.type,
        each.role,
        commit,
        write,
        short_hash(f"{_code()} {each} {most}"),
        int(pull[1]) if pull else None,
    )


def _model(name: str, role: models.Role, most: int | None, folder: Path) -> None:
    from release.rehearsal import models

    models.build(name, role, folder, most=most)
    library = "transformers" if role == "encoder" else "sentence-transformers"
    card = MODEL_CARD.format(id=name, license="mit" if role == "encoder" else "apache-2.0", library=library)
    write_atomic(folder / "README.md", card)


@cache
def _code() -> str:
    """The sha256 of all that decides what a stand-in looks like, beside its own facts."""
    here = Path(__file__).parent
    return sha256_folder(here, "*.*") + sha256_file(here.parent / "shapes.toml")


def build(repositories: Sequence[StandIn], root: Path) -> dict[str, Path]:
    """Write all of them under `root`; gives the folder of each id. What an earlier rehearsal wrote of the same is kept."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    folders = {}
    for each in repositories:
        name = f"{each.type}s", each.id.replace("/", "--")
        folder = folders[each.id] = root.joinpath(*name, each.made_of)
        if not folder.is_dir():
            shutil.rmtree(folder.parent, ignore_errors=True)  # of another family, or made by other code
            making = folder.with_name(".making")
            making.mkdir(parents=True)
            each.write(making)
            making.rename(folder)
    return folders


def put(api: HfApi, repositories: Sequence[StandIn], folders: dict[str, Path], hub: Path) -> None:
    """Publish them through the client on the Hub of `api`, which is kept in `hub`; then give pinned commits their ids."""
    for each in repositories:
        api.create_repo(each.id, repo_type=each.type, exist_ok=True)
        api.upload_folder(
            repo_id=each.id, repo_type=each.type, folder_path=folders[each.id], commit_message="A stand-in"
        )
        if each.commit:
            add_commit_under_id(hub, each.id, each.commit, kind=each.type)
        if each.pull:
            add_pull_reference(hub, each.id, each.pull)
            api.delete_file("modules.json", each.id, commit_message="As it is without the pull request")
