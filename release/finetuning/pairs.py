"""The user's data as (query, document, label) pairs, one at a time: JSONL, Parquet, CSV, or a folder in BEIR's form.

A row of JSONL or Parquet holds `query` with `positives` and `negatives` (texts, or lists of them), or `query`, `document` and
`label` (or `score`); CSV and TSV hold the latter as columns. Memory does not grow with the file; a BEIR folder's texts are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from release import beir
from release.data.sources.text_rows import csv_rows
from release.errors import ReleaseError
from release.text_files import ending, is_unicode, json_rows, number

FORMS = (
    "a row holds `query` with `positives` and `negatives`, or `query`, `document` and `label` (a number); "
    "the skill's references/data.md shows each form"
)
LABELS = ("label", "score")
BATCH_ROWS = 1_000  # of a Parquet file, in memory at a time
LISTS = ("positives", "positive", "negatives", "negative")
LARGEST = 3.4e38  # labels are kept in float32


class LabelledPair(NamedTuple):
    """One labelled pair, and the row that it comes from."""

    query: str
    document: str
    label: float
    row: int


@dataclass(frozen=True)
class PairSource:
    """Where pairs come from.

    Attributes:
        path: The file or folder that the user named.
        pairs: Reads all pairs anew at each call.
        corpus: All documents that can be found, for a BEIR folder; None where only the labelled ones are known.
    """

    path: Path
    pairs: Callable[[], Iterator[LabelledPair]]
    corpus: Callable[[], Iterator[str]] | None = None

    def first(self, count: int) -> PairSource:
        """The same with the first `count` pairs only."""
        return replace(self, pairs=lambda: islice(self.pairs(), count))


def open_pairs(path: Path, split: str | None = None) -> PairSource:
    """The pairs of a file, or of a BEIR folder's judgements; `split` names other judgements than the test ones.

    Raises:
        ReleaseError: There is no such file, or it is of no known form.
    """
    if path.is_dir():
        corpus = beir.files(path, split).corpus
        return PairSource(path, lambda: _judged(path, split), lambda: _documents(corpus))
    if not path.is_file():
        raise ReleaseError(
            f"no data at {path}", hint="a .jsonl, .parquet, .csv or .tsv file, or a folder in BEIR's form"
        )
    readers = {".jsonl": _json, ".ndjson": _json, ".parquet": _parquet, ".csv": _csv, ".tsv": _csv}
    if (kind := ending(path)) not in readers:
        raise ReleaseError(f"unknown kind of file {path.name}", hint=f"one of {', '.join(readers)}")
    reader = readers[kind]
    return PairSource(path, lambda: reader(path))


def _documents(corpus: Path) -> Iterator[str]:
    return (beir.document_text(title, text) for _, title, text in beir.texts(corpus))


def _judged(folder: Path, split: str | None) -> Iterator[LabelledPair]:
    """The judged pairs of a BEIR folder whose query and document have a text."""
    corpus_file, queries_file, qrels_file = beir.files(folder, split)
    documents = {key: beir.document_text(title, text) for key, title, text in beir.texts(corpus_file)}
    queries = {key: text for key, _, text in beir.texts(queries_file)}
    judgements = beir.judgements(qrels_file)
    beir.check_documents(judgements, documents, qrels_file)
    for row, (query, levels) in enumerate(judgements.items(), 1):
        if query not in queries:
            what = f"query {query!r} is judged but has no text"
            raise ReleaseError(what, where=str(qrels_file), hint=f"add it to {queries_file}")
        for name, level in levels.items():
            if name in documents:
                # A grade below 0 gains nothing in the evaluation, as 0 does.
                yield _pair(queries[query], documents[name], float(max(level, 0)), row, qrels_file)


def _json(path: Path) -> Iterator[LabelledPair]:
    for row, value in json_rows(path):
        yield from _row(value, row, path)


def _parquet(path: Path) -> Iterator[LabelledPair]:
    row = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS):
            for value in batch.to_pylist():
                row += 1
                yield from _row({name: cell for name, cell in value.items() if cell is not None}, row, path)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        what = f"no Parquet file that can be read ({str(error).splitlines()[0][:100]})"
        raise ReleaseError(what, where=f"{path} after row {row}", hint="write it again") from error


def _row(value: dict[str, Any], row: int, path: Path) -> Iterator[LabelledPair]:
    query = value.get("query")
    if not isinstance(query, str):
        raise _wrong(path, row, "no text under `query`")
    if label_name := _one_of(value, LABELS, path, row):
        _one_of(value, (label_name, *LISTS), path, row)
        yield _pair(query, value.get("document"), value[label_name], row, path)
        return
    positives, negatives = (_texts(value, names, path, row) for names in ("positives", "negatives"))
    if not positives:
        raise _wrong(path, row, "neither `positives` nor `document` and `label`")
    yield from (_pair(query, text, 1.0, row, path) for text in positives)
    yield from (_pair(query, text, 0.0, row, path) for text in negatives)


def _one_of(value: dict[str, Any], names: tuple[str, ...], path: Path, row: int) -> str | None:
    """The one of these names that a row has; of two, nothing says which counts."""
    there = [name for name in names if name in value]
    if len(there) > 1:
        raise _wrong(path, row, f"both `{there[0]}` and `{there[1]}`: keep the one that counts")
    return there[0] if there else None


def _texts(value: dict[str, Any], name: str, path: Path, row: int) -> list[Any]:
    """The texts under `positives` or `positive`: one, or a list."""
    texts = value.get(_one_of(value, (name, name.removesuffix("s")), path, row) or name, [])
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, list):
        raise _wrong(path, row, f"`{name}` is a {type(texts).__name__}, not a list of texts")
    return texts


def _csv(path: Path) -> Iterator[LabelledPair]:
    header: list[str] = []
    for row, value in csv_rows(path, header):
        label_name = _one_of(value, LABELS, path, 1)
        if absent := [name for name in ("query", "document") if name not in value] + ["label"] * (label_name is None):
            raise _wrong(path, 1, f"no column {absent[0]!r} (there are: {', '.join(header)})")
        try:
            label = number(value[str(label_name)])
        except ValueError as error:
            raise _wrong(path, row, f"the label {error}") from error
        yield _pair(value["query"], value["document"], label, row, path)


def _pair(query: str, document: Any, label: Any, row: int, path: Path) -> LabelledPair:
    if not isinstance(document, str):
        raise _wrong(path, row, f"a document is a {type(document).__name__}, not text")
    if isinstance(label, bool) or not isinstance(label, int | float) or not abs(label) <= LARGEST:
        raise _wrong(path, row, f"the label {repr(label)[:40]} is no finite number in float32")
    for name, text in (("query", query), ("document", document)):
        if not text.strip():
            raise _wrong(path, row, f"the {name} is empty")
        if not is_unicode(text):
            raise _wrong(path, row, f"the {name} holds a lone surrogate, which is no character")
    return LabelledPair(query.strip(), document.strip(), float(label), row)


def _wrong(path: Path, row: int, what: str) -> ReleaseError:
    return ReleaseError(what, where=f"{path} row {row}", hint=FORMS)
