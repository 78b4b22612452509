"""One pass over the user's pairs that divides them: rows to train on, judgements of the held-out queries, leaks left out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from release import bm25
from release.console import Bar
from release.errors import ReleaseError
from release.files import copy_file
from release.finetuning.leaks import LeakCheck, normalized, same_query
from release.finetuning.pairs import LabelledPair, PairSource
from release.finetuning.survey import Survey, held_out
from release.results.finetuning import FEWEST_MEASURED

BATCH = 20_000  # rows in memory at a time
DEEP = 50  # how far down negatives are looked for
MOST_MINED = 100_000  # queries that negatives are looked for: a millisecond and more each, all in memory
SCHEMA = pa.schema({"query": pa.string(), "document": pa.string(), "label": pa.float32()})
Judged = dict[str, dict[str, int]]  # query text -> document text -> grade


class Divided(NamedTuple):
    """What was written: rows to train on, `mined` of them found here; queries of the two sets; rows left out as leaks."""

    train: int
    dev: int
    test: int
    left_out: int
    mined: int


class Division:
    """One source on its way to a prepared folder.

    Args:
        given: The user's own test data, None where test queries are held out of `source`; `tested` is its survey.
    """

    def __init__(
        self,
        source: PairSource,
        given: PairSource | None,
        seen: Survey,
        tested: Survey | None,
        relevant_from: float | None,
        language: str,
    ) -> None:
        self.source, self.given, self.seen, self.relevant_from, self.language = (
            source,
            given,
            seen,
            relevant_from,
            language,
        )
        self.tested = tested or seen
        self.texts: dict[str, str] = {}  # of each held-out query: as it was first written
        sets = held_out(seen, str(source.path), parts=2 if given is None else 1)
        self.dev_queries, self.test_queries = sets[0], sets[1] if given is None else []
        self.dev, self.test = dict[str, dict[str, int]](), dict[str, dict[str, int]]()
        self.left_out = 0

    def write(self, folder: Path, negatives: int, drop_leaks: bool) -> Divided:
        """Write `train.parquet`, `dev/` and `test/` to `folder`.

        Raises:
            ReleaseError: Queries leak, or there is too little data.
        """
        given = self._given(drop_leaks) if self.given is not None else None
        check = LeakCheck([*self.dev_queries, *self.test_queries])
        rows = self._train(folder / "train.parquet", check, given)
        if not rows:
            raise ReleaseError("no row is left to train on", where=str(self.source.path), hint="give more queries")
        corpus = self._corpus()
        mined = mine(folder / "train.parquet", corpus, negatives, self.language) if negatives else 0
        dev, test = [_write_collection(folder / name, corpus, judged) for name, judged in self._sets()]
        copy_file(folder / "dev/corpus.jsonl", folder / "test/corpus.jsonl")
        return Divided(rows + mined, dev, test, self.left_out, mined)

    def _given(self, drop_leaks: bool) -> LeakCheck | None:
        """Read the given test data; the check that refuses what repeats it, None where that is left out instead."""
        assert self.given is not None
        for pair in self.given.pairs():
            self._judge(self.test, pair, self.tested)
        self.test_queries = list(self.test)
        check = LeakCheck(self.test_queries)
        if not drop_leaks:
            check.check(self.dev_queries, str(self.source.path))
            return check
        repeats = check.repeats(self.dev_queries)
        self.dev_queries = [query for query, repeated in zip(self.dev_queries, repeats, strict=True) if not repeated]
        return None

    def _train(self, path: Path, check: LeakCheck, given: LeakCheck | None) -> int:
        """Write the rows to train on, and keep the judgements of the others; how many were written."""
        dev, test = ({normalized(query) for query in queries} for queries in (self.dev_queries, self.test_queries))
        count = 0
        with pq.ParquetWriter(path, SCHEMA) as writer, Bar("rows", self.seen.pairs) as bar:
            for batch in _batches(self.source.pairs()):
                bar.advance(len(batch))
                keys = [normalized(pair.query) for pair in batch]
                rest = []
                for key, pair in zip(keys, batch, strict=True):
                    if key in dev:
                        self._judge(self.dev, pair, self.seen)
                    elif self.given is None and key in test:
                        self._judge(self.test, pair, self.seen)
                    else:
                        rest.append(pair)
                queries = [pair.query for pair in rest]
                if given is not None:
                    given.check(queries, str(self.source.path))
                repeats = check.repeats(queries) if rest else np.zeros(0, bool)
                self.left_out += int(repeats.sum())
                distinct = [pair for pair, repeated in zip(rest, repeats, strict=True) if not repeated]
                columns = [[pair[field] for pair in distinct] for field in range(3)]
                writer.write_table(pa.table(columns, schema=SCHEMA))
                count += len(distinct)
        return count

    def _judge(self, judged: Judged, pair: LabelledPair, seen: Survey) -> None:
        limit = self.relevant_from
        grade = int(pair.label) if seen.grades or limit is None else int(pair.label >= limit)
        query = self.texts.setdefault(same_query(pair.query), pair.query)
        judged.setdefault(query, {})[pair.document] = grade

    def _corpus(self) -> list[str]:
        """The distinct documents that held-out queries are searched in."""
        documents = self.source.corpus() if self.source.corpus else iter(self.seen.pool)
        if self.given and self.given.corpus and self.given.path != self.source.path:
            documents = chain(documents, self.given.corpus())
        own = (text for judged in (self.dev, self.test) for grades in judged.values() for text in grades)
        return list(dict.fromkeys([*documents, *own]))

    def _sets(self) -> Iterator[tuple[str, Judged]]:
        for name, judged in (("dev", self.dev), ("test", self.test)):
            relevant = {
                query: grades for query, grades in judged.items() if any(grade > 0 for grade in grades.values())
            }
            if len(relevant) < (fewest := FEWEST_MEASURED if name == "test" else 1):
                what = f"{len(relevant)} {name} queries have a relevant document, at least {fewest} are needed"
                hint = "give more queries with relevant documents"
                where = self.given if name == "test" and self.given else self.source
                raise ReleaseError(what, where=str(where.path), hint=hint)
            yield name, relevant


def _batches(pairs: Iterator[LabelledPair]) -> Iterator[list[LabelledPair]]:
    while batch := list(islice(pairs, BATCH)):
        yield batch


def _write_collection(folder: Path, corpus: list[str], judged: Judged) -> int:
    """A held-out set in BEIR's form; the corpus only with the first set, since both have the same. Returns the queries."""
    folder.mkdir()
    number = {text: f"d{index}" for index, text in enumerate(corpus)}
    if folder.name == "dev":
        _write_lines(
            folder / "corpus.jsonl", ({"_id": name, "title": "", "text": text} for text, name in number.items())
        )
    queries = {text: f"q{index}" for index, text in enumerate(judged)}
    _write_lines(folder / "queries.jsonl", ({"_id": name, "text": text} for text, name in queries.items()))
    with (folder / "qrels.tsv").open("w", encoding="utf-8") as stream:
        stream.write("query-id\tcorpus-id\tscore\n")
        for query, grades in judged.items():
            stream.writelines(f"{queries[query]}\t{number[text]}\t{grade}\n" for text, grade in grades.items())
    return len(judged)


def _write_lines(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def mine(path: Path, corpus: list[str], count: int, language: str) -> int:
    """Add to each training query the best `count` documents by BM25 that no row labels, with the label 0.

    Raises:
        ReleaseError: There are too many queries.
    """
    queries = len(pq.read_table(path, columns=["query"])["query"].unique())
    if queries > MOST_MINED:
        what = f"negatives would be looked for {queries:,} queries, at most {MOST_MINED:,} are taken"
        raise ReleaseError(
            what, hint="write negatives that your own first stage finds into the rows, or take fewer queries"
        )
    table = pq.read_table(path)
    labelled, alike = dict[str, set[str]](), dict[str, set[str]]()  # by the query as it is written, and however it is
    for query, document in zip(table["query"].to_pylist(), table["document"].to_pylist(), strict=True):
        labelled.setdefault(query, set()).add(document)
        alike.setdefault(same_query(query), set()).add(document)
    rows: list[tuple[str, str]] = []
    with Bar("negatives: queries", queries) as bar:
        for query, scores in zip(labelled, bm25.Bm25Index(corpus, language).scores(list(labelled)), strict=True):
            best = (corpus[index] for index in bm25.best(scores, DEEP) if scores[index] > 0)
            known = alike[same_query(query)]
            rows += [(query, text) for text in islice((text for text in best if text not in known), count)]
            bar.advance()
    columns = [[query for query, _ in rows], [text for _, text in rows], [0.0] * len(rows)]
    pq.write_table(pa.concat_tables([table.cast(SCHEMA), pa.table(columns, schema=SCHEMA)]), path)
    return len(rows)
