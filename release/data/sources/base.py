"""Sources of rows, each as a stream of tables (query, document[, label]) with its revision: local files, BEIR folders, the Hub."""

from __future__ import annotations

import glob
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from release.data.shards import ROWS, TEXTS
from release.data.spec import BeirSource, ConfigSpec, FileSource, HubSource
from release.errors import ReleaseError

BATCH_ROWS = 16_384
BUFFER = 2**20  # bytes of a column that are read at once
FORMATS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json", ".ndjson": "json"}


@dataclass(frozen=True)
class Opened:
    """A source that was found and has the declared columns.

    Attributes:
        rows: Rows before any filter.
        kept: How many of them the filters keep.
        dropped: Why the others were left out -> how many.
        revision: What was read: a commit of the Hub, or a hash of the local files.
        tables: A fresh stream of the kept rows, in the source's order.
    """

    rows: int
    kept: int
    dropped: dict[str, int]
    revision: str
    tables: Callable[[], Iterator[pa.Table]]


def schema(config: ConfigSpec) -> pa.Schema:
    """The columns that the config's pairs have: with a label where the source gives it."""
    return ROWS if config.labels == "source" else TEXTS


def open_source(config: ConfigSpec, root: Path = Path()) -> Opened:
    """Find the config's source and check its columns; relative paths start at `root`.

    Raises:
        ReleaseError: It is missing, unreachable, gone, or lacks a column; the config and the column are named.
    """
    if isinstance(config.source, HubSource):
        from release.data.sources.hub import parquet_files

        filesystem, files, revision = parquet_files(config.source, f"config {config.name}, {config.source.label}")
        return _tabular(config, ds.dataset(files, format="parquet", filesystem=filesystem), revision)
    if isinstance(config.source, FileSource):
        files = _local_files(config, root)
        return _tabular(config, _local_dataset(config, files), config.source.revision or fingerprint(files))
    if isinstance(config.source, BeirSource):
        return _beir(config, root / config.source.path)
    if config.source.kind in ("retrieval", "hf-retrieval"):
        from release.data.sources.retrieval import open_retrieval

        return open_retrieval(config, root)
    raise ValueError(f"no reader for a source of kind {config.source.kind}")


def fingerprint(files: list[Path]) -> str:
    """A hash over names and contents: the revision of local files."""
    from hashlib import sha256

    from release.files import sha256_file

    return sha256("\n".join(f"{path.name} {sha256_file(path)}" for path in files).encode()).hexdigest()


# --- Tables -----------------------------------------------------------------------------------------------------------


def _local_files(config: ConfigSpec, root: Path) -> list[Path]:
    assert isinstance(config.source, FileSource)
    place = root / config.source.path
    if place.is_dir():
        files = [path for path in sorted(place.rglob("*")) if path.suffix in FORMATS]
    else:
        files = [Path(name) for name in sorted(glob.glob(str(place)))]  # noqa: PTH207 - the pattern may be absolute
    if not files:
        raise ReleaseError(
            f"no file at {config.source.path}", where=f"config {config.name}", hint="correct source.path"
        )
    return files


def _local_dataset(config: ConfigSpec, files: list[Path]) -> ds.Dataset:
    form = FORMATS.get(files[0].suffix)
    if form is None:
        raise ReleaseError(
            f"unknown kind of file {files[0].name}", where=f"config {config.name}", hint=", ".join(FORMATS)
        )
    options: Any = form
    if form == "csv":
        options = ds.CsvFileFormat(parse_options=pa.csv.ParseOptions(newlines_in_values=True))
    try:
        return ds.dataset([str(path) for path in files], format=options)
    except (pa.ArrowInvalid, OSError) as error:
        raise ReleaseError(
            f"unreadable ({str(error).splitlines()[0][:200]})", where=f"config {config.name}", hint="fix the file"
        ) from error


def _tabular(config: ConfigSpec, data: ds.Dataset, revision: str) -> Opened:
    names, filters = config.columns, config.filters
    wanted = {"query": names.query, "document": names.document}
    if config.labels == "source":
        wanted["label"] = str(names.label)
    marks = {key: name for key, name in (("drop", filters.drop), ("duplicate", filters.duplicate)) if name}
    _check_columns(config, data.schema, wanted, marks)
    rows, dropped = 0, Counter[str]()
    for batch in _batches(config, data, list(marks.values()), unless_null=[names.query, names.document]):
        rows += batch.num_rows
        dropped.update({reason: int(met.sum()) for reason, met in _left_out(config, batch).items()})

    def stream() -> Iterator[pa.Table]:
        for batch in _batches(config, data, [*wanted.values(), *marks.values()]):
            left_out = np.logical_or.reduce(list(_left_out(config, batch).values()))
            table = pa.table({ours: batch[theirs] for ours, theirs in wanted.items()})
            if left_out.any():
                table = table.filter(pa.array(~left_out))
            if table.num_rows:
                yield as_rows(config, table)

    return Opened(
        rows, rows - dropped.total(), {why: count for why, count in dropped.items() if count}, revision, stream
    )


def _left_out(config: ConfigSpec, batch: pa.RecordBatch) -> dict[str, np.ndarray]:
    """Reason -> which rows it leaves out, bool of shape (rows,); a row counts for the first reason. Only present columns count."""
    names, filters = config.columns, config.filters
    nothing = np.zeros(batch.num_rows, bool)
    reasons, seen = {"no text": nothing.copy()}, nothing
    for name in {names.query, names.document} & set(batch.schema.names):
        if batch[name].null_count:
            reasons["no text"] |= _flags(pc.is_null(batch[name]))
    if filters.drop:
        reasons["drop"] = _flags(pc.fill_null(batch[filters.drop], False))
    if filters.duplicate:
        reasons["duplicate"] = _flags(pc.is_valid(batch[filters.duplicate]))
    for reason, met in reasons.items():
        reasons[reason] = met & ~seen
        seen = seen | met
    return reasons


def _flags(found: pa.Array) -> np.ndarray:
    return found.to_numpy(zero_copy_only=False)


def _batches(
    config: ConfigSpec, data: ds.Dataset, columns: list[str], *, unless_null: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Some columns of all rows in order, 16,384 rows at a time: of parquet never a whole row group, however large it is.

    Args:
        unless_null: Columns that are read too, unless a file's statistics say that they hold no null.
    """
    for fragment in data.get_fragments():
        if not isinstance(fragment, ds.ParquetFileFragment):
            yield from fragment.to_batches(columns=[*columns, *unless_null], batch_size=BATCH_ROWS, batch_readahead=2)
            continue
        with pq.ParquetFile(fragment.open(), buffer_size=BUFFER, pre_buffer=False) as file:
            asked = list(dict.fromkeys([*columns, *(name for name in unless_null if _may_be_null(file, name))]))
            if missing := set(asked) - set(file.schema_arrow.names):
                what = f"no column {min(missing)!r} in {fragment.path}"
                raise ReleaseError(
                    what, where=f"config {config.name}, {config.source.label}", hint="fix or remove that file"
                )
            yield from file.iter_batches(BATCH_ROWS, columns=asked)


def _may_be_null(file: pq.ParquetFile, name: str) -> bool:
    """Whether a column's statistics leave open that it holds a null."""
    place = file.schema_arrow.names.index(name) if name in file.schema_arrow.names else -1
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    flat = file.metadata.num_columns == len(file.schema_arrow.names)
    found = [group.column(place).statistics for group in groups] if flat and place >= 0 else [None]
    return any(each is None or not each.has_null_count or each.null_count for each in found)


def _check_columns(config: ConfigSpec, found: pa.Schema, wanted: dict[str, str], filters: dict[str, str]) -> None:
    where = f"config {config.name}, {config.source.label}"
    for key, name in {**wanted, **filters}.items():
        if name not in found.names:
            section = "filters" if key in filters else "columns"
            raise ReleaseError(
                f"no column {name!r} (there are: {', '.join(found.names)})",
                where=where,
                hint=f"correct {section}.{key}",
            )
        kind = found.field(name).type
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)
        number = pa.types.is_floating(kind) or pa.types.is_integer(kind)
        good = {"label": number, "drop": pa.types.is_boolean(kind), "duplicate": True}.get(key, text)
        if not good:
            expected = {"label": "numbers", "drop": "true or false"}.get(key, "text")
            raise ReleaseError(
                f"column {name!r} holds {kind}, not {expected}", where=where, hint=f"correct {key}, or the source"
            )


def as_rows(config: ConfigSpec, table: pa.Table) -> pa.Table:
    """`table` in the config's schema; a label that is no finite number stops the config.

    Raises:
        ReleaseError: A label is missing, NaN or infinite.
    """
    table = table.select(schema(config).names).cast(schema(config))
    if "label" in table.column_names:
        finite = pc.fill_null(pc.is_finite(table["label"]), False)
        if not pc.all(finite).as_py():
            bad = pc.index(finite, False).as_py()
            raise ReleaseError(
                f"the label of the pair with query {table['query'][bad].as_py()[:60]!r} is {table['label'][bad].as_py()}",
                where=f"config {config.name}, {config.source.label}",
                hint="remove that row, or let the teacher label the config (labels: teacher)",
            )
    return table


# --- BEIR folders -----------------------------------------------------------------------------------------------------


def _beir(config: ConfigSpec, folder: Path) -> Opened:
    """Judged pairs of a BEIR folder: `split` names the judgements (`train` reads qrels/train.tsv or qrels.train.tsv)."""
    assert isinstance(config.source, BeirSource)
    split = config.source.split
    names = [f"qrels/{split}.tsv", f"qrels.{split}.tsv"] if split else ["qrels.tsv", "qrels/test.tsv"]
    qrels = next((folder / name for name in names if (folder / name).is_file()), None)
    corpus = next((path for path in (folder / "corpus.jsonl", folder / "corpus.jsonl.gz") if path.is_file()), None)
    queries = [p for name in (f"queries.{split}.jsonl", "queries.jsonl") if (p := folder / name).is_file()]
    if qrels is None or corpus is None or not queries:
        missing = names[0] if qrels is None else "corpus.jsonl" if corpus is None else "queries.jsonl"
        raise ReleaseError(
            f"no {missing} in {config.source.path}", where=f"config {config.name}", hint="give a folder in BEIR's form"
        )
    texts = {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in _jsonl(corpus)}
    asked = {row["_id"]: row["text"] for row in _jsonl(queries[0])}
    rows, dropped = [], {}
    for query, document, score in _judgements(qrels):
        if query in asked and document in texts:
            rows.append((asked[query], texts[document], score))
        else:
            dropped["no text"] = dropped.get("no text", 0) + 1
    columns = dict(zip(("query", "document", "label"), map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    table = pa.table(columns or {name: [] for name in ROWS.names}, schema=ROWS)
    revision = config.source.revision or fingerprint([corpus, queries[0], qrels])
    total = len(rows) + sum(dropped.values())
    return Opened(total, len(rows), dropped, revision, lambda: iter([as_rows(config, table)] if rows else []))


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.strip():
                yield json.loads(line)


def _judgements(path: Path) -> Iterator[tuple[str, str, float]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        query, document, score = line.split("\t")
        if score.strip().lstrip("-").replace(".", "", 1).isdigit():  # the first line is a heading
            yield query, document, float(score)
