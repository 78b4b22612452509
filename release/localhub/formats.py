"""The two binary forms of Xet, read without trust: xorbs (compressed chunks) and shards (how files are put together).

Specification: https://huggingface.co/docs/xet. A hash is 32 bytes and is written as four little-endian 64-bit
numbers in hexadecimal, so its text is not the plain hexadecimal of its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import lz4.frame
from blake3 import blake3

CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
FILE_KEY = bytes(32)
MAX_CHUNK = 1 << 20  # clients cut chunks of at most 128 KiB
MAX_XORB = 80 << 20  # clients close a xorb at 64 MiB
MAX_SHARD = 64 << 20


class Malformed(ValueError):
    """Bytes that are not what they claim to be."""


class Chunk(NamedTuple):
    """Where one chunk lies in a xorb: `packed` bytes from `start` (after its header), `size` bytes when unpacked."""

    start: int
    packed: int
    scheme: int
    size: int

    @property
    def extent(self) -> tuple[int, int]:
        """The first and the last byte of the chunk with its header, as ranges over HTTP count."""
        return self.start - 8, self.start + self.packed - 1

    def read(self, xorb: BinaryIO) -> bytes:
        """The unpacked bytes of the chunk.

        Raises:
            Malformed: It does not unpack to its size.
        """
        xorb.seek(self.start)
        return unpack(xorb.read(self.packed), self.scheme, self.size)


@dataclass(frozen=True)
class Term:
    """A run of chunks `first` to `last` (exclusive) of a xorb; `size` bytes when unpacked."""

    xorb: str
    first: int
    last: int
    size: int


@dataclass(frozen=True)
class ShardFile:
    """One file that a shard describes; `sha256` is None where the client did not compute it."""

    hash: str
    sha256: str | None
    terms: tuple[Term, ...]


def hash_text(digest: bytes) -> str:
    """The text of a 32-byte hash."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))


def chunk_table(xorb: BinaryIO) -> list[Chunk]:
    """The chunks of a serialised xorb; what follows the last one must be the format's own footer.

    Raises:
        Malformed: A header is cut short, names an unknown scheme, or claims an absurd size.
    """
    chunks, at, end = [], 0, xorb.seek(0, 2)
    while at < end:
        xorb.seek(at)
        head = xorb.read(8)
        if chunks and head.startswith(b"XETBLOB"):
            break
        packed, size = int.from_bytes(head[1:4], "little"), int.from_bytes(head[5:8], "little")
        at += 8 + packed
        if len(head) < 8 or head[0] or head[4] > 2 or not 0 < size <= MAX_CHUNK or at > end:
            raise Malformed(f"chunk {len(chunks)} of the xorb is malformed")
        chunks.append(Chunk(at - packed, packed, head[4], size))
    if not chunks:
        raise Malformed("the xorb is empty")
    return chunks


def unpack(body: bytes, scheme: int, size: int) -> bytes:
    """The bytes of one chunk: stored (0), LZ4 (1), or LZ4 over the four byte planes of 32-bit numbers (2).

    Raises:
        Malformed: The data does not unpack to exactly `size` bytes.
    """
    try:
        lz4_frame = lz4.frame.LZ4FrameDecompressor()
        # max_length: a hostile frame must not be able to fill the memory.
        plain = body if scheme == 0 else lz4_frame.decompress(body, size + 1)
    except (RuntimeError, EOFError) as error:
        raise Malformed("a chunk does not decompress") from error
    if len(plain) != size or (scheme and (not lz4_frame.eof or lz4_frame.unused_data)):
        raise Malformed("a chunk unpacks to another size than its header says")
    if scheme != 2:
        return plain
    planes, at = bytearray(size), 0
    for plane in range(4):
        count = (size - plane + 3) // 4
        planes[plane::4] = plain[at : at + count]
        at += count
    return bytes(planes)


def shard_files(shard: bytes) -> Iterator[ShardFile]:
    """The files that a shard describes.

    Raises:
        Malformed: The shard ends early or a term is empty or reversed.
    """
    try:
        yield from _shard_files(shard)
    except struct.error as error:
        raise Malformed("the shard ends in the middle of an entry") from error


def _shard_files(shard: bytes) -> Iterator[ShardFile]:
    at = 48  # after the shard's own header
    while True:
        digest, flags, count, _ = struct.unpack_from("<32sIIQ", shard, at)
        at += 48
        if digest == b"\xff" * 32:
            return
        if count * 48 > len(shard) - at:
            raise Malformed("the shard names more terms than it holds")
        terms = []
        for _ in range(count):
            xorb, _, size, first, last = struct.unpack_from("<32sIIII", shard, at)
            terms.append(Term(hash_text(xorb), first, last, size))
            at += 48
        if not terms or any(term.first >= term.last for term in terms):
            raise Malformed("a file in the shard has no term, or an empty one")
        at += 48 * count if flags & 1 << 31 else 0  # verification entries: the server checks every byte anyway
        sha256 = None
        if flags & 1 << 30:
            sha256 = hash_text(struct.unpack_from("32s", shard, at)[0])
            at += 48
        yield ShardFile(hash_text(digest), sha256, tuple(terms))


def chunk_hashes(chunks: Sequence[bytes]) -> list[bytes]:
    """The hash of every unpacked chunk."""
    return [blake3(chunk, key=CHUNK_KEY).digest() for chunk in chunks]


def xorb_hash(hashes: Sequence[bytes], sizes: Sequence[int]) -> str:
    """The name of the xorb that holds chunks of these hashes and sizes."""
    return hash_text(_merkle_root(hashes, sizes))


def file_hash(hashes: Sequence[bytes], sizes: Sequence[int]) -> str:
    """The Xet name of the file that consists of chunks of these hashes and sizes; zeros for an empty file."""
    if not hashes:
        return "0" * 64
    return hash_text(blake3(_merkle_root(hashes, sizes), key=FILE_KEY).digest())


def _merkle_root(hashes: Sequence[bytes], sizes: Sequence[int]) -> bytes:
    level = list(zip(hashes, sizes, strict=True))
    while len(level) > 1:
        groups = list(_groups(level))
        lines = ["".join(f"{hash_text(digest)} : {size}\n" for digest, size in group) for group in groups]
        parents = [blake3(line.encode(), key=NODE_KEY).digest() for line in lines]
        level = [(parent, sum(size for _, size in group)) for parent, group in zip(parents, groups, strict=True)]
    return level[0][0]


def _groups(level: list[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    """Cut a level of the tree where a hash is divisible by four: at least 3 and at most 9 nodes, but for the end."""
    start = 0
    while start < len(level):
        stop = min(start + 9, len(level))
        cut = next((at + 1 for at in range(start + 2, stop) if level[at][0][24] % 4 == 0), stop)
        yield level[start:cut]
        start = cut
