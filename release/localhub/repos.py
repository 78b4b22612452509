"""Handlers about repos and their history: create, delete, describe, list; branches, tags and pull requests.

Of pull requests there is what changes files; talk (comments, reviews) is left to the real Hub.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import parse_qs

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from release.localhub.history import Commit, Entry, Repo, changed_paths, url_path
from release.localhub.hub import Hub
from release.localhub.metadata import BadMetadata, as_list, split_card, validate
from release.localhub.web import Call, HubError, bad, no_entry

MOST = 1000  # repos in a list


class Settings(BaseModel):
    """What may change of a repo."""

    private: bool | None = None
    visibility: str | None = None

    def hides(self) -> bool:
        """Whether the repo is to be private: a visibility that this Hub does not know never makes it public."""
        return self.private is True or self.visibility not in (None, "public")


class RepoName(Settings):
    """A repo to be made or deleted; without an organisation it is the caller's own."""

    name: str
    organization: str | None = None
    type: Literal["model", "dataset", "space"] | None = "model"

    def id(self, call: Call) -> str:
        """`namespace/name`."""
        return f"{self.organization or (call.account.name if call.account else '')}/{self.name}"


class Card(BaseModel):
    """A card to be checked."""

    content: str
    repoType: str | None = "model"


class Words(BaseModel):
    """What a request about references may say."""

    startingPoint: str | None = None
    tag: str = ""
    message: str | None = None


class Pull(BaseModel):
    """A pull request to be opened."""

    title: str
    description: str | None = ""
    pullRequest: bool = False


class Status(BaseModel):
    """A pull request to be closed, or opened again."""

    status: Literal["open", "closed"]


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
    body = call.body(RepoName)
    repo_id = body.id(call)
    account = call.hub.check_writer(repo_id.partition("/")[0], call.account)
    kind = body.type or "model"
    url = call.base + url_path(kind, repo_id)
    try:
        call.hub.create(kind, repo_id, account, private=body.hides())
    except HubError as error:
        error.extra["url"] = url  # what exist_ok of the client reads
        raise
    return {"url": url, "name": repo_id, "id": repo_id}


def delete_repo(call: Call) -> dict[str, Any]:
    """Remove a repo that the body names."""
    body = call.body(RepoName)
    repo = call.hub.find(body.type or "model", body.id(call), call.account)
    call.hub.check_writer(repo.namespace, call.account)
    call.hub.delete(repo)
    return {}


def settings(call: Call) -> dict[str, Any]:
    """Make a repo private or public."""
    (repo, _), body = call.repo_to_write(), call.body(Settings)
    private = repo.private
    if body.private is not None or body.visibility is not None:
        private = body.hides()
        call.hub.db("UPDATE repo SET private = ? WHERE key = ?", private, repo.key)
    return {"private": private}


def validate_yaml(call: Call) -> Response:
    """Check the metadata of a card."""
    body = call.body(Card)
    errors, warnings = validate(body.content, body.repoType or "model")
    answer = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return JSONResponse(answer, 400 if errors else 200)


def list_repos(call: Call) -> list[dict[str, Any]]:
    """The repos of a kind that the caller may see, by author and by words in the name."""
    author, search = call.query.get("author"), call.query.get("search", "").lower()

    def wanted(repo: Repo) -> bool:
        return repo.kind == call.kind and search in repo.id.lower() and author in (None, repo.namespace)

    return [info(call.hub, repo, head) for repo, head in call.hub.heads(call.account, wanted)[:MOST]]


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
        "author": repo.namespace,
        "sha": commit.id,
        "private": repo.private,
    }
    value |= {"createdAt": repo.created, "lastModified": commit.date, "cardData": card, "tags": tags(card, commit)}
    value |= {"downloads": 0, "likes": 0, "disabled": False, "gated": False, "siblings": []}
    for path, entry in commit.files.items():
        about = {"size": entry.size, "blobId": entry.oid, **lfs(entry)} if sizes else {}
        value["siblings"].append({"rfilename": path, **about})
    if repo.kind == "model":
        value |= {name: card.get(name) for name in ("pipeline_tag", "library_name", "model-index")}
        value["modelId"] = repo.id
    return value


def card_data(hub: Hub, commit: Commit) -> dict[str, Any]:
    """The metadata of the card; empty where there is none or none that can be read."""
    entry = commit.files.get("README.md")
    try:
        return split_card(hub.read(entry).decode("utf-8", "replace"))[0] if entry else {}
    except BadMetadata:
        return {}


def tags(card: dict[str, Any], commit: Commit) -> list[str]:
    """The tags by which the Hub would find the repo."""
    found = [card.get("library_name"), card.get("pipeline_tag")]
    found += ["safetensors"] if any(path.endswith(".safetensors") for path in commit.files) else []
    found += [*as_list(card.get("tags")), *as_list(card.get("language"))]
    for field, prefix in (("license", "license"), ("datasets", "dataset"), ("base_model", "base_model")):
        found += [f"{prefix}:{item}" for item in as_list(card.get(field))]
    return list(dict.fromkeys(str(tag) for tag in found if tag))


def lfs(entry: Entry) -> dict[str, Any]:
    """The part of a listing that only large files have."""
    if not entry.lfs:
        return {}
    pointer = 127 + len(str(entry.size))
    return {"lfs": {"oid": entry.sha256, "sha256": entry.sha256, "size": entry.size, "pointerSize": pointer}}


def tree(call: Call) -> Response:
    """The files and folders under a path."""
    repo = call.repo()
    commit, folder = repo.head(call.args["rev"]), call.args.get("path", "").strip("/")
    prefix = f"{folder}/" if folder else ""
    inside = {name for name in [*commit.files, *_folders(commit)] if name.startswith(prefix)}
    if folder and not inside:
        raise no_entry(folder, commit.id)
    if call.query.get("recursive", "").lower() not in ("1", "true"):
        inside = {name for name in inside if "/" not in name[len(prefix) :]}
    expand = call.query.get("expand", "").lower() == "true"
    rows = describe(call.hub, repo, commit, sorted(inside), expand=expand)
    return JSONResponse(rows, headers={"X-Repo-Commit": commit.id})


def paths_info(call: Call) -> list[dict[str, Any]]:
    """The given paths (a form), as `tree` describes them; paths that are not there are left out."""
    repo, form = call.repo(), parse_qs(call.upload.read_bytes().decode("utf-8", "replace"))
    commit = repo.head(call.args["rev"])
    known = {*commit.files, *_folders(commit)}
    wanted = [path for path in (path.strip("/") for path in form.get("paths", [])) if path in known]
    return describe(call.hub, repo, commit, wanted, expand=form.get("expand", [""])[0].lower() == "true")


def _folders(commit: Commit) -> set[str]:
    return {str(up) for path in commit.files for up in PurePosixPath(path).parents} - {"."}


def describe(hub: Hub, repo: Repo, commit: Commit, names: list[str], *, expand: bool) -> list[dict[str, Any]]:
    """One row per file or folder; with `expand` also the newest commit that touched it."""
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        entry = commit.files.get(name)
        rows[name] = {"type": "directory", "path": name, "size": 0, "oid": commit.id}
        if entry:
            file = hub.xet.find(sha256=entry.sha256) if entry.lfs else None
            rows[name] = {"type": "file", "path": name, "size": entry.size, "oid": entry.oid, **lfs(entry)}
            rows[name] |= {"xetHash": file.hash} if file else {}
    history, left = [*repo.log(commit.id)] if expand else [], set(names)
    for new, old in zip(history, [*history[1:], None], strict=False):
        for path in changed_paths(old.files if old else {}, new.files):
            for name in left & {path, *map(str, PurePosixPath(path).parents)}:
                rows[name]["lastCommit"] = {"id": new.id, "title": new.title, "date": new.date}
                left.remove(name)
    return list(rows.values())


def refs(call: Call) -> dict[str, Any]:
    """Branches, tags and, if asked for, open pull requests."""
    repo = call.repo()

    def rows(group: str, start: str = "") -> list[dict[str, str]]:
        found = repo.refs(group).items()
        return [{"name": start + name, "ref": f"refs/{group}/{name}", "targetCommit": at} for name, at in found]

    value = {"converts": [], "branches": rows("heads"), "tags": rows("tags")}
    if "include_prs" in call.query:
        open_ = {f"refs/pr/{pull['number']}" for pull in repo.pulls() if pull["status"] == "open"}
        value["pullRequests"] = [row for row in rows("pr", "refs/pr/") if row["ref"] in open_]
    return value


def commits(call: Call) -> list[dict[str, Any]]:
    """The history, newest first."""
    return [
        {"id": c.id, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
        for c in call.repo().log(call.args["rev"])
    ]


def branch(call: Call) -> dict[str, Any]:
    """Make or delete a branch."""
    repo, _ = call.repo_to_write()
    if call.request.method == "DELETE":
        repo.drop_reference("heads", call.args["rev"])
    else:
        repo.add_reference("heads", call.args["rev"], repo.head(call.body(Words).startingPoint or "main").id)
    return {}


def tag(call: Call) -> dict[str, Any]:
    """Make a tag at a revision, or delete one."""
    repo, _ = call.repo_to_write()
    if call.request.method == "DELETE":
        repo.drop_reference("tags", call.args["rev"])
    else:
        repo.add_reference("tags", call.body(Words).tag, repo.head(call.args["rev"]).id)
    return {}


def squash(call: Call) -> dict[str, Any]:
    """Replace a branch's history by one commit."""
    repo, author = call.repo_to_write()
    repo.squash(call.args["rev"], call.body(Words).message or "Super-squash", author)
    return {}


def open_pull(call: Call) -> dict[str, Any]:
    """Open a pull request without any change yet."""
    (repo, author), body = call.repo_to_write(), call.body(Pull)
    if not body.pullRequest:
        raise HubError(501, "This Hub has pull requests, but no discussions")
    if not body.title.strip():
        raise bad('"title" is required')
    number = repo.open_pull(body.title, body.description or "", author)
    return {"num": number, "url": f"{call.base}{repo.url_path}/discussions/{number}"}


def list_pulls(call: Call) -> dict[str, Any]:
    """Every pull request, on one page."""
    repo = call.repo()
    pulls = repo.pulls()
    found = [] if call.query.get("p", "0") != "0" else [_pull(repo, pull) for pull in pulls]
    return {"discussions": found, "count": len(pulls), "start": 0}


def one_pull(call: Call) -> dict[str, Any]:
    """A pull request with what it changes and what stands in its way."""
    repo = call.repo()
    pull = repo.pull(pull_number(call))
    changed, clashes = repo.pull_changes(pull["number"])
    before = repo.commit(pull["start"]).files
    diff = "".join(
        f"{'-' if new is None else '~' if path in before else '+'} {path}\n" for path, new in changed.items()
    )
    merged = {"mergeCommitId": pull["merged"]} if pull["merged"] else {}
    value = _pull(repo, pull) | {"changes": {"base": f"refs/heads/{pull['base']}"} | merged, "diff": diff}
    return value | {"filesWithConflicts": [] if merged else clashes, "events": []}


def merge(call: Call) -> dict[str, Any]:
    """Bring a pull request onto its base."""
    repo, author = call.repo_to_write()
    repo.merge_pull(pull_number(call), author)
    return {}


def change_status(call: Call) -> dict[str, Any]:
    """Close a pull request, or open it again.

    Raises:
        HubError: 409 it is merged.
    """
    (repo, _), status = call.repo_to_write(), call.body(Status).status
    number = repo.pull(pull_number(call))["number"]
    open_ = "UPDATE pull SET status = ? WHERE repo = ? AND number = ? AND status <> 'merged' RETURNING 1"
    if not repo.db(open_, status, repo.key, number):
        raise HubError(409, f"Pull request {number} is merged")
    change = {"id": "0", "type": "status-change", "data": {"status": status}}
    pull = _pull(repo, repo.pull(number))
    return {"newStatus": change | {"author": pull["author"], "createdAt": pull["createdAt"]}}


def pull_number(call: Call) -> int:
    """The number in the path; 0, which no pull request has, where it is none."""
    text = call.args["number"]
    return int(text) if text.isdecimal() and len(text) < 9 else 0


def _pull(repo: Repo, pull: Any) -> dict[str, Any]:
    value = {"num": pull["number"], "title": pull["title"], "status": pull["status"], "isPullRequest": True}
    value |= {"repo": {"name": repo.id, "type": repo.kind}, "createdAt": pull["created"]}
    return value | {"author": {"name": pull["author"]}}
