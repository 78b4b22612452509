"""Handlers of buckets, as far as `hf skills` needs them: ROOT/buckets/<namespace>/<name> is served as it is.

Put a marketplace.json and a folder per skill into ROOT/buckets/huggingface/skills, and `hf skills add` installs them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from release.localhub.api.xet import connection
from release.localhub.errors import HubError, entry_not_found
from release.localhub.history import hub_time
from release.localhub.http import RequestContext
from release.localhub.names import is_usable_name
from release.localhub.responses import send_content
from release.localhub.service import Content
from release.localhub.storage.xet_format import XetFile


class BucketPaths(BaseModel):
    """Paths in a bucket."""

    paths: Annotated[list[str], Field(max_length=1000)]


def tree(context: RequestContext) -> list[dict[str, Any]]:
    """The files of a bucket whose path begins with a prefix."""
    prefix = context.path_params.get("path", "")
    return [_describe(context, path, file) for path, file in _files(context).items() if path.startswith(prefix)]


def paths_info(context: RequestContext) -> list[dict[str, Any]]:
    """The files among the given paths."""
    paths, files = context.json(BucketPaths).paths, _files(context)
    return [_describe(context, path, files[path]) for path in paths if path in files]


def read_token(context: RequestContext) -> Response:
    """A token to download what a bucket holds."""
    _files(context)
    return connection(context, write=False, bucket=context.repo_id)


def resolve(context: RequestContext) -> Response:
    """One file of a bucket."""
    path, files = context.path_params["path"], _files(context)
    if path not in files:
        raise entry_not_found(path)
    file = _store(context, files[path])
    url = f"{context.base_url}/api/buckets/{context.repo_id}/xet-read-token"
    headers = {"ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    headers |= {"X-Xet-Hash": file.hash, "X-Xet-Refresh-Route": url}
    return send_content(context, Content(file.size, file, partial(context.hub.xet.read, file)), path, headers)


def _files(context: RequestContext) -> dict[str, Path]:
    """The files of the bucket by their path; links are left out, since they could lead anywhere."""
    root = (context.hub.root / "buckets" / context.repo_id).absolute()
    if not all(map(is_usable_name, context.repo_id.split("/"))) or not root.is_dir():
        raise HubError(404, "Bucket not found", "RepoNotFound")
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: path for name, path in files.items() if path.resolve() == root.resolve() / name}


def _describe(context: RequestContext, path: str, file: Path) -> dict[str, Any]:
    xet_file, modified = _store(context, file), hub_time(datetime.fromtimestamp(file.stat().st_mtime, UTC))
    row = {"type": "file", "path": path, "size": xet_file.size, "xetHash": xet_file.hash}
    return row | {"mtime": modified, "uploadedAt": modified}


def _store(context: RequestContext, file: Path) -> XetFile:
    """The file in the Xet store, from which clients download it."""
    xet_file = context.hub.xet.add_file(file)
    context.hub.db("INSERT OR IGNORE INTO in_bucket VALUES (?)", xet_file.sha256)
    return xet_file
