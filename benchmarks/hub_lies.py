"""Lies told on the Hub after a release, by somebody who may write there: `make lies` tells all, a test some.

A thorough liar also writes release.json anew, and its sha256 into the message of the commit. What no gate can tell is a lie that
is true to itself: scores of queries that nobody measured, with every figure and the card computed from them. Against that there is
the signature, and evaluating the model again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from safetensors.numpy import load_file, save

from release.errors import ReleaseError
from release.family import Family, Signer
from release.files import sha256_hashes
from release.hub import anywhere, proof, stage, state
from release.records import sealed
from release.truth import manifest

Files = dict[str, bytes | None]  # by name in the repository; None deletes one
Lie = Callable[[Path], Files]  # from the folder that was released


def text_lie(name: str, old: str, new: str) -> Lie:
    def lie(folder: Path) -> Files:
        content = (folder / name).read_bytes()
        assert old.encode() in content, f"{name} has no {old!r}"
        return {name: content.replace(old.encode(), new.encode(), 1)}

    return lie


def record_lie(name: str, change: Callable[[Any], object]) -> Lie:
    """A record, changed and sealed as this project would."""

    def lie(folder: Path) -> Files:
        value = json.loads((folder / name).read_bytes())
        change(value)
        return {name: (json.dumps(sealed(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()}

    return lie


def manifest_lie(change: Callable[[dict[str, Any]], object]) -> Lie:
    def lie(folder: Path) -> Files:
        value = json.loads((folder / manifest.FILE).read_bytes())
        change(value)
        return {manifest.FILE: (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()}

    return lie


def bit_lie(name: str) -> Lie:
    def lie(folder: Path) -> Files:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        return {name: bytes(content)}

    return lie


def _without_weight(folder: Path) -> Files:
    """A checkpoint without its last tensor, which a library would make up at random."""
    content = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    names = sorted(
        (name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][0]
    )
    end = header.pop(names[-1])["data_offsets"][0]
    short = json.dumps(header).encode()
    return {"model.safetensors": struct.pack("<Q", len(short)) + short + content[8 + length : 8 + length + end]}


def thorough(lie: Lie) -> Lie:
    """The same lie, with a release.json that names it, where that is not the lie itself."""

    def told(folder: Path) -> Files:
        files = lie(folder)
        if manifest.FILE in files:
            return files
        made = manifest.read(folder)
        named = dict(made.files)
        for name, content in files.items():
            if content is None:
                named.pop(name)
            else:
                named[name] = manifest.FileEntry(len(content), hashlib.sha256(content).hexdigest())
        return files | {manifest.FILE: manifest.text(dataclasses.replace(made, files=named)).encode()}

    return told


def with_export(lie: Lie) -> Lie:
    """A lie about a file of the export, with the records that name the export, sealed as this project would."""

    def told(folder: Path) -> Files:
        files = lie(folder)
        hashes = {
            name: hashlib.sha256(files[name] or b"" if name in files else (folder / name).read_bytes()).hexdigest()
            for name in {*manifest.read(folder).files, *files}
            if not name.startswith(("records/", "compare/", *proof.RENDERED))
        }
        sha256 = sha256_hashes(hashes)
        files |= record_lie("records/export.json", lambda record: record["measured"].update(sha256=sha256))(folder)
        if (folder / "records/engines.json").is_file():
            change = record_lie("records/engines.json", lambda record: record["subject"].update(export_sha256=sha256))
            files |= change(folder)
        return files

    return told


def other_tensor(name: str, key: str) -> Lie:
    """One tensor of a file twice as large."""

    def lie(folder: Path) -> Files:
        tensors = load_file(folder / name)
        tensors[key] = 2 * tensors[key]
        return {name: save(tensors, {"format": "pt"})}

    return lie


CARD = text_lie("README.md", "NDCG@10 0.", "NDCG@10 0.9")
MORE: Lie = lambda folder: {"notes.json": b"{}"}  # noqa: E731
EVALUATE, SPEED = "records/evaluate.json", "records/speed.json"
LIES: dict[str, Lie] = {
    "a headline": CARD,
    "a figure of model-index": text_lie("README.md", "value: 0.", "value: 0.9"),
    "a licence": text_lie("README.md", "license: apache-2.0", "license: mit"),
    "a file beside release.json": MORE,
    "a file that begins like the Hub's own": lambda folder: {".gitattributes.json": b"{}"},
    "a file gone": lambda folder: {"onnx/model.onnx": None},
    "no release.json": lambda folder: {manifest.FILE: None},
    "a hash in release.json": manifest_lie(lambda value: value["files"]["README.md"].update(sha256="0" * 64)),
    "other commits in release.json": manifest_lie(lambda value: value.update(commits=["0" * 40])),
    "other versions in release.json": manifest_lie(lambda value: value.update(versions={"torch": ["9.9"]})),
    "release.json of another repository": manifest_lie(lambda value: value.update(repository="local/another")),
    "a version in release.json": manifest_lie(lambda value: value.update(version="v2")),
    "a config": text_lie("config.json", "{", '{"auto_map": {"AutoModel": "x--y.Z"},'),
    "a bit of the weights": bit_lie("model.safetensors"),
    "a bit of the graph": bit_lie("onnx/model.onnx"),
    "a record": record_lie(SPEED, lambda record: record["machine"].update(cores=64)),
}
THOROUGH: dict[str, Lie] = {  # with release.json and the message of the commit
    "a headline": CARD,
    "a figure of model-index": text_lie("README.md", "value: 0.", "value: 0.9"),
    "a licence": text_lie("records/family.json", '"license": "apache-2.0"', '"license": "mit"'),
    "one key twice": text_lie("records/family.json", '"license"', '"license": "mit", "license"'),
    "a teacher": text_lie("records/family.json", '"model": "', '"model": "better-'),
    "a file more": MORE,
    "a record more": lambda folder: {"records/notes.json": b"{}"},
    "a file gone": lambda folder: {"onnx/model.onnx": None},
    "a config": text_lie("config.json", "{", '{"max_position": 1,'),
    "a config, and the records of its export": with_export(text_lie("config.json", "{", '{"max_position": 1,')),
    "a config without a key, and the records of its export": with_export(
        text_lie("config.json", "vocab_size", "words")
    ),
    "weights that are missing, and the records of the export": with_export(_without_weight),
    "a file more, and the records of the export": with_export(MORE),
    "a pickle, and the records of the export": with_export(lambda folder: {"pytorch_model.bin": b"\x80\x04."}),
    "a name in other letters, and the records of the export": with_export(
        lambda folder: {"readme.md": b"# Best of all"}
    ),
    "an empty file, and the records of the export": with_export(lambda folder: {"old/config.json": b""}),
    "another head of the modules, and the records of the export": with_export(
        other_tensor("4_Dense/model.safetensors", "linear.weight")
    ),
    "another weight of the root, and the records of the export": with_export(
        other_tensor("model.safetensors", "model.final_norm.weight")
    ),
    "a bit of the weights": bit_lie("model.safetensors"),
    "a bit of the graph": bit_lie("onnx/model.onnx"),
    "a recall": record_lie(EVALUATE, lambda record: record["measured"]["tasks"][0].update(recall=0.9)),
    "a better NDCG@10": record_lie(EVALUATE, lambda record: record["measured"]["tasks"][0].update(reranked_ndcg=0.99)),
    "scores of queries": text_lie("records/queries.json", "0.", "1."),
    "another size's record": record_lie(EVALUATE, lambda record: record.update(size="other")),
    "another model's record": record_lie(SPEED, lambda record: record.update(model_sha256="0" * 64)),
    "speed times ten": record_lie(SPEED, lambda record: record["measured"]["best"].update(pairs_per_second=99_999.0)),
    "a larger machine": record_lie(SPEED, lambda record: record["machine"].update(cores=64)),
    "a later commit of the code": record_lie(EVALUATE, lambda record: record.update(commit="f" * 40)),
    "fewer steps": record_lie("records/run.json", lambda record: record["measured"].update(steps=1)),
    "other data": text_lie("records/mixture.json", '"rows"', '"raws"'),
}


def tell(
    api: HfApi,
    repo: str,
    folder: Path,
    only: set[str] | None = None,
    lies: tuple[dict[str, Lie], dict[str, Lie]] = (LIES, THOROUGH),
    begin: str = "on the Hub",
) -> dict[str, str | None]:
    """Tell each lie on a branch of its own; name -> what verify says to a stranger, None if it says nothing.

    Args:
        folder: What was released.
        only: Some of the names that are returned.
        lies: Those of a liar who leaves release.json alone, and those of one who writes it anew.
        begin: Of every name that is returned.

    Raises:
        ReleaseError: The release is not as it should be before anything was said.
    """
    anywhere.verify(repo, api)
    each = {f"{begin}: {name}": (lie, False) for name, lie in lies[0].items()}
    each |= {f"{begin}, with release.json: {name}": (thorough(lie), True) for name, lie in lies[1].items()}
    caught: dict[str, str | None] = {}
    for number, (name, (lie, whole)) in enumerate(each.items()):
        if only is None or name in only:
            api.create_branch(repo, branch=f"lie-{number}", revision="main")
            revision = commit(api, repo, f"lie-{number}", lie(folder), whole=whole)
            caught[name] = verified(api, repo, revision)
    return caught | _moved(api, repo, only, begin)


def tell_more(api: HfApi, family: Family, size: str) -> dict[str, str | None]:
    """What is true to itself, card and all, and told under a version that was released: over the staged build in this folder."""
    (data, model), tag = state.desired_repos(family, size), family.about.version
    caught: dict[str, str | None] = {}
    before = {repo.id: state.remote_repo(api, repo).commit or "" for repo in (data, model)}
    path = family.folder(size) / SPEED
    record = path.read_bytes()
    value = json.loads(record)
    value["machine"]["cores"] += 1
    path.write_text(json.dumps(sealed(value)), encoding="utf-8")
    stage.stage_model(family, size)
    for name, tags in (("a record", {tag: before[model.id]}), ("without the release", {})):
        revision = commit(api, model.id, "main", _staged(model), whole=True)
        _tags(api, model, tags | {state.card_tag(tag, 2): revision})
        caught[f"on the Hub, a revision of the card: {name}"] = verified(api, model.id)
    path.write_bytes(record)
    stage.stage_model(family, size)
    _tags(api, model, {tag: commit(api, model.id, "main", _staged(model), whole=True)})
    assert verified(api, model.id) is None
    manifest_name = "manifest.json"
    other = (data.folder / manifest_name).read_bytes().replace(b'"rows_in": ', b'"rows_in": 1', 1)
    done = api.upload_file(
        path_or_fileobj=other,
        path_in_repo=manifest_name,
        repo_id=data.id,
        repo_type="dataset",
        commit_message="Release v1",
    )
    _tags(api, data, {tag: str(done.oid)})
    caught["on the Hub: other data than the model was trained on"] = verified(api, model.id)
    caught["on the Hub: other data, by themselves"] = verified(api, data.id)
    _tags(api, data, {})
    caught["on the Hub: data without a tag"] = verified(api, model.id)
    return caught


def _staged(repo: state.DesiredRepo) -> Files:
    return {name: (repo.folder / name).read_bytes() for name in repo.files}


def _tags(api: HfApi, repo: state.DesiredRepo, tags: dict[str, str]) -> None:
    """Let a repository have these tags and no others."""
    for ref in api.list_repo_refs(repo.id, repo_type=repo.type).tags:
        api.delete_tag(repo.id, tag=ref.name, repo_type=repo.type)
    for name, commit in tags.items():
        api.create_tag(repo.id, tag=name, revision=commit, repo_type=repo.type)


def _moved(api: HfApi, repo: str, only: set[str] | None, begin: str) -> dict[str, str | None]:
    """What is told by moving the tag or the main branch."""
    caught: dict[str, str | None] = {}
    tag = api.list_repo_refs(repo).tags[0]
    name = f"{begin}: the tag elsewhere"
    if only is None or name in only:
        first = api.list_repo_commits(repo)[-1].commit_id
        _tag(api, repo, tag.name, first)
        caught[name] = verified(api, repo)
        _tag(api, repo, tag.name, tag.target_commit)
    for name, branch in (
        (f"{begin}: a branch called like the tag", tag.name),
        (f"{begin}: a branch called like a card's tag", f"{tag.name}-card2"),
    ):
        if only is None or name in only:
            api.create_branch(repo, branch=branch, revision=api.list_repo_commits(repo)[-1].commit_id)
            caught[name] = verified(api, repo)
            api.delete_branch(repo, branch=branch)
    more: Files = {"notes.json": b"{}"}
    gone: Files = {"notes.json": None}
    for name, commits in ((f"{begin}: main moved", [more]), (f"{begin}: main moved, the same files", [more, gone])):
        if only is None or name in only:
            for files in commits:
                commit(api, repo, "main", files, whole=False)
            caught[name] = verified(api, repo)
    return caught


def _tag(api: HfApi, repo: str, tag: str, commit: str) -> None:
    api.delete_tag(repo, tag=tag)
    api.create_tag(repo, tag=tag, revision=commit)


def commit(api: HfApi, repo: str, branch: str, files: Files, *, whole: bool) -> str:
    operations = [
        CommitOperationDelete(name) if content is None else CommitOperationAdd(name, content)
        for name, content in files.items()
    ]
    said = files.get(manifest.FILE) if whole else None
    message = f"{manifest.FILE} sha256 {hashlib.sha256(said).hexdigest()}" if said else None
    done = api.create_commit(repo, operations, commit_message="Release v1", commit_description=message, revision=branch)
    return str(done.oid)


def verified(api: HfApi, repo: str, revision: str | None = None, signer: Signer | None = None) -> str | None:
    """What verify says to a stranger, None if it says nothing."""
    try:
        anywhere.verify(repo, api, revision, signer)
    except ReleaseError as error:
        return f"verify: {error.what}"
    return None
