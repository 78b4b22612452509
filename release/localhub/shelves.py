"""Handlers of collections."""

from __future__ import annotations

from typing import Any

from release.localhub.calls import Call
from release.localhub.errors import HubError
from release.localhub.pages import visible


def some(call: Call) -> list[dict[str, Any]]:
    """The collections of an owner, or those that hold an item; of each the first four items."""
    owner, item = call.query.get("owner"), call.query.get("item")
    found = [value for value in visible(call) if owner in (None, value["owner"]["name"])]
    if item:
        found = [value for value in found if item in [f"{row['type']}s/{row['id']}" for row in value["items"]]]
    # Without a position: the client sets it itself, and stumbles over two.
    brief = [{key: part for key, part in value.items() if key != "position"} for value in found]
    return [value | {"items": value["items"][:4]} for value in brief]


def create(call: Call) -> dict[str, Any]:
    """Make a collection in the caller's namespace or organisation."""
    body = call.json()
    namespace = body.get("namespace") or (call.account.name if call.account else "")
    account = call.hub.check_writer(str(namespace), call.account)
    owner_type = "user" if namespace == account.name else "org"
    return call.hub.collections.create(str(namespace), owner_type, body)


def one(call: Call) -> dict[str, Any]:
    """Read, change or delete a collection."""
    slug = _slug(call)
    if call.request.method == "DELETE":
        call.hub.check_writer(call.args["ns"], call.account)
        call.hub.collections.delete(slug)
        return {}
    if call.request.method == "PATCH":
        call.hub.check_writer(call.args["ns"], call.account)
        return {"success": True, "data": call.hub.collections.update(slug, call.json())}
    return _seen(call)


def add_item(call: Call) -> dict[str, Any]:
    """Put a repo that the caller may see into a collection."""
    slug, body = _slug(call), call.json()
    call.hub.check_writer(call.args["ns"], call.account)
    item = body.get("item")
    if isinstance(item, dict) and item.get("type") in ("model", "dataset", "space"):
        call.hub.find(item["type"], str(item.get("id")), call.account)
    call.hub.collections.add_item(slug, body)
    return _seen(call)


def item(call: Call) -> dict[str, Any]:
    """Change or remove an item."""
    slug = _slug(call)
    call.hub.check_writer(call.args["ns"], call.account)
    if call.request.method == "DELETE":
        call.hub.collections.delete_item(slug, call.args["item"])
    else:
        call.hub.collections.update_item(slug, call.args["item"], call.json())
    return {}


def _slug(call: Call) -> str:
    """The collection of the path, if the caller may know of it."""
    return _seen(call)["slug"]


def _seen(call: Call) -> dict[str, Any]:
    slug = f"{call.args['ns']}/{call.args['slug']}"
    for value in visible(call):
        if value["slug"] == slug:
            return value
    raise HubError(404, "Collection not found", "RepoNotFound")
