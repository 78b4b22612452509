"""Handlers that move bytes: preupload, LFS, the Xet protocol, the commit that makes them count, and downloads.

A client that wants to know a Xet chunk, or a newer form of a route, gets 404 and goes on with what is here. Buckets
are here as far as `hf skills` needs them: ROOT/buckets/<namespace>/<name> is served as it lies there. Put a
marketplace.json and a folder per skill into ROOT/buckets/huggingface/skills, and `hf skills add` installs them.
"""

from __future__ import annotations

import hashlib
import mimetypes
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from release.localhub.accounts import PERMIT_SECONDS, usable_name
from release.localhub.commits import Header, RepoPath, Sha256, apply, prepare, read_lines
from release.localhub.history import hub_time
from release.localhub.hub import LARGE_SUFFIXES, Content
from release.localhub.store import read_range
from release.localhub.web import Call, HubError, bad, no_entry, parse_range
from release.localhub.xet import File

MAX_FILES = 256  # in one preupload
MAX_REGULAR = 10 << 20
MAX_COMMIT, MAX_LFS = 1 << 30, 1 << 40
# Unpacking and hashing a xorb takes some 30 MB for a moment; two at a time keep two cores busy.
_HASHING = threading.Semaphore(2)
# Files come from anybody: whatever a browser could run is sent as text or bytes, and into a sandbox.
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "image/avif")
LOCKED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
LOCKED |= {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}


class Announced(BaseModel):
    """A file that a client would send."""

    path: RepoPath
    size: int


class Preupload(BaseModel):
    """The files of a commit to come."""

    files: Annotated[list[Announced], Field(max_length=MAX_FILES)]


class LfsObject(BaseModel):
    """A large file by its content."""

    oid: Sha256
    size: Annotated[int, Field(ge=0, lt=MAX_LFS)]


class LfsBatch(BaseModel):
    """Large files to be sent."""

    operation: Literal["upload"]
    objects: Annotated[list[LfsObject], Field(max_length=MAX_FILES)]


class BucketPaths(BaseModel):
    """Paths in a bucket."""

    paths: Annotated[list[str], Field(max_length=1000)]


def preupload(call: Call) -> dict[str, Any]:
    """Say for each file how it is to be sent, and what the branch has under its name, so that it need not be sent."""
    (repo, _), body = call.repo_to_write(), call.body(Preupload)
    files = repo.head("main" if "create_pr" in call.query else call.args["rev"]).files
    answer = []
    for path, size in ((row.path, row.size) for row in body.files):
        # An empty file cannot be sent as LFS.
        large = size > MAX_REGULAR or (size > 0 and path.rpartition(".")[2].lower() in LARGE_SUFFIXES)
        old = files.get(path)
        oid = {"oid": old.sha256 if large else old.oid} if old and old.lfs == large else {}
        answer.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False} | oid)
    return {"files": answer}


def may_commit(call: Call) -> int:
    """The most bytes that a commit of the caller may have."""
    call.repo_to_write()
    return MAX_COMMIT


def commit(call: Call) -> dict[str, Any]:
    """Make a commit, or a pull request with one.

    Raises:
        HubError: 412 the branch has moved on from the parent that the client names; else as `prepare` and `apply`.
    """
    repo, author = call.repo_to_write()
    lines = read_lines(call.upload)
    header = next(lines)
    assert isinstance(header, Header)
    # What takes long comes first and outside the change: bytes that nothing refers to change nothing.
    operations = [prepare(line, call.hub, repo) for line in lines]
    message = header.description or ""
    with repo.db.change():
        parent, target = repo.head(call.args["rev"]), repo.writable(call.args["rev"])
        if header.parentCommit not in (None, "", parent.id):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = apply(parent.files, operations)
        if call.query.get("create_pr", "0") != "0":
            base = target.removeprefix("refs/heads/")
            target = f"refs/pr/{repo.open_pull(header.summary, message, author, base)}"
        made = repo.add_commit(target, (parent.id,), header.summary, message, author, files)
    answer = {"success": True, "commitOid": made.id, "commitUrl": f"{call.base}{repo.url_path}/commit/{made.id}"}
    if target.startswith("refs/pr/"):
        answer["pullRequestUrl"] = f"{call.base}{repo.url_path}/discussions/{target.removeprefix('refs/pr/')}"
    return answer


def lfs_batch(call: Call) -> dict[str, Any]:
    """Say where to send each LFS file; a file that this repo has gets no address."""
    (repo, _), body = call.repo_to_write(), call.body(LfsBatch)
    objects = []
    for row in body.objects:
        found: dict[str, Any] = {"oid": row.oid, "size": row.size}
        if call.hub.size_in(repo, row.oid) is None:
            permit = call.hub.gate.permit(put=row.oid, size=row.size, repo=repo.key)
            verify = {"href": f"{call.base}/api/{repo.kind}s/{repo.id}/lfs/verify"}
            found["actions"] = {"upload": {"href": f"{call.base}/lfs/{row.oid}?permit={permit}"}, "verify": verify}
        objects.append(found)
    return {"transfer": "basic", "objects": objects}


def may_put(call: Call) -> int:
    """The size that was announced when the permit in the address was given."""
    return call.hub.gate.check(call.query.get("permit", ""), put=call.args["oid"])["size"]


def lfs_put(call: Call) -> dict[str, Any]:
    """Take the bytes of an LFS file; the permit in the address stands for a token.

    Raises:
        HubError: 400 size or sha256 are not those that were announced, 401 the permit is not good.
    """
    oid = call.args["oid"]
    said = call.hub.gate.check(call.query.get("permit", ""), put=oid)
    with call.upload.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != oid or stream.tell() != said["size"]:
            raise bad(f"The content has not the sha256 {oid} and the size that were announced")
    repo = call.hub.permitted(said["repo"])
    call.hub.store.adopt(call.upload, "blobs", oid)
    call.hub.grant(repo, oid)
    return {}


def lfs_verify(call: Call) -> dict[str, Any]:
    """Confirm that an LFS file has arrived with this size."""
    (repo, _), body = call.repo_to_write(), call.body(LfsObject)
    if call.hub.size_in(repo, body.oid) != body.size:
        raise HubError(404, "The file has not arrived with this size")
    return {}


def xet_write_token(call: Call) -> Response:
    """A permit to upload to a repo."""
    return _connection(call, write=True, repo=call.repo_to_write()[0].key)


def xet_read_token(call: Call) -> Response:
    """A permit to download what a repo holds."""
    return _connection(call, write=False, repo=call.repo().key)


def _connection(call: Call, **claims: Any) -> Response:
    """Where the Xet store is and the permit for it: hf_xet reads the body, other code of the client the headers."""
    permit, ends = call.hub.gate.permit(**claims), int(time.time()) + PERMIT_SECONDS
    url = f"{call.base}/xet/{call.hub.store_id()}"
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": permit, "X-Xet-Token-Expiration": str(ends)}
    return JSONResponse({"accessToken": permit, "exp": ends, "casUrl": url}, headers=headers)


def _claims(call: Call, **claims: Any) -> dict[str, Any]:
    return call.hub.gate.check(call.request.headers.get("authorization", "").partition(" ")[2], **claims)


def may_send(most: int) -> Callable[[Call], int]:
    """A check that the caller may upload to a repo, for bodies of at most `most` bytes."""

    def check(call: Call) -> int:
        _claims(call, write=True)
        return most

    return check


def xorb(call: Call) -> dict[str, Any]:
    """Take a xorb."""
    with _HASHING:
        return {"was_inserted": call.hub.xet.add_xorb(call.args["hash"], call.upload)}


def shard(call: Call) -> dict[str, Any]:
    """Take a shard; from now on the repo may refer to its files."""
    repo = call.hub.permitted(_claims(call, write=True)["repo"])
    for file in call.hub.xet.add_shard(call.upload):
        call.hub.grant(repo, str(file.sha256))
    return {"result": 1}


def reconstruction(call: Call) -> dict[str, Any]:
    """How to build a file, or a range of it, from ranges of xorbs."""
    claims, file = _claims(call), call.hub.xet.find(hash=call.args["hash"])
    if file is None or not _may_fetch(call, claims, str(file.sha256)):
        raise HubError(404, "There is no such file")
    low, high = parse_range(call.request.headers.get("range", ""), file.size) or (0, file.size)
    prefix = f"{call.base}/xet/{call.hub.store_id()}/xorbs"

    def url(xorb: str, first: int, last: int) -> str:
        # Only for the bytes of this file: the xorb may hold chunks of others, of a private repo's.
        return f"{prefix}/{xorb}?permit={call.hub.gate.permit(get=xorb, first=first, last=last)}"

    return call.hub.xet.reconstruction(file, low, high, url)


def _may_fetch(call: Call, claims: dict[str, Any], sha256: str) -> bool:
    if "bucket" in claims:
        return bool(call.hub.db("SELECT 1 FROM in_bucket WHERE sha256 = ?", sha256))
    return "repo" in claims and call.hub.size_in(call.hub.permitted(claims["repo"]), sha256) is not None


def fetch(call: Call) -> Response:
    """Bytes of a xorb; the permit in the address stands for a token.

    Raises:
        HubError: 401 the permit is not good, or not for these bytes.
    """
    name = call.args["hash"]
    said = call.hub.gate.check(call.query.get("permit", ""), get=name)
    path = call.hub.store.place("xorbs", name)
    if not path.exists():
        raise HubError(404, "There is no such xorb")
    size = path.stat().st_size
    low, high = parse_range(call.request.headers.get("range", ""), size) or (0, size)
    if low < said["first"] or high > said["last"] + 1:
        raise HubError(401, "The permit is for other bytes of the xorb")
    return send(call, Content(size, None, partial(read_range, path)), name, {})


def unknown(_: Call) -> Response:
    """The answer to questions that this Hub does not answer: the client has another way for each."""
    raise HubError(404, "Not known here")


def resolve(call: Call) -> Response:
    """A file at a revision."""
    repo = call.repo()
    commit, path = repo.head(call.args["rev"]), call.args["path"]
    entry = commit.files.get(path)
    content = call.hub.content(entry.sha256) if entry else None
    if entry is None or content is None:
        raise no_entry(path, commit.id)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.sha256 if entry.lfs else entry.oid}"'}
    if entry.lfs:
        headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        if content.file:
            url = f"{call.base}/api/{repo.kind}s/{repo.id}/xet-read-token/{commit.id}"
            headers |= {"X-Xet-Hash": content.file.hash, "X-Xet-Refresh-Route": url}
            headers["Link"] = f'<{url}>; rel="xet-auth"'
    return send(call, content, path, headers, text=not entry.lfs)


def blob(call: Call) -> Response:
    """The page of one file on the Hub; here the file itself."""
    return RedirectResponse(call.request.scope["path"].replace("/blob/", "/resolve/", 1))


def send(call: Call, content: Content, path: str, headers: dict[str, str], *, text: bool = False) -> Response:
    """A response with the content, or the part of it that the request's Range asks for.

    A browser gets images as themselves, what git would hold as `text` as plain text, all else as bytes.

    Raises:
        HubError: 416, the range lies behind the end.
    """
    part = parse_range(call.request.headers.get("range", ""), content.size)
    low, high = part or (0, content.size)
    headers = headers | LOCKED | {"Accept-Ranges": "bytes", "Content-Length": str(high - low)}
    if part:
        headers["Content-Range"] = f"bytes {low}-{high - 1}/{content.size}"
    guess = mimetypes.guess_type(path)[0]
    other = "text/plain; charset=utf-8" if text else "application/octet-stream"
    status, kind = (206 if part else 200), guess if guess in IMAGES else other
    if call.request.method == "HEAD":
        return Response(b"", status, headers, kind)
    return StreamingResponse(content.read(low, high), status, headers, kind)


def bucket_tree(call: Call) -> list[dict[str, Any]]:
    """The files of a bucket whose path begins with a prefix."""
    prefix = call.args.get("path", "")
    return [_bucket_row(call, path, file) for path, file in _bucket(call).items() if path.startswith(prefix)]


def bucket_paths(call: Call) -> list[dict[str, Any]]:
    """The files among the given paths."""
    wanted, files = call.body(BucketPaths).paths, _bucket(call)
    return [_bucket_row(call, path, files[path]) for path in wanted if path in files]


def bucket_token(call: Call) -> Response:
    """A permit to download what a bucket holds."""
    _bucket(call)
    return _connection(call, write=False, bucket=call.repo_id)


def bucket_resolve(call: Call) -> Response:
    """One file of a bucket."""
    path, files = call.args["path"], _bucket(call)
    if path not in files:
        raise no_entry(path)
    file = _take_in(call, files[path])
    url = f"{call.base}/api/buckets/{call.repo_id}/xet-read-token"
    headers = {"ETag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    headers |= {"X-Xet-Hash": file.hash, "X-Xet-Refresh-Route": url}
    return send(call, Content(file.size, file, partial(call.hub.xet.read, file)), path, headers)


def _bucket(call: Call) -> dict[str, Path]:
    """The files of the bucket by their path; links are left out, since they could lead anywhere."""
    root = (call.hub.root / "buckets" / call.repo_id).absolute()
    if not all(map(usable_name, call.repo_id.split("/"))) or not root.is_dir():
        raise HubError(404, "Bucket not found", "RepoNotFound")
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    plain = {path.relative_to(root).as_posix(): path for path in files}
    return {name: path for name, path in plain.items() if path.resolve() == root.resolve() / name}


def _bucket_row(call: Call, path: str, place: Path) -> dict[str, Any]:
    file, when = _take_in(call, place), hub_time(datetime.fromtimestamp(place.stat().st_mtime, UTC))
    row = {"type": "file", "path": path, "size": file.size, "xetHash": file.hash}
    return row | {"mtime": when, "uploadedAt": when}


def _take_in(call: Call, place: Path) -> File:
    file = call.hub.xet.add_file(place)
    call.hub.db("INSERT OR IGNORE INTO in_bucket VALUES (?)", file.sha256)
    return file
