"""A dataset from its declaration to the Hub and back, as a script: run by test_mix_hub.py. Prints what went and what came back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

import pyarrow.parquet as pq
import yaml
from datasets import load_dataset
from huggingface_hub import HfApi

from release import family
from release.data import mix, score
from release.hub import stage
from tests.data.lengths import Lengths
from tests.data.test_mix import ROOT, declared, upstream


def fingerprint(rows: Iterable[dict[str, Any]]) -> str:
    """A hash over the rows' values, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row["query"], row["document"], row["label"]]).encode())
    return digest.hexdigest()


def main(namespace: str) -> dict[str, Any]:
    """Mix two configs, score, stage, upload, and stream one of them back."""
    os.chdir(tempfile.mkdtemp())
    api, facts = HfApi(), family.load(ROOT / "recipes/demo.toml")
    nothing = dataclasses.replace(facts.evaluation, collections=(), nano_sets=(), tasks=())
    about = dataclasses.replace(facts.about, organization=namespace)
    facts = dataclasses.replace(facts, evaluation=nothing, about=about)
    quora = upstream("b.parquet") | {"held_out": {"rows": 50, "split": "validation"}, "labels": "teacher"}
    mix.run(facts, declared(agnews=upstream("a.parquet"), quora=quora))
    score.run(facts, Lengths())
    folder = stage.stage_dataset(facts)
    api.create_repo(facts.data_id, repo_type="dataset")
    api.upload_folder(repo_id=facts.data_id, repo_type="dataset", folder_path=folder)
    sent = {}
    for name in ("agnews", "quora"):
        files = sorted((folder / name).glob("train-*.parquet"))
        sent[name] = fingerprint(row for file in files for row in pq.read_table(file).to_pylist())
    streamed = load_dataset(facts.data_id, "quora", split="train", streaming=True)
    both = load_dataset(facts.data_id, split="train", streaming=True)
    front = yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---")[1])
    with pq.ParquetFile(next(iter((folder / "quora").glob("validation-*.parquet")))) as file:
        column = file.metadata.row_group(0).column(0)
    return {
        "id": facts.data_id,
        "sent": sent["quora"],
        "streamed": fingerprint(streamed),
        "files": sorted(path.name for path in (folder / "quora").glob("*.parquet")),
        "configs": [config["config_name"] for config in front["configs"]],
        "splits": {
            info["config_name"]: {split["name"]: split["num_examples"] for split in info["splits"]}
            for info in front["dataset_info"]
        },
        "features": {name: feature.dtype for name, feature in (both.features or {}).items()},
        "card": (folder / "README.md").read_text(encoding="utf-8"),
        "page index": [column.has_offset_index, column.has_column_index],
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
