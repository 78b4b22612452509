"""The pages: what people will see of a repo, before it is public. Server-rendered, without any script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.responses import Response

from release.localhub.api.collections import visible_collections
from release.localhub.api.discussions import get_discussion
from release.localhub.api.listing import card_metadata
from release.localhub.errors import HubError
from release.localhub.history import Repo
from release.localhub.http import RequestContext
from release.localhub.metadata import REPO_ID, BadMetadata, as_list, split_card, validate
from release.localhub.pages.limited import render_card
from release.localhub.pulls import list_pulls

FOLDER = Path(__file__).parent / "templates"
# No script at all; images may come from elsewhere, as the badges of many cards do.
POLICY = "default-src 'none'; style-src 'self'; img-src 'self' https: data:; base-uri 'none'; form-action 'none'"
PAGE_HEADERS = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}
PAGE_HEADERS |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# The fields of a card that are shown as coloured labels under the title, each with the name of its group.
LABELS = {"pipeline_tag": "task", "task_categories": "task", "library_name": "library", "language": "language"}
LABELS |= {"license": "license", "base_model": "base model", "datasets": "dataset", "size_categories": "size"}
LABELS |= {"tags": "tag"}


def _format_size(count: int) -> str:
    """`count` bytes for people."""
    value, units = float(count), ["GB", "MB", "kB", "B"]
    while value >= 1000 and len(units) > 1:
        value, _ = value / 1000, units.pop()
    return f"{value:.{0 if units[-1] == 'B' else 1}f} {units[-1]}"


_TEMPLATES = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_TEMPLATES.filters["size"] = _format_size


def style(_: RequestContext) -> Response:
    """The style sheet of every page."""
    return Response((FOLDER / "page.css").read_text(), media_type="text/css")


def home(context: RequestContext) -> Response:
    """Every repo and collection that the caller may see, or those of one namespace."""
    namespace = context.path_params.get("ns")
    if namespace and namespace not in context.hub.auth.namespaces():
        raise HubError(404, f"There is nobody called {namespace}")
    heads = context.hub.repo_heads(context.account, lambda repo: namespace in (None, repo.namespace))
    rows = [(repo, commit, card_metadata(context.hub, commit)) for repo, commit in heads]
    collections = [value for value in visible_collections(context) if namespace in (None, value["owner"]["name"])]
    return _page("home", rows=rows, collections=collections, namespace=namespace)


def repo_page(context: RequestContext) -> Response:
    """The card, the metadata, the files, and the collections that hold the repo."""
    try:
        repo = context.repo()
    except HubError as error:
        return _sign_in(error)
    revision = context.path_params.get("rev", "main")
    commit = repo.resolve(revision)
    entry = commit.files.get("README.md")
    text = context.hub.read_text(entry.sha256) if entry else ""
    errors, warnings = validate(text, repo.kind) if entry else ([], [])
    try:
        metadata, body = split_card(text)
    except BadMetadata:
        metadata, body = {}, text
    return _page(
        "repo",
        repo=repo,
        commit=commit,
        revision=revision,
        total=sum(entry.size for entry in commit.files.values()),
        card=render_card(body, repo.url_path, revision),
        labels=labels(metadata),
        results=results(metadata),
        errors=errors,
        warnings=warnings,
        items=_items_of(context, repo),
        pulls=list_pulls(repo),
    )


def _items_of(context: RequestContext, repo: Repo) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The collections that hold the repo, each with its item."""
    return [
        (collection, item)
        for collection in visible_collections(context)
        for item in collection["items"]
        if (item["type"], item["id"]) == (repo.kind, repo.id)
    ]


def collection_page(context: RequestContext) -> Response:
    """A collection with its notes."""
    slug = f"{context.path_params['ns']}/{context.path_params['slug']}"
    collections = visible_collections(context, "slug = ?", slug)
    if not collections:
        return _sign_in(HubError(404 if context.account else 401, "Collection not found"))
    return _page("collection", collection=collections[0])


def pull_page(context: RequestContext) -> Response:
    """A pull request: what it changes."""
    try:
        return _page("pull", repo=context.repo(), pull=get_discussion(context))
    except HubError as error:
        return _sign_in(error)


def labels(metadata: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """The metadata as (group, text, link)."""
    rows = []
    for field, group in LABELS.items():
        for item in map(str, as_list(metadata.get(field))):
            prefix = {"base model": "/", "dataset": "/datasets/"}.get(group)
            rows.append((group, item, f"{prefix}{item}" if prefix and REPO_ID.fullmatch(item) else None))
    return rows


def results(metadata: dict[str, Any]) -> list[tuple[str, str, str, Any]]:
    """The rows of the model-index: task, dataset, metric and value; none where it is malformed, as the page says."""
    try:
        return [
            (row["task"]["type"], row["dataset"]["name"], metric.get("name", metric["type"]), metric["value"])
            for model in metadata.get("model-index") or []
            for row in model["results"]
            for metric in row["metrics"]
        ]
    except (KeyError, TypeError, AttributeError):
        return []


def _sign_in(error: HubError) -> Response:
    """The same answer for what is private and for what does not exist; a browser then asks for name and token.

    Raises:
        HubError: The error, where it is another: the redirect of a repo that was moved.
    """
    if error.status not in (401, 404):
        raise error
    headers = {"WWW-Authenticate": 'Basic realm="Hub: account and token"'} if error.status == 401 else {}
    return _page("error", error.status, headers, message=error.message)


def _page(name: str, status: int = 200, headers: dict[str, str] | None = None, /, **values: Any) -> Response:
    html = _TEMPLATES.get_template(f"{name}.html").render(**values)
    return Response(html, status, PAGE_HEADERS | (headers or {}), "text/html")
