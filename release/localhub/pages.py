"""The pages: what people will see of a repo, before it is public. Server-rendered, without any script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from starlette.responses import Response

from release.localhub.collections import visible
from release.localhub.metadata import REPO_ID, BadMetadata, as_list, split_card, validate
from release.localhub.render import card_html
from release.localhub.repos import card_data, one_pull
from release.localhub.web import Call, HubError

FOLDER = Path(__file__).parent / "templates"
# No script at all; images may come from elsewhere, as the badges of many cards do.
POLICY = "default-src 'none'; style-src 'self'; img-src 'self' https: data:; base-uri 'none'; form-action 'none'"
SAFE = {"Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'"}
SAFE |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# The fields of a card that stand in coloured boxes under the title, and under what word.
CHIPS = {"pipeline_tag": "task", "task_categories": "task", "library_name": "library", "language": "language"}
CHIPS |= {"license": "license", "base_model": "base model", "datasets": "dataset", "size_categories": "size"}
CHIPS |= {"tags": "tag"}


def _size(count: int) -> str:
    """`count` bytes for people."""
    value, units = float(count), ["GB", "MB", "kB", "B"]
    while value >= 1000 and len(units) > 1:
        value, _ = value / 1000, units.pop()
    return f"{value:.{0 if units[-1] == 'B' else 1}f} {units[-1]}"


_TEMPLATES = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_TEMPLATES.filters["size"] = _size


def style(_: Call) -> Response:
    """The style sheet of every page."""
    return Response((FOLDER / "page.css").read_text(), media_type="text/css")


def home(call: Call) -> Response:
    """Every repo and collection that the caller may see, or those of one namespace."""
    namespace = call.args.get("ns")
    if namespace and namespace not in call.hub.gate.namespaces():
        raise HubError(404, f"There is nobody called {namespace}")
    heads = call.hub.heads(call.account, lambda repo: namespace in (None, repo.namespace))
    rows = [(repo, head, card_data(call.hub, head)) for repo, head in heads]
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
    about = {"chips": chips(data), "results": results(data), "errors": errors, "warnings": warnings}
    here = (repo.kind, repo.id)
    shelf = [(value, item) for value in visible(call) for item in value["items"] if (item["type"], item["id"]) == here]
    card = card_html(body, repo.url_path, revision)
    total = sum(entry.size for entry in commit.files.values())
    return _page("repo", repo=repo, commit=commit, revision=revision, card=card, shelf=shelf, total=total, **about)


def collection_page(call: Call) -> Response:
    """A collection with its notes."""
    found = visible(call, "slug = ?", f"{call.args['ns']}/{call.args['slug']}")
    if not found:
        return _sign_in(HubError(404 if call.account else 401, "Collection not found"))
    return _page("collection", collection=found[0])


def pull_page(call: Call) -> Response:
    """A pull request: what it changes."""
    try:
        return _page("pull", repo=call.repo(), pull=one_pull(call))
    except HubError as error:
        return _sign_in(error)


def chips(data: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """The metadata as (kind, text, link)."""
    found = []
    for name, kind in CHIPS.items():
        for item in map(str, as_list(data.get(name))):
            prefix = {"base model": "/", "dataset": "/datasets/"}.get(kind)
            found.append((kind, item, f"{prefix}{item}" if prefix and REPO_ID.fullmatch(item) else None))
    return found


def results(data: dict[str, Any]) -> list[tuple[str, str, str, Any]]:
    """The rows of the model-index: task, dataset, metric and value; none where it is malformed, as the page says."""
    try:
        return [
            (row["task"]["type"], row["dataset"]["name"], metric.get("name", metric["type"]), metric["value"])
            for model in data.get("model-index") or []
            for row in model["results"]
            for metric in row["metrics"]
        ]
    except (KeyError, TypeError, AttributeError):
        return []


def _sign_in(error: HubError) -> Response:
    """The same answer for what is private and for what is not there; a browser then asks for name and token."""
    headers = {"WWW-Authenticate": 'Basic realm="Hub: account and token"'} if error.status_code == 401 else {}
    return _page("error", error.status_code, headers, message=error.detail)


def _page(name: str, status: int = 200, headers: dict[str, str] | None = None, /, **values: Any) -> Response:
    html = _TEMPLATES.get_template(f"{name}.html").render(**values)
    return Response(html, status, SAFE | (headers or {}), "text/html")
