"""Handlers about repos as a whole: who is asking, create, move, delete, settings, and the rules of cards."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from release.localhub.errors import HubError, repo_not_found
from release.localhub.history import url_path
from release.localhub.http import RequestContext
from release.localhub.metadata import validate
from release.localhub.rights import check_writer


class RepoSettings(BaseModel):
    """What may change of a repo."""

    private: bool | None = None
    visibility: str | None = None
    gated: Literal["auto", "manual", False] | None = None

    def makes_private(self) -> bool:
        """Whether the repo is to be private: a visibility that this Hub does not know never makes it public."""
        return self.private is True or self.visibility not in (None, "public")


class RepoName(RepoSettings):
    """A repo to be made or deleted; without an organisation it is the caller's own."""

    name: str
    organization: str | None = None
    type: Literal["model", "dataset", "space"] | None = "model"

    def id(self, context: RequestContext) -> str:
        """`namespace/name`."""
        return f"{self.organization or (context.account.name if context.account else '')}/{self.name}"


class RepoMove(BaseModel):
    """A repo to be moved to another id."""

    fromRepo: str
    toRepo: str
    type: Literal["model", "dataset", "space"] | None = "model"


class CardText(BaseModel):
    """A card to be checked."""

    content: str
    repoType: str | None = "model"


def whoami(context: RequestContext) -> dict[str, Any]:
    """The account of the token."""
    account = context.account
    if account is None or account.repo is not None:
        raise HubError(401, "Invalid username or password.")
    organizations = [{"name": name, "type": "org", "fullname": name} for name in account.organizations]
    token = {"displayName": "local", "role": account.role}
    user = {"type": "user", "name": account.name, "fullname": account.name, "orgs": organizations}
    return user | {"auth": {"type": "access_token", "accessToken": token}}


def agent_harnesses(_: RequestContext) -> dict[str, Any]:
    """What the client asks once to learn which environment variables name an agent."""
    return {"standardEnvVars": [], "harnesses": {}}


def auth_check(context: RequestContext) -> dict[str, Any]:
    """Whether the caller may read the repo and its files."""
    return {"id": context.repo_to_download().id}


def create_repo(context: RequestContext) -> dict[str, Any]:
    """Make a repo in the caller's namespace or organisation."""
    body = context.json(RepoName)
    repo_id = body.id(context)
    account = check_writer(repo_id.partition("/")[0], context.account)
    kind = body.type or "model"
    url = context.base_url + url_path(kind, repo_id)
    try:
        context.hub.create(kind, repo_id, account, private=body.makes_private())
    except HubError as error:
        error.extra["url"] = url  # what exist_ok of the client reads
        raise
    return {"url": url, "name": repo_id, "id": repo_id}


def delete_repo(context: RequestContext) -> dict[str, Any]:
    """Remove a repo that the body names by its present id."""
    body = context.json(RepoName)
    repo = context.hub.find(body.type or "model", body.id(context), context.account)
    if repo.id.lower() != body.id(context).lower():
        raise repo_not_found(signed_in=context.account is not None)
    check_writer(repo.namespace, context.account)
    context.hub.delete(repo)
    return {}


def move_repo(context: RequestContext) -> dict[str, Any]:
    """Rename a repo, or give it to another namespace that the caller belongs to."""
    body = context.json(RepoMove)
    repo = context.hub.find(body.type or "model", body.fromRepo, context.account)
    check_writer(repo.namespace, context.account)
    check_writer(body.toRepo.partition("/")[0], context.account)
    context.hub.move(repo, body.toRepo)
    return {"url": context.base_url + url_path(repo.kind, body.toRepo)}


def change_settings(context: RequestContext) -> dict[str, Any]:
    """Make a repo private or public, or gate its downloads."""
    (repo, _), body = context.repo_to_write(), context.json(RepoSettings)
    private = repo.private
    if body.private is not None or body.visibility is not None:
        private = body.makes_private()
        context.hub.db("UPDATE repo SET private = ? WHERE key = ?", private, repo.key)
    if body.gated is not None:
        context.hub.db("UPDATE repo SET gated = ? WHERE key = ?", body.gated or "", repo.key)
    return {"private": private}


def validate_yaml(context: RequestContext) -> Response:
    """Check the metadata of a card."""
    body = context.json(CardText)
    errors, warnings = validate(body.content, body.repoType or "model")
    answer = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return JSONResponse(answer, 400 if errors else 200)


def no_namespace(context: RequestContext) -> Response:
    """The answer about an id without a namespace: the real Hub has such old repos, this one has none."""
    raise repo_not_found(signed_in=context.account is not None)


def unknown(_: RequestContext) -> Response:
    """The answer to requests that this Hub does not know: clients have another way for each."""
    raise HubError(404, "Not known here")
