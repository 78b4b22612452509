"""Collections: ordered lists of repos with notes; who may see one sees of it only the repos that they may see."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from release.localhub.history import Repo, now
from release.localhub.web import Call, HubError

Title = Annotated[str, Field(min_length=1, max_length=60)]
Description = Annotated[str, Field(max_length=150)]
Note = Annotated[str, Field(max_length=500)]


class NewCollection(BaseModel):
    """What makes a collection."""

    title: Title
    description: Description | None = ""
    namespace: str | None = None
    private: bool = False


class ChangedCollection(BaseModel):
    """What may change of a collection."""

    title: Title | None = None
    description: Description | None = None
    private: bool | None = None


class ItemName(BaseModel):
    """A repo."""

    id: str
    type: Literal["model", "dataset", "space"]


class NewItem(BaseModel):
    """A repo that goes to the end of a collection."""

    item: ItemName
    note: Note | None = None


class ChangedItem(BaseModel):
    """What may change of an item."""

    note: Note | None = None
    position: Annotated[int, Field(ge=0)] | None = None


def visible(call: Call, where: str = "1", *values: Any) -> list[dict[str, Any]]:
    """The collections that the caller may see and the SQL condition selects, the one that changed last first."""
    found, seen = [], {repo.key: repo for repo in call.hub.repos(call.account)}
    for row in call.hub.db(f"SELECT * FROM collection WHERE {where} ORDER BY updated DESC, key DESC", *values):
        owner = row["slug"].partition("/")[0]
        if row["private"] and not (call.account and call.account.owns(owner)):
            continue
        kind = "user" if owner in call.hub.gate.users() else "org"
        value = {"slug": row["slug"], "title": row["title"], "description": row["description"], "theme": "indigo"}
        value |= {"private": bool(row["private"]), "lastUpdated": row["updated"], "position": 0, "upvotes": 0}
        value |= {"owner": {"name": owner, "type": kind, "fullname": owner, "avatarUrl": ""}}
        found.append(value | {"items": _items(call, row["key"], seen)})
    return found


def _items(call: Call, key: int, seen: dict[int, Repo]) -> list[dict[str, Any]]:
    found = []
    for row in call.hub.db("SELECT * FROM item WHERE collection = ? ORDER BY position", key):
        if repo := seen.get(row["repo"]):
            note = {} if row["note"] is None else {"note": {"text": row["note"], "html": ""}}
            item = {"_id": row["id"], "id": repo.id, "type": repo.kind, "position": row["position"]}
            found.append(item | note)
    return found


def some(call: Call) -> list[dict[str, Any]]:
    """The collections of an owner, or those that hold an item; of each the first four items."""
    owner, item = call.query.get("owner"), call.query.get("item")
    found = [value for value in visible(call) if owner in (None, value["owner"]["name"])]
    if item:
        found = [value for value in found if item in [f"{row['type']}s/{row['id']}" for row in value["items"]]]
    for value in found:
        del value["position"]  # the client sets it itself, and stumbles over two
        del value["items"][4:]
    return found


def create(call: Call) -> dict[str, Any]:
    """Make a collection in the caller's namespace or organisation.

    Raises:
        HubError: 409 the namespace has one of this title (the answer names its slug).
    """
    body, db = call.body(NewCollection), call.hub.db
    namespace = body.namespace or (call.account.name if call.account else "")
    call.hub.check_writer(namespace, call.account)
    words = re.sub(r"[^a-z0-9]+", "-", body.title.lower()).strip("-") or "collection"
    slug = f"{namespace}/{words}-{secrets.token_hex(12)}"
    with db.change():
        for row in db("SELECT slug FROM collection WHERE title = ?", body.title):
            if row["slug"].startswith(f"{namespace}/"):
                raise HubError(409, "A collection of this title exists", slug=row["slug"])
        columns = "INSERT INTO collection (slug, title, description, private, updated) VALUES (?, ?, ?, ?, ?)"
        db(columns, slug, body.title, body.description or "", body.private, now())
    return visible(call, "slug = ?", slug)[0]


def one(call: Call) -> dict[str, Any]:
    """Read, change or delete a collection."""
    if call.request.method in ("GET", "HEAD"):
        return _seen(call)
    key, db = _key_to_write(call), call.hub.db
    if call.request.method == "DELETE":
        db("DELETE FROM collection WHERE key = ?", key)
        return {}
    body = call.body(ChangedCollection)
    columns = "title = coalesce(?, title), description = coalesce(?, description), private = coalesce(?, private)"
    values = body.title, body.description, body.private
    db(f"UPDATE collection SET {columns}, updated = ? WHERE key = ?", *values, now(), key)
    return {"success": True, "data": _seen(call)}


def add_item(call: Call) -> dict[str, Any]:
    """Put a repo that the caller may see into a collection.

    Raises:
        HubError: 409 it is in it already.
    """
    body, db = call.body(NewItem), call.hub.db
    with db.change():
        key, repo = _key_to_write(call), call.hub.find(body.item.type, body.item.id, call.account)
        if db("SELECT 1 FROM item WHERE collection = ? AND repo = ?", key, repo.key):
            raise HubError(409, "This item is in the collection already")
        end = db("SELECT coalesce(max(position) + 1, 0) FROM item WHERE collection = ?", key)[0][0]
        db("INSERT INTO item VALUES (?, ?, ?, ?, ?)", secrets.token_hex(12), key, repo.key, body.note, end)
        db("UPDATE collection SET updated = ? WHERE key = ?", now(), key)
    return _seen(call)


def item(call: Call) -> dict[str, Any]:
    """Change or remove an item.

    Raises:
        HubError: 404 there is no such item.
    """
    name, db = call.args["item"], call.hub.db
    with db.change():
        key = _key_to_write(call)
        order = [row["id"] for row in db("SELECT id FROM item WHERE collection = ? ORDER BY position", key)]
        if name not in order:
            raise HubError(404, "There is no such item in this collection")
        at = order.index(name)
        del order[at]
        if call.request.method == "DELETE":
            db("DELETE FROM item WHERE id = ?", name)
        else:
            body = call.body(ChangedItem)
            db("UPDATE item SET note = coalesce(?, note) WHERE id = ?", body.note, name)
            order.insert(at if body.position is None else min(body.position, len(order)), name)
        for position, each in enumerate(order):
            db("UPDATE item SET position = ? WHERE id = ?", position, each)
        db("UPDATE collection SET updated = ? WHERE key = ?", now(), key)
    return {}


def _seen(call: Call) -> dict[str, Any]:
    """The collection of the path, if the caller may know of it."""
    found = visible(call, "slug = ?", f"{call.args['ns']}/{call.args['slug']}")
    if not found:
        raise HubError(404 if call.account else 401, "Collection not found", "RepoNotFound")
    return found[0]


def _key_to_write(call: Call) -> int:
    slug = _seen(call)["slug"]
    call.hub.check_writer(call.args["ns"], call.account)
    return call.hub.db("SELECT key FROM collection WHERE slug = ?", slug)[0]["key"]
