"""Handlers for buckets, as far as `hf skills` needs them: ROOT/buckets/<namespace>/<name> is served as it lies there.

Put a marketplace.json and a folder per skill into ROOT/buckets/huggingface/skills, and `hf skills add` installs them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.responses import Response

from release.localhub.accounts import usable_name
from release.localhub.calls import Call
from release.localhub.cas import connection
from release.localhub.errors import HubError, bad, no_entry
from release.localhub.files import send
from release.localhub.xet import Recipe


def paths_info(call: Call) -> list[dict[str, Any]]:
    """The files among the given paths."""
    paths = call.json().get("paths")
    if not isinstance(paths, list):
        raise bad('"paths" must be a list')
    files = bucket_files(call)
    return [_row(call, path, files[path]) for path in paths if isinstance(path, str) and path in files]


def tree(call: Call) -> list[dict[str, Any]]:
    """The files whose path begins with a prefix."""
    prefix = call.args.get("path", "")
    return [_row(call, path, file) for path, file in bucket_files(call).items() if path.startswith(prefix)]


def resolve(call: Call) -> Response:
    """One file."""
    file = bucket_files(call).get(call.args["path"])
    if file is None:
        raise no_entry(call.args["path"])
    recipe = _take_in(call, file)
    content = call.hub.content(recipe.sha256)
    if content is None:
        raise no_entry(call.args["path"])
    route = f"{call.base}/api/buckets/{call.repo_id}/xet-read-token"
    headers = {"ETag": f'"{recipe.sha256}"', "X-Xet-Hash": recipe.hash, "X-Xet-Refresh-Route": route}
    return send(call.request, content, call.args["path"], headers | {"X-Linked-Size": str(recipe.size)})


def read_token(call: Call) -> Response:
    """A permit to download what a bucket holds."""
    bucket_files(call)
    return connection(call, write=False, bucket=call.repo_id)


def bucket_files(call: Call) -> dict[str, Path]:
    """The files of the bucket by their path; links are left out, since they could lead anywhere.

    Raises:
        HubError: 404 there is no such bucket.
    """
    root = call.hub.root / "buckets" / call.repo_id
    if not all(map(usable_name, call.repo_id.split("/"))) or not root.is_dir():
        raise HubError(404, "Bucket not found", "RepoNotFound")
    files = (
        path
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.resolve() == root.resolve() / path.relative_to(root)
    )
    return {path.relative_to(root).as_posix(): path for path in files}


def _take_in(call: Call, file: Path) -> Recipe:
    recipe = call.hub.xet.add_file(file)
    call.hub.publish(recipe.sha256)
    return recipe


def _row(call: Call, path: str, file: Path) -> dict[str, Any]:
    recipe = _take_in(call, file)
    time = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "type": "file",
        "path": path,
        "size": recipe.size,
        "xetHash": recipe.hash,
        "mtime": time,
        "uploadedAt": time,
    }
