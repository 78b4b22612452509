"""What arrives from outside is read right or refused, and never anything else: the parsers, with made-up input."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from release.localhub.errors import HubError
from release.localhub.history import Entry
from release.localhub.http import parse_range
from release.localhub.metadata import BadMetadata, split_card, validate
from release.localhub.names import check_path
from release.localhub.operations import CommitLine, Operation, apply, prepare, read_lines
from release.localhub.pages.render import card_html
from release.localhub.service import Hub
from release.localhub.storage.blobs import Store
from release.localhub.storage.database import Database
from release.localhub.storage.xet import XetStore
from release.localhub.storage.xet_format import (
    MAX_CHUNKS,
    Malformed,
    chunk_hash,
    file_hash,
    hash_text,
    parse_shard,
    scan_xorb,
    unpack,
    xorb_hash,
)
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1023, 1024, 1025, 2048, 3073, 7168, 8000])
def test_hashes_agree_with_the_client_own(tmp_path: Path, size: int) -> None:
    hf_xet = pytest.importorskip("hf_xet")
    # Below 8 KiB a file is one chunk, whatever it holds.
    content = bytes(number * 7 % 256 for number in range(size))
    (tmp_path / "file").write_bytes(content)
    (expected,) = hf_xet.hash_files([str(tmp_path / "file")])
    assert file_hash(table([content])) == expected.hash


def table(chunks: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """The hash and the size of each chunk."""
    return [(chunk_hash(chunk), len(chunk)) for chunk in chunks]


def new_xet(folder: Path) -> XetStore:
    """An empty store."""
    return XetStore(Store(folder), Database(folder / "hub.sqlite"))


def pack(chunks: Sequence[bytes], scheme: int) -> bytes:
    """A serialised xorb."""
    parts = []
    for chunk in chunks:
        body = b"".join(chunk[plane::4] for plane in range(4)) if scheme == 2 else chunk
        body = body if scheme == 0 else lz4.frame.compress(body)
        parts.append(
            b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + len(chunk).to_bytes(3, "little") + body
        )
    return b"".join(parts)


def raw_hash(text: str) -> bytes:
    """The bytes of a hash from its text."""
    return struct.pack("<4Q", *(int(text[at : at + 16], 16) for at in range(0, 64, 16)))


def make_shard(digest: str, terms: Sequence[tuple[str, int, int, int]], sha256: str | None = None) -> bytes:
    """A shard with one file."""
    flags = 1 << 30 if sha256 else 0
    parts = [bytes(48), struct.pack("<32sIIQ", raw_hash(digest), flags, len(terms), 0)]
    parts += [struct.pack("<32sIIII", raw_hash(xorb), 0, size, first, last) for xorb, size, first, last in terms]
    parts += [raw_hash(sha256) + bytes(16)] if sha256 else []
    return b"".join([*parts, b"\xff" * 32, bytes(16)])


chunk_lists = st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=20)


@given(chunk_lists, st.sampled_from([0, 1, 2]), st.booleans())
def test_a_xorb_gives_its_chunks_back(chunks: list[bytes], scheme: int, footer: bool) -> None:
    stream = io.BytesIO(pack(chunks, scheme) + (b"XETBLOB and more" if footer else b""))
    found = list(scan_xorb(stream))
    assert [chunk.read(stream) for chunk in found] == chunks
    assert [(chunk.hash, chunk.size) for chunk in found] == table(chunks)


def test_a_xorb_has_no_more_chunks_than_a_table_can_hold() -> None:
    with pytest.raises(Malformed, match="more than"):
        list(scan_xorb(io.BytesIO(pack([b"x"], 0) * (MAX_CHUNKS + 1))))
    assert len(list(scan_xorb(io.BytesIO(pack([b"x"], 0) * MAX_CHUNKS)))) == MAX_CHUNKS


@settings(max_examples=40)
@given(chunk_lists, st.data())
def test_a_file_and_each_range_of_it_come_back(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], data: Any
) -> None:
    xet = new_xet(tmp_path_factory.mktemp("store"))
    sizes = [len(chunk) for chunk in chunks]
    name, content = xorb_hash(table(chunks)), b"".join(chunks)
    upload = xet.store.root / "upload"
    upload.write_bytes(pack(chunks, 1))
    assert xet.add_xorb(name, upload)
    middle = data.draw(st.integers(0, len(chunks)))
    runs = [(first, last) for first, last in ((0, middle), (middle, len(chunks))) if first < last]
    terms = [(name, sum(sizes[first:last]), first, last) for first, last in runs]
    upload.write_bytes(make_shard(file_hash(table(chunks)), terms))
    (file,) = xet.add_shard(upload)
    low = data.draw(st.integers(0, len(content) - 1))
    high = data.draw(st.integers(low + 1, len(content)))
    assert b"".join(xet.read(file, low, high)) == content[low:high]
    assert xet.find(sha256=str(file.sha256)) == xet.find(hash=file.hash) == file
    # What a client would do with the plan: fetch the ranges, unpack, cut.
    plan = xet.reconstruction(file, low, high, lambda *_: "url")
    stored, built = xet.store.path("xorbs", name).read_bytes(), b""
    for term in plan["terms"]:
        extent = next(f["ranges"][0] for f in plan["xorbs"][name] if f["ranges"][0]["chunks"] == term["range"])["bytes"]
        part = io.BytesIO(stored[extent["start"] : extent["end"] + 1])
        unpacked = b"".join(chunk.read(part) for chunk in list(scan_xorb(part)))
        assert len(unpacked) == term["unpacked_length"]
        built += unpacked
    start = plan["offset_into_first_range"]
    assert built[start : start + high - low] == content[low:high]


@pytest.mark.parametrize("wrong", ["file", "sha256", "size", "run", "xorb"])
def test_a_shard_must_be_true(tmp_path: Path, wrong: str) -> None:
    xet = new_xet(tmp_path)
    chunks = [b"one", b"two", b"three"]
    name, zeros = xorb_hash(table(chunks)), "0" * 64
    (tmp_path / "upload").write_bytes(pack(chunks, 0))
    xet.add_xorb(name, tmp_path / "upload")
    terms = [(zeros if wrong == "xorb" else name, 12 if wrong == "size" else 11, 0, 4 if wrong == "run" else 3)]
    digest = zeros if wrong == "file" else file_hash(table(chunks))
    (tmp_path / "upload").write_bytes(make_shard(digest, terms, "f" * 64 if wrong == "sha256" else None))
    with pytest.raises(HubError):
        xet.add_shard(tmp_path / "upload")
    assert list(xet.files()) == []


@given(st.binary(max_size=300))
def test_no_xorb_breaks_the_reader(content: bytes) -> None:
    for noise in (content, b"\0" + content, pack([b"chunk"], 1) + content):
        stream = io.BytesIO(noise)
        try:
            for chunk in list(scan_xorb(stream)):
                assert len(chunk.read(stream)) == chunk.size
        except Malformed:
            pass


@given(st.binary(max_size=300), st.integers(0, 40))
def test_no_shard_breaks_the_reader(content: bytes, cut: int) -> None:
    good = make_shard("1" * 64, [("2" * 64, 5, 0, 1)], "3" * 64)
    assert [(file.hash, file.sha256, file.terms[0].size) for file in parse_shard(good)] == [("1" * 64, "3" * 64, 5)]
    for noise in (content, bytes(48) + content, good[: len(good) - 48 - cut], good[:60] + content + good[60:]):
        try:
            for file in parse_shard(noise):
                assert all(term.first < term.last for term in file.terms)
        except Malformed:
            pass


@given(st.binary(max_size=100), st.integers(0, 2), st.integers(1, 1000))
def test_a_chunk_unpacks_to_its_size_or_not_at_all(body: bytes, scheme: int, size: int) -> None:
    head = b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little")
    with suppress(Malformed):
        assert len(unpack(head + body)) == size


def test_a_small_chunk_cannot_become_a_large_one() -> None:
    bomb = lz4.frame.compress(bytes(200 << 20))
    with pytest.raises(Malformed):
        unpack(b"\0" + len(bomb).to_bytes(3, "little") + b"\1" + (1000).to_bytes(3, "little") + bomb)


@given(st.binary(min_size=32, max_size=32))
def test_the_text_of_a_hash_can_be_read_back(digest: bytes) -> None:
    assert raw_hash(hash_text(digest)) == digest


@given(st.text(max_size=30) | st.from_regex(r"bytes=[0-9]{0,5}-[0-9]{0,5}", fullmatch=True), st.integers(0, 5000))
def test_a_range_lies_within_the_content(header: str, size: int) -> None:
    try:
        part = parse_range(header, size)
    except HubError as error:
        assert error.status == 416 and (error.headers or {})["Content-Range"] == f"bytes */{size}"
        return
    assert part is None or 0 <= part[0] < part[1] <= size


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=2-99", (2, 10)),
    ]
    + [(header, None) for header in ("", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "items=0-1", "bytes=a-b")],
)
def test_ranges_mean_what_http_says(header: str, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == part


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_line_of_a_commit_breaks_the_reader(line: bytes) -> None:
    with suppress(ValidationError):
        found = CommitLine.model_validate_json(line)
        assert found.key in ("header", "file", "lfsFile", "deletedFile", "deletedFolder")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    made = Hub(tmp_path_factory.mktemp("hub"), ACCOUNTS)
    made.create("model", "acme/m", ALICE, private=False)
    return made


@given(
    st.sampled_from(["file", "lfsFile", "deletedFile", "deletedFolder", "header"]),
    st.dictionaries(st.sampled_from(["path", "content", "encoding", "oid", "size", "algo"]), json_values),
)
def test_no_operation_breaks_a_commit(hub: Hub, key: str, value: dict[str, Any]) -> None:
    rows = [{"key": "header", "value": {"summary": "s"}}, {"key": key, "value": value}]
    (hub.root / "commit").write_text("\n".join(map(json.dumps, rows)))
    try:
        _, line = read_lines(hub.root / "commit")
        operation = prepare(line, hub, hub.find("model", "acme/m", ALICE))
        assert check_path(operation.path) == operation.path
        apply({"a/b.txt": Entry(1, "0" * 40, "0" * 64)}, [operation])
    except HubError as error:
        assert error.status in (400, 404)
    except ValidationError:
        pass


@given(st.text(max_size=60) | st.text(alphabet="./\\ag\0", max_size=12))
def test_a_path_that_passes_stays_inside(path: str) -> None:
    with suppress(ValueError):
        checked = check_path(path)
        inside = Path("/repo", checked)
        assert checked == path and str(inside) == f"/repo/{path}" and ".." not in inside.parts


def test_operations_happen_in_order() -> None:
    entry = Entry(1, "0" * 40, "0" * 64)
    files = {"a/1": entry, "a/2": entry, "b": entry}
    after = apply(files, [Operation("a", folder=True), Operation("a", entry), Operation("b")])
    assert list(after) == ["a"]
    assert list(files) == ["a/1", "a/2", "b"], "the parent's files were changed"


def test_a_long_commit_is_read_line_by_line(tmp_path: Path) -> None:
    lines = [{"key": "header", "value": {"summary": "s", "description": "d", "parentCommit": "p"}}]
    lines += [{"key": "deletedFile", "value": {"path": str(number)}} for number in range(1000)]
    (tmp_path / "commit").write_text("\n\n".join(map(json.dumps, lines)))
    header, *rows = read_lines(tmp_path / "commit")
    assert header.model_dump() == {"summary": "s", "description": "d", "parentCommit": "p"}
    assert [row.model_dump()["path"] for row in rows] == [str(number) for number in range(1000)]


@given(st.text(max_size=200), st.sampled_from(["", "---\n", "---\nlicense: mit\n", "\ufeff---\n- "]), st.booleans())
def test_no_card_breaks_the_reader(text: str, start: str, end: bool) -> None:
    card = start + text + ("\n---\nbody" if end else "")
    for kind in ("model", "dataset"):
        errors, warnings = validate(card, kind)
        assert all(isinstance(message, str) for message in errors + warnings)
    try:
        data, body = split_card(card)
        assert isinstance(data, dict) and body in card
    except BadMetadata:
        assert validate(card, "model")[0]
    assert "<script" not in card_html(card, "/acme/m", "main").lower()


@given(
    st.dictionaries(st.sampled_from(["license", "tags", "language", "model-index", "configs", "datasets"]), json_values)
)
def test_no_metadata_breaks_the_rules(data: dict[str, Any]) -> None:
    errors, _ = validate(f"---\n{json.dumps(data)}\n---\n", "dataset")
    assert all(isinstance(message, str) for message in errors)


def test_a_card_is_split_where_its_metadata_ends() -> None:
    assert split_card("---\na: 1\n---\n# hi\n---\nmore") == ({"a": 1}, "# hi\n---\nmore")
    assert split_card("---\r\na: 1\r\n---\r\nhi") == ({"a": 1}, "hi")
    assert split_card("# hi\n---\na: 1\n---\n") == ({}, "# hi\n---\na: 1\n---\n")
    assert split_card("---\n---\nhi") == ({}, "hi")
