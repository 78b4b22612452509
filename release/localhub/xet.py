"""The Xet store: files as runs of chunks in xorbs, so that a client sends only chunks that the Hub has not seen.

Specification: https://huggingface.co/docs/xet. Xorbs (compressed chunks) and shards (how files are put together)
are read without trust, and nothing is kept before its hash has been checked. A hash is 32 bytes and is written as
four little-endian 64-bit numbers in hexadecimal, so its text is not the plain hexadecimal of its bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import lz4.frame
from blake3 import blake3

from release.localhub.store import Database, Store
from release.localhub.web import HubError

CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
FILE_KEY = bytes(32)
MAX_CHUNK = 1 << 20  # clients cut chunks of at most 128 KiB
MAX_XORB = 80 << 20  # clients close a xorb at 64 MiB
MAX_SHARD = 64 << 20
MAX_CHUNKS = 1 << 14  # clients close a xorb at half of them; its table is held in memory
_ROW = struct.Struct("<III32s")


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


class File(NamedTuple):
    """How a file is put together; `sha256` is None, and `size` 0, where a shard does not say them."""

    hash: str
    sha256: str | None
    size: int
    terms: tuple[Term, ...]


class Xet:
    """The xorbs in a `Store`, and the rows of the `Database` that say what is in them."""

    def __init__(self, store: Store, database: Database) -> None:
        self.store, self._db = store, database
        self.chunks = lru_cache(64)(self._chunks)  # a xorb never changes, so neither does its table

    def add_xorb(self, name: str, upload: Path) -> bool:
        """Keep an uploaded xorb; whether it is new.

        Raises:
            Malformed: The upload is no xorb, or hashes to another name.
        """
        if self._db("SELECT 1 FROM xorb WHERE hash = ?", name):
            return False
        table = check_xorb(name, upload)
        self.store.adopt(upload, "xorbs", name)
        self._db("INSERT OR IGNORE INTO xorb VALUES (?, ?)", name, b"".join(_ROW.pack(*chunk) for chunk in table))
        return True

    def add_shard(self, upload: Path) -> list[File]:
        """Keep how a shard's files are put together, once every byte of every file has been checked.

        Raises:
            Malformed: The shard is malformed, refers to a xorb that is not there, or names a wrong hash.
        """
        files = [self.verify(file) for file in shard_files(upload.read_bytes())]
        with self._db.change():
            for file in files:
                self._keep(file)
        return files

    def add_file(self, path: Path) -> File:
        """Take in a file from the disk, cut into plain chunks of equal size; for buckets, which are folders here."""
        terms, chunks, digest = [], [], hashlib.sha256()
        with path.open("rb") as stream:
            while parts := [part for _ in range(32) if (part := stream.read(1 << 16))]:
                packed = b"".join(pack(part) for part in parts)
                run = [(chunk_hash(part), len(part)) for part in parts]
                name = xorb_hash(run)
                with self.store.scratch() as upload:
                    upload.write_bytes(packed)
                    self.add_xorb(name, upload)
                terms.append(Term(name, 0, len(run), sum(size for _, size in run)))
                chunks += run
                digest.update(b"".join(parts))
        file = File(file_hash(chunks), digest.hexdigest(), sum(size for _, size in chunks), tuple(terms))
        self._keep(file)
        return file

    def find(self, *, hash: str = "", sha256: str = "") -> File | None:
        """The file with this Xet hash or with this content, if it came through Xet."""
        rows = self._db("SELECT * FROM file WHERE hash = ? OR sha256 = ? ORDER BY rowid DESC LIMIT 1", hash, sha256)
        return _file(rows[0]) if rows else None

    def all(self) -> Iterator[tuple[str, File | Exception]]:
        """Every file by its name, or the error in its row."""
        for row in self._db("SELECT * FROM file"):
            try:
                yield row["hash"], _file(row)
            except (TypeError, ValueError) as error:
                yield row["hash"], error

    def verify(self, file: File) -> File:
        """The file with its size and sha256, once every byte of it has been checked.

        Raises:
            Malformed: A xorb is missing; a term, the hash or the sha256 is wrong.
        """
        runs = []
        for term in file.terms:
            run = self.chunks(term.xorb)[term.first : term.last]
            if len(run) != term.last - term.first or sum(chunk.size for chunk in run) != term.size:
                raise Malformed(f"A term does not fit its xorb: {term.xorb}")
            runs += [(chunk.hash, chunk.size) for chunk in run]
        if file_hash(runs) != file.hash:
            raise Malformed(f"The chunks of the file do not hash to {file.hash}")
        size, digest = sum(size for _, size in runs), hashlib.sha256()
        for part in self.read(file, 0, size):
            digest.update(part)
        if file.sha256 not in (None, digest.hexdigest()):
            raise Malformed(f"The file's content has not the sha256 {file.sha256}")
        return file._replace(size=size, sha256=digest.hexdigest())

    def read(self, file: File, low: int, high: int) -> Iterator[bytes]:
        """The bytes `low` to `high` (exclusive) of a file, one chunk at a time."""
        for term, pieces in self._pieces(file, low, high):
            with self.store.place("xorbs", term.xorb).open("rb") as xorb:
                for _, chunk, at in pieces:
                    yield chunk.read(xorb)[max(0, low - at) : high - at]

    def reconstruction(self, file: File, low: int, high: int, url: Callable[[str, int, int], str]) -> dict[str, Any]:
        """What a client needs to build the bytes `low` to `high` (exclusive): terms, and byte ranges of xorbs.

        `url` gives the address of a xorb's bytes, from the first to the last.
        """
        terms, xorbs, offset = [], {}, None
        for term, pieces in self._pieces(file, low, high):
            numbers, chunks, places = zip(*pieces, strict=True)
            offset = max(0, low - places[0]) if offset is None else offset
            run = {"start": numbers[0], "end": numbers[-1] + 1}
            extent = {"start": chunks[0].start, "end": chunks[-1].end - 1}
            terms.append({"hash": term.xorb, "unpacked_length": sum(chunk.size for chunk in chunks), "range": run})
            address = url(term.xorb, extent["start"], extent["end"])
            fetch = {"url": address, "ranges": [{"chunks": run, "bytes": extent}]}
            xorbs.setdefault(term.xorb, []).append(fetch)
        return {"offset_into_first_range": offset or 0, "terms": terms, "xorbs": xorbs}

    def _pieces(self, file: File, low: int, high: int) -> Iterator[tuple[Term, Iterator[tuple[int, Chunk, int]]]]:
        """Per term its chunks that overlap the range: number in the xorb, chunk, and position in the file."""

        def overlapping() -> Iterator[tuple[int, int, Chunk, int]]:
            at = 0
            for index, term in enumerate(file.terms):
                if at + term.size <= low or at >= high:
                    at += term.size
                    continue
                for number, chunk in enumerate(self.chunks(term.xorb)[term.first : term.last], term.first):
                    if at < high and at + chunk.size > low:
                        yield index, number, chunk, at
                    at += chunk.size

        for index, pieces in groupby(overlapping(), key=lambda piece: piece[0]):
            yield file.terms[index], (piece[1:] for piece in pieces)

    def _keep(self, file: File) -> None:
        self._db("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", *file[:3], json.dumps(file.terms))

    def _chunks(self, xorb: str) -> tuple[Chunk, ...]:
        rows = self._db("SELECT chunks FROM xorb WHERE hash = ?", xorb)
        if not rows:
            raise Malformed(f"There is no xorb {xorb}")
        return tuple(Chunk(*row) for row in _ROW.iter_unpack(rows[0]["chunks"]))


def _file(row: Any) -> File:
    return File(row["hash"], row["sha256"], row["size"], tuple(Term(*term) for term in json.loads(row["terms"])))


def check_xorb(name: str, path: Path) -> list[Chunk]:
    """The chunks of a xorb, after unpacking and hashing every one; what follows them must be the format's footer.

    Raises:
        Malformed: The file is no xorb, or hashes to another name.
    """
    with path.open("rb") as stream:
        table = list(scan(stream))
    if xorb_hash([(chunk.hash, chunk.size) for chunk in table]) != name:
        raise Malformed(f"The xorb does not hash to {name}")
    return table


def scan(xorb: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a serialised xorb, each unpacked once for its hash.

    Raises:
        Malformed: A chunk is cut short or does not unpack, or there is none, or there are too many.
    """
    at = count = 0
    while head := xorb.read(8):
        if at and head.startswith(b"XETBLOB"):
            return
        if (count := count + 1) > MAX_CHUNKS:
            raise Malformed(f"The xorb has more than {MAX_CHUNKS} chunks")
        packed = head + xorb.read(int.from_bytes(head[1:4], "little"))
        plain = unpack(packed)
        yield Chunk(at, at + len(packed), len(plain), chunk_hash(plain))
        at += len(packed)
    if not at:
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
    if chunk[4] < 2:
        return plain
    planes, at = bytearray(size), 0
    for plane in range(4):
        count = (size - plane + 3) // 4
        planes[plane::4] = plain[at : at + count]
        at += count
    return bytes(planes)


def shard_files(shard: bytes) -> list[File]:
    """The files that a shard describes.

    Raises:
        Malformed: The shard ends early or a term is empty or reversed.
    """
    files, at = [], 48  # after the shard's own header
    try:
        while (entry := struct.unpack_from("<32sIIQ", shard, at))[0] != b"\xff" * 32:
            digest, flags, count, _ = entry
            at += 48
            if not 0 < count * 48 <= len(shard) - at:
                raise Malformed("A file of the shard has no term, or more than the shard holds")
            rows = struct.iter_unpack("<32sIIII", shard[at : at + 48 * count])
            terms = tuple(Term(hash_text(xorb), first, last, size) for xorb, _, size, first, last in rows)
            if any(term.first >= term.last for term in terms):
                raise Malformed("A term of the shard is empty")
            # With verification entries (bit 31) there are twice as many; the server checks every byte anyway.
            at += 48 * count * (2 if flags & 1 << 31 else 1)
            sha256 = hash_text(struct.unpack_from("32s", shard, at)[0]) if flags & 1 << 30 else None
            at += 48 if sha256 else 0
            files.append(File(hash_text(digest), sha256, 0, terms))
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
        above = []
        for group in _groups(level):
            lines = "".join(f"{hash_text(digest)} : {size}\n" for digest, size in group)
            above.append((blake3(lines.encode(), key=NODE_KEY).digest(), sum(size for _, size in group)))
        level = above
    return level[0][0]


def _groups(level: list[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    """Cut a level of the tree where a hash is divisible by four: at least 3 and at most 9 nodes, but for the end."""
    start = 0
    while start < len(level):
        stop = min(start + 9, len(level))
        cut = next((at + 1 for at in range(start + 2, stop) if level[at][0][24] % 4 == 0), stop)
        yield level[start:cut]
        start = cut
