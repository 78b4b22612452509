"""manifest.json below build/: of the pairs, of one config of them, of the labelled mixture. It names every config and shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from release.errors import ReleaseError

NAME = "manifest.json"


def find(folder: Path) -> dict[str, Any] | None:
    """The manifest of the pairs or of a mixture, with `configs` by name; None where there is none that can be read."""
    value = _json(folder / NAME)
    return value if value and isinstance(value.get("configs"), dict) else None


def settled(folder: Path, mixture: str) -> str | None:
    """At which commit the dataset `mixture` is taken, by the manifest of the pairs in `folder`; None where none says so."""
    here = find(folder) or {}
    return here.get("revision") if here.get("mixture") == mixture else None


def read(folder: Path, *, stage: str) -> dict[str, Any]:
    """The same, where nothing can be done without it.

    Args:
        stage: Which stage writes it.

    Raises:
        ReleaseError: There is none that can be read.
    """
    if (value := find(folder)) is None:
        raise ReleaseError("no readable manifest", where=str(folder / NAME), hint=f"make {stage}")
    return value


def find_config(folder: Path) -> dict[str, Any] | None:
    """The manifest of one finished config of the pairs; None where there is none, or a shard is not there with its size."""
    value = _json(folder / NAME)
    try:
        whole = value and all((folder / shard["name"]).stat().st_size == shard["bytes"] for shard in value["shards"])
    except (OSError, KeyError):
        return None
    return value if whole else None


def shards(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every shard of every config, by its file's name below the manifest's folder."""
    return {
        f"{name}/{shard['name']}": shard for name, entry in manifest["configs"].items() for shard in entry["shards"]
    }


def rows(config: dict[str, Any], split: str | None = None) -> int:
    """The rows of one config of a manifest, in all its splits or in one."""
    return sum(shard["rows"] for shard in config["shards"] if split in (None, shard["split"]))


def asks_teacher(config: dict[str, Any]) -> bool:
    """Whether the labels of a config of a manifest are the family's teacher's, or came with the source."""
    return config.get("labels", "teacher") == "teacher"


def _json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
