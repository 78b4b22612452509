"""Sources: rows come as they stand, or are counted and left out, or are refused with file and row. No type is guessed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release import spec
from release.data import rejects, streams
from release.data.sources.base import Source
from release.data.sources.registry import open_source
from release.errors import ReleaseError

LABEL = {"label": "l"}


def config(path: str | Path, kind: str = "files", **keys: Any) -> spec.ConfigSpec:
    """A config that takes q, t (and l, where `columns` names it) from a file."""
    columns = {"query": "q", "document": "t", **keys.pop("columns", {})} if kind == "files" else {}
    entry = {"labels": "source" if kind != "files" or "label" in columns else "teacher", **keys}
    source = {"kind": kind, "path": str(path)}
    facts = {"license": "mit", "license_link": None, "rows": None, "overlaps": None}
    raw = {
        "name": "n",
        "title": "t",
        "seed": 1,
        "shard_rows": 9,
        "configs": {"one": {"source": source, **facts, **entry}},
    }
    raw["configs"]["one"] |= {"columns": columns} if columns else {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.yaml"
        file.write_text(json.dumps(raw))
        return spec.load(file).configs["one"]


def read(source: Source) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The rows that mixing writes, and what it leaves out."""
    rejected: Counter[str] = Counter()
    rows = [row for table in streams.usable(source.tables(), rejected) for row in table.to_pylist()]
    assert len(rows) + rejected.total() == source.remaining == source.rows - sum(source.dropped.values())
    return rows, rejected + Counter(source.dropped)


def refused(made: spec.ConfigSpec, says: str) -> None:
    with pytest.raises(ReleaseError, match=says) as caught:
        read(open_source(made))
    assert "\n" not in str(caught.value)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- JSONL ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"q": 5, "t": "x", "l": 1}', "query is a int, not text"),
        ('{"q": "x", "t": ["x"], "l": 1}', "document is a list, not text"),
        ('{"q": "x", "t": "x", "l": "1"}', "label is a str, not a number"),
        ('{"q": "x", "t": "x", "l": true}', "label is a bool, not a number"),
        ('{"q": "x", "t": "x", "l": [1]}', "label is a list, not a number"),
        ('{"q": "x", "t": "x", "l": ' + "9" * 400 + "}", "damaged row"),
        ('{"q": "x", "t": "x", "l": NaN}', "query 'x' is nan"),
        ('{"q": "x", "t": "x", "l": 1e39}', r"query 'x' is 1e\+39"),
        ('{"q": "x", "t": "x"}', "query 'x' is None"),
        ('{"q": "x", "t": "x", "l": null}', "query 'x' is None"),
        ("[1, 2]", "a list where an object is expected"),
        ("{'q': 1}", "damaged row"),
        ("[" * 50_000, "damaged row"),
        (b'{"q": "\xff"}', "not UTF-8"),
    ],
)
@pytest.mark.parametrize("before", [1, 20_000])
def test_a_row_of_another_type_is_refused_by_row_however_far_down(
    tmp_path: Path, row: str | bytes, says: str, before: int
) -> None:
    good = b'{"q": "a", "t": "b", "l": 1}\n\n' * before
    path = written(tmp_path / "a.jsonl", good + (row if isinstance(row, bytes) else row.encode()) + b"\n")
    refused(config(path, columns=LABEL), rf"{says}.*a.jsonl row {2 * before + 1:,}".replace(",", ",?"))


def test_a_row_of_more_than_a_megabyte_is_read_and_set_aside(tmp_path: Path) -> None:
    lines = [{"q": "a", "t": "x" * 3_000_000}, {"q": "b", "t": "y" * 199_999}, {"q": "c", "t": None}, {"q": "d"}]
    path = written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    rows, left_out = read(open_source(config(path)))
    assert [row["query"] for row in rows] == ["b"]
    assert left_out == {"document too long": 1, "no text": 2}


def test_a_lone_surrogate_an_empty_text_and_blanks_are_counted(tmp_path: Path) -> None:
    lines = ['{"q": "\\ud800", "t": "x"}', '{"q": "a", "t": "b"}', '{"q": "", "t": "x"}', '{"q": "x", "t": " \\n "}']
    rows, left_out = read(open_source(config(written(tmp_path / "a.jsonl", "\n".join(lines)))))
    assert rows == [{"query": "a", "document": "b"}]
    assert left_out == {"invalid unicode in the query": 1, "empty query": 1, "empty document": 1}


def test_a_column_that_no_row_has_is_refused_and_one_that_some_lack_is_not(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"q": "a", "x": 1}\n{"q": "b", "y": 2}\n')
    refused(config(path), r"no column 't' \(there are: q, x, y\).*a.jsonl.*correct columns.document")
    path = written(tmp_path / "a.jsonl", '{"q": "a", "t": "b"}\n{"q": "c", "t": "d", "drop": true}\n')
    rows, left_out = read(open_source(config(path, filters={"drop": "drop"})))
    assert (len(rows), left_out) == (1, {"drop": 1})


# --- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("q,t,l\nx,y,1\na,b,2,c\n", r"4 values in 3 columns.*a.csv row 3"),
        ("q,t,l\nx,y,1\na,b\n", r"2 values in 3 columns.*a.csv row 3"),
        ("q,t,l\nx,y,one\n", r"'one' is no finite number.*a.csv row 2"),
        ("q,t,l\nx,y,nan\n", r"'nan' is no finite number.*a.csv row 2"),
        ("q,t,l\nx,y,\n", r"query 'x' is None.*a.csv row 2"),
        (b"q,t,l\nx,caf\xe9,1\n", r"not UTF-8.*a.csv row 2"),
        ('q,t,l\nx,"y,1\n', r"damaged row.*a.csv row 2"),
        ('q,t,l\nx,"y"z,1\n', r"damaged row.*a.csv row 2"),
        ("q,t,l,l\nx,y,1,2\n", "two columns are called 'l'.*row 1.*rename one"),
        ("q;t;l\nx, z;y;1\n", r"one column called 'q;t;l'.*a.csv row 1.*by commas, not by ';'"),
        ('q,t,l\nx,y,1\nx,"y,1\nx,y,1\n', r"damaged row.*a.csv row 3 to 4.*a quote is left open"),
        ('q,t,l\nx,"\\"y\\"",1\n', r"damaged row.*a.csv row 2.*not doubled"),
        ("", "no column 'q'"),
        ("\x00\n", "no column 'q'"),
        ("q,t,l\rx,y,1\r", "damaged row"),
    ],
)
def test_a_damaged_csv_is_one_line_with_its_row(tmp_path: Path, content: str | bytes, says: str) -> None:
    refused(config(written(tmp_path / "a.csv", content), columns=LABEL), says)


def test_a_csv_with_a_byte_order_mark_other_line_ends_and_marks(tmp_path: Path) -> None:
    content = '\ufeffq,t,l,drop,dup\r\n"a, b","two\r\nlines",+1.5e0,,\r\nc,d,1,TRUE,\r\n\r\ne,f, -2 ,false,0\r\ng,h,.5,0, \r\n'
    made = config(written(tmp_path / "a.csv", content), columns=LABEL, filters={"drop": "drop", "duplicate": "dup"})
    rows, left_out = read(open_source(made))
    assert [tuple(row.values()) for row in rows] == [("a, b", "two\r\nlines", 1.5), ("g", "h", 0.5)]
    assert left_out == {"drop": 1, "duplicate": 1}


# --- Parquet ----------------------------------------------------------------------------------------------------------


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def invalid(values: list[bytes]) -> pa.Array:
    """Text that is no UTF-8, as other tools leave it in parquet."""
    return pa.array(values, pa.binary()).view(pa.string())


def test_text_that_is_no_utf8_is_counted_and_left_out(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet", q=invalid([b"ok", b"\xff", b"fine"]), t=invalid([b"a", b"b", b"\xed\xa0\x80"])
    )
    rows, left_out = read(open_source(config(path)))
    assert rows == [{"query": "ok", "document": "a"}]
    assert left_out == {"invalid unicode in the query": 1, "invalid unicode in the document": 1}
    path = parquet(tmp_path / "b.parquet", q=invalid([b"\xff"]), t=["b"], l=[float("nan")])
    refused(config(path, columns=LABEL), r"query '.+' is nan.*b.parquet row 1")


@pytest.mark.parametrize(
    "label", [[1, 2, None], [1.0, 2.0, float("nan")], [1e39, 2.0, -1e39], [1.0, 2.0, float("-inf")]]
)  # fmt: skip
def test_a_label_that_is_no_number_is_refused_with_its_row(tmp_path: Path, label: list[Any]) -> None:
    path = parquet(tmp_path / "a.parquet", q=["a", "b", "c"], t=["x", "y", "z"], l=label, drop=[True, False, False])
    row = 3
    refused(config(path, columns=LABEL, filters={"drop": "drop"}), rf"query 'c' is .*a.parquet row {row}")


@pytest.mark.parametrize(
    "label", [["1"], [[1.0]], [True], [{"x": 1}], pa.array([None], pa.null()), pa.array(["1"]).dictionary_encode()]
)
def test_a_label_of_another_type_is_refused(tmp_path: Path, label: Any) -> None:
    path = parquet(tmp_path / "a.parquet", q=["a"], t=["x"], l=label)
    refused(config(path, columns=LABEL), "column 'l' holds .*, not numbers.*a.parquet")


@pytest.mark.parametrize("kind", [pa.float16(), pa.float64(), pa.int8(), pa.uint64()])
def test_numbers_and_text_of_every_kind_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(["a", "b", "a"])
    path = parquet(
        tmp_path / "a.parquet",
        q=texts.dictionary_encode(),
        t=texts.cast(pa.large_string()),
        l=pa.array([1, 2, 3], kind),
    )
    rows, _ = read(open_source(config(path, columns=LABEL)))
    assert [tuple(row.values()) for row in rows] == [("a", "a", 1.0), ("b", "b", 2.0), ("a", "a", 3.0)]


def test_one_column_may_serve_twice(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", t=["x"])
    assert read(open_source(config(path, columns={"query": "t"})))[0] == [{"query": "x", "document": "x"}]


@pytest.mark.parametrize("share", [0.2, 0.6, 0.99])
def test_a_parquet_file_that_is_cut_is_one_line(tmp_path: Path, share: float) -> None:
    path = parquet(tmp_path / "a.parquet", q=[str(n) for n in range(50_000)], t=["x"] * 50_000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(config(path), r"unreadable .*config one, .*a.parquet")


def test_a_page_that_is_damaged_is_one_line_with_the_rows_before_it(tmp_path: Path) -> None:
    rows = [f"{n} " * 20 for n in range(40_000)]
    pq.write_table(
        pa.table({"q": rows, "t": rows}), path := tmp_path / "a.parquet", row_group_size=20_000, compression="zstd"
    )
    offset = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 4000] = bytes(4000)
    path.write_bytes(bytes(content))
    refused(config(path), r"unreadable .*a.parquet after row [\d,]+; hint")


# --- Files ------------------------------------------------------------------------------------------------------------


def test_kinds_of_files_are_not_mixed(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "q,t\nx,y\n")
    written(tmp_path / "b.jsonl", '{"q": "a", "t": "b"}\n')
    refused(config(tmp_path), r"several kinds of files: a.csv beside b.jsonl")


def test_tables_are_known_by_the_end_of_their_names_and_other_files_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "A.TSV", "q\tt\na, b\tc\n")
    written(tmp_path / "b.tsv.gz", gzip.compress(b"q\tt\nd\te\n"))
    rows, _ = read(open_source(config(tmp_path)))
    assert [tuple(row.values()) for row in rows] == [("a, b", "c"), ("d", "e")] and not capsys.readouterr().err
    hidden = tmp_path / ".ipynb_checkpoints"
    hidden.mkdir()
    written(hidden / "A.TSV", "q\tt\nold\told\n")
    written(tmp_path / "c.tsv.bz2", b"")
    assert read(open_source(config(tmp_path)))[0] == rows
    assert "1 files of" in (said := capsys.readouterr().err) and "such as c.tsv.bz2" in said


def test_a_pipe_a_device_a_folder_and_a_link_to_nothing_are_refused_before_they_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    (tmp_path / "link.csv").symlink_to("gone.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("pipe.csv", "device.csv", "link.cs?", "folder.cs?"):
        refused(config(tmp_path / name), f"no file, but something else or a link to nothing; in .*{name[:-1]}")
    refused(config(tmp_path), "no file, but something else or a link to nothing")


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "random_10k [2m]"
    folder.mkdir()
    path = written(folder / "a[1].csv", "q,t\nx,y\n")
    assert (
        read(open_source(config(path)))[0] == read(open_source(config(folder)))[0] == [{"query": "x", "document": "y"}]
    )


def test_a_source_that_gives_no_row_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in {"a.csv": "q,t\n", "b.jsonl": "", "c.jsonl": '{"q": null, "t": "x"}\n'}.items():
        source = open_source(config(written(tmp_path / name, content)))
        assert source.remaining == 0 and read(source)[0] == []


# --- Retrieval --------------------------------------------------------------------------------------------------------

PLAN = {"candidates": 4, "hardest": 1, "keep": 4, "head": 2, "band": [2, 4]}


def retrieval(folder: Path, **changes: Any) -> spec.ConfigSpec:
    """One query with three scored candidates."""
    tables: dict[str, dict[str, Any]] = {
        "documents": {"document_id": [1, 2, 3], "document": ["a", "b", "c"]},
        "queries": {"query_id": [7], "query": ["ask"]},
        "scores": {"query_id": [7], "document_ids": [[1, 2, 3]], "scores": [[3.0, 2.0, 1.0]], "positive_ids": [[1]]},
    }
    for name, value in changes.items():
        table = next(table for table in tables.values() if name in table)
        table[name] = value
    for name, table in tables.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), folder / name / "nq-0.parquet")
    made = config(folder, kind="beir", labels="source")
    source = spec.RetrievalSource("retrieval", str(folder), "nq", "scores")
    plan = spec.SamplingSpec(4, 1, 4, 2, (2, 4))
    return spec.ConfigSpec(**{**vars(made), "source": source, "sampling": plan})  # type: ignore[arg-type]


def test_a_candidate_or_query_without_an_id_is_counted_as_without_text(tmp_path: Path) -> None:
    rows, left_out = read(open_source(retrieval(tmp_path / "a", document_ids=[[1, None, 3]])))
    assert [(row["document"], row["label"]) for row in rows] == [("a", 3.0), ("c", 1.0)] and left_out == {"no text": 1}
    rows, left_out = read(open_source(retrieval(tmp_path / "b", query_id=pa.array([None], pa.int64()))))
    assert rows == [] and left_out == {"no text": 3}
    rows, left_out = read(open_source(retrieval(tmp_path / "c", document=["a", None, "c"], positive_ids=[[None, 3]])))
    assert [row["document"] for row in rows] == ["a", "c"] and left_out == {"no text": 1}


def test_large_ids_stay_apart_although_a_null_stands_among_them(tmp_path: Path) -> None:
    """numpy would make floats of them, in which 2**53 and 2**53 + 1 are one."""
    ids = [2**53, 2**53 + 1, 2**53 + 2]
    rows, _ = read(open_source(retrieval(tmp_path, document_id=ids, document_ids=[[*ids[:2], None]])))
    assert [(row["document"], row["label"]) for row in rows] == [("a", 3.0), ("b", 2.0)]


def test_text_ids_work_like_numbers(tmp_path: Path) -> None:
    texts = {"document_id": ["é", "x", "y"], "document_ids": [["y", "é", None]], "positive_ids": [["é"]]}
    rows, _ = read(open_source(retrieval(tmp_path, **texts)))
    assert [(row["document"], row["label"]) for row in rows] == [("c", 3.0), ("a", 2.0)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"document_ids": [["1", "2", "3"]]}, "document_id is int64 in one table and string in the other"),
        ({"query": [5]}, "column 'query' holds int64, not text.*table queries"),
        ({"scores": [["a", "b", "c"]]}, "column 'scores' holds .*, not lists of numbers.*table scores"),
        ({"document_ids": [1]}, "column 'document_ids' holds int64, not lists of ids"),
        ({"document_id": [1.0, 2.0, 3.0]}, "column 'document_id' holds double, not ids.*table documents"),
        ({"scores": [[1.0, None, 2.0]]}, "a score of query 7 is NaN"),
        ({"scores": [[1.0, float("inf"), 2.0]]}, "a score of query 7 is infinite"),
        ({"scores": [[1.0, 1e39, 2.0]]}, "a score of query 7 is infinite"),
        ({"scores": pa.array([None], pa.list_(pa.float32()))}, "query 7 has not as many scores as documents"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    made = retrieval(tmp_path, **changes)
    refused(made, says)


def test_a_domain_whose_name_begins_alike_is_another_one(tmp_path: Path) -> None:
    made = retrieval(tmp_path)
    more = {"document_id": [2, 9], "document": ["other", "other"]}
    for name in ("nq2-00000-of-00001", "nq-long-00000-of-00001", "nq_v2"):
        pq.write_table(pa.table(more), tmp_path / "documents" / f"{name}.parquet")
    assert [row["document"] for row in read(open_source(made))[0]] == ["a", "b", "c"]
    (tmp_path / "documents/nq.parquet").symlink_to("/dev/zero")
    refused(made, r"no file, but something else or a link to nothing; in .*documents/nq\.parquet")


def test_of_documents_with_one_id_the_first_counts_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, _ = read(open_source(retrieval(tmp_path, document_id=[1, 2, 2])))
    assert [row["document"] for row in rows] == ["a", "b"]
    assert "1 rows of documents have an id that was there before" in capsys.readouterr().err


# --- Any bytes --------------------------------------------------------------------------------------------------------

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)
)
objects = st.fixed_dictionaries({}, optional={name: scalars for name in ("q", "t", "l", "drop")}).map(json.dumps)
json_lines = st.lists(
    st.binary(max_size=40)
    | objects.map(str.encode)
    | st.text(max_size=20).map(lambda t: t.encode(errors="surrogatepass")),
    max_size=6,
).map(b"\n".join)
csv_bytes = st.binary(max_size=120) | st.text('q,t"\n\rl1.-e ü\x00', max_size=80).map(
    lambda t: ("q,t,l\n" + t).encode()
)


def survives(name: str, content: bytes) -> None:
    """Any content is rows and counts that add up, or one line."""
    with tempfile.TemporaryDirectory() as folder:
        made = config(
            written(Path(folder) / name, content), columns=LABEL, filters={"drop": "drop"} if "json" in name else {}
        )
        try:
            rows, _ = read(open_source(made))
        except ReleaseError as error:
            assert "\n" not in str(error)
            return
        assert all(row["query"].strip() and row["document"].strip() and np.isfinite(row["label"]) for row in rows)


@settings(deadline=None, max_examples=300)
@given(json_lines)
def test_any_bytes_as_jsonl(content: bytes) -> None:
    survives("a.jsonl", content)


@settings(deadline=None, max_examples=300)
@given(csv_bytes)
def test_any_bytes_as_csv(content: bytes) -> None:
    survives("a.csv", content)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=9), st.text(max_size=9), st.floats(width=32, allow_nan=False, allow_infinity=False))
    )
)
def test_no_text_and_no_number_changes(rows: list[tuple[str, str, float]]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([("q", "t", "l"), *rows])
    lines = [json.dumps({"q": query, "t": document, "l": label}) for query, document, label in rows]
    expected = [row for row in rows if rejects.reject_reason(row[0].encode(), row[1].encode()) is None]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("a.csv", stream.getvalue()), ("b.jsonl", "\n".join(lines))):
            records = read(open_source(config(written(Path(folder) / name, content), columns=LABEL)))[0]
            assert [tuple(row.values()) for row in records] == expected
