"""Handlers about whole repos: who is asking, create, delete, change, list, describe; and the check of a card."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from release.localhub.calls import Call
from release.localhub.errors import HubError, bad
from release.localhub.history import Commit, Entry, Repo
from release.localhub.hub import Hub
from release.localhub.metadata import BadMetadata, split_card, validate

MOST = 1000  # repos in a list
NO_COUNTS = {"downloads": 0, "likes": 0, "disabled": False, "gated": False}


def whoami(call: Call) -> dict[str, Any]:
    """Who the token belongs to."""
    if call.account is None:
        raise HubError(401, "Invalid username or password.")
    organizations = [{"name": name, "type": "org", "fullname": name} for name in call.account.organizations]
    token = {"displayName": "local", "role": call.account.role}
    user = {"type": "user", "name": call.account.name, "fullname": call.account.name, "orgs": organizations}
    return user | {"auth": {"type": "access_token", "accessToken": token}}


def create_repo(call: Call) -> dict[str, Any]:
    """Make a repo in the caller's namespace or organisation."""
    body = call.json()
    namespace, name, kind = body.get("organization"), body.get("name"), body.get("type") or "model"
    if not isinstance(name, str) or not isinstance(namespace, str | None) or not isinstance(kind, str):
        raise bad('"name" is required')
    if namespace is None and call.account:
        namespace = call.account.name
    account = call.hub.check_writer(namespace or "", call.account)
    private = bool(body.get("private")) or body.get("visibility") == "private"
    try:
        repo = call.hub.create(kind, f"{namespace}/{name}", account, private=private)
    except HubError as error:
        if "path" in error.extra:
            error.extra["url"] = f"{call.base}{error.extra['path']}"
        raise
    return {"url": f"{call.base}{repo.url_path}", "name": repo.id, "id": repo.id}


def delete_repo(call: Call) -> dict[str, Any]:
    """Remove a repo that the body names."""
    body = call.json()
    namespace = body.get("organization") or (call.account.name if call.account else "")
    repo_id, kind = f"{namespace}/{body.get('name')}", body.get("type") or "model"
    call.hub.delete(call.hub.find_to_write(str(kind), repo_id, call.account))
    return {}


def settings(call: Call) -> dict[str, Any]:
    """Make a repo private or public."""
    repo, _ = call.repo_to_write()
    body = call.json()
    with repo.change() as draft:
        if "visibility" in body or "private" in body:
            draft["private"] = body.get("visibility") == "private" or body.get("private") is True
        return {"private": draft["private"]}


def validate_yaml(call: Call) -> Response:
    """Check the metadata of a card."""
    body = call.json()
    if not isinstance(body.get("content"), str):
        raise bad('"content" must be the text of a card')
    errors, warnings = validate(body["content"], str(body.get("repoType") or "model"))
    answer = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return JSONResponse(answer, 400 if errors else 200)


def list_repos(call: Call) -> list[dict[str, Any]]:
    """The repos of a kind that the caller may see, by author and by words in the name."""
    author, search = call.query.get("author"), call.query.get("search", "").lower()
    repos = [repo for repo in call.hub.repos(call.account) if repo.kind == call.kind and search in repo.id.lower()]
    chosen = [repo for repo in repos if author in (None, repo.id.partition("/")[0])]
    return [info(call.hub, repo, repo.head("main")) for repo in chosen[:MOST]]


def repo_info(call: Call) -> dict[str, Any]:
    """What a repo holds at a revision."""
    repo = call.repo()
    return info(call.hub, repo, repo.head(call.args.get("rev", "main")), sizes="blobs" in call.query)


def info(hub: Hub, repo: Repo, commit: Commit, *, sizes: bool = False) -> dict[str, Any]:
    """A repo at a commit, as the API describes it."""
    card = card_data(hub, commit)
    value: dict[str, Any] = {
        "_id": repo.id,
        "id": repo.id,
        "author": repo.id.partition("/")[0],
        "sha": commit.id,
        **NO_COUNTS,
    }
    value |= {"private": repo.state["private"], "createdAt": repo.state["created"], "lastModified": commit.date}
    value |= {"cardData": card, "tags": card_tags(card, commit)}
    value["siblings"] = [
        {"rfilename": path} | ({"size": entry.size, "blobId": entry.oid} | lfs(entry) if sizes else {})
        for path, entry in commit.files.items()
    ]
    if repo.kind == "model":
        value |= {"modelId": repo.id, "pipeline_tag": card.get("pipeline_tag"), "model-index": card.get("model-index")}
        value["library_name"] = card.get("library_name")
    return value


def card_data(hub: Hub, commit: Commit) -> dict[str, Any]:
    """The metadata of the card; empty where there is none or none that can be read."""
    entry = commit.files.get("README.md")
    try:
        return split_card(hub.read(entry).decode("utf-8", "replace"))[0] if entry else {}
    except BadMetadata:
        return {}


def card_tags(card: dict[str, Any], commit: Commit) -> list[str]:
    """The tags by which the Hub would find the repo."""
    tags = [card.get("library_name"), card.get("pipeline_tag")]
    tags += ["safetensors"] if any(path.endswith(".safetensors") for path in commit.files) else []
    for field, prefix in (
        ("tags", ""),
        ("language", ""),
        ("license", "license:"),
        ("datasets", "dataset:"),
        ("base_model", "base_model:"),
    ):
        value = card.get(field)
        tags += [f"{prefix}{item}" for item in (value if isinstance(value, list) else [value]) if item]
    return list(dict.fromkeys(str(tag) for tag in tags if tag))


def lfs(entry: Entry) -> dict[str, Any]:
    """The part of a listing that only large files have."""
    if not entry.lfs:
        return {}
    pointer = 127 + len(str(entry.size))
    return {"lfs": {"oid": entry.sha256, "sha256": entry.sha256, "size": entry.size, "pointerSize": pointer}}
