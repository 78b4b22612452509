"""Parquet files of a dataset on the Hub, at one fixed commit, as a file system that pyarrow streams from."""

from __future__ import annotations

from typing import Any

from recipes.declare import Config, refuse


def parquet_files(config: Config) -> tuple[Any, list[str], str]:
    """The file system, the files of the config's split (in the order of their names) and the commit they belong to.

    Raises:
        ReleaseError: The Hub or the revision is out of reach, or the split has no parquet file.
    """
    from huggingface_hub import HfApi, HfFileSystem

    source = config.source
    where = f"config {config.name}, {source.place}"
    try:
        commit = str(HfApi().dataset_info(str(source.repository), revision=source.revision, timeout=20).sha)
        files = HfFileSystem()
        found = sorted(str(path) for path in files.glob(f"datasets/{source.repository}@{commit}/**/*.parquet"))
    except Exception as error:  # no network, no such dataset, no such revision: all mean that it cannot be had
        what = f"the source cannot be reached ({type(error).__name__})"
        refuse(what, where=where, mend="connect to the Hub, or correct repository and revision")
    prefix = f"datasets/{source.repository}@{commit}/"
    wanted = [path for path in found if _belongs(path.removeprefix(prefix), str(source.config), str(source.split))]
    if not wanted:
        refuse(f"no parquet file of split {source.split!r}", where=where, mend="correct config and split")
    return files, wanted, commit


def _belongs(path: str, config: str, split: str) -> bool:
    """Both usual layouts: `<config>/<split>-00000-of-00001.parquet` and `<config>/<split>/0000.parquet`."""
    *folders, name = path.split("/")
    if config not in folders:
        return False
    return name.startswith(f"{split}-") or (bool(folders) and folders[-1] == split)
