"""Retrieval sources: documents, queries and scored candidate lists, sampled by release/data/sampling.py and joined into rows.

Three tables, one split per domain: `documents` (document_id, document), `queries` (query_id, query), and `scores` (query_id,
document_ids, scores, positive_ids), where a query has up to 2048 scored candidates. Candidates are sampled first, as numbers;
only then are the texts of those that stay looked up, in a file that is mapped into memory and never read as a whole.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from release.console import say
from release.data import sampling
from release.data.sources.base import BATCH_ROWS, Source, as_rows, fingerprint, where
from release.data.sources.hub import parquet_files
from release.errors import ReleaseError
from release.spec import ConfigSpec, HubRetrievalSource, HubSource, RetrievalSource

QUERIES_AT_ONCE = 256  # 2048 candidates each: half a million numbers, a few megabytes
COLUMNS = {  # table -> column -> what it holds
    "documents": {"document_id": "ids", "document": "text"},
    "queries": {"query_id": "ids", "query": "text"},
    "scores": {
        "query_id": "ids",
        "document_ids": "lists of ids",
        "scores": "lists of numbers",
        "positive_ids": "lists of ids",
    },
}
SAMPLED = pa.schema([("query", pa.int64()), ("document", pa.int64()), ("label", pa.float32())])


def open_candidates(config: ConfigSpec, source: RetrievalSource | HubRetrievalSource, root: Path) -> Source:
    """Sample the config's candidates; the stream then looks their texts up, 16,384 rows at a time.

    Raises:
        ReleaseError: A table or column is missing or of another type, or a score is no finite number; the config, table and
            query are named.
    """
    tables, revision, license = _tables(config, source, root)
    folder = tempfile.TemporaryDirectory(prefix="mix-retrieval-")
    documents = TextTable.write(tables["documents"], "document_id", "document", Path(folder.name) / "documents.arrow")
    queries = TextTable.write(tables["queries"], "query_id", "query", Path(folder.name) / "queries.arrow")
    _warn_of_repeats(config, {"documents": documents, "queries": queries})
    sampled = Path(folder.name) / "sampled.parquet"
    counts = {"rows": 0, "no text": 0, "duplicate": 0, "not sampled": 0}
    with pq.ParquetWriter(sampled, SAMPLED) as writer:
        for table in _sampled(config, tables["scores"], queries, documents, counts):
            writer.write_table(table)

    def stream() -> Iterator[pa.Table]:
        assert folder.name  # keeps the mapped files alive for as long as the stream
        for batch in pq.ParquetFile(sampled).iter_batches(BATCH_ROWS):
            texts = {"query": queries.take(batch["query"]), "document": documents.take(batch["document"])}
            yield as_rows(config, pa.table({**texts, "label": batch["label"]}))

    rows = counts.pop("rows")
    dropped = {reason: count for reason, count in counts.items() if count}
    return Source(rows, rows - sum(dropped.values()), dropped, revision, stream, license)


# --- Tables -----------------------------------------------------------------------------------------------------------


def _tables(
    config: ConfigSpec, source: RetrievalSource | HubRetrievalSource, root: Path
) -> tuple[dict[str, ds.Dataset], str, str | None]:
    """The three tables of the config's domain, their columns checked, their revision and what their card calls the licence."""
    tables: dict[str, ds.Dataset] = {}
    revisions, license = [], None
    for name in COLUMNS:
        folder = source.scores if name == "scores" else name
        if isinstance(source, HubRetrievalSource):
            hub = HubSource("hf", source.repository, folder, source.domain, source.revision)
            there = parquet_files(hub, f"config {config.name}, {hub.label}", "source.domain")
            filesystem, files, revisions, license = there.filesystem, there.names, [there.commit], there.license
        else:
            filesystem, files = None, _local_files(config, source, root, folder)
            revisions.append(fingerprint([Path(file) for file in files]))
        try:
            tables[name] = ds.dataset(files, format="parquet", filesystem=filesystem)
        except (pa.ArrowException, OSError) as error:
            what = f"unreadable ({' '.join(str(error).split())[:200]})"
            raise ReleaseError(what, where=f"config {config.name}, table {folder}", hint="fix the file") from error
        _check_columns(config, folder, tables[name].schema, COLUMNS[name])
    _check_ids(config, tables)
    joined = revisions[0] if len(revisions) == 1 else hashlib.sha256("\n".join(revisions).encode()).hexdigest()
    return tables, source.revision or joined, license


def _local_files(config: ConfigSpec, source: RetrievalSource, root: Path, folder: str) -> list[str]:
    """The domain's files: `nq.parquet`, or numbered ones such as `nq-00000-of-00002.parquet`, but none of a domain `nq-long`."""
    numbered = re.compile(rf"{re.escape(source.domain)}([-_.]\d+([-_.]of[-_.]\d+)?)?\.parquet")
    near = sorted((root / source.path / folder).glob(f"{source.domain}*.parquet"))
    files = [file for file in near if numbered.fullmatch(file.name)]
    if not files:
        there = f" (there is {near[0].name})" if near else ""
        what = f"no file {folder}/{source.domain}.parquet or {source.domain}-00000.parquet in {source.path}{there}"
        raise ReleaseError(what, where=f"config {config.name}", hint="correct source.path or source.domain")
    if odd := [file for file in files if not file.is_file()]:  # reading a pipe or a device would never end
        raise ReleaseError("no file, but something else or a link to nothing", where=str(odd[0]), hint="remove it")
    return list(map(str, files))


def _check_columns(config: ConfigSpec, table: str, schema: pa.Schema, columns: dict[str, str]) -> None:
    location = f"config {config.name}, table {table}"
    for column, holds in columns.items():
        if column not in schema.names:
            what = f"no column {column!r} (there are: {', '.join(schema.names)})"
            raise ReleaseError(what, where=location, hint="correct the source")
        kind = schema.field(column).type
        if holds.startswith("lists"):
            kind = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else None
        good = {
            "ids": lambda kind: pa.types.is_integer(kind) or _is_text(kind) or pa.types.is_null(kind),
            "numbers": lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind),
            "text": _is_text,
        }[holds.rpartition(" ")[2]]
        if kind is None or not good(kind):
            what = f"column {column!r} holds {schema.field(column).type}, not {holds}"
            raise ReleaseError(what, where=location, hint="correct the source")


def _check_ids(config: ConfigSpec, tables: dict[str, ds.Dataset]) -> None:
    """Refuse ids that are text in one table and numbers in another: none of them would meet."""
    scores = tables["scores"].schema
    pairs = {
        "document_id": (
            tables["documents"].schema.field("document_id").type,
            scores.field("document_ids").type.value_type,
        ),
        "query_id": (tables["queries"].schema.field("query_id").type, scores.field("query_id").type),
        "positive_ids": (scores.field("document_ids").type.value_type, scores.field("positive_ids").type.value_type),
    }
    for name, (left, right) in pairs.items():
        if _is_text(left) != _is_text(right) and not (pa.types.is_null(left) or pa.types.is_null(right)):
            what = f"{name} is {left} in one table and {right} in the other"
            raise ReleaseError(what, where=where(config), hint="write the ids in one type")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


@dataclass(frozen=True)
class TextTable:
    """Texts by id in a mapped Arrow file: `ids` sorted, `rows` where each of them stands in the file."""

    ids: np.ndarray
    rows: np.ndarray
    file: pa.ChunkedArray

    @classmethod
    def write(cls, source: ds.Dataset, key: str, text: str, path: Path) -> TextTable:
        """Copy two columns of `source` to an Arrow file at `path` and map it; rows without an id or a text are left out."""
        schema = pa.schema([("text", pa.large_string())])
        parts = []
        with pa.ipc.new_file(path, schema) as writer:
            for batch in source.to_batches(columns=[key, text]):
                batch = batch.filter(pc.and_(pc.is_valid(batch[key]), pc.is_valid(batch[text])))
                parts.append(_ids(batch[key]))
                writer.write_table(pa.table({"text": batch[text].cast(pa.large_string())}, schema=schema))
        parts = [part for part in parts if len(part)]
        ids = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        order = np.argsort(ids, kind="stable")
        return cls(ids[order], order, pa.ipc.open_file(pa.memory_map(str(path))).read_all()["text"])

    @property
    def repeats(self) -> int:
        """How many rows have an id that was there before; the first row of an id counts."""
        return int((self.ids[1:] == self.ids[:-1]).sum())

    def locate(self, ids: np.ndarray) -> np.ndarray:
        """The row of each id in the file, or -1: int64 of the same shape."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        nearest = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[nearest] == ids, self.rows[nearest], -1)

    def take(self, rows: pa.Array) -> pa.ChunkedArray:
        """The texts at `rows` of the file."""
        return self.file.take(rows)


def _warn_of_repeats(config: ConfigSpec, tables: dict[str, TextTable]) -> None:
    for name, table in tables.items():
        if table.repeats:
            what = f"{table.repeats:,} rows of {name} have an id that was there before and do not count"
            say(f"warning: config {config.name}: {what}", sys.stderr)


# --- Candidates -------------------------------------------------------------------------------------------------------


def _sampled(
    config: ConfigSpec, scores: ds.Dataset, queries: TextTable, documents: TextTable, counts: dict[str, int]
) -> Iterator[pa.Table]:
    """Tables of (row of the query, row of the document, label), sampled; `counts` says what was left out."""
    assert config.sampling is not None  # the declaration was checked
    seed = int.from_bytes(hashlib.sha256(config.name.encode()).digest()[:4], "big")
    for batch in scores.to_batches(columns=list(COLUMNS["scores"]), batch_size=QUERIES_AT_ONCE):
        if not batch.num_rows:
            continue
        lists = candidate_lists(batch, config)
        document, query = documents.locate(lists.documents), queries.locate(lists.queries)
        known = (document >= 0) & (query[lists.owner] >= 0) & lists.valid
        fresh = _first_of_each(lists.owner, lists.documents)
        usable = known & fresh
        lengths = np.bincount(lists.owner[usable], minlength=len(lists.queries))
        starts = np.concatenate([[0], np.cumsum(lengths)])
        labels, document, owner = lists.scores[usable], document[usable], lists.owner[usable]
        rows = sampling.sample_candidates(starts, labels, lists.positive[usable], lists.keys, config.sampling, seed)
        counts["rows"] += len(usable)
        counts["no text"] += int((~known).sum())
        counts["duplicate"] += int((known & ~fresh).sum())
        counts["not sampled"] += len(labels) - len(rows)
        columns = {"query": query[owner[rows]], "document": document[rows], "label": labels[rows]}
        yield pa.table(columns, schema=SAMPLED)


@dataclass(frozen=True)
class CandidateLists:
    """The candidate lists of some queries, flattened.

    `queries` and `keys` have one entry per query; `owner` (which query), `documents`, `scores`, `positive` and `valid` (whether
    document and query have an id at all) one per candidate.
    """

    queries: np.ndarray
    keys: np.ndarray
    owner: np.ndarray
    documents: np.ndarray
    scores: np.ndarray
    positive: np.ndarray
    valid: np.ndarray


def candidate_lists(batch: pa.RecordBatch, config: ConfigSpec) -> CandidateLists:
    """Flatten one batch of the scores' table.

    Raises:
        ReleaseError: A query has as many documents as it has no scores, or a score is missing, NaN or infinite.
    """
    location = f"config {config.name}, table scores"
    ids, scores = batch["document_ids"], batch["scores"]
    lengths = np.asarray(pc.fill_null(pc.list_value_length(ids), 0))
    scored = np.asarray(pc.fill_null(pc.list_value_length(scores), 0))
    if not np.array_equal(lengths, scored):
        what = f"query {_shown(batch, int((lengths != scored).argmax()))} has not as many scores as documents"
        raise ReleaseError(what, where=location, hint="remove that row from the source")
    if lengths.max() > sampling.POSITION_MASK:
        what = f"query {_shown(batch, int(lengths.argmax()))} has {lengths.max():,} candidates"
        raise ReleaseError(what, where=location, hint=f"{sampling.POSITION_MASK:,} at most")
    owner = np.repeat(np.arange(len(lengths)), lengths)
    values = np.asarray(pc.fill_null(scores.flatten().cast(pa.float32(), safe=False), np.nan))
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).argmax())
        name = {True: "NaN", False: "infinite"}[bool(np.isnan(values[bad]))]
        what = f"a score of query {_shown(batch, int(owner[bad]))} is {name}"
        raise ReleaseError(what, where=location, hint="remove that row from the source")
    documents, queries = ids.flatten(), batch["query_id"]
    valid = _valid(documents) & _valid(queries)[owner]
    judged = np.asarray(pc.fill_null(pc.list_value_length(batch["positive_ids"]), 0))
    marked, by = batch["positive_ids"].flatten(), np.repeat(np.arange(len(judged)), judged)
    positive = _members(owner, _ids(documents), by[_valid(marked)], _ids(marked.drop_null()))
    return CandidateLists(_ids(queries), _keys(_ids(queries)), owner, _ids(documents), values, positive & valid, valid)


def _shown(batch: pa.RecordBatch, row: int) -> str:
    """A query's id for a message."""
    value = _ids(batch["query_id"])[row]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _valid(column: pa.Array) -> np.ndarray:
    return np.asarray(pc.is_valid(column))


def _ids(column: pa.Array) -> np.ndarray:
    """Ids as a numpy array: int64, or text as its bytes; a null becomes 0 or the empty text.

    Left to numpy, nulls and mixed signs would become floats, in which large ids are no longer apart.
    """
    if _is_text(column.type):
        return np.array(pc.fill_null(column, "").cast(pa.large_binary()).to_pylist(), dtype=np.bytes_)
    return np.asarray(pc.fill_null(column.cast(pa.int64(), safe=False), 0))


def _keys(queries: np.ndarray) -> np.ndarray:
    """A number per query that names it in the draws, the same in every run."""
    if queries.dtype.kind == "i":
        return sampling.scatter(queries.astype(np.uint64))
    digests = [hashlib.sha256(bytes(query)).digest()[:8] for query in queries]
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)


def _codes(owner: np.ndarray, documents: np.ndarray) -> Any:
    """One integer per (query, document), equal only for equal ones."""
    distinct, inverse = np.unique(documents, return_inverse=True)
    return owner * max(len(distinct), 1) + inverse


def _first_of_each(owner: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Which candidates are the first of their document in their query's list."""
    fresh = np.zeros(len(owner), bool)
    fresh[np.unique(_codes(owner, documents), return_index=True)[1]] = True
    return fresh


def _members(owner: np.ndarray, documents: np.ndarray, by: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Which candidates are among the documents that are marked for their query."""
    if not len(marked):
        return np.zeros(len(owner), bool)
    codes = _codes(np.concatenate([owner, by]), np.concatenate([documents, marked]))
    return np.isin(codes[: len(owner)], codes[len(owner) :])
