"""The formats of Xet are read right or refused: hashes, xorbs, shards and files, with made-up input."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.localhub.errors import HubError
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

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")


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
    scanned = list(scan_xorb(stream))
    assert [chunk.read(stream) for chunk in scanned] == chunks
    assert [(chunk.hash, chunk.size) for chunk in scanned] == table(chunks)


def test_a_xorb_has_no_more_chunks_than_a_table_can_hold() -> None:
    with pytest.raises(Malformed, match="more than"):
        list(scan_xorb(io.BytesIO(pack([b"x"], 0) * (MAX_CHUNKS + 1))))
    assert len(list(scan_xorb(io.BytesIO(pack([b"x"], 0) * MAX_CHUNKS)))) == MAX_CHUNKS


@settings(max_examples=40)
@given(chunk_lists, st.data())
def test_a_file_and_each_range_of_it_come_back(fast_folder: Path, chunks: list[bytes], data: Any) -> None:
    xet = new_xet(Path(mkdtemp(dir=fast_folder)))
    sizes = [len(chunk) for chunk in chunks]
    name, content = xorb_hash(table(chunks)), b"".join(chunks)
    upload = xet.store.root / "upload"
    upload.write_bytes(pack(chunks, 1))
    assert xet.add_xorb(name, upload, "alice")
    middle = data.draw(st.integers(0, len(chunks)))
    runs = [(first, last) for first, last in ((0, middle), (middle, len(chunks))) if first < last]
    terms = [(name, sum(sizes[first:last]), first, last) for first, last in runs]
    upload.write_bytes(make_shard(file_hash(table(chunks)), terms))
    (file,) = xet.add_shard(upload, "alice")
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
    xet.add_xorb(name, tmp_path / "upload", "alice")
    terms = [(zeros if wrong == "xorb" else name, 12 if wrong == "size" else 11, 0, 4 if wrong == "run" else 3)]
    digest = zeros if wrong == "file" else file_hash(table(chunks))
    (tmp_path / "upload").write_bytes(make_shard(digest, terms, "f" * 64 if wrong == "sha256" else None))
    with pytest.raises(HubError):
        xet.add_shard(tmp_path / "upload", "alice")
    assert list(xet.files()) == []


def test_a_shard_names_only_xorbs_that_its_account_has_sent(tmp_path: Path) -> None:
    xet = new_xet(tmp_path)
    chunks, upload = [b"secret"], tmp_path / "upload"
    name = xorb_hash(table(chunks))
    shard = make_shard(file_hash(table(chunks)), [(name, 6, 0, 1)])
    upload.write_bytes(pack(chunks, 0))
    assert xet.add_xorb(name, upload, "alice")
    upload.write_bytes(b"what is not the xorb")
    with pytest.raises(Malformed):
        xet.add_xorb(name, upload, "bob")
    upload.write_bytes(shard)
    with pytest.raises(Malformed, match="There is no xorb"):
        xet.add_shard(upload, "bob")
    assert [file.hash for file in xet.add_shard(upload, "alice")] == [file_hash(table(chunks))]
    upload.write_bytes(pack(chunks, 0))
    assert not xet.add_xorb(name, upload, "bob"), "the bytes are there already"
    upload.write_bytes(shard)
    assert len(xet.add_shard(upload, "bob")) == 1


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
