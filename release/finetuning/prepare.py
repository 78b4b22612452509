"""The user's data, checked and divided: pairs to train on, and two held-out sets of queries in BEIR's form.

`train.parquet` holds query, document and label; `dev/` picks the checkpoint, `test/` is measured once before and once after.
Each held-out query is searched with BM25 in all documents of a BEIR folder, or else in those that the rows name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import with_config

from release import bm25, records
from release.console import Bar
from release.errors import ReleaseError
from release.files import atomic_directory, check_replaceable, copy_file, sha256_file, write_json
from release.finetuning.leaks import LeakCheck, normalized, same_query
from release.finetuning.pairs import LabelledPair, PairSource, open_pairs
from release.finetuning.survey import Survey, held_out, survey
from release.results.finetuning import FEWEST_MEASURED
from release.results.ranges import Count, Sha256, Word

BATCH = 20_000  # rows in memory at a time
SMOKE_PAIRS = 2_000
DEEP = 50  # how far down negatives are looked for
MOST_MINED = 100_000  # queries that negatives are looked for: a millisecond and more each, all in memory
SCHEMA = pa.schema({"query": pa.string(), "document": pa.string(), "label": pa.float32()})
Judged = dict[str, dict[str, int]]  # query text -> document text -> grade


@with_config(records.STRICT)
@dataclass(frozen=True)
class Prepared:
    """What is in a prepared folder, as `prepared.json` there says it.

    Attributes:
        source: The name of the user's file or folder; `sha256` is over its rows as they were divided.
        labels: `judgements` are whole grades from 0, `scores` anything else, a teacher's for example.
        relevant_from: The score from which on a document counts as relevant in the evaluation; None for judgements.
        train, dev, test: Rows to train on, and queries of the held-out sets.
        lowest, highest: The labels' range.
        repeated: Rows that were there before.
        left_out: Training rows whose query repeats one of the evaluation, exactly or nearly.
        mined: Negatives that BM25 found, of the training rows.
        test_given: Whether the test set is the user's own, not held out here.
        language: Of the texts, for BM25: an ISO 639 code.
        smoke: Made of the first rows only, to test the path.
    """

    source: Word
    sha256: Sha256
    labels: Literal["judgements", "scores"]
    relevant_from: float | None
    train: Count
    dev: Count
    test: Count
    lowest: float
    highest: float
    repeated: Count
    left_out: Count
    mined: Count
    test_given: bool
    smoke: bool
    language: Word = "en"


def prepare(
    data: Path,
    output: Path,
    *,
    test: Path | None = None,
    negatives: int = 0,
    relevant_from: float | None = None,
    drop_leaks: bool = False,
    language: str = "en",
    smoke: bool = False,
) -> Prepared:
    """Check `data` and write the prepared folder `output`, whole or not at all.

    A BEIR folder with judgements for `train` beside those for `test` keeps that division. Otherwise queries are held out by a hash
    of their text, the same ones on every machine and for every order of the rows.

    Args:
        test: The user's own test data, in any of the forms.
        negatives: Documents per query that BM25 finds and no row calls relevant, added with the label 0.
        relevant_from: For scores: from which on a document counts as relevant.
        drop_leaks: Leave out training rows that repeat a query of the given test data, instead of stopping.
        language: Of the texts, for the stopwords and the stemmer of BM25, here and in the evaluation: an ISO 639 code.
        smoke: Read the first rows only, to test the path; a model that is trained on them is a test too.

    Raises:
        ReleaseError: A row is damaged, labels do not fit together, queries leak, or there is too little data.
    """
    bm25.Analyzer(language)  # that it is one is said before anything is read
    check_replaceable(output, "prepared.json")
    source, given = _open(data, test)
    if smoke:
        source = source.first(SMOKE_PAIRS)
    seen, tested = survey(source), survey(given) if given else None
    _check_labels(seen, source, negatives, relevant_from)
    _check_threshold(
        {str(one.path): found for one, found in ((source, seen), (given, tested)) if one and found}, relevant_from
    )
    with atomic_directory(output) as folder:
        return _Division(source, given, seen, tested, relevant_from, smoke, language).write(
            folder, negatives, drop_leaks
        )


def load(folder: Path) -> Prepared:
    """What lies in a prepared folder.

    Raises:
        ReleaseError: It is none, or its rows are no longer those that were prepared.
    """
    hint = "run prepare first, on your data"
    try:
        about = records.parse(Prepared, (folder / "prepared.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ReleaseError("not a prepared folder", where=str(folder), hint=hint) from error
    rows = folder / "train.parquet"
    if not rows.is_file() or sha256_file(rows) != about.sha256:
        raise ReleaseError(
            "the rows are not those that were prepared", where=str(rows), hint="run prepare again, on your data"
        )
    return about


def _open(data: Path, test: Path | None) -> tuple[PairSource, PairSource | None]:
    """What to train on, and the test data where it is given."""
    if test is not None:
        return open_pairs(data), open_pairs(test)
    if any((data / name).is_file() for name in ("qrels/train.tsv", "qrels.train.tsv")):
        return open_pairs(data, "train"), open_pairs(data)
    return open_pairs(data), None


def _check_labels(seen: Survey, source: PairSource, negatives: int, relevant_from: float | None) -> None:
    where = str(source.path)
    if seen.lowest == seen.highest and not (negatives and seen.lowest > 0):
        what = f"all {seen.pairs:,} labels are {seen.lowest:g}: there is nothing to tell apart"
        raise ReleaseError(what, where=where, hint="add negatives, or let BM25 find some: --negatives 7")
    if negatives and not seen.grades:
        raise ReleaseError("found negatives have no score", where=where, hint="score them with the teacher first")


def _check_threshold(found: dict[str, Survey], relevant_from: float | None) -> None:
    """Whether the threshold is given where labels are scores, in the data and in the test data, and fits them."""
    scored = {where: seen for where, seen in found.items() if not seen.grades}
    if relevant_from is not None and not scored:
        what = "these labels are judgements, not scores"
        raise ReleaseError(what, where=next(iter(found)), hint="leave --relevant-from out")
    for where, seen in scored.items():
        labels = f"from {seen.lowest:g} to {seen.highest:g}"
        if relevant_from is None:
            what = f"labels {labels} are scores, and no judgements 0, 1, 2, ..."
            hint = "say from which score on a document counts as relevant: --relevant-from NUMBER"
            raise ReleaseError(what, where=where, hint=hint)
        if not seen.lowest < relevant_from <= seen.highest:
            what = f"no label lies on the other side of {relevant_from:g}: they go {labels}"
            raise ReleaseError(what, where=where, hint="correct --relevant-from")


class _Division:
    """One source on its way to a prepared folder."""

    def __init__(
        self,
        source: PairSource,
        given: PairSource | None,
        seen: Survey,
        tested: Survey | None,
        relevant_from: float | None,
        smoke: bool,
        language: str,
    ) -> None:
        self.language = language
        self.source, self.given, self.seen, self.relevant_from, self.smoke = source, given, seen, relevant_from, smoke
        self.tested = tested or seen
        self.texts: dict[str, str] = {}  # of each held-out query: as it was first written
        sets = held_out(seen, str(source.path), parts=2 if given is None else 1)
        self.dev_queries, self.test_queries = sets[0], sets[1] if given is None else []
        self.dev, self.test = dict[str, dict[str, int]](), dict[str, dict[str, int]]()
        self.left_out = 0

    def write(self, folder: Path, negatives: int, drop_leaks: bool) -> Prepared:
        given = self._given(drop_leaks) if self.given is not None else None
        check = LeakCheck([*self.dev_queries, *self.test_queries])
        rows = self._train(folder / "train.parquet", check, given)
        if not rows:
            raise ReleaseError("no row is left to train on", where=str(self.source.path), hint="give more queries")
        corpus = self._corpus()
        mined = _mine(folder / "train.parquet", corpus, negatives, self.language) if negatives else 0
        written = [_write_collection(folder / name, corpus, judged) for name, judged in self._sets()]
        copy_file(folder / "dev/corpus.jsonl", folder / "test/corpus.jsonl")
        about = Prepared(
            source=self.source.path.name,
            sha256=sha256_file(folder / "train.parquet"),
            labels="judgements" if self.seen.grades else "scores",
            relevant_from=None if self.seen.grades and self.tested.grades else self.relevant_from,
            train=rows + mined,
            dev=written[0],
            test=written[1],
            lowest=self.seen.lowest if not mined else min(self.seen.lowest, 0.0),
            highest=self.seen.highest,
            repeated=self.seen.repeated,
            left_out=self.left_out,
            mined=mined,
            test_given=self.given is not None,
            language=self.language,
            smoke=self.smoke,
        )
        write_json(folder / "prepared.json", asdict(about))
        return about

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


def _mine(path: Path, corpus: list[str], count: int, language: str) -> int:
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
    labelled: dict[str, set[str]] = {}
    for query, document in zip(table["query"].to_pylist(), table["document"].to_pylist(), strict=True):
        labelled.setdefault(query, set()).add(document)
    rows: list[tuple[str, str]] = []
    with Bar("negatives: queries", queries) as bar:
        for query, scores in zip(labelled, bm25.Bm25Index(corpus, language).scores(list(labelled)), strict=True):
            best = (corpus[index] for index in bm25.best(scores, DEEP) if scores[index] > 0)
            rows += [(query, text) for text in islice((text for text in best if text not in labelled[query]), count)]
            bar.advance()
    columns = [[query for query, _ in rows], [text for _, text in rows], [0.0] * len(rows)]
    pq.write_table(pa.concat_tables([table.cast(SCHEMA), pa.table(columns, schema=SCHEMA)]), path)
    return len(rows)
