"""The Xet store: files as runs of chunks in xorbs, so that a client sends only chunks that the Hub does not have.

Xorbs (compressed chunks) and shards (how files are put together) come from clients: nothing is stored before its
hash has been checked.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

from release.localhub.storage.blobs import Store
from release.localhub.storage.database import Database
from release.localhub.storage.xet_format import (
    Chunk,
    Malformed,
    Term,
    XetFile,
    check_xorb,
    chunk_hash,
    file_hash,
    pack,
    parse_shard,
    xorb_hash,
)

BUCKETS = "-"  # in place of an account, which cannot have this name
_CHUNK_ROW = struct.Struct("<III32s")
_PLAIN_CHUNK = 1 << 16  # bytes; how the Hub itself cuts a file
_PLAIN_CHUNKS = 32  # per xorb


class XetStore:
    """The xorbs in a `Store`, and the rows of the `Database` that say what they hold."""

    def __init__(self, store: Store, database: Database) -> None:
        self.store, self._db = store, database
        self.chunks = lru_cache(64)(self._read_chunks)  # a xorb never changes, so neither do its chunks

    def add_xorb(self, name: str, upload: Path, account: str) -> bool:
        """Store a xorb that `account` has uploaded; whether it is new.

        Raises:
            Malformed: The upload is no xorb, or hashes to another name.
        """
        if self._has_sent(account, name):
            return False
        chunks = check_xorb(name, upload)
        new = not self._db("SELECT 1 FROM xorb WHERE hash = ?", name)
        if new:
            self.store.add(upload, "xorbs", name)
            packed = b"".join(_CHUNK_ROW.pack(*chunk) for chunk in chunks)
            self._db("INSERT OR IGNORE INTO xorb VALUES (?, ?)", name, packed)
        self._db("INSERT OR IGNORE INTO xorb_upload VALUES (?, ?)", account, name)
        return new

    def add_shard(self, upload: Path, account: str) -> list[XetFile]:
        """Store how a shard's files are put together, once every byte of every file has been checked.

        Whoever knows the hashes of a private file could otherwise name its xorbs in a shard of their own, and read it.

        Raises:
            Malformed: The shard is malformed, names a xorb that `account` has not uploaded, or a wrong hash.
        """
        files = parse_shard(upload.read_bytes())
        for xorb in {term.xorb for file in files for term in file.terms}:
            if not self._has_sent(account, xorb):
                raise Malformed(f"There is no xorb {xorb}")
        files = [self.verify(file) for file in files]
        with self._db.change():
            for file in files:
                self._insert(file)
        return files

    def add_file(self, path: Path) -> XetFile:
        """Store a file from the disk, cut into plain chunks of equal size; for buckets, which are folders here."""
        terms, chunks, digest = [], [], hashlib.sha256()
        with path.open("rb") as stream:
            while parts := [part for _ in range(_PLAIN_CHUNKS) if (part := stream.read(_PLAIN_CHUNK))]:
                run = [(chunk_hash(part), len(part)) for part in parts]
                name = xorb_hash(run)
                with self.store.temporary_file() as upload:
                    upload.write_bytes(b"".join(pack(part) for part in parts))
                    self.add_xorb(name, upload, BUCKETS)
                terms.append(Term(name, 0, len(run), sum(size for _, size in run)))
                chunks += run
                digest.update(b"".join(parts))
        file = XetFile(file_hash(chunks), digest.hexdigest(), sum(size for _, size in chunks), tuple(terms))
        self._insert(file)
        return file

    def find(self, *, hash: str = "", sha256: str = "") -> XetFile | None:
        """The file with this Xet hash or with this content, if it came through Xet."""
        rows = self._db("SELECT * FROM file WHERE hash = ? OR sha256 = ? ORDER BY rowid DESC LIMIT 1", hash, sha256)
        return _parse_row(rows[0]) if rows else None

    def files(self) -> Iterator[tuple[str, XetFile | Exception]]:
        """Every file by its name, or the error in its row."""
        for row in self._db("SELECT * FROM file"):
            try:
                yield row["hash"], _parse_row(row)
            except (TypeError, ValueError) as error:
                yield row["hash"], error

    def verify(self, file: XetFile) -> XetFile:
        """The file with its size and sha256, once every byte of it has been checked.

        Raises:
            Malformed: A xorb is missing; a term, the hash or the sha256 is wrong.
        """
        chunks = []
        for term in file.terms:
            run = self.chunks(term.xorb)[term.first : term.last]
            if len(run) != term.last - term.first or sum(chunk.size for chunk in run) != term.size:
                raise Malformed(f"A term does not fit its xorb: {term.xorb}")
            chunks += [(chunk.hash, chunk.size) for chunk in run]
        if file_hash(chunks) != file.hash:
            raise Malformed(f"The chunks of the file do not hash to {file.hash}")
        size, digest = sum(size for _, size in chunks), hashlib.sha256()
        for part in self.read(file, 0, size):
            digest.update(part)
        if file.sha256 not in (None, digest.hexdigest()):
            raise Malformed(f"The file's content has not the sha256 {file.sha256}")
        return file._replace(size=size, sha256=digest.hexdigest())

    def read(self, file: XetFile, start: int, end: int) -> Iterator[bytes]:
        """The bytes `start` to `end` (exclusive) of a file, one chunk at a time."""
        for term, overlap in self._overlaps(file, start, end):
            with self.store.path("xorbs", term.xorb).open("rb") as xorb:
                for _, chunk, offset in overlap:
                    yield chunk.read(xorb)[max(0, start - offset) : end - offset]

    def reconstruction(
        self, file: XetFile, start: int, end: int, url: Callable[[str, int, int], str]
    ) -> dict[str, Any]:
        """What a client needs to build the bytes `start` to `end` (exclusive): terms, and byte ranges of xorbs.

        `url` gives the address of a xorb's bytes, from the first to the last.
        """
        terms, xorbs, skipped = [], {}, None
        for term, overlap in self._overlaps(file, start, end):
            numbers, chunks, offsets = zip(*overlap, strict=True)
            skipped = max(0, start - offsets[0]) if skipped is None else skipped
            chunk_range = {"start": numbers[0], "end": numbers[-1] + 1}
            byte_range = {"start": chunks[0].start, "end": chunks[-1].end - 1}
            size = sum(chunk.size for chunk in chunks)
            terms.append({"hash": term.xorb, "unpacked_length": size, "range": chunk_range})
            address = url(term.xorb, byte_range["start"], byte_range["end"])
            fetch = {"url": address, "ranges": [{"chunks": chunk_range, "bytes": byte_range}]}
            xorbs.setdefault(term.xorb, []).append(fetch)
        return {"offset_into_first_range": skipped or 0, "terms": terms, "xorbs": xorbs}

    def _overlaps(self, file: XetFile, start: int, end: int) -> Iterator[tuple[Term, Iterator[tuple[int, Chunk, int]]]]:
        """Per term its chunks that overlap the range: number in the xorb, chunk, and offset in the file."""

        def overlapping() -> Iterator[tuple[int, int, Chunk, int]]:
            offset = 0
            for index, term in enumerate(file.terms):
                if offset + term.size <= start or offset >= end:
                    offset += term.size
                    continue
                for number, chunk in enumerate(self.chunks(term.xorb)[term.first : term.last], term.first):
                    if offset < end and offset + chunk.size > start:
                        yield index, number, chunk, offset
                    offset += chunk.size

        for index, rows in groupby(overlapping(), key=lambda row: row[0]):
            yield file.terms[index], (row[1:] for row in rows)

    def _has_sent(self, account: str, xorb: str) -> bool:
        return bool(self._db("SELECT 1 FROM xorb_upload WHERE account = ? AND hash = ?", account, xorb))

    def _insert(self, file: XetFile) -> None:
        self._db("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", *file[:3], json.dumps(file.terms))

    def _read_chunks(self, xorb: str) -> tuple[Chunk, ...]:
        rows = self._db("SELECT chunks FROM xorb WHERE hash = ?", xorb)
        if not rows:
            raise Malformed(f"There is no xorb {xorb}")
        return tuple(Chunk(*row) for row in _CHUNK_ROW.iter_unpack(rows[0]["chunks"]))


def _parse_row(row: Any) -> XetFile:
    return XetFile(row["hash"], row["sha256"], row["size"], tuple(Term(*term) for term in json.loads(row["terms"])))
