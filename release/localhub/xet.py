"""The Xet store: files as runs of chunks in xorbs, so that a client sends only chunks that the Hub has not seen.

On disk: xorbs/<hash> as the client sent it, chunks/<hash> with the hash of each of its chunks (32 bytes each),
recipes/<file hash> with the terms of a file, and whole/<sha256> that names the recipe of that content. Each is
written after what it refers to, and nothing is written before its hash has been checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from release.localhub.errors import HubError, bad
from release.localhub.formats import (
    Chunk,
    Malformed,
    ShardFile,
    Term,
    chunk_hashes,
    chunk_table,
    file_hash,
    shard_files,
    xorb_hash,
)
from release.localhub.store import Store

BATCH = 2 << 20  # unpacked bytes that are hashed at a time: what bounds the memory of an upload


@dataclass(frozen=True)
class Recipe:
    """How a file is put together: its Xet name, its content's sha256, its size in bytes and its terms."""

    hash: str
    sha256: str
    size: int
    terms: tuple[Term, ...]


class Xet:
    """The chunks, xorbs and recipes in a `Store`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        # A xorb never changes, so neither does its table of about 1000 chunks.
        self._table = lru_cache(64)(self._read_table)

    def add_xorb(self, name: str, upload: Path) -> bool:
        """Keep an uploaded xorb; whether it is new.

        Raises:
            HubError: 400, the upload is no xorb, or hashes to another name.
        """
        if self.store.place("xorbs", name).exists():
            return False
        hashes = check_xorb(name, upload)
        self.store.put(b"".join(hashes), "chunks", name)
        self.store.adopt(upload, "xorbs", name)
        return True

    def add_shard(self, upload: Path) -> list[Recipe]:
        """Keep the recipes of a shard's files, once every byte of every file has been checked.

        Raises:
            HubError: 400, the shard is malformed, refers to a xorb that is not there, or names a wrong hash.
        """
        try:
            recipes = [self.verify(file) for file in shard_files(upload.read_bytes())]
        except Malformed as error:
            raise bad(str(error)) from error
        for recipe in recipes:
            self._keep(recipe)
        return recipes

    def add_file(self, path: Path) -> Recipe:
        """Take in a file from the disk, cut into plain chunks of equal size; for buckets, which are folders here."""
        hashes, sizes, terms, sha256 = [], [], [], hashlib.sha256()
        with path.open("rb") as stream:
            while batch := [part for _ in range(BATCH >> 16) if (part := stream.read(1 << 16))]:
                digests, lengths = chunk_hashes(batch), [len(part) for part in batch]
                name = xorb_hash(digests, lengths)
                heads = (b"\0" + length.to_bytes(3, "little") for length in lengths)
                packed = [head + b"\0" + head[1:] + part for head, part in zip(heads, batch, strict=True)]
                self.store.put(b"".join(digests), "chunks", name)
                self.store.put(b"".join(packed), "xorbs", name)
                terms.append(Term(name, 0, len(batch), sum(lengths)))
                hashes, sizes = hashes + digests, sizes + lengths
                for part in batch:
                    sha256.update(part)
        recipe = Recipe(file_hash(hashes, sizes), sha256.hexdigest(), sum(sizes), tuple(terms))
        self._keep(recipe)
        return recipe

    def recipe(self, name: str) -> Recipe | None:
        """The recipe of the file with this Xet hash, if there is one."""
        try:
            value = json.loads(self.store.place("recipes", name).read_bytes())
        except FileNotFoundError:
            return None
        return Recipe(name, value["sha256"], value["size"], tuple(Term(*term) for term in value["terms"]))

    def of_content(self, sha256: str) -> Recipe | None:
        """The recipe of the content with this sha256, if it was uploaded through Xet."""
        try:
            return self.recipe(self.store.place("whole", sha256).read_text())
        except FileNotFoundError:
            return None

    def read(self, recipe: Recipe, low: int, high: int) -> Iterator[bytes]:
        """The bytes `low` to `high` (exclusive) of a file, one chunk at a time."""
        for term, at in _placed(recipe.terms):
            if at + term.size <= low or at >= high:
                continue
            with self.store.place("xorbs", term.xorb).open("rb") as xorb:
                for chunk in self._table(term.xorb)[term.first : term.last]:
                    if at < high and at + chunk.size > low:
                        yield chunk.read(xorb)[max(0, low - at) : high - at]
                    at += chunk.size

    def chunks(self, terms: Iterable[Term]) -> tuple[list[bytes], list[int]]:
        """The hashes and the sizes of the chunks of a run of terms, as they were checked when their xorbs came."""
        hashes, sizes = [], []
        for term in terms:
            known = self.store.place("chunks", term.xorb).read_bytes()
            hashes += [known[32 * number : 32 * number + 32] for number in range(term.first, term.last)]
            sizes += [chunk.size for chunk in self._table(term.xorb)[term.first : term.last]]
        return hashes, sizes

    def reconstruction(self, recipe: Recipe, low: int, high: int, urls: dict[str, str]) -> dict[str, Any]:
        """What a client needs to build the bytes `low` to `high` (exclusive): terms, and byte ranges of xorbs.

        `urls` gives the address of each of the file's xorbs.
        """
        terms, xorbs, offset = [], {}, 0
        for term, at in _placed(recipe.terms):
            if at + term.size <= low or at >= high:
                continue
            inside = []
            for number, chunk in enumerate(self._table(term.xorb)[term.first : term.last], term.first):
                if at <= low < at + chunk.size:
                    offset = low - at
                if at < high and at + chunk.size > low:
                    inside.append((number, chunk))
                at += chunk.size
            run = {"start": inside[0][0], "end": inside[-1][0] + 1}
            size = sum(chunk.size for _, chunk in inside)
            terms.append({"hash": term.xorb, "unpacked_length": size, "range": run})
            extent = {"start": inside[0][1].extent[0], "end": inside[-1][1].extent[1]}
            fetch = {"url": urls[term.xorb], "ranges": [{"chunks": run, "bytes": extent}]}
            xorbs.setdefault(term.xorb, []).append(fetch)
        return {"offset_into_first_range": offset, "terms": terms, "xorbs": xorbs}

    def _keep(self, recipe: Recipe) -> None:
        value = {"sha256": recipe.sha256, "size": recipe.size, "terms": [astuple(term) for term in recipe.terms]}
        self.store.put(json.dumps(value).encode(), "recipes", recipe.hash)
        self.store.put(recipe.hash.encode(), "whole", recipe.sha256)

    def _read_table(self, name: str) -> tuple[Chunk, ...]:
        with self.store.place("xorbs", name).open("rb") as xorb:
            return tuple(chunk_table(xorb))

    def verify(self, file: ShardFile) -> Recipe:
        """Check a shard's file against the xorbs, byte by byte, and give its recipe.

        Raises:
            HubError: 400, a xorb is missing, or a term, a hash or the content's sha256 is not what the shard says.
        """
        for term in file.terms:
            if not self.store.place("xorbs", term.xorb).exists():
                raise bad(f"The shard refers to a xorb that is not here: {term.xorb}")
            run = self._table(term.xorb)[term.first : term.last]
            if len(run) != term.last - term.first or sum(chunk.size for chunk in run) != term.size:
                raise bad(f"A term of the shard does not fit its xorb: {term.xorb}")
        hashes, sizes = self.chunks(file.terms)
        recipe = Recipe(file.hash, "", sum(sizes), file.terms)
        if file_hash(hashes, sizes) != file.hash:
            raise bad(f"The chunks of the file do not hash to {file.hash}")
        sha256 = hashlib.sha256()
        for part in self.read(recipe, 0, recipe.size):
            sha256.update(part)
        if file.sha256 not in (None, sha256.hexdigest()):
            raise HubError(400, f"The file's content has not the sha256 {file.sha256}")
        return Recipe(file.hash, sha256.hexdigest(), recipe.size, file.terms)


def check_xorb(name: str, path: Path) -> list[bytes]:
    """The hashes of a xorb's chunks, after unpacking and hashing every one.

    Raises:
        HubError: 400, the file is no xorb, or hashes to another name.
    """
    try:
        with path.open("rb") as xorb:
            table = chunk_table(xorb)
            hashes = [digest for batch in _batches(table, xorb) for digest in chunk_hashes(batch)]
    except Malformed as error:
        raise bad(str(error)) from error
    if xorb_hash(hashes, [chunk.size for chunk in table]) != name:
        raise bad(f"The xorb does not hash to {name}")
    return hashes


def _batches(table: Iterable[Chunk], xorb: BinaryIO) -> Iterator[list[bytes]]:
    batch, size = [], 0
    for chunk in table:
        batch.append(chunk.read(xorb))
        size += chunk.size
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _placed(terms: Iterable[Term]) -> Iterator[tuple[Term, int]]:
    """Each term with the position in the file at which it begins."""
    at = 0
    for term in terms:
        yield term, at
        at += term.size
