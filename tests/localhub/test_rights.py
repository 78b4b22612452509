"""Nobody reads or writes what they have no right to: each attempt gets the answer of the real Hub."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest

from release.localhub.auth import Auth
from release.localhub.errors import HubError
from release.localhub.storage.xet_format import file_hash, xorb_hash
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, BOB, READER, SECRET, Http
from tests.localhub.test_xet import make_shard, pack, table

pytestmark = pytest.mark.usefixtures("nothing_changes")


def test_a_visibility_that_is_not_known_makes_nothing_public(hub: Http) -> None:
    body = {"organization": "acme", "name": "guarded", "type": "space", "visibility": "protected"}
    assert hub("POST", "/api/repos/create", body).status == 200
    for change in ({}, {"visibility": "protected"}, {"gated": "auto"}):
        assert hub("PUT", "/api/spaces/acme/guarded/settings", change).json == {"private": True}
    assert hub("GET", "/api/spaces/acme/guarded", token=None).status == 401


def test_a_collection_says_the_same_to_everybody(hub: Http) -> None:
    slug = hub("POST", "/api/collections", {"title": "mine", "namespace": "alice"}).json["slug"]
    for token in (ALICE.token, BOB.token, None):
        assert hub("HEAD", f"/api/collections/{slug}", token=token).status == 200
        assert hub("GET", f"/api/collections/{slug}", token=token).json["owner"]["type"] == "user"


def test_a_hash_alone_opens_no_private_content(hub: Http) -> None:
    hub("POST", "/api/repos/create", {"organization": "other", "name": "mine", "type": "model"}, token=BOB.token)
    oid = hashlib.sha256(SECRET).hexdigest()
    assert hub.commit_lfs("other/mine", "stolen.bin", oid, token=BOB.token).status == 400
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(SECRET)}]}
    answer = hub("POST", "/other/mine.git/info/lfs/objects/batch", batch, token=BOB.token)
    assert "actions" in answer.json["objects"][0], "the answer betrays that the Hub has this content"


def test_a_file_opens_no_other_chunk_of_its_xorb(hub: Http) -> None:
    known, xorb = b"known to all", pack([b"known to all", SECRET], 0)
    path, token = hub.xet(repo="acme/closed")
    name = xorb_hash(table([known, SECRET]))
    assert hub("POST", f"{path}/v1/xorbs/default/{name}", xorb, token=token).status == 200
    shard = make_shard(file_hash(table([known])), [(name, len(known), 0, 1)])
    assert hub("POST", f"{path}/v1/shards", shard, token=token).status == 200
    # Another account has one of the two files.
    hub("POST", "/api/repos/create", {"organization": "other", "name": "known", "type": "model"}, token=BOB.token)
    Http(hub.endpoint, BOB.token).lfs("other/known", known)
    path, token = hub.xet("read", "other/known", BOB.token)
    plan = hub("GET", f"{path}/v2/reconstructions/{file_hash(table([known]))}", token=token).json
    href = plan["xorbs"][name][0]["url"].removeprefix(hub.endpoint)
    last = plan["xorbs"][name][0]["ranges"][0]["bytes"]["end"]
    assert hub("GET", href, token=None, headers={"Range": f"bytes=0-{last}"}).body == pack([known], 0)
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": f"bytes=0-{last + 1}"}, {"Range": "bytes=-5"}):
        assert hub("GET", href, token=None, headers=headers).status == 401


def test_hashes_open_no_private_content_through_a_shard(hub: Http) -> None:
    """Whoever has read the hashes of a private file somewhere names them in a shard of their own."""
    content, bob = b"known by its hashes only", Http(hub.endpoint, BOB.token)
    name, shard = xorb_hash(table([content])), None
    path, token = hub.xet(repo="acme/closed")
    assert hub("POST", f"{path}/v1/xorbs/default/{name}", pack([content], 0), token=token).status == 200
    shard = make_shard(file_hash(table([content])), [(name, len(content), 0, 1)])
    assert hub("POST", f"{path}/v1/shards", shard, token=token).status == 200
    bob("POST", "/api/repos/create", {"organization": "other", "name": "thief", "type": "model"})
    path, token = bob.xet(repo="other/thief")
    assert bob("POST", f"{path}/v1/xorbs/default/{name}", pack([b"something else"], 0), token=token).status == 400
    assert bob("POST", f"{path}/v1/shards", shard, token=token).status == 400
    # The address of another account is no help: what counts is the account in the token.
    assert bob("POST", f"{path.replace('bob', 'alice')}/v1/shards", shard, token=token).status == 400
    path, token = bob.xet("read", "other/thief")
    assert bob("GET", f"{path}/v2/reconstructions/{file_hash(table([content]))}", token=token).status == 404


PRIVATE = [
    "/api/models/acme/closed",
    "/api/models/acme/closed/tree/main",
    "/api/models/acme/closed/refs",
    "/api/models/acme/closed/commits/main",
    "/api/models/acme/closed/discussions",
    "/api/models/acme/closed/xet-read-token/main",
    "/acme/closed/resolve/main/secret.bin",
    "/acme/closed/blob/main/secret.bin",
    "/acme/closed",
]


@pytest.mark.parametrize("path", PRIVATE)
def test_strangers_see_no_private_repo(hub: Http, path: str) -> None:
    assert hub("GET", path).status == 200
    stranger, other = hub("GET", path, token=None), hub("GET", path, token=BOB.token)
    missing = hub("GET", path.replace("closed", "missing"), token=None)
    assert (stranger.status, other.status) == (401, 404)
    assert (missing.status, missing.body) == (stranger.status, stranger.body), "the answer betrays that the repo exists"
    assert SECRET not in stranger.body + other.body
    if path.startswith("/api"):
        assert stranger.code == other.code == "RepoNotFound"


def test_lists_leave_out_what_is_private(hub: Http) -> None:
    hub("POST", "/api/collections", {"title": "mixed", "namespace": "acme"})
    slug = next(
        collection["slug"]
        for collection in hub("GET", "/api/collections?owner=acme").json
        if collection["title"] == "mixed"
    )
    for name in ("open", "closed"):
        item = {"item": {"type": "model", "id": f"acme/{name}"}}
        assert hub("POST", f"/api/collections/{slug}/items", item).status == 200
    for path in ("/api/models?author=acme", "/", "/acme", f"/api/collections/{slug}", f"/collections/{slug}"):
        assert b"acme/closed" in hub("GET", path).body
        assert b"acme/closed" not in hub("GET", path, token=None).body
        assert b"acme/open" in hub("GET", path, token=None).body
    hidden = {"item": {"type": "model", "id": "acme/closed"}}
    own = hub("POST", "/api/collections", {"title": "own", "namespace": "other"}, token=BOB.token).json["slug"]
    assert hub("POST", f"/api/collections/{own}/items", hidden, token=BOB.token).status == 404
    assert hub("POST", f"/api/collections/{slug}/items", hidden, token=BOB.token).status == 403


WRITES = [
    ("POST", "/api/models/acme/open/preupload/main", {"files": []}),
    ("POST", "/api/models/acme/open/commit/main", b'{"key": "header", "value": {"summary": "x"}}'),
    ("POST", "/api/models/acme/open/branch/new", {}),
    ("POST", "/api/models/acme/open/tag/main", {"tag": "new"}),
    ("DELETE", "/api/models/acme/open/branch/main", None),
    ("PUT", "/api/models/acme/open/settings", {"visibility": "private"}),
    ("POST", "/api/models/acme/open/super-squash/main", {}),
    ("GET", "/api/models/acme/open/xet-write-token/main", None),
    ("POST", "/acme/open.git/info/lfs/objects/batch", {"operation": "upload", "objects": [], "ref": {"name": "main"}}),
    ("POST", "/api/repos/move", {"fromRepo": "acme/open", "toRepo": "acme/opened", "type": "model"}),
    ("GET", "/api/models/acme/open/user-access-request/pending", None),
    ("POST", "/api/models/acme/open/user-access-request/grant", {"user": "bob"}),
    ("POST", "/api/repos/create", {"organization": "acme", "name": "new", "type": "model"}),
    ("DELETE", "/api/repos/delete", {"organization": "acme", "name": "open", "type": "model"}),
    ("POST", "/api/collections", {"title": "new", "namespace": "acme"}),
]


# What everybody with a token may do on a public repo, to open a pull request.
CONTRIBUTIONS = [
    ("POST", "/api/models/acme/open/discussions", {"title": "x", "pullRequest": True}),
    ("POST", "/acme/open.git/info/lfs/objects/batch", {"operation": "upload", "objects": []}),
    ("POST", "/api/models/acme/open/preupload/main?create_pr=1", {"files": []}),
    ("GET", "/api/models/acme/open/xet-write-token/main?create_pr=1", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CONTRIBUTIONS)
def test_a_contribution_needs_a_token_that_writes(hub: Http, method: str, path: str, body: Any) -> None:
    assert hub(method, path, body, token=None).status == 401
    assert hub(method, path, body, token="hf_unknown").status == 401
    assert hub(method, path, body, token=READER.token).status == 403
    assert hub(method, path, body, token=BOB.token).status == 200
    private = path.replace("open", "closed")
    assert hub(method, private, body, token=BOB.token).status == 404


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_only_writers_write(hub: Http, method: str, path: str, body: Any) -> None:
    assert hub(method, path, body, token=None).status == 401
    assert hub(method, path, body, token="hf_unknown").status == 401
    assert hub(method, path, body, token=BOB.token).status == 403
    assert hub(method, path, body, token=READER.token).status == 403


def test_a_signature_is_for_one_thing(hub: Http) -> None:
    path, token = hub.xet("read", token=READER.token)
    chunk = b"\0\x05\0\0\0\x05\0\0hello"
    assert hub("POST", f"{path}/v1/xorbs/default/{'0' * 64}", chunk, token=token).status == 401
    assert hub("POST", f"{path}/v1/shards", b"", token=ALICE.token).status == 401
    assert hub("GET", f"{path}/v2/reconstructions/{'0' * 64}", token=token).status == 404
    assert hub("GET", f"{path}/xorbs/{'0' * 64}?signature={token}").status == 401
    assert hub("GET", "/api/whoami-v2", token=token).status == 401


def test_a_signature_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    auth = Auth(ACCOUNTS, tmp_path)
    signature = auth.sign(get="x")
    assert auth.verify(signature, get="x")["get"] == "x"
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: 1e11)
    with pytest.raises(HubError):
        auth.verify(signature, get="x")


def test_a_browser_can_only_read(hub: Http) -> None:
    basic = {"Authorization": "Basic " + base64.b64encode(f"alice:{ALICE.token}".encode()).decode()}
    assert hub("GET", "/acme/closed", headers=basic).status == 200
    assert "basic" in hub("GET", "/acme/closed", token=None).headers["www-authenticate"].lower()
    wrong = {"Authorization": "Basic " + base64.b64encode(b"alice:wrong").decode()}
    assert hub("GET", "/acme/closed", headers=wrong).status == 401
    for method, path, body in WRITES + CONTRIBUTIONS:
        assert hub(method, path, body, headers=basic).status == 401
