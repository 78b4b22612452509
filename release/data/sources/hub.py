"""Parquet files of a dataset on the Hub, at one fixed commit, as a file system that pyarrow streams from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from release import hub_access
from release.errors import ReleaseError
from release.spec import HubSource


@dataclass(frozen=True)
class HubFiles:
    """The files of one config and split, in the order of their names.

    Attributes:
        filesystem: What pyarrow reads them from.
        commit: The one that they belong to.
        license: What the dataset's card says at that commit, None where it names none.
    """

    filesystem: Any
    names: list[str]
    commit: str
    license: str | None


def parquet_files(source: HubSource, where: str, split_key: str = "source.split") -> HubFiles:
    """The files of the source's config and split.

    Args:
        where: The config and the source, for messages.
        split_key: The key of the declaration that names the split.

    Which files those are is for the library `datasets` to say, so whatever layout it loads can be mixed, if it is parquet.

    Raises:
        ReleaseError: The Hub, the dataset or the revision cannot be fetched, or the config or split is not there or not parquet.
    """
    from datasets import load_dataset_builder

    repository = source.repository
    try:
        info = HfApi().dataset_info(repository, revision=source.revision, timeout=20)
        commit = str(info.sha)
        builder = load_dataset_builder(repository, source.config, revision=commit)
    except RevisionNotFoundError as error:
        hint = "pin a commit that exists in source.revision (null takes the newest)"
        raise ReleaseError(f"revision {source.revision} of {repository} is gone", where=where, hint=hint) from error
    except RepositoryNotFoundError as error:
        hint = "correct source.repository, or log in if it is private"
        absent = ReleaseError(f"there is no dataset {repository}, or it is private", where=where, hint=hint)
        raise hub_access.refusal(error, repository, where) or absent from error
    except ValueError as error:  # the library lists the configs that there are
        raise ReleaseError(" ".join(str(error).split())[:300], where=where, hint="correct source.config") from error
    except Exception as error:  # whatever else the network does: the source cannot be fetched now
        what = f"the source cannot be reached ({type(error).__name__})"
        away = ReleaseError(what, where=where, hint="connect to the Hub, or correct repository and revision")
        raise hub_access.refusal(error, repository, where) or away from error
    splits = builder.config.data_files or {}
    if source.split not in splits:
        what = f"no split {source.split!r} (there are: {', '.join(map(str, splits))})"
        raise ReleaseError(what, where=where, hint=f"correct {split_key}")
    files = sorted(str(file).removeprefix("hf://") for file in splits[source.split])
    if other := [file for file in files if not file.endswith(".parquet")]:
        hint = "name a dataset in parquet, or download it and use a source of kind files"
        raise ReleaseError(f"{other[0].rpartition('/')[2]} is no parquet file", where=where, hint=hint)
    return HubFiles(HfFileSystem(), files, commit, _license(info))


def _license(info: Any) -> str | None:
    """The licence of the card's front matter; several are listed, and one of the author's own goes by its name."""
    card = info.card_data or {}
    named = card.get("license")
    if named == "other":
        named = card.get("license_name") or named
    return ", ".join(map(str, named)) if isinstance(named, list) else str(named) if named else None
