"""Which revision of a model was read: its commit on the Hub, or a hash of a folder's files. Scores are kept under it."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

from release.errors import ReleaseError
from release.files import sha256_folder
from release.records import model_hash

MARKS = ("modules.json", "config.json")  # a model has one of these at its root


def model_revision(source: str, revision: str | None = None) -> str:
    """The revision of a model that has just been loaded from `source`, a folder or a Hub id.

    Args:
        revision: The branch or reference that it was loaded from, None for the newest commit.

    transformers 5 no longer says which commit it loaded, but the cache that it loaded from does.

    Raises:
        ReleaseError: It is in no cache, so that nothing says which revision it is.
    """
    folder = Path(source)
    if folder.is_dir():
        return model_hash(folder) if any(folder.glob("**/*.safetensors")) else sha256_folder(folder)
    commit = cached_commit(source, revision)
    if commit is None:
        hint = f"hf download {source}, with the cache that HF_HOME names"
        raise ReleaseError("nothing says which revision of the model was loaded", where=source, hint=hint)
    return commit


def cached_commit(repo_id: str, revision: str | None = None) -> str | None:
    """The commit of a model's `revision` (default: the newest) that is in the Hub's cache, None where none is; no network."""
    for name in MARKS:
        path = try_to_load_from_cache(repo_id, name, revision=revision)
        if isinstance(path, str):
            return Path(path).parent.name
    return None


def only_cached_commit(repo_id: str) -> str | None:
    """As `cached_commit`, or the one commit that was ever loaded by its id: for where the Hub cannot be asked."""
    snapshots = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"), "snapshots")
    whole = [folder.name for folder in snapshots.glob("*") if any((folder / name).is_file() for name in MARKS)]
    return cached_commit(repo_id) or (whole[0] if len(whole) == 1 else None)
