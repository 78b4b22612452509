"""Handlers that describe repos: one at a revision, or a list of them."""

from __future__ import annotations

from typing import Any

from release.localhub.errors import HubError
from release.localhub.history import Commit, Entry, Repo
from release.localhub.http import RequestContext
from release.localhub.metadata import as_list
from release.localhub.service import Hub

MAX_REPOS = 1000  # in a list


def list_repos(context: RequestContext) -> list[dict[str, Any]]:
    """The repos of a kind that the caller may see: by author, words in the name, tags, task and gating.

    Query: author, search, filter (a tag; repeatable), pipeline_tag, gated, sort (lastModified), limit, expand.
    """
    query, params = context.query, context.request.query_params
    author, search = query.get("author", "").lower(), query.get("search", "").lower()
    tags = {*params.getlist("filter"), *params.getlist("pipeline_tag")}

    def selects(repo: Repo) -> bool:
        gating = query.get("gated", str(bool(repo.gated))).lower() == str(bool(repo.gated)).lower()
        named = search in repo.id.lower() and author in ("", repo.namespace.lower())
        return repo.kind == context.kind and named and gating

    heads = context.hub.repo_heads(context.account, selects)
    rows = [describe_repo(context.hub, repo, commit) for repo, commit in heads]
    rows = [row for row in rows if tags <= {*row["tags"]}]
    if query.get("sort") == "lastModified":
        rows.sort(key=lambda row: row["lastModified"], reverse=True)
    limit = int(query["limit"]) if query.get("limit", "").isdecimal() else MAX_REPOS
    return [_expand(context, row) for row in rows[: min(limit, MAX_REPOS)]]


def list_storage(context: RequestContext) -> list[dict[str, Any]]:
    """Every repo of the caller, or of an organisation of the caller, with the bytes of its files."""
    if context.account is None:
        raise HubError(401, "Invalid username or password.")
    namespace = context.path_params.get("ns", context.account.name)
    if not context.account.owns(namespace):
        raise HubError(403, f"You don't have the rights to list the repositories of {namespace[:100]}")
    rows: list[dict[str, Any]] = []
    for repo, commit in context.hub.repo_heads(context.account, lambda repo: repo.namespace == namespace):
        size = sum({entry.sha256: entry.size for entry in commit.files.values()}.values())
        row = {"id": repo.id, "type": repo.kind, "updatedAt": commit.date, "storage": size}
        rows.append(row | {"visibility": "private" if repo.private else "public"})
    total = sum(row["storage"] for row in rows) or 1
    return [row | {"storagePercent": 100 * row["storage"] / total} for row in rows]


def repo_info(context: RequestContext) -> dict[str, Any]:
    """What a repo holds at a revision."""
    repo = context.repo()
    commit = repo.resolve(context.path_params.get("rev", "main"))
    return _expand(context, describe_repo(context.hub, repo, commit, sizes="blobs" in context.query))


def _expand(context: RequestContext, row: dict[str, Any]) -> dict[str, Any]:
    """Only the id and the fields that the query's `expand` names, if it names any."""
    names = {*context.request.query_params.getlist("expand"), *context.request.query_params.getlist("expand[]")}
    return {key: row[key] for key in ("_id", "id", *sorted(names)) if key in row} if names else row


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
    value |= {"downloads": 0, "likes": 0, "disabled": False, "gated": repo.gated or False, "siblings": []}
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
    return hub.card_metadata(entry.sha256) if entry else {}


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
