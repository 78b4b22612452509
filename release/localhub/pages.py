"""The pages: what people will see of a repo, before it is public. Server-rendered, without any script."""

from __future__ import annotations

import re
from typing import Any

from jinja2 import DictLoader, Environment
from starlette.responses import Response

from release.localhub.calls import Call
from release.localhub.errors import HubError
from release.localhub.history import Repo
from release.localhub.metadata import REPO_ID, BadMetadata, split_card, validate
from release.localhub.pulls import one_pull
from release.localhub.render import card_html
from release.localhub.repos import card_data
from release.localhub.templates import STYLE, TEMPLATES

# No script at all; images may come from elsewhere, as the badges of many cards do.
POLICY = "default-src 'none'; style-src 'self'; img-src 'self' https: data:; base-uri 'none'; form-action 'none'"
SAFE = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def _size(count: int) -> str:
    """`count` bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


_TEMPLATES = Environment(loader=DictLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_TEMPLATES.filters["size"] = _size


def style(_: Call) -> Response:
    """The style sheet of every page."""
    return Response(STYLE, media_type="text/css")


def home(call: Call) -> Response:
    """Every repo and collection that the caller may see, or those of one namespace."""
    namespace = call.args.get("ns")
    if namespace and namespace not in call.hub.gate.namespaces():
        raise HubError(404, f"There is nobody called {namespace}")
    repos = [repo for repo in call.hub.repos(call.account) if namespace in (None, repo.id.partition("/")[0])]
    rows = [(repo, repo.head("main"), card_data(call.hub, repo.head("main"))) for repo in repos]
    shelf = [value for value in visible(call) if namespace in (None, value["owner"]["name"])]
    return _page("home", rows=rows, collections=shelf, namespace=namespace)


def repo_page(call: Call) -> Response:
    """The card, the metadata, the files, and what points at the repo."""
    try:
        repo = call.repo()
    except HubError as error:
        return _sign_in(error)
    revision = call.args.get("rev", "main")
    commit = repo.head(revision)
    entry = commit.files.get("README.md")
    text = call.hub.read(entry).decode("utf-8", "replace") if entry else ""
    errors, warnings = validate(text, repo.kind) if entry else ([], [])
    try:
        data, body = split_card(text)
    except BadMetadata:
        data, body = {}, text
    about = {"chips": chips(data), "results": list(results(data)), "errors": errors, "warnings": warnings}
    shelf = [(value, item) for value in visible(call) for item in value["items"] if _same(item, repo)]
    card = card_html(body, repo.url_path, revision)
    total = sum(entry.size for entry in commit.files.values())
    return _page("repo", repo=repo, commit=commit, revision=revision, card=card, shelf=shelf, total=total, **about)


def collection_page(call: Call) -> Response:
    """A collection with its notes."""
    slug = f"{call.args['ns']}/{call.args['slug']}"
    value = next((value for value in visible(call) if value["slug"] == slug), None)
    if value is None:
        return _sign_in(HubError(404 if call.account else 401, "Collection not found"))
    return _page("collection", collection=value)


def pull_page(call: Call) -> Response:
    """A pull request: what it changes."""
    try:
        return _page("pull", repo=call.repo(), pull=one_pull(call))
    except HubError as error:
        return _sign_in(error)


def visible(call: Call) -> list[dict[str, Any]]:
    """The collections that the caller may see, each without the items that the caller may not."""
    seen = []
    for value in call.hub.collections.all():
        if value["private"] and not (call.account and call.account.owns(value["owner"]["name"])):
            continue
        seen.append(value | {"items": [item for item in value["items"] if _item_visible(call, item)]})
    return seen


def _item_visible(call: Call, item: dict[str, Any]) -> bool:
    try:
        return bool(call.hub.find(item["type"], item["id"], call.account))
    except HubError:
        return item["type"] in ("paper", "collection")


def chips(data: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """The metadata as (kind, text, link): what stands in coloured boxes under the title."""
    found = []
    for field, kind in (
        ("pipeline_tag", "task"),
        ("task_categories", "task"),
        ("library_name", "library"),
        ("language", "language"),
        ("license", "license"),
        ("base_model", "base model"),
        ("datasets", "dataset"),
        ("size_categories", "size"),
        ("tags", "tag"),
    ):
        value = data.get(field)
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            prefix = {"base model": "/", "dataset": "/datasets/"}.get(kind)
            link = f"{prefix}{item}" if prefix and REPO_ID.fullmatch(str(item)) else None
            found.append((kind, str(item), link))
    return found


def results(data: dict[str, Any]) -> Any:
    """The rows of the model-index: task, dataset, metric and value."""
    try:
        for model in data.get("model-index") or []:
            for result in model["results"]:
                for metric in result["metrics"]:
                    dataset = result["dataset"]
                    yield result["task"]["type"], dataset["name"], metric.get("name", metric["type"]), metric["value"]
    except (KeyError, TypeError, AttributeError):
        return  # the errors above the card say what is wrong with it


def _same(item: dict[str, Any], repo: Repo) -> bool:
    return (item["type"], item["id"]) == (repo.kind, repo.id)


def _sign_in(error: HubError) -> Response:
    """The same answer for what is private and for what is not there; a browser then asks for name and token."""
    headers = {"WWW-Authenticate": 'Basic realm="Hub: account and token"'} if error.status == 401 else {}
    return _page("error", error.status, headers, message=error.message)


def _page(name: str, status: int = 200, headers: dict[str, str] | None = None, /, **values: Any) -> Response:
    html = _TEMPLATES.get_template(name).render(**values)
    return Response(
        re.sub(r"\n\s*\n", "\n", html) if name != "repo" else html, status, SAFE | (headers or {}), "text/html"
    )
