"""The user's data, checked and divided: pairs to train on, and two held-out sets of queries in BEIR's form.

`train.parquet` holds query, document and label; `dev/` picks the checkpoint, `test/` is measured once before and once after.
Each held-out query is searched with BM25 in all documents of a BEIR folder, or else in those that the rows name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import with_config

from release import bm25, records
from release.errors import ReleaseError
from release.files import atomic_directory, check_replaceable, sha256_file, write_json
from release.finetuning.division import Division
from release.finetuning.pairs import PairSource, open_pairs
from release.finetuning.survey import Survey, survey
from release.results.ranges import Count, Sha256, Word

SMOKE_PAIRS = 2_000


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
    language: str | None = None,
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
        language: Of the texts, for the stopwords and the stemmer of BM25, here and in the evaluation: an ISO 639 code; None is
            English, where the texts do not look like another language.
        smoke: Read the first rows only, to test the path; a model that is trained on them is a test too.

    Raises:
        ReleaseError: A row is damaged, labels do not fit together, queries leak, or there is too little data.
    """
    bm25.Analyzer(language or "en")  # that it is one is said before anything is read
    check_replaceable(output, "prepared.json")
    source, given = _open(data, test)
    if smoke:
        source = source.first(SMOKE_PAIRS)
    seen, tested = survey(source), survey(given) if given else None
    if language is None:
        bm25.check_english((*seen.queries, *seen.pool), str(source.path))
    _check_labels(seen, source, negatives, relevant_from)
    _check_threshold(
        {str(one.path): summary for one, summary in ((source, seen), (given, tested)) if one and summary}, relevant_from
    )
    with atomic_directory(output) as folder:
        division = Division(source, given, seen, tested, relevant_from, language or "en")
        train, dev, test_queries, left_out, mined = division.write(folder, negatives, drop_leaks)
        about = Prepared(
            source=source.path.name,
            sha256=sha256_file(folder / "train.parquet"),
            labels="judgements" if seen.grades else "scores",
            relevant_from=relevant_from,
            train=train,
            dev=dev,
            test=test_queries,
            lowest=seen.lowest if not mined else min(seen.lowest, 0.0),
            highest=seen.highest,
            repeated=seen.repeated,
            left_out=left_out,
            mined=mined,
            test_given=given is not None,
            language=language or "en",
            smoke=smoke,
        )
        write_json(folder / "prepared.json", asdict(about))
        return about


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


def _check_threshold(surveys: dict[str, Survey], relevant_from: float | None) -> None:
    """Whether the threshold is given where labels are scores, in the data and in the test data, and fits them."""
    scored = {where: seen for where, seen in surveys.items() if not seen.grades}
    if relevant_from is not None and not scored:
        what = "these labels are judgements, not scores"
        raise ReleaseError(what, where=next(iter(surveys)), hint="leave --relevant-from out")
    for where, seen in scored.items():
        labels = f"from {seen.lowest:g} to {seen.highest:g}"
        if relevant_from is None:
            what = f"labels {labels} are scores, and no judgements 0, 1, 2, ..."
            hint = "say from which score on a document counts as relevant: --relevant-from NUMBER"
            raise ReleaseError(what, where=where, hint=hint)
        if not seen.lowest < relevant_from <= seen.highest:
            what = f"no label lies on the other side of {relevant_from:g}: they go {labels}"
            raise ReleaseError(what, where=where, hint="correct --relevant-from")
