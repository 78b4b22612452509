"""Lies about the data and in the collection, told before the release and on the Hub after it; part of `make lies`.

A thorough liar edits manifest, record and what the model says it learnt from, and seals all of it anew. What only the teacher and
the sources can tell passes: labels that change places, rows that were set aside, what was read and left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi

from benchmarks.hub_lies import verified
from release.errors import ReleaseError
from release.family import Family
from release.files import sha256_file
from release.hub import checks, stage, state
from release.records import sealed
from release.truth import manifest

Change = Callable[[dict[str, Any], dict[str, Any]], object]  # of a config in the manifest, and in the record
MANIFEST, RECORD = "manifest.json", "records/data.json"


def _label(key: str, by: float) -> Change:
    def change(config: dict[str, Any], measured: dict[str, Any]) -> None:
        config["label"][key] = measured["label"][key] = round(config["label"][key] + by, 4)

    return change


def _shard(key: str, to: Callable[[Any], Any]) -> Change:
    def change(config: dict[str, Any], measured: dict[str, Any]) -> None:
        shard = config["shards"][0]
        shard[key] = to(shard[key])
        if key == "rows":
            config["rows_in"] += 1000
            measured["rows"] += 1000

    return change


def _set(key: str, to: Callable[[Any], Any]) -> Change:
    return lambda config, _: config.update({key: to(config[key])})


LIES: dict[str, Change] = {  # in manifest and record alike
    "a wider range of labels": _label("max", 1.0),
    "a lower least label": _label("min", -1.0),
    "another mean label": _label("mean", 0.001),
    "more rows in a shard": _shard("rows", lambda rows: rows + 1000),
    "a larger shard": _shard("bytes", lambda size: size + 1),
    "more memory": _shard("bytes_in_memory", lambda size: 2 * size),
    "labels on bf16's grid": _set("labels_on_bf16_grid", lambda old: not old),
    "more rows read": _set("rows_in", lambda rows: rows + 10_000),
    "rows left out that were not": _set("dropped", lambda old: old | {"duplicate": 5}),
    "another first row": _set("sample", lambda old: old | {"query": "what a good query"}),
    "rows set aside, in the manifest": _set("quarantined", lambda old: old + 5),
    "a cap": _set("cap", lambda _: {"rows": 10, "draw": "seeded"}),
}
ON_THE_HUB = ("a wider range of labels", "more rows in a shard", "another first row", "rows left out that were not")


def tell(family: Family, size: str) -> dict[str, str | None]:
    """Tell each before anything is published, to the build in the working folder, which is left as it was."""
    caught: dict[str, str | None] = {}
    for name, change in LIES.items():
        with told(family, size, change):
            try:
                stage.stage_dataset(family)
                stage.stage_model(family, size)
                line = next((f"check: {line}" for line in checks.problems(family, size)), None)
                line = line or next((f"release-data: {line}" for line in checks.data_problems(family)), None)
            except ReleaseError as error:
                line = f"stage: {error}"
        caught[f"of the data: {name}"] = line
    return caught


@contextlib.contextmanager
def told(family: Family, size: str, change: Change) -> Generator[None]:
    """The build with a lie in manifest and record, and with a model that says that it learnt from just that."""
    paths = [family.mixture_folder / MANIFEST, family.build / RECORD, family.folder(size) / "records/run.json"]
    before = [path.read_bytes() for path in paths]
    named, record, run = (json.loads(content) for content in before)
    _change(named, record, change)
    paths[0].write_text(json.dumps(named, indent=2), encoding="utf-8")
    run["subject"]["data_revision"] = sha256_file(paths[0])
    for path, value in zip(paths[1:], (record, run), strict=True):
        path.write_text(json.dumps(sealed(value)), encoding="utf-8")
    try:
        yield
    finally:
        for path, content in zip(paths, before, strict=True):
            path.write_bytes(content)


def _change(named: dict[str, Any], record: dict[str, Any], change: Change) -> None:
    config = next(iter(named["configs"]))
    change(named["configs"][config], record["measured"]["configs"][config])
    record["measured"]["rows"] = sum(each["rows"] for each in record["measured"]["configs"].values())


def tell_on_hub(api: HfApi, family: Family, size: str) -> dict[str, str | None]:
    """Tell them on the Hub, over a release that is there: in the data with a release.json that fits, and in the collection."""
    folder, repo = stage.dataset_repo(family), family.data_id
    caught: dict[str, str | None] = {}
    edits: dict[str, dict[str, bytes]] = {name: _edited(folder, LIES[name]) for name in ON_THE_HUB}
    for name, old, new in (
        ("a count in croissant.json", "croissant.json", "pairs. Licence"),
        ("a count on the card", "README.md", "pairs of query and document"),
        ("a title", manifest.FAMILY_FILE, "Docstring"),
    ):
        content = (folder / old).read_bytes()
        assert new.encode() in content
        edits[name] = {old: content.replace(new.encode(), b"million " + new.encode(), 1)}
    for number, (name, files) in enumerate(edits.items()):
        files |= {manifest.FILE: _manifest(folder, files)}
        api.create_branch(repo, repo_type="dataset", branch=f"lie-{number}")
        said = f"{manifest.FILE} sha256 {hashlib.sha256(files[manifest.FILE]).hexdigest()}"
        operations = [CommitOperationAdd(path, content) for path, content in files.items()]
        about: dict[str, Any] = {"repo_type": "dataset", "revision": f"lie-{number}", "commit_description": said}
        done = api.create_commit(repo, operations, commit_message="Release v1", **about)
        caught[f"on the Hub, of the data: {name}"] = verified(api, repo, str(done.oid))
    return caught | _in_collection(api, family, size)


def _edited(folder: Path, change: Change) -> dict[str, bytes]:
    named, record = (json.loads((folder / name).read_bytes()) for name in (MANIFEST, RECORD))
    _change(named, record, change)
    return {MANIFEST: json.dumps(named, indent=2).encode(), RECORD: json.dumps(sealed(record)).encode()}


def _manifest(folder: Path, files: dict[str, bytes]) -> bytes:
    """A release.json that names them."""
    made = manifest.read(folder)
    own = {name: manifest.FileEntry(len(text), hashlib.sha256(text).hexdigest()) for name, text in files.items()}
    return manifest.text(dataclasses.replace(made, files=made.files | own)).encode()


def _in_collection(api: HfApi, family: Family, size: str) -> dict[str, str | None]:
    """Notes that say something else, in the family's collection and in another one of its name."""
    collection = state.find_collection(api, family)
    caught: dict[str, str | None] = {}
    for repo in (family.model_id(size), family.data_id):
        assert verified(api, repo) is None  # what is refused below is refused for the lie
    for kind, repo in (("model", family.model_id(size)), ("data", family.data_id)):
        item = next(each for each in collection.items if each.item_id == repo)
        api.update_collection_item(collection.slug, item.item_object_id, note=f"{item.note} NDCG@10 0.999.")
        caught[f"on the Hub, in the collection: a note of the {kind}"] = verified(api, repo)
        api.update_collection_item(collection.slug, item.item_object_id, note=item.note)
    repo, others = family.model_id(size), "a title of another"
    other = api.create_collection(others, namespace=family.about.organization)
    api.update_collection_metadata(other.slug, title=family.about.collection)
    api.add_collection_item(other.slug, repo, "model", note="mini: the best of all")
    caught["on the Hub, in the collection: a second one of the same title"] = verified(api, repo)
    api.delete_collection(other.slug)
    assert verified(api, repo) is None
    return caught
