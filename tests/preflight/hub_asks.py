"""What preflight says about a Hub that lacks this and that, as a script: test_objects.py runs it and gives it the Hub's folder."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CommitOperationAdd, HfApi

from release import spec
from release.errors import ReleaseError
from release.family import load
from release.hub_objects import HubObject, hub_objects
from release.localhub.admin import add_commit_under_id
from release.preflight import objects
from tests.preflight.people import READER, UPSTREAM

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"mix", "score", "train", "select", "evaluate", "speed", "compare"}


def put(api: HfApi, each: HubObject, tables: Sequence[tuple[str, str]], hub: Path, *, pinned: bool = True) -> None:
    """A repository with nothing but what can be asked for: names, sizes, the card's configs, and the pinned commit."""
    api.create_repo(each.id, repo_type=each.type, exist_ok=True)
    files = {"config.json": b"{}", "model.safetensors": b"0" * 1000}
    if each.type == "dataset":
        files = {f"{config}/{split}-0.parquet": b"0" * 1000 for config, split in tables}
        configs: dict[str, list[dict[str, str]]] = {}
        for config, split in tables:
            configs.setdefault(config, []).append({"split": split, "path": f"{config}/{split}-*"})
        head = {"configs": [{"config_name": name, "data_files": paths} for name, paths in configs.items()]}
        files["README.md"] = f"---\n{yaml.safe_dump(head if configs else {'license': 'mit'})}---\n".encode()
    added = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(each.id, added, commit_message="all at once", repo_type=each.type)
    if each.revision and pinned:
        add_commit_under_id(hub, each.id, each.revision, kind=each.type)


def said(name: str) -> list[str]:
    """What each reader says of a repository that the token in HF_TOKEN may not read."""
    from release.data.sources.hub import parquet_files
    from release.evaluation import first_stage, rerankers
    from release.spec import HubSource
    from release.training import run

    readers: list[Callable[[], object]] = [
        lambda: first_stage.first_stage(name).load(Path("unused")),
        lambda: rerankers.load(name),
        lambda: run._commit("model", name, "no encoder", "hint") and rerankers.load(name),
        lambda: parquet_files(HubSource("hf", "acme/reranked", "scores", "fiqa"), "config x"),
    ]
    lines = []
    for read in readers:
        try:
            read()
            lines.append("")
        except ReleaseError as error:
            lines.append(str(error))
    return lines


def main(hub: Path) -> dict[str, Any]:
    """Ask an empty Hub, one that lacks something of every kind, and a whole one."""
    os.chdir(ROOT)
    family = load(Path("tests/rehearsal/small.toml"))
    named = hub_objects(family, spec.load(family.data.declaration), ["tiny"])
    facts: dict[str, Any] = {"ids": [each.id for each in named if each.read]}

    def ask(token: str = UPSTREAM.token, stages: set[str] = STAGES) -> list[list[str]]:
        os.environ["HF_TOKEN"] = token
        started = time.monotonic()
        answers = objects.ask(family, named, stages)
        facts["seconds"] = time.monotonic() - started
        facts["fetched"] = {str(folder): size for folder, size in answers.fetched.items()}
        return [[lack.what, lack.hint, lack.stage] for lack in answers.lacks]

    facts["empty"] = ask()
    api = HfApi(token=UPSTREAM.token)
    for each in named:
        if each.read:
            put(api, each, each.tables[1:], hub, pinned=each.task != "TRECCOVID")
    gated = family.evaluation.embedders[1]
    api.update_repo_settings(gated, gated="manual")
    facts["odd"] = ask(READER.token)
    api.update_repo_settings("acme/reranked", repo_type="dataset", gated="manual")
    facts["gated data"] = [hint for what, hint, _ in ask(READER.token) if "acme/reranked is gated" in what]
    facts["read"] = {}
    for token in (READER.token, "hf_nobody_knows_this"):
        os.environ["HF_TOKEN"] = token
        facts["read"][token] = said(gated)
    api.update_repo_settings("acme/reranked", repo_type="dataset", gated=False)
    facts["only score"] = ask(READER.token, {"score"})
    facts["invalid"] = ask("hf_nobody_knows_this")
    for each in named:
        if each.read and each.type == "dataset":
            put(api, each, each.tables, hub)
    api.update_repo_settings(gated, gated=False)
    facts["whole"] = ask(READER.token)
    facts["requests"] = len(named)
    return facts


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
