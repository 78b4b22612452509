"""Handlers that describe repos: one at a revision, or a list of them."""

from __future__ import annotations

from typing import Any

from release.localhub.history import Commit, Entry, Repo
from release.localhub.http import RequestContext
from release.localhub.metadata import BadMetadata, as_list, split_card
from release.localhub.service import Hub

MAX_REPOS = 1000  # in a list


def list_repos(context: RequestContext) -> list[dict[str, Any]]:
    """The repos of a kind that the caller may see, by author and by words in the name."""
    author, search = context.query.get("author"), context.query.get("search", "").lower()

    def selects(repo: Repo) -> bool:
        return repo.kind == context.kind and search in repo.id.lower() and author in (None, repo.namespace)

    heads = context.hub.repo_heads(context.account, selects)
    return [describe_repo(context.hub, repo, commit) for repo, commit in heads[:MAX_REPOS]]


def repo_info(context: RequestContext) -> dict[str, Any]:
    """What a repo holds at a revision."""
    repo = context.repo()
    commit = repo.resolve(context.path_params.get("rev", "main"))
    return describe_repo(context.hub, repo, commit, sizes="blobs" in context.query)


def describe_repo(hub: Hub, repo: Repo, commit: Commit, *, sizes: bool = False) -> dict[str, Any]:
    """A repo at a commit, as the API describes it."""
    card = card_metadata(hub, commit)
    value: dict[str, Any] = {
        "_id": repo.id,
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.id,
        "private": repo.private,
    }
    value |= {"createdAt": repo.created, "lastModified": commit.date, "cardData": card, "tags": tags(card, commit)}
    value |= {"downloads": 0, "likes": 0, "disabled": False, "gated": False, "siblings": []}
    for path, entry in commit.files.items():
        details = {"size": entry.size, "blobId": entry.oid, **lfs_fields(entry)} if sizes else {}
        value["siblings"].append({"rfilename": path, **details})
    if repo.kind == "model":
        value |= {name: card.get(name) for name in ("pipeline_tag", "library_name", "model-index")}
        value["modelId"] = repo.id
    return value


def card_metadata(hub: Hub, commit: Commit) -> dict[str, Any]:
    """The metadata of the card; empty where there is none or none that can be read."""
    entry = commit.files.get("README.md")
    try:
        return split_card(hub.read_card(entry))[0] if entry else {}
    except BadMetadata:
        return {}


def tags(card: dict[str, Any], commit: Commit) -> list[str]:
    """The tags by which the Hub would find the repo."""
    values = [card.get("library_name"), card.get("pipeline_tag")]
    values += ["safetensors"] if any(path.endswith(".safetensors") for path in commit.files) else []
    values += [*as_list(card.get("tags")), *as_list(card.get("language"))]
    for field, prefix in (("license", "license"), ("datasets", "dataset"), ("base_model", "base_model")):
        values += [f"{prefix}:{item}" for item in as_list(card.get(field))]
    return list(dict.fromkeys(str(value) for value in values if value))


def lfs_fields(entry: Entry) -> dict[str, Any]:
    """The part of a file's description that only large files have."""
    if not entry.lfs:
        return {}
    pointer_size = 127 + len(str(entry.size))
    return {"lfs": {"oid": entry.sha256, "sha256": entry.sha256, "size": entry.size, "pointerSize": pointer_size}}
