"""Malformed, false and oversized requests are refused whole, and change nothing."""

from __future__ import annotations

import hashlib
import http.client
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.localhub.hub_fixtures import ALICE, Http

pytestmark = pytest.mark.usefixtures("nothing_changes")


def test_bodies_have_limits(hub: Http) -> None:
    assert hub.raw("POST", "/api/validate-yaml", {"Content-Length": str(9 << 20)})[0] == 413
    path, xet_token = hub.xet()
    for target, token in {
        "/api/models/acme/open/commit/main": ALICE.token,
        f"{path}/v1/shards": xet_token,
        f"{path}/v1/xorbs/default/{'0' * 64}": xet_token,
    }.items():
        huge = {"Content-Length": str(1 << 40), "Authorization": f"Bearer {token}"}
        assert hub.raw("POST", target, huge)[0] == 413
        # Without the right, not a byte is waited for.
        assert hub.raw("POST", target, {"Content-Length": "1000", "Authorization": "Bearer none"})[0] == 401
    assert hub.raw("PUT", f"/lfs/{'0' * 64}?signature=none", {"Content-Length": "1000"})[0] == 401
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


def test_xorbs_and_shards_must_be_what_they_say(hub: Http, root: Path) -> None:
    before = sorted(root.glob("xorbs/*/*"))
    path, token = hub.xet()
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
