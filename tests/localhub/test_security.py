"""Nobody gets in, out or past the Hub who should not: each attempt gets the Hub's answer, and changes nothing."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from release.errors import ReleaseError
from release.localhub import Account, fsck, running_hub, serve
from release.localhub.auth import Auth, load_accounts, parse_account
from release.localhub.errors import HubError
from release.localhub.storage.xet_format import file_hash, xorb_hash
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE, BOB, READER, Http
from tests.localhub.test_formats import make_shard, pack, table

SECRET = b"the secret of acme"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("security") / "hub"


@pytest.fixture(scope="module")
def hub(root: Path) -> Generator[Http]:
    with running_hub(root, ACCOUNTS) as (endpoint, token):
        http = Http(endpoint, token)
        http.create("acme/open")
        http.create("acme/closed", private=True)
        oid = http.lfs("acme/closed", SECRET)
        entry = {"key": "lfsFile", "value": {"path": "secret.bin", "algo": "sha256", "oid": oid, "size": len(SECRET)}}
        body = b"\n".join([b'{"key": "header", "value": {"summary": "x"}}', json.dumps(entry).encode()])
        assert http("POST", "/api/models/acme/closed/commit/main", body).status == 200
        yield http


@pytest.fixture(autouse=True)
def nothing_changes(hub: Http, root: Path) -> Generator[None]:
    """Whatever a test tries: the branches stay where they are, and no file appears beside the Hub's own."""
    before = hub.head("acme/open"), hub.head("acme/closed")
    outside = sorted(root.parent.iterdir())
    yield
    assert (hub.head("acme/open"), hub.head("acme/closed")) == before
    assert sorted(root.parent.iterdir()) == outside
    assert not list((root / "tmp").glob("*")), "an upload that was refused is still there"


def raw(hub: Http, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """A request whose path is sent exactly as it is given."""
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=30)
    connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
    for key, value in ({"Authorization": f"Bearer {ALICE.token}"} | (headers or {})).items():
        connection.putheader(key, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize(
    "name", ["..", "../evil", "a/../../evil", ".hidden", "a..b", "x.git", "a b", "api", "é", "", "a" * 97, "a/b"]
)
def test_repo_names_cannot_leave_the_folder(hub: Http, name: str) -> None:
    body = {"organization": "acme", "name": name, "type": "model"}
    assert hub("POST", "/api/repos/create", body).status == 400
    if name:
        body = {"organization": f"acme/{name}", "name": "fine", "type": "model"}
        assert hub("POST", "/api/repos/create", body).status in (400, 403)


@pytest.mark.parametrize("kind", ["../models", "bucket", 3, ["model"]])
def test_kinds_of_repos_are_known(hub: Http, kind: Any) -> None:
    assert hub("POST", "/api/repos/create", {"organization": "acme", "name": "x", "type": kind}).status == 400


BAD_PATHS = [
    "../evil",
    "a/../../evil",
    "/etc/passwd",
    "a//b",
    "./a",
    ".git/config",
    "a/.GIT/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a/",
]


@pytest.mark.parametrize("path", [*BAD_PATHS, "", "x" * 1001])
def test_files_cannot_leave_the_repo(hub: Http, path: str) -> None:
    assert hub.commit("acme/open", {path: b"evil"}).status == 400
    files = [{"path": path, "size": 3, "sample": ""}]
    assert hub("POST", "/api/models/acme/open/preupload/main", {"files": files}).status == 400


@pytest.mark.parametrize(
    "name", ["../main", "a..b", "refs/heads/x", "a.lock", "-x", "a b", "x/", "a//b", "a@{b", "0" * 40]
)
def test_branches_and_tags_have_git_names(hub: Http, name: str) -> None:
    assert hub("POST", f"/api/models/acme/open/branch/{quote(name, safe='')}", {}).status == 400
    assert hub("POST", "/api/models/acme/open/tag/main", {"tag": name}).status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/acme/open/resolve/main/../../../../secret",
        "/acme/open/resolve/main/..%2f..%2f..%2fsecret",
        "/acme/open/resolve/..%2f..%2fmain/secret",
        "/acme/..%2facme%2fclosed/resolve/main/secret.bin",
        "/buckets/acme/..%2f..%2fsecret/resolve/x",
        "/buckets/..%2f../root/resolve/secret",
        "/acme/open/resolve/main/%00",
        "/acme/open/resolve/main/%ff%fe",
        "/static/..%2fsecret",
        "//etc/passwd",
        "/../../secret",
    ],
)
def test_no_address_leads_outside(hub: Http, root: Path, path: str) -> None:
    status, body = raw(hub, "GET", path)
    assert status in (400, 404)
    assert (root / "secret").read_bytes() not in body


def test_links_in_a_bucket_are_not_followed(hub: Http, root: Path) -> None:
    bucket = root / "buckets" / "acme" / "skills"
    bucket.mkdir(parents=True)
    (bucket / "fine.txt").write_text("fine")
    (bucket / "link.txt").symlink_to(root / "secret")
    (bucket / "folder").symlink_to(root)
    rows = hub("GET", "/api/buckets/acme/skills/tree").json
    assert [row["path"] for row in rows] == ["fine.txt"]
    assert hub("GET", "/buckets/acme/skills/resolve/link.txt").status == 404
    assert hub("GET", "/buckets/acme/skills/resolve/fine.txt").body == b"fine"


def test_bodies_have_limits(hub: Http) -> None:
    assert raw(hub, "POST", "/api/validate-yaml", {"Content-Length": str(9 << 20)})[0] == 413
    path, xet_token = xet(hub)
    for target, token in {
        "/api/models/acme/open/commit/main": ALICE.token,
        f"{path}/v1/shards": xet_token,
        f"{path}/v1/xorbs/default/{'0' * 64}": xet_token,
    }.items():
        huge = {"Content-Length": str(1 << 40), "Authorization": f"Bearer {token}"}
        assert raw(hub, "POST", target, huge)[0] == 413
        # Without the right, not a byte is waited for.
        assert raw(hub, "POST", target, {"Content-Length": "1000", "Authorization": "Bearer none"})[0] == 401
    assert raw(hub, "PUT", f"/lfs/{'0' * 64}?signature=none", {"Content-Length": "1000"})[0] == 401
    line = b'{"key": "file", "value": {"path": "a", "content": "' + b"A" * (65 << 20) + b'"}}'
    body = b'{"key": "header", "value": {"summary": "x"}}\n' + line
    assert hub("POST", "/api/models/acme/open/commit/main", body).status == 413


def test_a_body_without_a_length_has_limits_too(hub: Http) -> None:
    connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=30)
    parts = (b"x" * (1 << 20) for _ in range(12))
    try:
        connection.request("POST", "/api/validate-yaml", parts, encode_chunked=True)
        status = connection.getresponse().status
    except ConnectionError:
        status = 413  # the server had said no, and closed, before all was sent
    assert status == 413


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"key": "header"}',
        b'{"key": "header", "value": {"summary": 3}}',
        b'{"key": "file", "value": {"path": "a", "content": ""}}',
        b'{"key": "header", "value": {"summary": "x"}}\n{"key": "evil", "value": {}}',
        b'{"key": "header", "value": {"summary": "x"}}\n{"key": "header", "value": {"summary": "x"}}',
        b'{"key": "header", "value": {"summary": "x"}}\n{"key": "file", "value": {"path": "a"}}',
        b'{"key": "header", "value": {"summary": "x"}}\n'
        b'{"key": "file", "value": {"path": "a", "content": "!", "encoding": "base64"}}',
        b'{"key": "header", "value": {"summary": "x"}}\n{"key": "lfsFile", "value": {"path": "a", "oid": "../../x"}}',
        b"[" * 100_000,
        b'{"key": "header", "value": {"summary": "x"}}\n' + b'{"a":' * 50_000,
    ],
)
def test_a_malformed_commit_is_refused_whole(hub: Http, body: bytes) -> None:
    assert hub("POST", "/api/models/acme/open/commit/main", body).status == 400


def test_a_commit_counts_only_whole(hub: Http) -> None:
    good = b'{"key": "file", "value": {"path": "good.txt", "content": "good"}}'
    bad = b'{"key": "deletedFile", "value": {"path": "not-there.txt"}}'
    body = b"\n".join([b'{"key": "header", "value": {"summary": "x"}}', good, bad])
    answer = hub("POST", "/api/models/acme/open/commit/main", body)
    assert (answer.status, answer.code) == (404, "EntryNotFound")
    assert hub.commit("acme/open", {"a": b"file", "a/b": b"and folder"}).status == 400
    assert hub.commit("acme/open", {"x": b"x"}, parent="0" * 40).status == 412
    assert hub.commit("acme/open", {"x": b"x"}, revision="nope").code == "RevisionNotFound"
    assert hub.commit("acme/open", {"x": b"x"}, revision=hub.head("acme/open")).status == 400


@pytest.mark.parametrize(
    "card",
    [
        "---\nlicense: not-a-license\n---\n",
        "---\nlicense: [mit\n---\n",
        "---\na: &a [x]\nb: *a\n---\n",
        "---\n- a list\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "---\nlicense: !!python/object/apply:os.system ['true']\n---\n",
        "---\nmodel-index: {}\n---\n",
        "---\nmodel-index:\n- name: m\n  results:\n  - task: {type: x}\n---\n",
        "---\nlanguage: English\n---\n",
        "---\ntags: a\n---\n",
        "---\nscore: .nan\n---\n",
        '---\na: !!int ""\n---\n',
        "---\na: !!bool x\n---\n",
        "---\na: !!timestamp x\n---\n",
    ],
)
def test_bad_metadata_is_refused(hub: Http, card: str) -> None:
    answer = hub("POST", "/api/validate-yaml", {"content": card, "repoType": "model"})
    assert answer.status == 400 and answer.json["errors"]
    assert hub.commit("acme/open", {"README.md": card.encode()}).status == 400
    large = {"path": "README.md", "oid": hub.lfs("acme/open", card.encode())}
    rows = [{"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": large}]
    body = "\n".join(map(json.dumps, rows)).encode()
    assert hub("POST", "/api/models/acme/open/commit/main", body).status == 400


def test_a_million_errors_are_told_in_short(hub: Http) -> None:
    card = {"content": f"---\ntags: [{'1, ' * 1000}]\n---\n"}
    for path, body in (("/api/validate-yaml", card), ("/api/buckets/a/b/paths-info", {"paths": [1] * 100_000})):
        answer = hub("POST", path, body)
        assert answer.status == 400 and len(answer.body) < 1000


def test_a_visibility_that_is_not_known_makes_nothing_public(hub: Http) -> None:
    body = {"organization": "acme", "name": "guarded", "type": "space", "visibility": "protected"}
    assert hub("POST", "/api/repos/create", body).status == 200
    for change in ({}, {"visibility": "protected"}, {"gated": "auto"}):
        assert hub("PUT", "/api/spaces/acme/guarded/settings", change).json == {"private": True}
    assert hub("GET", "/api/spaces/acme/guarded", token=None).status == 401


def test_a_card_without_end_is_read_in_part(hub: Http) -> None:
    hub.create("acme/long")
    assert hub.commit("acme/long", {"README.md": b"line\n" * 250_000 + b"the end"}).status == 200
    page = hub("GET", "/acme/long")
    assert page.status == 200 and 1_000_000 < len(page.body) < 1_100_000 and b"the end" not in page.body


def test_items_keep_their_order_without_gaps(hub: Http) -> None:
    slug = hub("POST", "/api/collections", {"title": "order", "namespace": "acme"}).json["slug"]
    for name in ("order-a", "order-b", "order-c"):
        hub.create(f"acme/{name}")
        assert hub("POST", f"/api/collections/{slug}/items", {"item": {"type": "model", "id": f"acme/{name}"}}).json

    def items() -> list[dict[str, Any]]:
        return hub("GET", f"/api/collections/{slug}").json["items"]

    assert hub("PATCH", f"/api/collections/{slug}/items/{items()[0]['_id']}", {"position": 10**30}).status == 200
    assert [item["id"][-1] for item in items()] == ["b", "c", "a"]
    assert hub("PATCH", f"/api/collections/{slug}/items/{items()[1]['_id']}", {"note": "here"}).status == 200
    assert hub("DELETE", f"/api/collections/{slug}/items/{items()[0]['_id']}").status == 200
    assert [(item["id"][-1], item["position"]) for item in items()] == [("c", 0), ("a", 1)]


def test_a_collection_says_the_same_to_everybody(hub: Http) -> None:
    slug = hub("POST", "/api/collections", {"title": "mine", "namespace": "alice"}).json["slug"]
    for token in (ALICE.token, BOB.token, None):
        assert hub("HEAD", f"/api/collections/{slug}", token=token).status == 200
        assert hub("GET", f"/api/collections/{slug}", token=token).json["owner"]["type"] == "user"


@pytest.mark.parametrize(
    "configs",
    [
        "configs: default",
        "configs:\n- data_files: x",
        "configs:\n- config_name: a\n  data_files: 3",
        "configs:\n- config_name: a\n  data_files: [{split: train}]",
        "configs:\n- config_name: a\n- config_name: a",
    ],
)
def test_configs_of_datasets_have_their_structure(hub: Http, configs: str) -> None:
    body = {"content": f"---\n{configs}\n---\n", "repoType": "dataset"}
    assert hub("POST", "/api/validate-yaml", body).status == 400


def test_good_metadata_passes(hub: Http) -> None:
    configs = "configs:\n- config_name: a\n  data_files:\n  - {split: train, path: a/*}\n- config_name: b\n"
    answer = hub(
        "POST", "/api/validate-yaml", {"content": f"---\nlicense: odc-by\n{configs}---\n", "repoType": "dataset"}
    )
    assert (answer.status, answer.json["errors"]) == (200, [])
    odd = hub("POST", "/api/validate-yaml", {"content": "---\npipeline_tag: odd\n---\n", "repoType": "model"})
    assert odd.status == 200 and "odd" in odd.json["warnings"][0]["message"]


def xet(hub: Http, mode: str = "write", repo: str = "acme/open", token: str = ALICE.token) -> tuple[str, str]:
    """The path of the Xet store and a token for it."""
    answer = hub("GET", f"/api/models/{repo}/xet-{mode}-token/main", token=token)
    assert answer.status == 200
    return answer.json["casUrl"].removeprefix(hub.endpoint), answer.json["accessToken"]


def test_xorbs_and_shards_must_be_what_they_say(hub: Http, root: Path) -> None:
    before = sorted(root.glob("xorbs/*/*"))
    path, token = xet(hub)
    chunk = b"\0\x05\0\0\0\x05\0\0hello"
    for body in (b"", b"garbage", chunk[:-1], chunk + b"more", b"\0\x05\0\0\x03\x05\0\0hello", chunk):
        assert hub("POST", f"{path}/v1/xorbs/default/{'0' * 64}", body, token=token).status == 400
    unknown = b"\1" * 48 + b"\2" * 32 + (0).to_bytes(4) + (1).to_bytes(4, "little") + bytes(8)
    for body in (b"", bytes(48), unknown, unknown + bytes(48), unknown + b"\3" * 48 + b"\xff" * 48):
        assert hub("POST", f"{path}/v1/shards", body, token=token).status == 400
    assert hub("POST", f"{path}/v1/xorbs/default/..%2f..%2fevil", chunk, token=token).status == 400
    assert sorted(root.glob("xorbs/*/*")) == before


def test_lfs_content_must_have_its_hash(hub: Http) -> None:
    wrong = {"oid": "0" * 64, "size": 5}
    body = {"operation": "upload", "objects": [wrong]}
    href = hub("POST", "/acme/open.git/info/lfs/objects/batch", body).json["objects"][0]["actions"]["upload"]["href"]
    path = href.removeprefix(hub.endpoint)
    assert hub("PUT", path, b"hello", token=None).status == 400
    assert hub("PUT", path, b"longer than five", token=None).status == 413
    assert hub("PUT", path, b"less", token=None).status == 400
    assert hub("PUT", path.replace("signature=", "signature=x"), b"hello", token=None).status == 401
    assert hub("PUT", f"/lfs/{hashlib.sha256(b'hello').hexdigest()}?{path.partition('?')[2]}", b"hello").status == 401
    for objects in ([{"oid": "x", "size": 1}], [{"oid": "0" * 64, "size": -1}], [3], "x", [wrong] * 300):
        body = {"operation": "upload", "objects": objects}
        assert hub("POST", "/acme/open.git/info/lfs/objects/batch", body).status == 400


def test_a_hash_alone_opens_no_private_content(hub: Http) -> None:
    hub("POST", "/api/repos/create", {"organization": "other", "name": "mine", "type": "model"}, token=BOB.token)
    oid = hashlib.sha256(SECRET).hexdigest()
    entry = {"key": "lfsFile", "value": {"path": "stolen.bin", "algo": "sha256", "oid": oid, "size": len(SECRET)}}
    body = b"\n".join([b'{"key": "header", "value": {"summary": "x"}}', json.dumps(entry).encode()])
    assert hub("POST", "/api/models/other/mine/commit/main", body, token=BOB.token).status == 400
    batch = {"operation": "upload", "objects": [{"oid": oid, "size": len(SECRET)}]}
    answer = hub("POST", "/other/mine.git/info/lfs/objects/batch", batch, token=BOB.token)
    assert "actions" in answer.json["objects"][0], "the answer betrays that the Hub has this content"


def test_a_file_opens_no_other_chunk_of_its_xorb(hub: Http) -> None:
    known, xorb = b"known to all", pack([b"known to all", SECRET], 0)
    path, token = xet(hub, repo="acme/closed")
    name = xorb_hash(table([known, SECRET]))
    assert hub("POST", f"{path}/v1/xorbs/default/{name}", xorb, token=token).status == 200
    shard = make_shard(file_hash(table([known])), [(name, len(known), 0, 1)])
    assert hub("POST", f"{path}/v1/shards", shard, token=token).status == 200
    # Another account has one of the two files.
    hub("POST", "/api/repos/create", {"organization": "other", "name": "known", "type": "model"}, token=BOB.token)
    Http(hub.endpoint, BOB.token).lfs("other/known", known)
    path, token = xet(hub, "read", "other/known", BOB.token)
    plan = hub("GET", f"{path}/v2/reconstructions/{file_hash(table([known]))}", token=token).json
    href = plan["xorbs"][name][0]["url"].removeprefix(hub.endpoint)
    last = plan["xorbs"][name][0]["ranges"][0]["bytes"]["end"]
    assert hub("GET", href, token=None, headers={"Range": f"bytes=0-{last}"}).body == pack([known], 0)
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": f"bytes=0-{last + 1}"}, {"Range": "bytes=-5"}):
        assert hub("GET", href, token=None, headers=headers).status == 401


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
    slug = next(found["slug"] for found in hub("GET", "/api/collections?owner=acme").json if found["title"] == "mixed")
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
    ("POST", "/api/models/acme/open/discussions", {"title": "x", "pullRequest": True}),
    ("GET", "/api/models/acme/open/xet-write-token/main", None),
    ("POST", "/acme/open.git/info/lfs/objects/batch", {"operation": "upload", "objects": []}),
    ("POST", "/api/repos/create", {"organization": "acme", "name": "new", "type": "model"}),
    ("DELETE", "/api/repos/delete", {"organization": "acme", "name": "open", "type": "model"}),
    ("POST", "/api/collections", {"title": "new", "namespace": "acme"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_only_writers_write(hub: Http, method: str, path: str, body: Any) -> None:
    assert hub(method, path, body, token=None).status == 401
    assert hub(method, path, body, token="hf_unknown").status == 401
    assert hub(method, path, body, token=BOB.token).status == 403
    assert hub(method, path, body, token=READER.token).status == 403


def test_a_signature_is_for_one_thing(hub: Http) -> None:
    path, token = xet(hub, "read", token=READER.token)
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
    for method, path, body in WRITES:
        assert hub(method, path, body, headers=basic).status == 401


def test_only_loopback_names_are_served(hub: Http) -> None:
    assert raw(hub, "GET", "/", {"Host": "evil.example"})[0] == 400


def test_other_hosts_need_a_token_file(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="token-file"):
        serve(tmp_path, host="0.0.0.0")


def test_a_taken_port_and_a_taken_folder_are_errors_for_people(hub: Http, root: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ReleaseError, match="cannot listen"):
            serve(tmp_path, port=taken.getsockname()[1])
    with pytest.raises(ReleaseError, match="another run"):
        serve(root)


def test_accounts_come_from_safe_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEASE_HUB_ACCOUNTS", raising=False)
    made = load_accounts(tmp_path)
    assert load_accounts(tmp_path) == made and made[0].organizations == ("local",)
    assert (tmp_path / "accounts").stat().st_mode & 0o777 == 0o600
    (tmp_path / "tokens").write_text("a:hf_a:x,y\nb:hf_b::read\n")
    expected = [Account("a", "hf_a", ("x", "y")), Account("b", "hf_b", (), "read")]
    assert load_accounts(tmp_path, token_file=tmp_path / "tokens") == expected
    monkeypatch.setenv("RELEASE_HUB_ACCOUNTS", "c:hf_c:z")
    assert load_accounts(tmp_path) == [Account("c", "hf_c", ("z",))]
    for text in ("", "a", "a:", ":t:o", "../a:t:o", "a:t:../o", "a:t:o:admin", "a:b:c:read:x"):
        with pytest.raises(ReleaseError) as caught:
            parse_account(text)
        assert "hf_" not in str(caught.value)


def test_no_token_is_ever_written(hub: Http, root: Path) -> None:
    hub("GET", "/api/whoami-v2")
    tokens = [account.token.encode() for account in ACCOUNTS]
    for path in root.rglob("*"):
        if path.is_file():
            assert not any(token in path.read_bytes() for token in tokens), path
    assert ALICE.token not in repr(ALICE)


def test_faults_do_not_exist_for_people(hub: Http) -> None:
    assert hub("GET", "/_test/log").status == 404
    assert hub("POST", "/_test/faults", []).status in (404, 405)


def test_after_all_attempts_every_hash_agrees(hub: Http, root: Path) -> None:
    assert fsck(root).problems == []
    done = subprocess.run(
        [sys.executable, "-m", "release", "hub-fsck", "--root", str(root)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "all hashes agree" in done.stdout) == (0, True), done.stderr
