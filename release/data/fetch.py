"""A mixture that is taken from the Hub as it is: its files at one commit, described as one that was mixed here.

Training from what was published is the faithful way to repeat it: how that was mixed is known in part only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import hf_hub_download

from release import spec
from release.console import Bar
from release.data import published, shards
from release.data.mix import describe
from release.errors import ReleaseError
from release.family import Family
from release.files import copy_file, resource, sha256_yaml
from release.spec import MixtureSpec

Part = tuple[str, str]  # split, path in the repository


def fetch(family: Family, commit: str) -> dict[str, Any]:
    """Put the shards of every config below the family's data/mixture; what the client has fetched before is not fetched again.

    Returns:
        The manifest, without what is measured on the labels.

    Raises:
        ReleaseError: The Hub cannot be reached, the dataset has other configs, columns or (unless told otherwise) another number
            of rows than are declared.
    """
    name, declared = str(family.data.mixture), spec.load(resource(family.data.declaration))
    folder = family.mixture_folder
    try:
        parts = _parts(name, commit)
        _check_configs(name, declared, parts)
        with Bar("score: files of the mixture", sum(map(len, parts.values()))) as bar:
            fetched = {
                config: [_put(folder / config, name, commit, each, some, bar) for each in some]
                for config, some in parts.items()
            }
    except ReleaseError:
        raise
    except Exception as error:  # datasets, the client and the network each raise their own
        what = f"the mixture cannot be fetched ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise ReleaseError(what, where=f"{name}@{commit}", hint="run it again, what is here is kept") from error
    configs = {
        config: describe(declared.configs[config])
        | {"source": {"kind": "hf", "repository": name, "config": config}, "revision": commit}
        | {"labels": "source", "cap": None, "candidates": None, "sampling": None, "held_out": None}
        | {"rows_in": sum(shard["rows"] for shard in some), "dropped": {}, "overlap": None, "shards": some}
        for config, some in fetched.items()
    }
    published.check(declared, configs)
    about: dict[str, Any] = {"name": declared.name, "title": declared.title, "seed": declared.seed}
    about |= {"declaration": declared.path.name, "declaration_sha256": sha256_yaml(declared.path)}
    about |= {"mixture": name, "revision": commit, "overlap": "ignore"}
    return about | published.described(declared) | {"configs": configs}


def _parts(name: str, commit: str) -> dict[str, list[Part]]:
    """Config -> its files; which those are is for the library `datasets` to say."""
    from datasets import get_dataset_config_names, load_dataset_builder

    by_config = {}
    for config in sorted({*get_dataset_config_names(name, revision=commit)} - {"default"}):
        splits = load_dataset_builder(name, config, revision=commit).config.data_files or {}
        by_config[config] = [
            (str(split), str(file).partition(f"@{commit}/")[2]) for split, files in splits.items() for file in files
        ]
    return by_config


def _check_configs(name: str, declared: MixtureSpec, parts: dict[str, list[Part]]) -> None:
    if differ := sorted(declared.configs.keys() ^ parts.keys()):
        what = f"{name} and {declared.path.name} differ in the configs {', '.join(differ)}"
        raise ReleaseError(what, where=name, hint="declare the configs that it has")


def _put(folder: Path, name: str, commit: str, part: Part, parts: list[Part], bar: Bar) -> dict[str, Any]:
    """Fetch one file, and call it as the shards that are mixed here are called."""
    split, path = part
    same = [other for each, other in parts if each == split]
    target = folder / f"{split}-{same.index(path):05d}-of-{len(same):05d}.parquet"
    fetched = Path(hf_hub_download(name, path, repo_type="dataset", revision=commit)).resolve()
    columns = {field.name: str(field.type) for field in pq.read_schema(fetched)}
    needed = {field.name: str(field.type) for field in shards.ROWS}
    if needed.items() - columns.items():
        what = f"it has the columns {_listed(columns)}"
        raise ReleaseError(what, where=f"{name}, {path}", hint=f"a mixture has {_listed(needed)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    copy_file(fetched, target)
    bar.advance()
    return {"name": target.name, "split": split, "rows": pq.read_metadata(target).num_rows}


def _listed(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items())
