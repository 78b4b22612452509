"""The formats of the Xet protocol: chunks, xorbs, shards and their hashes, all read without trust.

Specification: https://huggingface.co/docs/xet. A hash is 32 bytes and is written as four little-endian 64-bit
numbers in hexadecimal, so its text is not the plain hexadecimal of its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import lz4.frame
from blake3 import blake3

from release.localhub.errors import HubError

CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
FILE_KEY = bytes(32)
MAX_CHUNK = 1 << 20  # clients cut chunks of at most 128 KiB
MAX_XORB = 80 << 20  # clients close a xorb at 64 MiB
MAX_SHARD = 64 << 20
MAX_CHUNKS = 1 << 14  # clients close a xorb at half of them; its table is held in memory


class Malformed(HubError):
    """400: bytes that are not what they claim to be."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class Chunk(NamedTuple):
    """One chunk of a xorb: its bytes `start` to `end` (exclusive, with the header), its unpacked size, its hash."""

    start: int
    end: int
    size: int
    hash: bytes

    def read(self, xorb: BinaryIO) -> bytes:
        """The unpacked bytes."""
        xorb.seek(self.start)
        return unpack(xorb.read(self.end - self.start))


class Term(NamedTuple):
    """A run of chunks `first` to `last` (exclusive) of a xorb; `size` bytes when unpacked."""

    xorb: str
    first: int
    last: int
    size: int


class XetFile(NamedTuple):
    """A file as a sequence of terms; `sha256` is None, and `size` 0, where a shard does not say them."""

    hash: str
    sha256: str | None
    size: int
    terms: tuple[Term, ...]


def check_xorb(name: str, path: Path) -> list[Chunk]:
    """The chunks of a xorb, after unpacking and hashing every one; what follows them must be the format's footer.

    Raises:
        Malformed: The file is no xorb, or hashes to another name.
    """
    with path.open("rb") as stream:
        chunks = list(scan_xorb(stream))
    if xorb_hash([(chunk.hash, chunk.size) for chunk in chunks]) != name:
        raise Malformed(f"The xorb does not hash to {name}")
    return chunks


def scan_xorb(xorb: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a serialised xorb, each unpacked once for its hash.

    Raises:
        Malformed: A chunk is cut short or does not unpack, or there is none, or there are too many.
    """
    position = count = 0
    while header := xorb.read(8):
        if position and header.startswith(b"XETBLOB"):
            return
        if (count := count + 1) > MAX_CHUNKS:
            raise Malformed(f"The xorb has more than {MAX_CHUNKS} chunks")
        packed = header + xorb.read(int.from_bytes(header[1:4], "little"))
        plain = unpack(packed)
        yield Chunk(position, position + len(packed), len(plain), chunk_hash(plain))
        position += len(packed)
    if not position:
        raise Malformed("The xorb is empty")


def pack(plain: bytes) -> bytes:
    """A chunk that is stored as it is: version 0, packed size, scheme 0, unpacked size, content."""
    size = len(plain).to_bytes(3, "little")
    return b"\0" + size + b"\0" + size + plain


def unpack(chunk: bytes) -> bytes:
    """The content of a chunk with its header: stored (0), LZ4 (1), or LZ4 over four byte planes (2).

    Raises:
        Malformed: The header is cut short or absurd, or the data does not unpack to exactly the size it names.
    """
    packed, size = int.from_bytes(chunk[1:4], "little"), int.from_bytes(chunk[5:8], "little")
    if len(chunk) < 8 or chunk[0] or chunk[4] > 2 or not 0 < size <= MAX_CHUNK or len(chunk) != 8 + packed:
        raise Malformed("A chunk of the xorb is malformed")
    frame, plain = lz4.frame.LZ4FrameDecompressor(), chunk[8:]
    if chunk[4]:
        try:
            plain = frame.decompress(plain, size + 1)  # so that a hostile frame cannot fill the memory
        except (RuntimeError, EOFError) as error:
            raise Malformed("A chunk does not decompress") from error
    if len(plain) != size or (chunk[4] and (not frame.eof or frame.unused_data)):
        raise Malformed("A chunk unpacks to another size than its header says")
    return _join_planes(plain) if chunk[4] == 2 else plain


def _join_planes(planes: bytes) -> bytes:
    """Four byte planes, one after the other, as the bytes that they were taken from."""
    size, start = len(planes), 0
    plain = bytearray(size)
    for plane in range(4):
        count = (size - plane + 3) // 4
        plain[plane::4] = planes[start : start + count]
        start += count
    return bytes(plain)


def parse_shard(shard: bytes) -> list[XetFile]:
    """The files that a shard describes.

    Raises:
        Malformed: The shard ends early or a term is empty or reversed.
    """
    files, position = [], 48  # after the shard's own header
    try:
        while (entry := struct.unpack_from("<32sIIQ", shard, position))[0] != b"\xff" * 32:
            digest, flags, count, _ = entry
            position += 48
            if not 0 < count * 48 <= len(shard) - position:
                raise Malformed("A file of the shard has no term, or more than the shard holds")
            rows = struct.iter_unpack("<32sIIII", shard[position : position + 48 * count])
            terms = tuple(Term(hash_text(xorb), first, last, size) for xorb, _, size, first, last in rows)
            if any(term.first >= term.last for term in terms):
                raise Malformed("A term of the shard is empty")
            # With verification entries (bit 31) there are twice as many; the server checks every byte anyway.
            position += 48 * count * (2 if flags & 1 << 31 else 1)
            sha256 = hash_text(struct.unpack_from("32s", shard, position)[0]) if flags & 1 << 30 else None
            position += 48 if sha256 else 0
            files.append(XetFile(hash_text(digest), sha256, 0, terms))
    except struct.error as error:
        raise Malformed("The shard ends in the middle of an entry") from error
    return files


def hash_text(digest: bytes) -> str:
    """The text of a 32-byte hash."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))


def chunk_hash(plain: bytes) -> bytes:
    """The hash of one unpacked chunk."""
    return blake3(plain, key=CHUNK_KEY).digest()


def xorb_hash(chunks: Sequence[tuple[bytes, int]]) -> str:
    """The name of the xorb that holds chunks of these hashes and sizes."""
    return hash_text(_merkle_root(chunks))


def file_hash(chunks: Sequence[tuple[bytes, int]]) -> str:
    """The Xet name of the file that consists of chunks of these hashes and sizes; zeros for an empty file."""
    return hash_text(blake3(_merkle_root(chunks), key=FILE_KEY).digest()) if chunks else "0" * 64


def _merkle_root(chunks: Iterable[tuple[bytes, int]]) -> bytes:
    level = list(chunks)
    while len(level) > 1:
        parents = []
        for group in _groups(level):
            lines = "".join(f"{hash_text(digest)} : {size}\n" for digest, size in group)
            parents.append((blake3(lines.encode(), key=NODE_KEY).digest(), sum(size for _, size in group)))
        level = parents
    return level[0][0]


def _groups(level: list[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    """Cut a level of the tree where a hash is divisible by four: 3 to 9 nodes each, fewer only at the end."""
    start = 0
    while start < len(level):
        stop = min(start + 9, len(level))
        cut = next((node + 1 for node in range(start + 2, stop) if level[node][0][24] % 4 == 0), stop)
        yield level[start:cut]
        start = cut
