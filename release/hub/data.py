"""The family's data set on a Hub: released once, by `make release-data` or with the first model, and referred to by every other.

What is released is compared by the hashes that the Hub lists, with those of the manifest: for a model nothing of it is pulled back
or uploaded again. A model's record "verify" names the commit of its data. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from huggingface_hub.hf_api import RepoFile

from release import data_manifest
from release.errors import ReleaseError
from release.family import Family
from release.hub import state
from release.hub.state import DesiredRepo
from release.results.export import PulledRepository


@dataclass(frozen=True)
class ReleasedData:
    """The data set as it is public and tagged on a Hub: its id, and what is there."""

    id: str
    pulled: PulledRepository


def released(family: Family, api: Any) -> ReleasedData | None:
    """The family's own data where they are public and tagged on a Hub; None where they are still to be released.

    Raises:
        ReleaseError: Other data than lie here are released under this name, or main is not what is tagged.
    """
    repo = state.data_repo(family)
    if repo is None:
        return None
    remote = state.remote_repo(api, repo)
    if remote.private or remote.commit is None or remote.tag is None:
        return None
    if others := [*listing_problems(family, remote.files), *remote.moved]:
        what = f"{repo.id} {remote.tag} is released, and {', '.join(others[:3])} of it is not as it is here"
        hint = f"bring main back to the tag, or name another `repository` in [data] of {family.path}"
        raise ReleaseError(what, where=str(api.endpoint), hint=hint)
    size = sum(file.size for file in remote.files.values())
    return ReleasedData(repo.id, PulledRepository(remote.commit, len(remote.files), size))


def to_release(family: Family, size: str, api: Any) -> tuple[list[DesiredRepo], ReleasedData | None]:
    """The repositories that a release of `size` writes, without the data where they were released before: then those."""
    repos = state.desired_repos(family, size)
    known = released(family, api) if api else None
    return [repo for repo in repos if known is None or repo.id != known.id], known


def listing_problems(family: Family, files: dict[str, RepoFile]) -> Iterator[str]:
    """The files of data on a Hub that are not those of the manifest here: by their sha256, as the Hub lists it."""
    folder = family.mixture_folder
    expected = data_manifest.shards(data_manifest.read(folder, stage="score"))
    manifest = files.get(data_manifest.NAME)
    if manifest is None or not state.same(folder / data_manifest.NAME, manifest):
        yield data_manifest.NAME
    for name in sorted({*expected, *(name for name in files if name.endswith(".parquet"))}):
        file, shard = files.get(name), expected.get(name)
        if file is None or shard is None or not _is_shard(family, name, file, shard):
            yield name


def _is_shard(family: Family, name: str, file: RepoFile, shard: dict[str, Any]) -> bool:
    if file.lfs is not None:
        return (file.lfs.sha256, file.size) == (shard["sha256"], shard["bytes"])
    here = family.mixture_folder / name  # a Hub keeps small files without a sha256
    return here.is_file() and state.same(here, file)
