"""Collections: an ordered list of repos with notes, one file each, replaced in one step."""

from __future__ import annotations

import copy
import json
import re
import secrets
import threading
from collections.abc import Container, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from release.files import write_json
from release.localhub.errors import HubError, bad
from release.localhub.history import KINDS, now

MAX_TITLE, MAX_DESCRIPTION, MAX_NOTE = 60, 150, 500
SLUG = re.compile(r"[\w-]{1,100}")
ITEM_TYPES = ("model", "dataset", "space", "paper", "collection")


class Collections:
    """The collections under `folder`, kept in memory and written whole at every change."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.RLock()
        self._all = {value["slug"]: value for value in map(_load, sorted(folder.glob("*/*.json")))}

    def all(self) -> list[dict[str, Any]]:
        """Every collection, the one that changed last first."""
        return sorted(self._all.values(), key=lambda value: value["lastUpdated"], reverse=True)

    def get(self, slug: str) -> dict[str, Any]:
        """The collection `namespace/slug`.

        Raises:
            HubError: 404 there is none.
        """
        if slug not in self._all:
            raise HubError(404, "Collection not found", "RepoNotFound")
        return self._all[slug]

    def create(self, namespace: str, owner_type: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make a collection; its namespace and title must be new.

        Raises:
            HubError: 400 a field is malformed or too long, 409 it exists (with its slug).
        """
        title = _limited(body, "title", MAX_TITLE)
        if not title:
            raise bad('"title" is required')
        with self._lock:
            for value in self._all.values():
                if (value["owner"]["name"], value["title"]) == (namespace, title):
                    raise HubError(409, "A collection of this title exists", extra={"slug": value["slug"]})
            words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "collection"
            value = {
                "slug": f"{namespace}/{words[:60]}-{secrets.token_hex(12)}",
                "title": title,
                "description": _limited(body, "description", MAX_DESCRIPTION) or "",
                "owner": {"name": namespace, "type": owner_type, "fullname": namespace, "avatarUrl": ""},
                "private": bool(body.get("private")),
                "theme": "indigo",
                "position": 0,
                "upvotes": 0,
                "items": [],
            }
            self._save(value)
        return value

    @contextmanager
    def change(self, slug: str) -> Generator[dict[str, Any]]:
        """Edit a draft of a collection; it counts only if the block succeeds."""
        with self._lock:
            draft = copy.deepcopy(self.get(slug))
            yield draft
            for position, item in enumerate(draft["items"]):
                item["position"] = position
            self._save(draft)

    def update(self, slug: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change title, description, private or theme.

        Raises:
            HubError: 400 a field is malformed or too long, 404 there is no such collection.
        """
        with self.change(slug) as draft:
            for field, limit in (("title", MAX_TITLE), ("description", MAX_DESCRIPTION), ("theme", 20)):
                if field in body:
                    draft[field] = _limited(body, field, limit)
            draft["private"] = bool(body.get("private", draft["private"]))
        return self.get(slug)

    def delete(self, slug: str) -> None:
        """Remove a collection; the repos in it stay."""
        with self._lock:
            self.get(slug)
            self._file(slug).unlink()
            del self._all[slug]

    def add_item(self, slug: str, body: dict[str, Any]) -> dict[str, Any]:
        """Put an item at the end.

        Raises:
            HubError: 400 it is malformed or its note too long, 404 no such collection, 409 it is in it already.
        """
        item = body.get("item")
        if not isinstance(item, dict) or item.get("type") not in ITEM_TYPES or not isinstance(item.get("id"), str):
            raise bad('"item" needs an "id" and a known "type"')
        with self.change(slug) as draft:
            if any((old["id"], old["type"]) == (item["id"], item["type"]) for old in draft["items"]):
                raise HubError(409, "This item is in the collection already")
            new = {"_id": secrets.token_hex(12), "id": item["id"], "type": item["type"], "position": 0}
            draft["items"].append(new | _note(body))
        return self.get(slug)

    def update_item(self, slug: str, object_id: str, body: dict[str, Any]) -> None:
        """Change an item's note or position.

        Raises:
            HubError: 400 the note is too long or the position no number, 404 there is no such item.
        """
        position = body.get("position")
        if not isinstance(position, int | None):
            raise bad('"position" must be a whole number')
        with self.change(slug) as draft:
            item = _item(draft, object_id)
            item.update(_note(body))
            if position is not None:
                draft["items"].remove(item)
                draft["items"].insert(max(0, position), item)

    def delete_item(self, slug: str, object_id: str) -> None:
        """Take an item out.

        Raises:
            HubError: 404 there is no such item.
        """
        with self.change(slug) as draft:
            draft["items"].remove(_item(draft, object_id))

    def keep_only(self, repos: Container[tuple[str, str]]) -> None:
        """Take every repo that is not among `repos`, pairs of kind and id, out of every collection."""
        for slug, value in list(self._all.items()):
            for item in value["items"]:
                if item["type"] in KINDS.values() and (item["type"], item["id"]) not in repos:
                    self.delete_item(slug, item["_id"])

    def _save(self, value: dict[str, Any]) -> None:
        value["lastUpdated"] = now()
        write_json(self._file(value["slug"]), value)
        self._all[value["slug"]] = value

    def _file(self, slug: str) -> Path:
        namespace, _, name = slug.partition("/")
        return self._folder / namespace / f"{name}.json"


def _load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _item(value: dict[str, Any], object_id: str) -> dict[str, Any]:
    for item in value["items"]:
        if item["_id"] == object_id:
            return item
    raise HubError(404, "There is no such item in this collection")


def _note(body: dict[str, Any]) -> dict[str, Any]:
    note = _limited(body, "note", MAX_NOTE)
    return {} if note is None else {"note": {"text": note, "html": ""}}


def _limited(body: dict[str, Any], field: str, limit: int) -> str | None:
    value = body.get(field)
    if not isinstance(value, str | None):
        raise bad(f'"{field}" must be a string')
    if value and len(value) > limit:
        raise bad(f'"{field}" must have at most {limit} characters')
    return value
