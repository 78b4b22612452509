"""Handlers of collections: ordered lists of repos with notes, of which everybody sees the repos that they may see."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from release.localhub.errors import HubError
from release.localhub.history import Repo, now
from release.localhub.http import RequestContext
from release.localhub.rights import check_writer

MAX_ITEMS_LISTED = 4  # of each collection in a list
Title = Annotated[str, Field(min_length=1, max_length=60)]
Description = Annotated[str, Field(max_length=150)]
Note = Annotated[str, Field(max_length=500)]


class NewCollection(BaseModel):
    """A collection to be made."""

    title: Title
    description: Description | None = ""
    namespace: str | None = None
    private: bool = False


class CollectionChanges(BaseModel):
    """What may change of a collection."""

    title: Title | None = None
    description: Description | None = None
    private: bool | None = None
    theme: Literal["orange", "blue", "green", "purple", "pink", "indigo"] | None = None


class ItemName(BaseModel):
    """A repo."""

    id: str
    type: Literal["model", "dataset", "space"]


class NewItem(BaseModel):
    """A repo to be added at the end of a collection."""

    item: ItemName
    note: Note | None = None


class ItemChanges(BaseModel):
    """What may change of an item."""

    note: Note | None = None
    position: Annotated[int, Field(ge=0)] | None = None


def visible_collections(context: RequestContext, condition: str = "1", *values: Any) -> list[dict[str, Any]]:
    """The collections that the caller may see and the SQL `condition` selects, the one that changed last first."""
    collections, repos = [], {repo.key: repo for repo in context.hub.repos(context.account)}
    for row in context.hub.db(f"SELECT * FROM collection WHERE {condition} ORDER BY updated DESC, key DESC", *values):
        owner = row["slug"].partition("/")[0]
        if row["private"] and not (context.account and context.account.owns(owner)):
            continue
        kind = "user" if owner in context.hub.auth.users() else "org"
        value = {"slug": row["slug"], "title": row["title"], "description": row["description"], "theme": row["theme"]}
        value |= {"private": bool(row["private"]), "lastUpdated": row["updated"], "position": 0, "upvotes": 0}
        value |= {"owner": {"name": owner, "type": kind, "fullname": owner, "avatarUrl": ""}}
        collections.append(value | {"items": _items(context, row["key"], repos)})
    return collections


def _items(context: RequestContext, key: int, repos: dict[int, Repo]) -> list[dict[str, Any]]:
    items = []
    for row in context.hub.db("SELECT * FROM item WHERE collection = ? ORDER BY position", key):
        if repo := repos.get(row["repo"]):
            note = {} if row["note"] is None else {"note": {"text": row["note"], "html": ""}}
            item = {"_id": row["id"], "id": repo.id, "type": repo.kind, "position": row["position"]}
            items.append(item | note)
    return items


def list_collections(context: RequestContext) -> list[dict[str, Any]]:
    """The collections of an owner, or those that hold an item; of each the first four items."""
    owner, item = context.query.get("owner"), context.query.get("item")
    collections = [value for value in visible_collections(context) if owner in (None, value["owner"]["name"])]
    if item:
        collections = [
            value for value in collections if item in [f"{row['type']}s/{row['id']}" for row in value["items"]]
        ]
    for value in collections:
        del value["position"]  # the client sets it itself, and fails on two
        del value["items"][MAX_ITEMS_LISTED:]
    return collections


def create_collection(context: RequestContext) -> dict[str, Any]:
    """Make a collection in the caller's namespace or organisation.

    Raises:
        HubError: 409 the namespace has one of this title (the answer names its slug).
    """
    body, db = context.json(NewCollection), context.hub.db
    namespace = body.namespace or (context.account.name if context.account else "")
    check_writer(namespace, context.account)
    name = re.sub(r"[^a-z0-9]+", "-", body.title.lower()).strip("-") or "collection"
    slug = f"{namespace}/{name}-{secrets.token_hex(12)}"
    with db.change():
        for row in db("SELECT slug FROM collection WHERE title = ?", body.title):
            if row["slug"].startswith(f"{namespace}/"):
                raise HubError(409, "A collection of this title exists", slug=row["slug"])
        statement = "INSERT INTO collection (slug, title, description, private, updated) VALUES (?, ?, ?, ?, ?)"
        db(statement, slug, body.title, body.description or "", body.private, now())
    return visible_collections(context, "slug = ?", slug)[0]


def one_collection(context: RequestContext) -> dict[str, Any]:
    """Read, change or delete a collection."""
    if context.request.method in ("GET", "HEAD"):
        return _collection(context)
    key, db = _key_to_write(context), context.hub.db
    if context.request.method == "DELETE":
        db("DELETE FROM collection WHERE key = ?", key)
        return {}
    body = context.json(CollectionChanges)
    changes = body.model_dump(exclude_none=True) | {"updated": now()}
    columns = ", ".join(f"{column} = ?" for column in changes)  # the names of the form, never the client's
    db(f"UPDATE collection SET {columns} WHERE key = ?", *changes.values(), key)
    return {"success": True, "data": _collection(context)}


def add_item(context: RequestContext) -> dict[str, Any]:
    """Add a repo that the caller may see to a collection.

    Raises:
        HubError: 409 the collection has it already.
    """
    body, db = context.json(NewItem), context.hub.db
    with db.change():
        key, repo = _key_to_write(context), context.hub.find(body.item.type, body.item.id, context.account)
        if db("SELECT 1 FROM item WHERE collection = ? AND repo = ?", key, repo.key):
            raise HubError(409, "This item is in the collection already")
        end = db("SELECT coalesce(max(position) + 1, 0) FROM item WHERE collection = ?", key)[0][0]
        db("INSERT INTO item VALUES (?, ?, ?, ?, ?)", secrets.token_hex(12), key, repo.key, body.note, end)
        db("UPDATE collection SET updated = ? WHERE key = ?", now(), key)
    return _collection(context)


def change_item(context: RequestContext) -> dict[str, Any]:
    """Change or remove an item.

    Raises:
        HubError: 404 there is no such item.
    """
    item_id, db = context.path_params["item"], context.hub.db
    with db.change():
        key = _key_to_write(context)
        order = [row["id"] for row in db("SELECT id FROM item WHERE collection = ? ORDER BY position", key)]
        if item_id not in order:
            raise HubError(404, "There is no such item in this collection")
        position = order.index(item_id)
        del order[position]
        if context.request.method == "DELETE":
            db("DELETE FROM item WHERE id = ?", item_id)
        else:
            body = context.json(ItemChanges)
            db("UPDATE item SET note = coalesce(?, note) WHERE id = ?", body.note, item_id)
            order.insert(position if body.position is None else min(body.position, len(order)), item_id)
        for position, each in enumerate(order):
            db("UPDATE item SET position = ? WHERE id = ?", position, each)
        db("UPDATE collection SET updated = ? WHERE key = ?", now(), key)
    return {}


def _collection(context: RequestContext) -> dict[str, Any]:
    """The collection of the path, if the caller may know that it exists."""
    params = context.path_params
    collections = visible_collections(context, "slug = ?", f"{params['ns']}/{params['slug']}")
    if not collections:
        raise HubError(404 if context.account else 401, "Collection not found", "RepoNotFound")
    return collections[0]


def _key_to_write(context: RequestContext) -> int:
    slug = _collection(context)["slug"]
    check_writer(context.path_params["ns"], context.account)
    return context.hub.db("SELECT key FROM collection WHERE slug = ?", slug)[0]["key"]
