"""A folder in BEIR's form: its three files, its revision, its rows. The only reader of such folders, without mteb or torch."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from release.console import say
from release.errors import ReleaseError
from release.files import sha256_file
from release.text_files import damaged, is_unicode, json_rows, lines, number

FORM = "a folder in BEIR's form holds corpus.jsonl, queries.jsonl (either may end in .gz) and qrels.tsv"
COLUMNS = "three columns between tabs: query, document, relevance"
HEADINGS = {"score", "relevance", "rel", "label", "grade", "judgement", "judgment"}  # what the last column is called
LARGEST = 10_000  # trec_eval's memory grows with the largest relevance; people judge in a handful of grades


class BeirFiles(NamedTuple):
    """The three files of a BEIR folder."""

    corpus: Path
    queries: Path
    qrels: Path


def files(folder: Path, split: str | None = None) -> BeirFiles:
    """The corpus, queries and judgements of a BEIR folder; `split` names other judgements than the test ones.

    Raises:
        ReleaseError: One of them is missing, or is there twice.
    """
    if not folder.is_dir():
        raise ReleaseError(f"no collection {folder}", hint=FORM)
    queries = ["queries.jsonl", "queries.jsonl.gz"]
    if split is not None and any((folder / f"queries.{split}{end}").is_file() for end in (".jsonl", ".jsonl.gz")):
        queries = [f"queries.{split}.jsonl", f"queries.{split}.jsonl.gz"]
    qrels = ["qrels.tsv", "qrels/test.tsv"] if split is None else [f"qrels/{split}.tsv", f"qrels.{split}.tsv"]
    names = [["corpus.jsonl", "corpus.jsonl.gz"], queries, qrels]
    there = [[name for name in some if (folder / name).is_file()] for some in names]
    if absent := [some for some, matches in zip(names, there, strict=True) if not matches]:
        what = ", ".join(f"no {' or '.join(some)}" for some in absent)
        raise ReleaseError(what, where=str(folder), hint=FORM)
    if twice := next((matches for matches in there if len(matches) > 1), None):
        raise ReleaseError(f"both {' and '.join(twice)}", where=str(folder), hint="keep one of the two")
    return BeirFiles(*(folder / name for (name,) in there))


def revision(folder: Path) -> str:
    """A hash over the three files of a BEIR folder: it moves whenever the collection does."""
    hashes = "\n".join(sha256_file(path) for path in files(folder))
    return hashlib.sha256(hashes.encode()).hexdigest()[:40]


def texts(path: Path) -> Iterator[tuple[str, str, str]]:
    """(id, title, text) of every row; of rows with the same id the first counts, and a warning says how many others.

    Raises:
        ReleaseError: A row is damaged, or has no id or text; file and row are named.
    """
    seen: set[str] = set()
    repeated = 0
    for row_number, row in json_rows(path):
        key, title, text = row.get("_id"), row.get("title"), row.get("text")
        title = "" if title is None else title
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)
        if not isinstance(key, str) or not key:
            raise damaged(path, row_number, f"_id is {key!r}, not text or a whole number"[:200])
        if "\0" in key:  # trec_eval would read no further
            raise damaged(path, row_number, "_id holds a NUL")
        if not isinstance(title, str) or not isinstance(text, str):
            raise damaged(path, row_number, "title or text is no string", "write a text, or remove the row")
        if not (is_unicode(key) and is_unicode(title) and is_unicode(text)):
            raise damaged(path, row_number, "it holds a lone surrogate, which is no character", "remove it")
        if key in seen:
            repeated += 1
            continue
        seen.add(key)
        yield key, title, text
    if repeated:
        say(f"warning: {path}: {repeated} rows left out, their _id was there before", sys.stderr)


def document_text(title: str | None, text: str) -> str:
    """Title and text in one string, as mteb gives them to every model."""
    return f"{title or ''} {text}".strip()


# --- Judgements -------------------------------------------------------------------------------------------------------


def judgements(path: Path) -> dict[str, dict[str, int]]:
    """Query -> document -> relevance, from `query document relevance` rows with or without a heading.

    Raises:
        ReleaseError: A row does not parse, judges a pair otherwise than an earlier row, or with no sane whole number.
    """
    by_query: dict[str, dict[str, int]] = {}
    for row, query, document, value in _judgements(path):
        if value % 1 or abs(value) > LARGEST:
            what = f"a relevance of {value:g}, which is no whole number up to {LARGEST:,}"
            raise ReleaseError(what, where=f"{path} row {row}", hint="judge in whole grades, such as 0, 1 and 2")
        by_query.setdefault(query, {})[document] = int(value)
    return by_query


class Judged(NamedTuple):
    """What can be measured on: id -> (title, text), id -> text, query -> document -> relevance of queries with a positive one."""

    documents: dict[str, tuple[str, str]]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]


def judged(folder: Path) -> Judged:
    """A whole folder; queries without a positive judgement cannot be measured and are left out.

    Raises:
        ReleaseError: A file is missing or a row is damaged; file and row are named.
    """
    corpus_file, queries_file, qrels_file = files(folder)
    documents = {key: (title, text) for key, title, text in texts(corpus_file)}
    queries = {key: text for key, _, text in texts(queries_file)}
    every = judgements(qrels_file)
    for query in every:
        if query not in queries:
            what = f"query {query!r} is judged but has no text"
            raise ReleaseError(what, where=str(qrels_file), hint=f"add it to {queries_file}")
    positive = {query: levels for query, levels in every.items() if any(level > 0 for level in levels.values())}
    if not documents or not positive:
        raise ReleaseError("no documents, or no query with a positive judgement", where=str(folder), hint=FORM)
    check_documents(every, documents, qrels_file)
    if left := [query for query in every if query not in positive]:
        what = f"{len(left):,} of {len(every):,} judged queries have no relevant document, such as {left[0]!r}"
        say(f"note: {qrels_file}: {what}; they are left out", sys.stderr)
    if blank := [query for query in positive if not queries[query].strip()]:
        what = f"{len(blank):,} of {len(positive):,} judged queries have no text, such as {blank[0]!r}"
        say(f"warning: {queries_file}: {what}", sys.stderr)
    return Judged(documents, queries, positive)


def labels(path: Path) -> dict[str, dict[str, float]]:
    """The same with any finite number, for training on judgements.

    Raises:
        ReleaseError: A row does not parse, or judges a pair otherwise than an earlier row.
    """
    by_query: dict[str, dict[str, float]] = {}
    for _, query, document, value in _judgements(path):
        by_query.setdefault(query, {})[document] = value
    return by_query


def _judgements(path: Path) -> Iterator[tuple[int, str, str, float]]:
    """(row, query, document, value) of every pair that is judged, once."""
    values: dict[tuple[str, str], float] = {}
    first = True
    for row, line in lines(path):
        cells = line.rstrip("\r\n").split("\t")
        if len(cells) == 4:  # TREC's own form has an unused second column
            cells = [cells[0], *cells[2:]]
        heading, first = first and cells[-1].strip().lower() in HEADINGS, first and line.isspace()
        if heading or line.isspace():
            continue
        try:
            if len(cells) != 3:
                raise ValueError(f"{len(cells)} column{'s' * (len(cells) > 1)}")
            query, document, text = cells
            value = number(text)
            if not query or not document:
                raise ValueError("an id is empty")
            if "\0" in query + document:
                raise ValueError("an id holds a NUL")
        except ValueError as error:
            what = f"damaged judgement ({error})"
            raise ReleaseError(what, where=f"{path} row {row}", hint=COLUMNS) from error
        if (before := values.get((query, document), value)) != value:
            what = f"query {query!r} and document {document!r} are judged {before:g} before and {value:g} here"
            raise ReleaseError(what, where=f"{path} row {row}", hint="keep one of the two rows")
        if (query, document) not in values:
            values[query, document] = value
            yield row, query, document, value


def check_documents(judged: Mapping[str, Collection[str]], documents: Collection[str], where: Path) -> None:
    """Warn of judged documents that the corpus does not hold.

    Raises:
        ReleaseError: It holds none of them, so that every measure would be 0.
    """
    absent = [name for names in judged.values() for name in names if name not in documents]
    total = sum(map(len, judged.values()))
    if not absent:
        return
    what = f"{len(absent):,} of {total:,} judgements name a document that is not in the corpus, such as {absent[0]!r}"
    if len(absent) == total:
        some = f"; its ids look like {next(iter(documents))!r}" if documents else ""
        hint = "write the same ids in both files, without blanks, quotes or decimals"
        raise ReleaseError(what + some, where=str(where), hint=hint)
    say(f"warning: {where}: {what}", sys.stderr)


def check_queries(judged: Collection[str], queries: Collection[str], where: Path) -> None:
    """Warn of judged queries without a text.

    Raises:
        ReleaseError: None has one.
    """
    if not (absent := [name for name in judged if name not in queries]):
        return
    what = f"{len(absent):,} of {len(judged):,} judged queries have no text, such as {absent[0]!r}"
    if len(absent) == len(judged):
        raise ReleaseError(what, where=str(where), hint="write the same ids as in the file of queries")
    say(f"warning: {where}: {what}", sys.stderr)


def queries_in_corpus(queries: Mapping[str, str], documents: Mapping[str, tuple[str, str]]) -> set[str]:
    """Queries that are in the corpus under their own id, as ArguAna's do: they would find themselves first.

    Ids that are equal by chance, such as plain numbers, do not count: the texts must be the same.
    """
    return {
        key
        for key, text in queries.items()
        if key in documents and text.split() in (documents[key][1].split(), document_text(*documents[key]).split())
    }
