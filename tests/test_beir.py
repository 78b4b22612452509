"""Folders in BEIR's form: every row is read as it stands, or refused with its file and row; no number is guessed."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release import beir
from release.errors import ReleaseError
from release.evaluation import tasks

CORPUS = [
    {"_id": "d1", "title": "Files", "text": "open a file and read it line by line"},
    {"_id": "d2", "text": "return the current working directory"},
    {"_id": "d3", "title": None, "text": "remove a folder and all its files"},
]
QUERIES = [{"_id": "q1", "text": "read a file"}, {"_id": "q2", "text": "working directory"}]
HEADING = "query-id\tcorpus-id\tscore\n"
QRELS = HEADING + "q1\td1\t1\nq2\td2\t2\n"


def folder(
    path: Path, *, corpus: Iterable[Any] = CORPUS, queries: Iterable[Any] = QUERIES, qrels: str | bytes = QRELS
) -> Path:
    """A BEIR folder; a row that is text or bytes is written as it is."""
    path.mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = [row if isinstance(row, str | bytes) else json.dumps(row) for row in rows]
        encoded = [line.encode() if isinstance(line, str) else line for line in lines]
        (path / f"{name}.jsonl").write_bytes(b"\n".join(encoded) + b"\n")
    (path / "qrels.tsv").write_bytes(qrels.encode() if isinstance(qrels, str) else qrels)
    return path


def refused(path: Path, says: str) -> None:
    with pytest.raises(ReleaseError, match=says) as caught:
        tasks.from_folder(path)
    assert "\n" not in str(caught.value)


# --- Judgements -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "heading", ["", HEADING, "query_id\tdoc_id\tRelevance\r\n", "qid\titer\tdocno\trel\n", "\n\n" + HEADING, "\ufeff" + HEADING]
)  # fmt: skip
def test_a_heading_is_known_by_its_words(tmp_path: Path, heading: str) -> None:
    judged = beir.judgements(folder(tmp_path, qrels=heading + "q1\td1\t1\nq2\td2\t2\n") / "qrels.tsv")
    assert judged == {"q1": {"d1": 1}, "q2": {"d2": 2}}


@pytest.mark.parametrize("score", ["1.0", "1e0", "+1", " 1", "1 ", "01", "1."])
def test_a_first_row_that_is_a_judgement_is_no_heading(tmp_path: Path, score: str) -> None:
    judged = beir.judgements(folder(tmp_path, qrels=f"q1\td1\t{score}\nq2\td2\t2\n") / "qrels.tsv")
    assert judged == {"q1": {"d1": 1}, "q2": {"d2": 2}}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("q1\td1\tyes", "'yes' is no finite number"),
        ("q1\td1\t", "'' is no finite number"),
        ("q1\td1\tnan", "'nan' is no finite number"),
        ("q1\td1\tinf", "no finite number"),
        ("q1\td1\t1_0", "no finite number"),
        ("q1\td1\t١", "no finite number"),
        ("q1\td1\t1e999", "no finite number"),
        ("q1\td1\t0x1", "no finite number"),
        ("q1\td1", "damaged judgement"),
        ("q1 0 d1 1", "damaged judgement"),
        ("a\tb\tq1\td1\t1", "damaged judgement"),
        ("\td1\t1", "an id is empty"),
        ("q1\t\t1", "an id is empty"),
        ("q1\td1\t0.5", "a relevance of 0.5, which is no whole number"),
        ("q1\td1\t10001", r"a relevance of 10001, which is no whole number up to 10,000"),
        ("q1\td1\t-10001", "no whole number up to"),
        ("q1\td1\t1000000000000000000000000000000", r"1e\+30, which is no whole number up to"),
        ("q2\td2\t1", "'q2' and document 'd2' are judged 2 before and 1 here"),
        ("query-id\tcorpus-id\tscore", "'score' is no finite number"),
    ],
)
def test_every_other_row_parses_or_is_refused_by_row(tmp_path: Path, row: str, says: str) -> None:
    refused(folder(tmp_path, qrels=f"q2\td2\t2\n{row}\n"), says + r".*qrels.tsv row 2; hint")
    if "before" not in says:  # in the first row, too, unless it is a heading there
        path = folder(tmp_path, qrels=f"{row}\nq2\td2\t2\nq1\td1\t1\n")
        if row.endswith("score"):
            assert len(tasks.from_folder(path).judgements) == 2
        else:
            refused(path, says + r".*qrels.tsv row 1; hint")


def test_the_same_judgement_twice_counts_once(tmp_path: Path) -> None:
    task = tasks.from_folder(folder(tmp_path, qrels=QRELS + "q1\td1\t1\nq1\td1\t1.0\n"))
    assert task.judgements == {"q1": {"d1": 1}, "q2": {"d2": 2}}


@pytest.mark.parametrize("name", ["{} ", " {}", '"{}"', "{}.0", "upper"])
def test_judgements_that_never_meet_the_corpus_are_refused(tmp_path: Path, name: str) -> None:
    written = {key: key.upper() if name == "upper" else name.format(key) for key in ("d1", "d2")}
    qrels = f"q1\t{written['d1']}\t1\nq2\t{written['d2']}\t2\n"
    example = re.escape(repr(written["d1"]))
    refused(folder(tmp_path, qrels=qrels), f"2 of 2 judgements name a document.*such as {example}.*look like 'd1'")


def test_judgements_that_partly_meet_the_corpus_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks.from_folder(folder(tmp_path, qrels=QRELS + "q2\tgone\t1\n"))
    assert "1 of 3 judgements name a document that is not in the corpus, such as 'gone'" in capsys.readouterr().err
    tasks.from_folder(folder(tmp_path))
    assert not capsys.readouterr().err


def test_a_judged_query_without_text_is_refused(tmp_path: Path) -> None:
    refused(folder(tmp_path, qrels=QRELS + "q3\td1\t1\n"), "query 'q3' is judged but has no text")


def test_a_query_without_a_relevant_document_is_left_out_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tasks.from_folder(folder(tmp_path, qrels="q1\td1\t0\nq2\td2\t1\n")).judgements == {"q2": {"d2": 1}}
    assert "1 of 2 judged queries have no relevant document, such as 'q1'" in capsys.readouterr().err


def test_a_grade_below_zero_gains_what_zero_does(tmp_path: Path) -> None:
    task = tasks.from_folder(folder(tmp_path, qrels="q1\td1\t-2\nq1\td2\t1\n"))
    assert task.judgements == {"q1": {"d1": 0, "d2": 1}}


def test_labels_for_training_may_be_any_finite_number(tmp_path: Path) -> None:
    path = folder(tmp_path, qrels="q1\td1\t1e-3\nq1\td2\t-0.5\nq2\td2\t20000\n") / "qrels.tsv"
    assert beir.labels(path) == {"q1": {"d1": 0.001, "d2": -0.5}, "q2": {"d2": 20000.0}}


# --- Texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"_id": "d9", "text": null}', "title or text is no string"),
        ('{"_id": "d9"}', "title or text is no string"),
        ('{"_id": "d9", "text": 5}', "title or text is no string"),
        ('{"_id": "d9", "title": 0, "text": "x"}', "title or text is no string"),
        ('{"_id": null, "text": "x"}', "_id is None"),
        ('{"_id": "", "text": "x"}', "_id is ''"),
        ('{"_id": true, "text": "x"}', "_id is True"),
        ('{"_id": 1.0, "text": "x"}', "_id is 1.0"),
        ('{"text": "x"}', "_id is None"),
        ('{"_id": "d9", "text": "bad \\ud800 text"}', "lone surrogate"),
        ('{"_id": "\\udfff", "text": "x"}', "lone surrogate"),
        ('["_id", "text"]', "a list where an object is expected"),
        ('{"_id": "d9", "text": "x"', "damaged row"),
        ("[" * 100_000, "damaged row"),
        ('{"_id": ' + "9" * 5000 + ', "text": "x"}', "damaged row"),
        (b'{"_id": "d9", "text": "caf\xe9"}', r"not UTF-8 \(byte 0xe9 at position 27"),
        ("{'_id': 'd9'}", "damaged row"),
        ('{"_id": "d9", "_id": "d8", "text": "x"}', "a key occurs twice"),
    ],
)
def test_a_damaged_row_is_one_line_with_its_file_and_row(tmp_path: Path, row: str | bytes, says: str) -> None:
    refused(folder(tmp_path, corpus=[*CORPUS, row]), says + r".*corpus.jsonl row 4; hint")
    refused(folder(tmp_path, queries=[row, *QUERIES]), says + r".*queries.jsonl row 1; hint")


def test_whole_number_ids_are_their_digits(tmp_path: Path) -> None:
    corpus, queries = [{"_id": 1, "text": "alpha"}, {"_id": "2", "text": "beta"}], [{"_id": 7, "text": "alpha"}]
    assert tasks.from_folder(folder(tmp_path, corpus=corpus, queries=queries, qrels="7\t1\t1\n")).judgements == {
        "7": {"1": 1}
    }


def test_of_rows_with_one_id_the_first_counts_and_the_others_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = tasks.from_folder(folder(tmp_path, corpus=[*CORPUS, {"_id": "d1", "text": "other"}])).split["corpus"]
    assert corpus["text"][0] == CORPUS[0]["text"] and len(corpus) == 3
    assert "1 rows left out, their _id was there before" in capsys.readouterr().err


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_byte_order_mark_and_gzip_change_nothing(tmp_path: Path, mark: bytes, zipped: bool) -> None:
    path = folder(tmp_path)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv"):
        content = mark + (path / name).read_bytes()
        (path / name).write_bytes(content)
        if zipped and name != "qrels.tsv":
            (path / name).unlink()
            (path / f"{name}.gz").write_bytes(gzip.compress(content))
    task = tasks.from_folder(path)
    assert task.judgements == {"q1": {"d1": 1}, "q2": {"d2": 2}}
    assert task.split["corpus"]["id"][:] == ["d1", "d2", "d3"]


@pytest.mark.parametrize("cut", [5, 30, 0.5, -4])
def test_a_gzipped_file_that_is_cut_is_one_line(tmp_path: Path, cut: float) -> None:
    content = gzip.compress("".join(json.dumps({"_id": f"d{n}", "text": f"t {n}"}) + "\n" for n in range(999)).encode())
    (folder(tmp_path) / "corpus.jsonl").unlink()
    at = int(cut * len(content)) if cut == 0.5 else int(cut)
    (tmp_path / "corpus.jsonl.gz").write_bytes(content[:at])
    refused(tmp_path, r"the gzipped file is cut short or damaged.*corpus.jsonl.gz after row \d+")
    (tmp_path / "corpus.jsonl.gz").write_bytes(content[:60] + b"\0" * 20 + content[80:])
    refused(tmp_path, "corpus.jsonl.gz")
    (tmp_path / "corpus.jsonl.gz").write_bytes(b"no gzip")
    refused(tmp_path, "cut short or damaged.*after row 0")


@pytest.mark.parametrize("name", ["corpus.jsonl.gz", "queries.jsonl.gz", "qrels/test.tsv"])
def test_a_file_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    extra = folder(tmp_path) / name
    extra.parent.mkdir(exist_ok=True)
    extra.write_bytes(gzip.compress(b""))
    refused(tmp_path, rf"both \S+ and {name}.*keep one of the two")


# --- Queries that are in the corpus -----------------------------------------------------------------------------------


def test_queries_that_lie_in_the_corpus_do_not_find_themselves_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = [{"_id": query["_id"], "title": "", "text": query["text"]} for query in QUERIES]
    assert tasks.from_folder(folder(tmp_path, corpus=[*CORPUS, *inside])).loaded.ignore_identical_ids
    assert "2 of 2 queries are in the corpus; none of them finds itself" in capsys.readouterr().err


def test_ids_that_are_equal_by_chance_are_other_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = [{"_id": str(n), "text": f"document {n}"} for n in range(5)]
    queries = [{"_id": str(n), "text": f"query {n}"} for n in range(3)]
    task = tasks.from_folder(folder(tmp_path, corpus=corpus, queries=queries, qrels="0\t0\t1\n1\t1\t1\n2\t2\t1\n"))
    assert not task.loaded.ignore_identical_ids and not capsys.readouterr().err


# --- Any bytes --------------------------------------------------------------------------------------------------------

junk = st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass"))
cells = st.sampled_from(["q1", "q2", "d1", "d2", "1", "0", "-1", "1.0", "nan", "x", "", "score", '"', "1e3"])
rows = st.lists(cells, max_size=5).map(lambda row: "\t".join(row).encode())
texts = st.fixed_dictionaries(
    {}, optional={name: st.none() | st.integers() | st.floats() | st.text(max_size=9) for name in ("_id", "title", "text")}
).map(lambda row: json.dumps(row).encode())  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(junk | rows, max_size=6), st.lists(junk | texts, max_size=4))
def test_any_bytes_give_a_task_or_one_clear_line(qrels: list[bytes], corpus: list[bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = folder(Path(directory), corpus=[*CORPUS, *corpus], qrels=b"\n".join(qrels))
        try:
            task = tasks.from_folder(path)
        except ReleaseError as error:
            assert "\n" not in str(error)
            return
        ids = set(task.split["corpus"]["id"])
        assert {"d1", "d2", "d3"} <= ids
        assert any(set(judged) & ids for judged in task.judgements.values())
        assert all(any(level > 0 for level in judged.values()) for judged in task.judgements.values())


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["q1", "q2"]), st.sampled_from(["d1", "d2", "d3"])),
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
        min_size=1,
    ),
    st.sampled_from(["", HEADING]),
)
def test_no_number_changes(judged: dict[tuple[str, str], float], heading: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "qrels.tsv"
        path.write_text(heading + "".join(f"{q}\t{d}\t{value!r}\n" for (q, d), value in judged.items()))
        by_query = beir.labels(path)
        assert {(q, d): value for q, labels in by_query.items() for d, value in labels.items()} == judged
