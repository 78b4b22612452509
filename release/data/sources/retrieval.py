"""Retrieval sources: documents, queries and scored candidate lists, thinned by release/data/sampling.py and joined into rows.

Three tables, one split per domain: `documents` (document_id, document), `queries` (query_id, query), and `scores` (query_id,
document_ids, scores, positive_ids), where a query has up to 2048 scored candidates. Candidates are thinned first, as numbers;
only then are the texts of those that stay looked up, in a file that is mapped into memory and never read as a whole.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from release.data import sampling
from release.data.sources.base import Opened, as_rows, fingerprint
from release.data.spec import ConfigSpec, HubRetrievalSource, HubSource, RetrievalSource
from release.errors import ReleaseError

QUERIES_AT_ONCE = 256  # 2048 candidates each: half a million numbers, a few megabytes
ROWS_AT_ONCE = 16_384
COLUMNS = {
    "documents": ("document_id", "document"),
    "queries": ("query_id", "query"),
    "scores": ("query_id", "document_ids", "scores", "positive_ids"),
}
THINNED = pa.schema([("query", pa.int64()), ("document", pa.int64()), ("label", pa.float32())])


def open_retrieval(config: ConfigSpec, root: Path) -> Opened:
    """Thin the config's candidates; the stream then looks their texts up, 16,384 rows at a time.

    Raises:
        ReleaseError: A table or column is missing, or a score is NaN; the config, table and query are named.
    """
    tables, revision = _tables(config, root)
    folder = tempfile.TemporaryDirectory(prefix="mix-retrieval-")
    documents = Texts.write(tables["documents"], "document_id", "document", Path(folder.name) / "documents.arrow")
    queries = Texts.write(tables["queries"], "query_id", "query", Path(folder.name) / "queries.arrow")
    thinned = Path(folder.name) / "thinned.parquet"
    counts = {"rows": 0, "no text": 0, "duplicate": 0, "not sampled": 0}
    with pq.ParquetWriter(thinned, THINNED) as writer:
        for table in _thinned(config, tables["scores"], queries, documents, counts):
            writer.write_table(table)

    def stream() -> Iterator[pa.Table]:
        assert folder.name  # keeps the mapped files alive for as long as the stream
        for batch in pq.ParquetFile(thinned).iter_batches(ROWS_AT_ONCE):
            asked, found = queries.take(batch["query"]), documents.take(batch["document"])
            yield as_rows(config, pa.table({"query": asked, "document": found, "label": batch["label"]}))

    rows = counts.pop("rows")
    dropped = {reason: count for reason, count in counts.items() if count}
    return Opened(rows, rows - sum(dropped.values()), dropped, revision, stream)


@dataclass(frozen=True)
class Texts:
    """Texts by id in a mapped Arrow file: `ids` sorted, `rows` where each of them stands in the file."""

    ids: np.ndarray
    rows: np.ndarray
    file: pa.ChunkedArray

    @classmethod
    def write(cls, source: ds.Dataset, key: str, text: str, path: Path) -> Texts:
        """Copy two columns of `source` to an Arrow file at `path` and map it."""
        schema = pa.schema([("text", pa.large_string())])
        ids = []
        with pa.ipc.new_file(path, schema) as writer:
            for batch in source.to_batches(columns=[key, text]):
                ids.append(np.asarray(batch[key].to_pylist() if pa.types.is_string(batch[key].type) else batch[key]))
                writer.write_table(pa.table({"text": batch[text].cast(pa.large_string())}, schema=schema))
        found = np.concatenate(ids) if ids else np.zeros(0, np.int64)
        order = np.argsort(found, kind="stable")
        return cls(found[order], order, pa.ipc.open_file(pa.memory_map(str(path))).read_all()["text"])

    def locate(self, ids: np.ndarray) -> np.ndarray:
        """The row of each id in the file, or -1: int64 of the same shape."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[place] == ids, self.rows[place], -1)

    def take(self, rows: pa.Array) -> pa.ChunkedArray:
        """The texts at `rows` of the file."""
        return self.file.take(rows)


def _tables(config: ConfigSpec, root: Path) -> tuple[dict[str, ds.Dataset], str]:
    """The three tables of the config's domain, their columns checked, and their revision."""
    source, found, revision = config.source, {}, ""
    assert isinstance(source, HubRetrievalSource | RetrievalSource)
    for name, columns in COLUMNS.items():
        folder = source.scores if name == "scores" else name
        if isinstance(source, HubRetrievalSource):
            from release.data.sources.hub import parquet_files

            hub = HubSource("hf", source.repository, folder, source.domain, source.revision)
            filesystem, files, revision = parquet_files(hub, f"config {config.name}, {hub.label}", "source.domain")
            found[name] = ds.dataset(files, format="parquet", filesystem=filesystem)
        else:
            files = sorted((root / source.path / folder).glob(f"{source.domain}*.parquet"))
            if not files:
                what = f"no file {folder}/{source.domain}*.parquet in {source.path}"
                raise ReleaseError(what, where=f"config {config.name}", hint="correct source.path or source.domain")
            revision = fingerprint([*files]) if not revision else fingerprint_of(revision, fingerprint([*files]))
            found[name] = ds.dataset([str(file) for file in files], format="parquet")
        for column in columns:
            if column not in found[name].schema.names:
                what = f"no column {column!r} (there are: {', '.join(found[name].schema.names)})"
                raise ReleaseError(what, where=f"config {config.name}, table {folder}", hint="correct the source")
    return found, source.revision or revision


def fingerprint_of(*parts: str) -> str:
    """One hash over several."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _thinned(
    config: ConfigSpec, scores: ds.Dataset, queries: Texts, documents: Texts, counts: dict[str, int]
) -> Iterator[pa.Table]:
    """Tables of (row of the query, row of the document, label), thinned; `counts` says what was left out."""
    assert config.sampling is not None  # the checker sees to it
    seed = int.from_bytes(hashlib.sha256(config.name.encode()).digest()[:4], "big")
    for batch in scores.to_batches(columns=list(COLUMNS["scores"]), batch_size=QUERIES_AT_ONCE):
        if not batch.num_rows:
            continue
        lists = candidates(batch, config)
        found, asked = documents.locate(lists.documents), queries.locate(lists.queries)
        known = (found >= 0) & (asked[lists.owner] >= 0)
        fresh = _first_of_each(lists.owner, lists.documents)
        keep = known & fresh
        lengths = np.bincount(lists.owner[keep], minlength=len(lists.queries))
        starts = np.concatenate([[0], np.cumsum(lengths)])
        labels, found, owner = lists.scores[keep], found[keep], lists.owner[keep]
        kept = sampling.thin(starts, labels, lists.positive[keep], lists.keys, config.sampling, seed)
        counts["rows"] += len(keep)
        counts["no text"] += int((~known).sum())
        counts["duplicate"] += int((known & ~fresh).sum())
        counts["not sampled"] += len(labels) - len(kept)
        columns = {"query": asked[owner[kept]], "document": found[kept], "label": labels[kept]}
        yield pa.table(columns, schema=THINNED)


@dataclass(frozen=True)
class Lists:
    """The candidate lists of some queries, flattened.

    `queries` and `keys` have one entry per query; `owner` (which query), `documents`, `scores` and `positive` one per candidate.
    """

    queries: np.ndarray
    keys: np.ndarray
    owner: np.ndarray
    documents: np.ndarray
    scores: np.ndarray
    positive: np.ndarray


def candidates(batch: pa.RecordBatch, config: ConfigSpec) -> Lists:
    """Flatten one batch of the scores' table.

    Raises:
        ReleaseError: A query has as many documents as it has no scores, or a score is missing or NaN.
    """
    where = f"config {config.name}, table scores"
    ids, scores = batch["document_ids"], batch["scores"]
    lengths = np.asarray(ids.value_lengths().fill_null(0))
    if not np.array_equal(lengths, np.asarray(scores.value_lengths().fill_null(0))):
        bad = int((lengths != np.asarray(scores.value_lengths().fill_null(0))).argmax())
        what = f"query {batch['query_id'][bad]} has not as many scores as documents"
        raise ReleaseError(what, where=where, hint="remove that row from the source")
    owner = np.repeat(np.arange(len(lengths)), lengths)
    values = np.asarray(scores.flatten().cast(pa.float32()).fill_null(np.nan))
    if np.isnan(values).any():
        what = f"a score of query {batch['query_id'][int(owner[np.isnan(values).argmax()])]} is NaN"
        raise ReleaseError(what, where=where, hint="remove that row from the source")
    documents = _numbers(ids.flatten())
    judged = np.asarray(batch["positive_ids"].value_lengths().fill_null(0))
    marked = _numbers(batch["positive_ids"].flatten())
    positive = _members(owner, documents, np.repeat(np.arange(len(judged)), judged), marked)
    queries = _numbers(batch["query_id"])
    return Lists(queries, _keys(queries), owner, documents, values, positive)


def _numbers(column: pa.Array) -> np.ndarray:
    """Ids as a numpy array: integers as they are, text as text."""
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return np.asarray(column.to_pylist() if text else column) if len(column) else np.zeros(0, np.int64)


def _keys(queries: np.ndarray) -> np.ndarray:
    """A number per query that names it in the draws, the same in every run."""
    if queries.dtype.kind in "iu":
        return sampling.scatter(queries.astype(np.uint64))
    digests = [hashlib.sha256(str(query).encode()).digest()[:8] for query in queries]
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


def _members(owner: np.ndarray, documents: np.ndarray, judged: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Which candidates are among their query's marked documents."""
    if not len(marked):
        return np.zeros(len(owner), bool)
    codes = _codes(np.concatenate([owner, judged]), np.concatenate([documents, marked]))
    return np.isin(codes[: len(owner)], codes[len(owner) :])
