"""Handlers of git LFS: where to send large files, and their bytes."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from release.localhub.errors import HubError, bad_request
from release.localhub.http import RequestContext
from release.localhub.operations import MAX_FILES, Sha256

MAX_LFS = 1 << 40


class LfsObject(BaseModel):
    """A large file by its content."""

    oid: Sha256
    size: Annotated[int, Field(ge=0, lt=MAX_LFS)]


class Ref(BaseModel):
    """A branch or pull request."""

    name: str


class LfsBatch(BaseModel):
    """Large files to be sent; without a `ref`, for a pull request that is still to be opened."""

    operation: Literal["upload"]
    ref: Ref | None = None
    objects: Annotated[list[LfsObject], Field(max_length=MAX_FILES)]


def batch(context: RequestContext) -> dict[str, Any]:
    """Say where to send each file; a file that this repo has gets no address."""
    body = context.json(LfsBatch)
    repo, _ = context.repo_to_contribute(body.ref.name if body.ref else None)
    objects = []
    for row in body.objects:
        answer: dict[str, Any] = {"oid": row.oid, "size": row.size}
        if context.hub.uploaded_size(repo, row.oid) is None:
            signature = context.hub.auth.sign(put=row.oid, size=row.size, repo=repo.key)
            upload = {"href": f"{context.base_url}/lfs/{row.oid}?signature={signature}"}
            verify = {"href": f"{context.base_url}/api/{repo.kind}s/{repo.id}/lfs/verify"}
            answer["actions"] = {"upload": upload, "verify": verify}
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}


def upload_limit(context: RequestContext) -> int:
    """The size that was announced when the URL was signed."""
    return _claims(context)["size"]


def upload(context: RequestContext) -> dict[str, Any]:
    """Store the bytes of an LFS file; the signature in the URL replaces a token.

    Raises:
        HubError: 400 size or sha256 are not those that were announced, 401 the signature is not valid.
    """
    oid, claims = context.path_params["oid"], _claims(context)
    with context.body_path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != oid or stream.tell() != claims["size"]:
            raise bad_request(f"The content has not the sha256 {oid} and the size that were announced")
    repo = context.hub.signed_repo(claims["repo"])
    context.hub.store.add(context.body_path, "blobs", oid)
    context.hub.record_upload(repo, oid)
    return {}


def verify(context: RequestContext) -> dict[str, Any]:
    """Confirm that an LFS file has arrived with this size."""
    (repo, _), body = context.repo_to_contribute(None), context.json(LfsObject)
    if context.hub.uploaded_size(repo, body.oid) != body.size:
        raise HubError(404, "The file has not arrived with this size")
    return {}


def _claims(context: RequestContext) -> dict[str, Any]:
    return context.hub.auth.verify(context.query.get("signature", ""), put=context.path_params["oid"])
