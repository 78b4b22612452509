"""What a person does with the real client, as a script: run by test_client.py once per way of sending files.

Prints one JSON object: what each step gave, or "ErrorName: message" where the client raised.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    ModelCard,
    metadata_update,
    snapshot_download,
)

CARD = (
    "---\nlicense: apache-2.0\npipeline_tag: text-ranking\nlibrary_name: sentence-transformers\ntags:\n- a\n---\n# hi\n"
)


def attempt(action: Callable[[], Any]) -> Any:
    """What `action` gives, or the name and message of its error."""
    try:
        return action()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main(model: str, data: str) -> dict[str, Any]:
    """Every step, in the order in which a release makes them."""
    api, facts = HfApi(), {}
    work = Path(tempfile.mkdtemp())
    folder = work / "folder"
    (folder / "2_Dense").mkdir(parents=True)
    weights = os.urandom(400_000) + bytes(range(256)) * 2000
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "2_Dense" / "model.safetensors").write_bytes(weights[:5000])
    (folder / "config.json").write_text('{"a": 1}')
    (folder / "empty.txt").write_text("")
    (folder / "README.md").write_text(CARD)

    facts["url"] = str(api.create_repo(model, private=True))
    facts["create again"] = str(api.create_repo(model, exist_ok=True))
    facts["create twice"] = attempt(lambda: str(api.create_repo(model)))
    api.create_repo(data, repo_type="dataset")
    first = api.upload_folder(repo_id=model, folder_path=folder).oid
    facts["again"] = api.upload_folder(repo_id=model, folder_path=folder).oid == first
    facts["first"] = first
    sha256 = hashlib.sha256(weights).hexdigest()
    pulled = Path(api.snapshot_download(model, revision=first))
    facts["same"] = hashlib.sha256((pulled / "model.safetensors").read_bytes()).hexdigest() == sha256
    facts["names"] = sorted(path.relative_to(pulled).as_posix() for path in pulled.rglob("*") if path.is_file())

    operations = [
        CommitOperationAdd("extra/a.json", b"{}"),
        CommitOperationAdd("extra/b.bin", b"\0\1" * 3000),
        CommitOperationCopy("model.safetensors", "copy.safetensors"),
        CommitOperationCopy("config.json", "config2.json"),
        CommitOperationDelete("empty.txt"),
    ]
    commit = api.create_commit(model, operations, commit_message="many", parent_commit=first).oid
    facts["files"] = sorted(api.list_repo_files(model))
    late = [CommitOperationAdd("late.txt", b"x")]
    facts["stale"] = attempt(lambda: api.create_commit(model, late, commit_message="x", parent_commit=first).oid)
    facts["head"] = api.model_info(model).sha == commit
    info = api.model_info(model, files_metadata=True)
    facts["lfs"] = next(s.lfs.sha256 for s in info.siblings if s.rfilename == "copy.safetensors") == sha256
    facts["info"] = [info.pipeline_tag, info.library_name, info.private, "license:apache-2.0" in info.tags]
    tree = list(api.list_repo_tree(model, recursive=True, expand=True))
    facts["tree"] = sorted(entry.path for entry in tree)
    facts["last"] = {
        entry.path: entry.last_commit.title for entry in tree if entry.path in ("copy.safetensors", "extra")
    }
    facts["paths"] = [entry.path for entry in api.get_paths_info(model, ["config.json", "extra", "none"])]

    api.create_tag(model, tag="v1.0", revision=first, tag_message="release")
    api.create_tag(model, tag="v1.0", exist_ok=True)
    facts["tag twice"] = attempt(lambda: api.create_tag(model, tag="v1.0"))
    api.create_branch(model, branch="dev/x")
    api.upload_file(repo_id=model, path_or_fileobj=b"dev", path_in_repo="dev.txt", revision="dev/x")
    facts["on main"] = api.file_exists(model, "dev.txt")
    facts["on branch"] = api.file_exists(model, "dev.txt", revision="dev/x")
    by_tag = Path(api.hf_hub_download(model, "config.json", revision="v1.0"))
    facts["tag is at"] = first in str(by_tag)
    for name, arguments in {
        "no file": (model, "nope.txt", None),
        "no revision": (model, "config.json", "nope"),
        "no repo": (model + "-nope", "config.json", None),
    }.items():
        repo, file, revision = arguments
        facts[name] = attempt(lambda repo=repo, file=file, rev=revision: api.hf_hub_download(repo, file, revision=rev))

    pull = api.create_pull_request(model, title="A change")
    api.upload_file(repo_id=model, path_or_fileobj=b"pr", path_in_repo="pr.txt", revision=pull.git_reference)
    facts["before merge"] = api.file_exists(model, "pr.txt")
    api.merge_pull_request(model, pull.num)
    facts["after merge"] = api.file_exists(model, "pr.txt")
    (folder / "config.json").write_text('{"a": 2}')
    facts["pull"] = api.upload_folder(repo_id=model, folder_path=folder, create_pr=True).pr_revision
    facts["pulls"] = [(listed.num, listed.status) for listed in api.get_repo_discussions(model)]
    closed = api.change_discussion_status(model, 2, new_status="closed").new_status
    facts["closed"] = [
        closed,
        api.get_discussion_details(model, 2).status,
        attempt(lambda: api.merge_pull_request(model, 2)),
    ]
    api.change_discussion_status(model, 2, new_status="open")
    refs = api.list_repo_refs(model, include_pull_requests=True)
    facts["refs"] = [sorted(ref.name for ref in group) for group in (refs.branches, refs.tags, refs.pull_requests)]

    shelf = api.create_collection("Rerankers", namespace=model.split("/")[0], description="six", exists_ok=True)
    shelf = api.add_collection_item(shelf.slug, model, "model", note="small")
    api.add_collection_item(shelf.slug, data, "dataset", exists_ok=True)
    facts["item twice"] = attempt(lambda: api.add_collection_item(shelf.slug, data, "dataset"))
    api.update_collection_item(shelf.slug, shelf.items[0].item_object_id, note="n" * 500)
    facts["long note"] = attempt(
        lambda: api.update_collection_item(shelf.slug, shelf.items[0].item_object_id, note="n" * 501)
    )
    facts["long text"] = attempt(lambda: api.update_collection_metadata(shelf.slug, description="d" * 151))
    shelf = api.get_collection(shelf.slug)
    facts["items"] = [(item.item_id, item.item_type, len(item.note or "")) for item in shelf.items]
    facts["listed"] = [listed.slug == shelf.slug for listed in api.list_collections(owner=model.split("/")[0])]
    api.delete_collection(shelf.slug)

    card = ModelCard.load(model)
    card.data.tags = ["new"]
    card.validate()
    card.push_to_hub(model)
    facts["card"] = ModelCard.load(model).data.tags
    facts["bad card"] = attempt(ModelCard("---\nlicense: not-a-license\n---\n").validate)
    metadata_update(model, {"datasets": [data]}, overwrite=True)
    facts["datasets"] = ModelCard.load(model).data.datasets
    files = HfFileSystem(skip_instance_cache=True)
    with files.open(f"{model}/w.txt", "w") as stream:
        stream.write("hello")
    facts["file system"] = files.read_text(f"{model}/w.txt")
    facts["checked"] = snapshot_download(model) and not api.verify_repo_checksums(model).mismatches
    facts["no token"] = attempt(lambda: HfApi(token=False).snapshot_download(model, cache_dir=work / "cache"))
    before = len(api.list_repo_commits(model))
    api.super_squash_history(model)
    facts["squash"] = [before > 1, len(api.list_repo_commits(model))]
    facts["tag stays"] = api.model_info(model, revision="v1.0").sha == first
    api.update_repo_settings(model, private=False)
    facts["public"] = HfApi(token=False).model_info(model).private
    facts["mine"] = [listed.id for listed in api.list_models(author=model.split("/")[0]) if listed.id == model]
    api.delete_repo(model)
    facts["deleted"] = api.repo_exists(model)
    return facts


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
