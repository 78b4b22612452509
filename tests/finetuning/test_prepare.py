"""Somebody's own data is checked, divided and written whole, or refused in one line."""

from __future__ import annotations

import json
import re
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from release import beir
from release.errors import ReleaseError
from release.evaluation.evaluate import evaluate_collection
from release.finetuning import division, survey
from release.finetuning.evaluate import evaluate
from release.finetuning.leaks import LeakCheck, normalized
from release.finetuning.prepare import load, prepare
from tests.finetuning.data import rows, write_beir, write_jsonl, write_scored

OTHERS: list[dict[str, Any]] = [  # rows of test data with queries of their own
    {"query": f"what does number {row} stand for", "positives": [f"answer {row}"], "negatives": [f"no answer {row}"]}
    for row in range(30)
]


def refusal(data: Path, **options: object) -> str:
    """The one line that refuses `data`; nothing is left."""
    output = data.parent / "prepared"
    with pytest.raises(ReleaseError) as caught:
        prepare(data, output, **options)  # ty: ignore[invalid-argument-type]
    assert not output.exists() and not list(data.parent.glob(".prepared*"))
    assert "\n" not in str(caught.value) and caught.value.hint
    return str(caught.value)


def queries(folder: Path) -> set[str]:
    return {normalized(text) for _, _, text in beir.texts(folder / "queries.jsonl")}


def test_positives_and_negatives_become_rows_and_two_held_out_sets(tmp_path: Path) -> None:
    about = prepare(write_jsonl(tmp_path / "data.jsonl"), tmp_path / "prepared")
    assert (about.labels, about.dev, about.test, about.train) == ("judgements", 15, 15, 70 * 4)
    table = pq.read_table(tmp_path / "prepared/train.parquet")
    train = {normalized(query) for query in table["query"].to_pylist()}
    dev, test = queries(tmp_path / "prepared/dev"), queries(tmp_path / "prepared/test")
    assert len(train) == 70 and not train & dev and not train & test and not dev & test
    judged = beir.judgements(tmp_path / "prepared/test/qrels.tsv")
    assert all(sorted(levels.values()) == [0, 0, 0, 1] for levels in judged.values())
    assert load(tmp_path / "prepared") == about


def test_the_division_does_not_depend_on_the_order_of_the_rows(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl")
    prepare(data, tmp_path / "one")
    data.write_text("".join(reversed(data.read_text().splitlines(keepends=True))))
    prepare(data, tmp_path / "two")
    assert queries(tmp_path / "one/test") == queries(tmp_path / "two/test")


def test_a_csv_or_parquet_file_says_the_same_as_jsonl(tmp_path: Path) -> None:
    prepare(write_jsonl(tmp_path / "data.jsonl"), tmp_path / "one")
    whole = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(whole), tmp_path / "data.parquet")
    lines = ["query,document,label"]
    for query, good, bad in rows():
        lines += [f'"{query}","{text}",{int(text == good)}' for text in (good, *bad)]
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "data.tsv").write_text("\n".join(lines).replace(",", "\t") + "\n")
    for kind in ("csv", "tsv", "parquet"):
        prepare(tmp_path / f"data.{kind}", tmp_path / kind)
        assert pq.read_table(tmp_path / kind / "train.parquet") == pq.read_table(tmp_path / "one/train.parquet")


def test_scores_are_kept_and_say_with_a_threshold_what_is_relevant(tmp_path: Path) -> None:
    data = write_scored(tmp_path / "data.jsonl")
    assert "--relevant-from" in refusal(data)
    assert "no label lies on the other side" in refusal(data, relevant_from=9)
    about = prepare(data, tmp_path / "prepared", relevant_from=0)
    assert (about.labels, about.lowest, about.highest) == ("scores", -5.25, 7.5)
    assert set(pq.read_table(tmp_path / "prepared/train.parquet")["label"].to_pylist()) == {7.5, -3.25, -4.25, -5.25}


def test_a_beir_folder_keeps_its_own_division_and_finds_its_negatives(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "beir", train=True)
    assert "--negatives 7" in refusal(folder)
    about = prepare(folder, tmp_path / "prepared", negatives=3, drop_leaks=True)
    assert about.test_given and about.test == 40 and about.mined > 0
    assert queries(tmp_path / "prepared/test") == {normalized(query) for query, _, _ in rows()[60:]}
    table = pq.read_table(tmp_path / "prepared/train.parquet")
    assert table["label"].to_pylist().count(0.0) == about.mined
    assert len(list(beir.texts(tmp_path / "prepared/test/corpus.jsonl"))) == 100


def test_a_document_that_a_query_has_in_another_spelling_is_no_negative_of_it(tmp_path: Path) -> None:
    rows_of = {"query": ["fox", "Fox?"], "document": ["the fox one", "the fox two"], "label": [1.0, 1.0]}
    pq.write_table(pa.table(rows_of), tmp_path / "train.parquet")
    assert division.mine(tmp_path / "train.parquet", [*rows_of["document"], "a fox", "an owl"], 7, "en") == 2
    assert pq.read_table(tmp_path / "train.parquet")["document"].to_pylist()[2:] == ["a fox"] * 2


def test_negatives_are_not_looked_for_millions_of_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division, "MOST_MINED", 50)
    assert "looked for 70 queries, at most 50 are taken" in refusal(write_jsonl(tmp_path / "data.jsonl"), negatives=3)


def test_a_grade_below_zero_of_a_beir_folder_counts_as_not_relevant(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "beir", train=False)
    with (folder / "qrels.tsv").open("a") as stream:
        stream.writelines(f"q{row}\td{(row + 7) % 100}\t-1\n" for row in range(100))
    about = prepare(folder, tmp_path / "prepared")
    assert (about.labels, about.lowest, about.highest) == ("judgements", 0, 1)


def test_one_file_of_judgements_is_divided_here(tmp_path: Path) -> None:
    about = prepare(write_beir(tmp_path / "beir", train=False), tmp_path / "prepared", negatives=3)
    assert not about.test_given and (about.dev, about.test) == (15, 15)


def test_a_training_query_that_repeats_a_given_test_query_is_refused(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl", 60)
    own = {"query": rows()[5][0].upper() + "?", "positives": ["an answer"], "negatives": ["another"]}
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in [own, *OTHERS]))
    said = refusal(data, test=test)
    assert "repeats test queries (1 seen)" in said and rows()[5][0] in said
    about = prepare(data, tmp_path / "prepared", test=test, drop_leaks=True)
    assert about.test_given and about.left_out == 4


FORMS: dict[str, Callable[[str], str]] = {
    "capitals and a question mark": lambda text: text.upper() + "?",
    "other blanks": lambda text: text.replace(" ", " \u00a0\t"),
    "underscores": lambda text: text.replace(" ", "_"),
    "letters without width": lambda text: text.replace("e", "e\u200b"),
    "soft hyphens": lambda text: text.replace("ee", "e\u00ade"),
    "wide letters": lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_repeat_in_another_spelling_is_a_leak(form: str) -> None:
    query = "where does the fox sleep"
    assert LeakCheck([query]).repeats([FORMS[form](query), "where does the owl sleep"]).tolist() == [True, False]


def test_a_repeat_is_a_leak_in_every_script() -> None:
    accents, japanese = "où dort le renard rusé", "5番目の質問はどこで買えますかそしていつ届きますか教えてください"
    check = LeakCheck([accents, japanese])
    near, other = japanese.removesuffix("ください"), "今日の天気は晴れで明日は雨が降るでしょうか教えてください"
    texts = [unicodedata.normalize("NFD", accents), "ou dort le renard ruse", near, other]
    assert check.repeats(texts).tolist() == [True, False, True, False]


@pytest.mark.parametrize(("one", "other"), [("in C++", "in C#"), ("\u0915\u0940", "\u0915\u093e")])
def test_queries_that_differ_in_a_sign_or_a_vowel_are_two_and_are_held_out_together(
    tmp_path: Path, one: str, other: str
) -> None:
    lines = [
        {"query": f"{query} {sign}", "positives": [f"{text} {sign}"], "negatives": [f"{text} {wrong}"]}
        for query, text, _ in rows()
        for sign, wrong in ((one, other), (other, one))
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    prepare(tmp_path / "data.jsonl", tmp_path / "prepared")
    judged = beir.judgements(tmp_path / "prepared/test/qrels.tsv")
    assert all(sorted(grades.values()) == [0, 1] for grades in judged.values())


def test_test_data_is_judged_as_it_is_labelled_and_searched_in_its_own_corpus(tmp_path: Path) -> None:
    judged = write_beir(tmp_path / "beir", train=False)
    (tmp_path / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in OTHERS))
    scored = write_scored(tmp_path / "scores.jsonl")
    said = refusal(tmp_path / "judged.jsonl", test=scored)
    assert "are scores" in said and f"in {scored}" in said
    prepare(scored, tmp_path / "prepared", test=tmp_path / "judged.jsonl", relevant_from=0)
    grades = beir.judgements(tmp_path / "prepared/test/qrels.tsv").values()
    assert [sorted(each.values()) for each in grades] == [[0, 1]] * len(OTHERS)
    (tmp_path / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in OTHERS * 2))
    about = prepare(tmp_path / "judged.jsonl", tmp_path / "other", test=judged)
    documents = {text for _, _, text in beir.texts(tmp_path / "other/test/corpus.jsonl")}
    assert about.test == 100 and {text for _, _, text in beir.texts(judged / "corpus.jsonl")} < documents


def test_test_data_that_contradicts_itself_or_is_too_small_is_refused(tmp_path: Path) -> None:
    data, test = write_jsonl(tmp_path / "data.jsonl"), tmp_path / "test.jsonl"
    twice = {**OTHERS[0], "negatives": OTHERS[0]["positives"]}
    test.write_text("".join(json.dumps(row) + "\n" for row in [*OTHERS, twice]))
    assert "one pair has the label 1 in row 1 and 0" in (said := refusal(data, test=test)) and str(test) in said
    test.write_text("".join(json.dumps(row) + "\n" for row in OTHERS[:9]))
    assert "9 test queries have a relevant document, at least 10 are needed" in refusal(data, test=test)


def test_a_near_repeat_of_a_held_out_query_is_left_out_of_the_training(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl")
    prepare(data, tmp_path / "one")
    test_query = next(text for _, _, text in beir.texts(tmp_path / "one/test/queries.jsonl"))
    long = f"{test_query} and what else does it do there in the night and in the morning"
    lines = data.read_text().replace(test_query, long) + json.dumps(
        {"query": f"please {long}", "positives": ["something"], "negatives": ["else"]}
    )
    data.write_text(lines + "\n")
    about = prepare(data, tmp_path / "two")
    every = {normalized(text) for part in ("dev", "test") for text in queries(tmp_path / "two" / part)}
    train = set(pq.read_table(tmp_path / "two/train.parquet")["query"].to_pylist())
    assert about.left_out in (0, 2, 4) and bool(about.left_out) == (
        len({normalized(long), normalized(f"please {long}")} & every) == 1
    )
    assert not {normalized(query) for query in train} & every


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no pairs"),
        (b'{"query": "a", "document": "b", "label": NaN}\n', "the label nan is no finite number in float32; in"),
        (b'{"query": "a", "document": "b", "label": true}\n', "no finite number"),
        (b'{"query": "a", "document": "b", "label": "1"}\n', "no finite number"),
        (b'{"query": "a", "document": "b", "label": 1e39}\n', "1e+39 is no finite number in float32"),
        (b'{"query": "a", "document": "b", "label": 1%s}\n' % (b"0" * 400), "no finite number in float32"),
        (b'{"query": " ", "document": "b", "label": 1}\n', "the query is empty"),
        (b'{"query": "a", "document": "", "label": 1}\n', "the document is empty"),
        (b'{"query": "a"}\n', "neither `positives` nor"),
        (b'{"query": "a", "document": "b", "label": 1, "negatives": ["c"]}\n', "both `label` and `negatives`"),
        (b'{"query": "a", "positives": 3}\n', "`positives` is a int"),
        (b'{"query": "a", "positives": "b", "positive": "c"}\n', "both `positives` and `positive`"),
        (b'{"query": "a", "document": "b", "label": 1, "score": 0.5}\n', "both `label` and `score`"),
        (b'{"query": "a", "positives": "b", "negatives": " b\\n"}\n', "the label 1 in row 1 and 0 in row 1"),
        (b'{"query": "\\ud800", "document": "b", "label": 1}\n', "lone surrogate"),
        (b'{"query": "caf\xe9"}\n', "not UTF-8 (byte 0xe9"),
        (b"not json\n", "damaged row"),
        (b'{"query": "a", "document": "b", "label": 1}\n' * 10, "all 10 labels are 1"),
        (
            b'{"query": "a", "document": "b", "label": 1}\n{"query": "A", "document": "b", "label": 0}\n',
            "one pair has the label 1 in row 1 and 0 in row 2",
        ),
        (
            b"".join(b'{"query": "q%d", "document": "d", "label": %d}\n' % (row, row % 2) for row in range(10)),
            "10 queries are too few",
        ),
        (b'{"query": "a", "document": "b", "label": -1}\n{"query": "a", "document": "c", "label": 1}\n', "are scores"),
    ],
)
def test_bad_data_is_one_line_and_nothing_is_written(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "data.jsonl").write_bytes(content)
    assert says in refusal(tmp_path / "data.jsonl")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('query,document,label\n"an open quote,b,1\n', "unexpected end of data"),
        ("query,document,label\na,b\n", "2 values in 3 columns"),
        ("query,text,label\na,b,1\n", "no column 'document'"),
        ("query,query,document,label\na,b,c,1\n", "two columns are called 'query'"),
        ('query,document,label\n"a "b" c",d,1\n', "',' expected after"),
        ("query,document,label\na,b,1,2\n", "4 values in 3 columns"),
        ("query,document,label\na,b,nan\n", "the label 'nan' is no finite number"),
        ("query,document,label,score\na,b,1,2\n", "both `label` and `score`"),
    ],
)
def test_odd_csv_is_one_line(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "data.csv").write_text(content)
    assert says in refusal(tmp_path / "data.csv")


def test_a_beir_folder_without_judgements_and_a_missing_or_unknown_file_are_one_line(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "beir", train=False)
    (folder / "qrels.tsv").unlink()
    assert "no qrels.tsv" in refusal(folder)
    assert "no data at" in refusal(tmp_path / "absent.jsonl")
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    assert "no Parquet file that can be read" in refusal(tmp_path / "data.parquet")
    (tmp_path / "data.xlsx").write_bytes(b"x")
    assert "unknown kind of file" in refusal(tmp_path / "data.xlsx")


def test_text_that_is_not_english_names_its_language(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "beir", train=False)
    german = {
        "where and when does": "wo und wann",
        "the": "der",
        "of": "aus",
        "by day and": "am Tag und",
        "for": "nach",
    }
    for file in (folder / "corpus.jsonl", folder / "queries.jsonl"):
        file.write_text(re.sub(rf"\b({'|'.join(german)})\b", lambda found: german[found[0]], file.read_text()))
    assert "look like de" in refusal(folder, negatives=2)
    for measure in (
        lambda: evaluate("absent", folder, tmp_path / "runs"),
        lambda: evaluate_collection("absent", folder, "bm25"),
    ):
        with pytest.raises(ReleaseError, match=r"look like de: .*--language de, or --language en"):
            measure()
    for language in ("de", "en"):
        assert prepare(folder, tmp_path / language, negatives=2, language=language).language == language


def test_without_write_access_nothing_is_left_behind(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((ReleaseError, OSError)) as caught:
        prepare(data, tmp_path / "file/prepared")
    assert isinstance(caught.value, ReleaseError), "one line, not a traceback"


def test_a_folder_of_the_users_is_never_replaced(tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "data.jsonl")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.txt").write_text("years of work")
    with pytest.raises(ReleaseError, match=r"holds no prepared\.json.*would be lost"):
        prepare(data, tmp_path / "own")
    with pytest.raises(ReleaseError, match="it is a file"):
        prepare(data, data)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["thesis.txt"] and data.stat().st_size
    (tmp_path / "empty").mkdir()
    assert prepare(data, tmp_path / "empty") == prepare(data, tmp_path / "empty")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("POOL", 200), ("SKETCH", 200), ("MOST_HELD_OUT", 20)):
        monkeypatch.setattr(survey, name, value)
    monkeypatch.setattr(division, "BATCH", 200)

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as stream:
            for row in range(count):
                line = {"query": f"query {row // 4}", "document": f"text {row} " * 30, "label": row % 2}
                stream.write(json.dumps(line) + "\n")
        tracemalloc.start()
        prepare(path, tmp_path / f"out{count}")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(400)  # what is imported on the way is not the rows'
    grown = peak(12_000) - peak(3_000)
    assert grown < 9_000 * 60, "the rows alone are 300 bytes each"
