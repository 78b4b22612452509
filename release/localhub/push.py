"""Handlers for sending files: preupload, LFS, and the commit that makes them count."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

from release.localhub.calls import Call
from release.localhub.commits import apply, check_path, prepare, read_commit
from release.localhub.errors import HubError, bad
from release.localhub.history import pull_number
from release.localhub.hub import LARGE_SUFFIXES
from release.localhub.store import SHA256

MAX_FILES = 256  # in one preupload
MAX_REGULAR = 10 << 20
MAX_COMMIT, MAX_LFS = 1 << 30, 1 << 40


def preupload(call: Call) -> dict[str, Any]:
    """Say for each file how it is to be sent, and what the branch has under its name, so that it need not be sent."""
    repo, _ = call.repo_to_write()
    body = call.json()
    rows = body.get("files")
    if not isinstance(rows, list) or len(rows) > MAX_FILES or not all(isinstance(row, dict) for row in rows):
        raise bad(f'"files" must be a list of at most {MAX_FILES} files')
    files = repo.head("main" if "create_pr" in call.query else call.args["rev"]).files
    answer = []
    for row in rows:
        path, size = check_path(row.get("path")), row.get("size")
        if not isinstance(size, int):
            raise bad(f"The size of {path} is missing")
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
    header, rows = read_commit(call.upload)
    opens = "create_pr" in call.query and call.query["create_pr"] != "0"
    # What takes long comes first and without the lock: bytes that nothing refers to change nothing.
    put, size_of = call.hub.store.put, partial(call.hub.size_in, repo)
    operations = [prepare(key, value, kind=repo.kind, put=put, size_of=size_of) for key, value in rows]
    revision, pull = call.args["rev"], None
    with repo.change():
        parent = repo.head(revision)
        if header.parent and header.parent != parent.id:
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = apply(parent.files, operations)
        if opens:
            pull = repo.open_pull(header.title, header.message, author, revision)
            revision = f"refs/pr/{pull['num']}"
        made = repo.add_commit(revision, files, header.title, header.message, author, parents=(parent.id,))
    number = pull["num"] if pull else pull_number(revision)
    answer = {"success": True, "commitOid": made.id, "commitUrl": f"{call.base}{repo.url_path}/commit/{made.id}"}
    return answer | ({"pullRequestUrl": f"{call.base}{repo.url_path}/discussions/{number}"} if number else {})


def lfs_batch(call: Call) -> dict[str, Any]:
    """Say where to send each LFS file; a file that this repo has gets no address.

    Raises:
        HubError: 400 malformed.
    """
    repo, _ = call.repo_to_write()
    body = call.json()
    rows = body.get("objects")
    if body.get("operation") != "upload" or not isinstance(rows, list) or len(rows) > MAX_FILES:
        raise bad(f'"objects" must be a list of at most {MAX_FILES} files to upload')
    objects = []
    for row in rows:
        oid, size = (row.get("oid"), row.get("size")) if isinstance(row, dict) else (None, None)
        if (
            not isinstance(oid, str)
            or not SHA256.fullmatch(oid)
            or not isinstance(size, int)
            or not 0 <= size < MAX_LFS
        ):
            raise bad("An object needs a sha256 as its oid, and a size")
        found: dict[str, Any] = {"oid": oid, "size": size}
        if call.hub.size_in(repo, oid) is None:
            permit = call.hub.gate.permit(put=oid, size=size, repo=repo.id, kind=repo.kind)
            verify = {"href": f"{call.base}/api/{call.args.get('kind', 'models')}/{repo.id}/lfs/verify"}
            found["actions"] = {"upload": {"href": f"{call.base}/lfs/{oid}?permit={permit}"}, "verify": verify}
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
    if call.upload.stat().st_size != said["size"]:
        raise bad(f"{said['size']} bytes were announced, {call.upload.stat().st_size} came")
    with call.upload.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != oid:
            raise bad(f"The content has not the sha256 {oid}")
    repo = call.hub.permitted(said["kind"], said["repo"])
    call.hub.store.adopt(call.upload, "blobs", oid)
    call.hub.grant(repo, oid)
    return {}


def lfs_verify(call: Call) -> dict[str, Any]:
    """Confirm that an LFS file has arrived with this size."""
    repo, _ = call.repo_to_write()
    body = call.json()
    size = call.hub.size_in(repo, str(body.get("oid")))
    if size is None or size != body.get("size"):
        raise HubError(404, "The file has not arrived with this size")
    return {}
