"""Whether this token may publish this release on this Hub, asked before days are spent, not after."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError

from release import hub_access, keyless, mode
from release.errors import ReleaseError
from release.family import Family
from release.hub_commits import has_ours
from release.preflight.lack import Lack

WRITES = {"write", "contributor", "admin"}  # roles in an organisation that may make repositories


def publishing(family: Family, size: str) -> Iterator[Lack]:
    """What stands between this token and the release: an endpoint, a token, its right to write, a name that is free."""
    endpoint = os.environ.get("HF_ENDPOINT")
    if not endpoint:
        yield Lack("no endpoint", "export HF_ENDPOINT=https://huggingface.co, or the address that make hub prints")
    if not (keyless.resource() or has_token()):
        yield Lack("no token", "export HF_TOKEN=hf_... (a token with write access), or hf auth login")
    if not (endpoint and (keyless.resource() or has_token())):
        return
    try:
        mode.check_endpoint(endpoint, mode.active())
        keyless.token(endpoint)
        api = HfApi(endpoint=endpoint)
        if limit := keyless.resource():  # a job is nobody, so the Hub cannot say who it is
            yield from _own_repository(family, size, limit)
            yield from _names(family, size, api)
            return
        account = api.whoami()
        if not isinstance(account, dict) or not account.get("name"):
            raise ReleaseError(f"{endpoint} does not say whose token this is", hint=hub_access.NO_HUB)
        yield from _rights(family, account)
        yield from _names(family, size, api)
    except ReleaseError as error:
        yield Lack(error.what, error.hint or "")
    except Exception as error:  # the client and the network have many errors
        if (why := hub_access.reason(error)) is None:
            raise
        yield Lack(why.what, why.hint)


def _own_repository(family: Family, size: str, limit: str) -> Iterator[Lack]:
    """Whether the one repository that a job may write is the model's or the data's."""
    own = [family.model_id(size), f"datasets/{family.data_id}"]
    if limit not in own:
        yield Lack(
            f"this job may write {limit}, which the release has not", f"{keyless.RESOURCE}={own[0]}, or {own[1]}"
        )


def _rights(family: Family, account: dict[str, Any]) -> Iterator[Lack]:
    """What the account and the kind of its token leave out."""
    name, organization = account["name"], family.about.organization
    token = account.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read":
        yield Lack("the token may only read", "make one with the right to write")
    own = [each["name"] for each in account.get("orgs", []) if each.get("roleInOrg", "write") in WRITES]
    if organization not in {name, *own}:
        others = "".join(f", ORG={each}" for each in own[:3])
        hint = f"release it under your own name with ORG={name}{others}, or ask for the right there"
        yield Lack(f"{name} may not publish under {organization}", hint)
    elif token.get("role") == "fineGrained" and not _scoped(token.get("fineGrained", {}), organization):
        hint = f"give it the right to write repositories of {organization}"
        yield Lack(f"the fine-grained token may not write under {organization}", hint)


def _scoped(rights: dict[str, Any], organization: str) -> bool:
    """Whether a fine-grained token may write repositories of this user or organisation."""
    scopes = [each for each in rights.get("scoped", []) if each.get("entity", {}).get("name") == organization]
    return any("repo.write" in each.get("permissions", []) for each in scopes)


def _names(family: Family, size: str, api: Any) -> Iterator[Lack]:
    """Names that a public repository has which this project did not release."""
    tag = family.about.version
    own = [(family.data_id, "dataset", "repository")] if family.data.mixture is None else []
    for name, kind, of in (*own, (family.model_id(size), "model", "version")):
        if not _taken(api, name, kind, tag):
            continue
        free = _next_free(api, name, kind, tag)
        setting = f'{of} = "{free.partition("/")[2] if of == "repository" else _version(free, name, tag)}"'
        hint = f"{setting} in {family.path} is free, or release it under another organisation with ORG=name"
        yield Lack(f"{name} is public already, and without the tag {tag} no release of this project", hint)


def _taken(api: Any, name: str, kind: str, tag: str) -> bool:
    """Whether a public repository of this name is there that this project did not release."""
    try:
        if api.repo_info(name, repo_type=kind).private:
            return False
    except RepositoryNotFoundError:
        return False
    tags = {ref.name for ref in api.list_repo_refs(name, repo_type=kind).tags}
    return tag not in tags and not has_ours(api, name, kind, tag)  # what was cut off goes on


def _next_free(api: Any, name: str, kind: str, tag: str) -> str:
    """The name with the first later version that nobody has."""
    for number in range(_number(tag) + 1, _number(tag) + 100):
        later = _with_version(name, tag, number)
        if not api.repo_exists(later, repo_type=kind):
            return later
    return _with_version(name, tag, _number(tag) + 100)


def _number(tag: str) -> int:
    match = re.search(r"\d+", tag)
    return int(match.group()) if match else 1


def _with_version(name: str, tag: str, number: int) -> str:
    """The name with `number` in its last mention of the version, or after it."""
    later = re.sub(r"\d+", str(number), tag, count=1) if re.search(r"\d", tag) else f"{tag}-{number}"
    head, mention, tail = name.rpartition(tag)
    return f"{head}{later}{tail}" if mention else f"{name}-{later}"


def _version(later: str, name: str, tag: str) -> str:
    """The version by which `later` differs from `name`."""
    return later[len(name) - len(tag) :]


def has_token() -> bool:
    """Whether the client would find a token, in the environment or from a login. The token itself is not kept."""
    return bool(get_token())
