"""Parquet files of a dataset on the Hub, at one fixed commit, as a file system that pyarrow streams from."""

from __future__ import annotations

from typing import Any

from release.data.spec import Config, refuse


def parquet_files(config: Config) -> tuple[Any, list[str], str]:
    """The file system, the files of the config's split (in the order of their names) and the commit they belong to.

    Which files those are is for the library `datasets` to say, so whatever layout it loads can be mixed, if it is parquet.

    Raises:
        ReleaseError: The Hub, the dataset or the revision cannot be had, or the config or split is not there or not parquet.
    """
    from datasets import load_dataset_builder
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    source = config.source
    where, repository = f"config {config.name}, {source.place}", str(source.repository)
    try:
        commit = str(HfApi().dataset_info(repository, revision=source.revision, timeout=20).sha)
        builder = load_dataset_builder(repository, source.config, revision=commit)
    except RevisionNotFoundError:
        hint = "pin a commit that exists in source.revision (null takes the newest)"
        refuse(f"revision {source.revision} of {repository} is gone", where=where, hint=hint)
    except RepositoryNotFoundError:
        hint = "correct source.repository, or log in if it is private"
        refuse(f"there is no dataset {repository}, or it is private", where=where, hint=hint)
    except ValueError as error:  # the library lists the configs that there are
        refuse(" ".join(str(error).split())[:300], where=where, hint="correct source.config")
    except Exception as error:  # whatever else the network does: the source cannot be had now
        what = f"the source cannot be reached ({type(error).__name__})"
        refuse(what, where=where, hint="connect to the Hub, or correct repository and revision")
    splits = builder.config.data_files or {}
    if source.split not in splits:
        what = f"no split {source.split!r} (there are: {', '.join(map(str, splits))})"
        refuse(what, where=where, hint="correct source.split" if source.domain is None else "correct source.domain")
    files = sorted(str(file).removeprefix("hf://") for file in splits[source.split])
    if other := [file for file in files if not file.endswith(".parquet")]:
        hint = "name a dataset in parquet, or download it and use a source of kind files"
        refuse(f"{other[0].rpartition('/')[2]} is no parquet file", where=where, hint=hint)
    return HfFileSystem(), files, commit
