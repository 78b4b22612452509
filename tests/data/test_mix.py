"""Mixing: what a declaration says is what the shards hold, every row left out is counted, and a bad source is one clear line."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from release import family, mode, spec
from release.data import demo_sets, docstrings, mix, plan, published, shards
from release.data.docstrings import DocstringPair
from release.data.minhash import TextIndex, shingles
from release.data.screen import Screen
from release.errors import ReleaseError
from release.files import sha256_file

ROOT = Path(__file__).resolve().parents[2]
BASE: dict[str, Any] = {"license": "cc0-1.0", "license_link": None, "rows": None, "overlaps": []}


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> family.Family:
    monkeypatch.chdir(tmp_path)
    loaded = family.load(ROOT / "recipes/demo.toml")
    nothing = dataclasses.replace(loaded.evaluation, collections=(), nano_sets=(), tasks=())
    data = dataclasses.replace(loaded.data, declaration=Path("data.yaml"))
    return dataclasses.replace(loaded, data=data, evaluation=nothing)


def declared(shard_rows: int = 100, **configs: dict[str, Any]) -> spec.MixtureSpec:
    """A declaration of the given configs, written as YAML (JSON is YAML) and read back."""
    top = {"name": "n", "title": "t", "seed": 5, "shard_rows": shard_rows}
    top["configs"] = {name: {**BASE, "labels": "teacher", **config} for name, config in configs.items()}
    Path("data.yaml").write_text(json.dumps(top), encoding="utf-8")
    return spec.load(Path("data.yaml"))


def upstream(path: str, rows: int = 1000, **columns: Any) -> dict[str, Any]:
    """A parquet source of the pre-training collection's form: every 10th row marked, every 7th a duplicate."""
    table = {
        "query": [f"query {row}" for row in range(rows)],
        "document": [f"document {row}" for row in range(rows)],
        "similarity": np.arange(rows, dtype=np.float64) / 10 - 12,
        "drop": [row % 10 == 0 for row in range(rows)],
        "duplicate": [0 if row % 7 == 0 else None for row in range(rows)],
    }
    pq.write_table(pa.table(table | columns), path)
    return {
        "source": {"kind": "files", "path": path},
        "labels": "source",
        "columns": {"label": "similarity"},
        "filters": {"drop": "drop", "duplicate": "duplicate"},
    }


def rows_of(facts: family.Family, config: str, split: str = "train") -> pa.Table:
    files = sorted((facts.build / "data/pairs" / config).glob(f"{split}-*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])


def test_filters_leave_rows_out_and_count_why(facts: family.Family) -> None:
    path = mix.run(facts, declared(agnews=upstream("a.parquet")))
    manifest = json.loads(path.read_text())["configs"]["agnews"]
    assert manifest["rows_in"] == 1000
    assert manifest["dropped"] == {"drop": 100, "duplicate": 143 - 15}  # a row that both leave out counts for the first
    expected = [row for row in range(1000) if row % 10 and row % 7]
    table = rows_of(facts, "agnews")
    assert table["query"].to_pylist() == [f"query {row}" for row in expected]
    assert table["label"].to_numpy() == pytest.approx(np.array(expected) / 10 - 12)
    assert table.schema == shards.ROWS


def test_shards_have_the_declared_size_and_their_own_hash(facts: family.Family) -> None:
    path = mix.run(facts, declared(agnews=upstream("a.parquet")))
    listed = json.loads(path.read_text())["configs"]["agnews"]["shards"]
    assert [shard["rows"] for shard in listed] == [100] * 7 + [72]
    assert [shard["name"] for shard in listed][::7] == ["train-00000-of-00008.parquet", "train-00007-of-00008.parquet"]
    for shard in listed:
        file = facts.build / "data/pairs/agnews" / shard["name"]
        assert (shard["sha256"], shard["bytes"]) == (sha256_file(file), file.stat().st_size)


def test_a_seeded_cap_draws_exactly_that_many_in_order_and_the_same_again(facts: family.Family) -> None:
    config = upstream("a.parquet", 5000) | {"filters": {}, "cap": {"rows": 700, "draw": "seeded"}}
    mix.run(facts, declared(reviews=config))
    first = rows_of(facts, "reviews")["label"].to_numpy()
    assert len(first) == len(set(first.tolist())) == 700
    assert (np.diff(first) > 0).all()  # the source's order
    assert abs(first.mean() - (249.95 - 12)) < 25  # and from everywhere in it
    mix.run(dataclasses.replace(facts, about=dataclasses.replace(facts.about, name="again")), declared(reviews=config))
    again = sorted(Path("build/again/data/pairs/reviews").glob("*.parquet"))
    assert [sha256_file(file) for file in again] == [
        sha256_file(file) for file in sorted((facts.build / "data/pairs/reviews").glob("*.parquet"))
    ]


def test_a_rehearsal_takes_few_rows_of_files_on_this_machine(
    facts: family.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mode.VARIABLE, "1")
    held_out = {"held_out": {"rows": 20, "split": "validation"}}
    mix.run(facts, declared(many=upstream("a.parquet") | held_out, few=upstream("b.parquet", rows=30)))
    assert [rows_of(facts, "many", split).num_rows for split in ("train", "validation")] == [mix.REHEARSED, 20]
    assert rows_of(facts, "few").num_rows == 30 - 3 - 4  # all that are not marked


def test_the_last_rows_are_held_out(facts: family.Family) -> None:
    config = upstream("a.parquet") | {"filters": {}, "held_out": {"rows": 50, "split": "validation"}}
    mix.run(facts, declared(quora=config))
    assert rows_of(facts, "quora", "validation")["query"].to_pylist() == [f"query {row}" for row in range(950, 1000)]
    assert len(rows_of(facts, "quora")) == 950


def test_the_plan_knows_rows_and_bytes_of_what_was_made(
    facts: family.Family, capsys: pytest.CaptureFixture[str]
) -> None:
    declaration = declared(agnews=upstream("a.parquet"), other=upstream("b.parquet"))
    shards = json.loads(mix.run(facts, declaration, only=["agnews"]).read_text())["configs"]["agnews"]["shards"]
    plan.show(declaration, facts.build / "data/pairs")
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["agnews"].split()[1:3] == ["772", f"{sum(shard['bytes'] for shard in shards):,}"]
    assert lines["other"].count(published.UNKNOWN) == 2


def test_a_comment_in_the_declaration_changes_nothing_in_the_manifest(facts: family.Family) -> None:
    manifest = mix.run(facts, declared(agnews=upstream("a.parquet")))
    before, text = manifest.read_bytes(), Path("data.yaml").read_text()
    Path("data.yaml").write_text(f"# said anew\n{text}\n")
    mix.run(facts, spec.load(Path("data.yaml")))
    assert manifest.read_bytes() == before
    Path("data.yaml").write_text(text.replace('"title": "t"', '"title": "another"'))
    mix.run(facts, spec.load(Path("data.yaml")))
    assert manifest.read_bytes() != before


def test_a_finished_config_is_not_made_again_until_its_source_changes(facts: family.Family) -> None:
    declaration = declared(agnews=upstream("a.parquet"))
    mix.run(facts, declaration)
    file = facts.build / "data/pairs/agnews/manifest.json"
    before = file.stat().st_mtime_ns
    mix.run(facts, declaration)
    assert file.stat().st_mtime_ns == before
    upstream("a.parquet", 1001)
    mix.run(facts, declaration)
    assert file.stat().st_mtime_ns != before


@pytest.mark.parametrize(
    ("columns", "changes", "says"),
    [
        ({}, {"columns": {"label": "score"}}, "no column 'score' .there are: query.*config agnews.*columns.label"),
        ({}, {"columns": {"query": "q", "label": "similarity"}}, "no column 'q'.*config agnews.*columns.query"),
        ({}, {"filters": {"drop": "dropped"}}, "no column 'dropped'.*config agnews.*filters.drop"),
        ({"similarity": ["x"] * 1000}, {}, "column 'similarity' holds string, not numbers.*config agnews"),
        ({"query": list(range(1000))}, {}, "column 'query' holds int64, not text"),
        ({"drop": ["no"] * 1000}, {}, "column 'drop' holds string, not true or false"),
        ({"similarity": [1.0] * 500 + [float("nan")] * 500}, {}, "label of the pair with query 'query 501' is nan"),
        ({"similarity": [1.0] * 999 + [float("inf")]}, {}, "query 'query 999' is inf"),
        ({"similarity": [1.0, None] * 500}, {}, "query 'query 1' is None"),
        ({}, {"cap": {"rows": 773, "draw": "seeded"}}, "cap of 773 rows is larger than the 772.*configs.agnews"),
        ({}, {"held_out": {"rows": 772, "split": "validation"}}, "772 rows are held out of 772"),
        ({}, {"source": {"kind": "files", "path": "gone.parquet"}}, "no file at gone.parquet.*config agnews"),
        (
            {},
            {"source": {"kind": "beir", "path": "."}, "columns": {}, "filters": {}},
            "no qrels.tsv.*config agnews, [.]",
        ),
    ],
)
def test_a_bad_source_is_one_clear_line_and_leaves_nothing(
    facts: family.Family, columns: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    config = upstream("a.parquet", **columns) | changes
    with pytest.raises(ReleaseError, match=says) as caught:
        mix.run(facts, declared(agnews=config))
    assert "\n" not in str(caught.value)
    assert not list((facts.build / "data").glob("pairs/*"))


def test_a_hub_that_cannot_be_reached_is_one_clear_line(facts: family.Family) -> None:
    source = {"kind": "hf", "repository": "nobody/nothing", "config": "agnews", "split": "train", "revision": "gone"}
    with pytest.raises(ReleaseError, match=r"cannot be reached.*config agnews, nobody/nothing agnews train"):
        mix.run(facts, declared(agnews={"source": source}))


def test_an_unreadable_file_is_one_clear_line(facts: family.Family) -> None:
    Path("a.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ReleaseError, match=r"unreadable .*config agnews"):
        mix.run(facts, declared(agnews={"source": {"kind": "files", "path": "a.parquet"}}))


def test_a_config_that_is_not_declared_is_refused(facts: family.Family) -> None:
    with pytest.raises(ReleaseError, match=r"unknown config 'agnew'.*one of agnews"):
        mix.run(facts, declared(agnews=upstream("a.parquet")), only=["agnew"])


def test_peoples_own_files_csv_and_jsonl(facts: family.Family) -> None:
    Path("own.csv").write_text('q,text\n"a, b","two\nlines"\nplain,"said ""so"""\n', encoding="utf-8")
    Path("own.jsonl").write_text('{"q": "ä", "text": "ü"}\n{"q": null, "text": "no query"}\n', encoding="utf-8")
    columns = {"query": "q", "document": "text"}
    configs = {
        name: {"source": {"kind": "files", "path": f"own.{name}"}, "columns": columns} for name in ("csv", "jsonl")
    }
    manifest = json.loads(mix.run(facts, declared(**configs)).read_text())["configs"]
    assert rows_of(facts, "csv").to_pylist() == [
        {"query": "a, b", "document": "two\nlines"},
        {"query": "plain", "document": 'said "so"'},
    ]
    assert rows_of(facts, "jsonl").to_pylist() == [{"query": "ä", "document": "ü"}]
    assert manifest["jsonl"]["dropped"] == {"no text": 1}


def test_a_beir_folder(facts: family.Family, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("beir")
    folder.mkdir()
    (folder / "corpus.jsonl").write_text(
        '{"_id": "d1", "title": "T", "text": "body"}\n{"_id": "d2", "text": "plain"}\n'
    )
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "ask"}\n')
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq1\tgone\t1\n")
    config = {"source": {"kind": "beir", "path": "beir"}, "labels": "source"}
    manifest = json.loads(mix.run(facts, declared(beir=config)).read_text())["configs"]["beir"]
    assert rows_of(facts, "beir").to_pylist() == [
        {"query": "ask", "document": "T body", "label": 2.0},
        {"query": "ask", "document": "plain", "label": 0.0},
    ]
    assert manifest["dropped"] == {"no text": 1}
    (folder / "qrels.tsv").write_text("q1\td1\t1\nq2\td1\t1\n")
    mix.run(facts, declared(beir=config))
    said = capsys.readouterr().err
    assert "1 of 2 judged queries have no text, such as 'q2'" in said and "beir: left out 1 no text" in said
    (folder / "qrels.tsv").write_text("q2\td1\t1\n")
    with pytest.raises(ReleaseError, match=r"1 of 1 judged queries have no text.*qrels.tsv; hint: write the same ids"):
        mix.run(facts, declared(beir=config))


def test_a_pair_with_two_labels_is_counted_apart(facts: family.Family) -> None:
    Path("a.csv").write_text("q,t,l\na,b,1\na,b,0\na,b,1.0\nc,d,-0\nc,d,0\nc,e,0\n")
    config = {"source": {"kind": "files", "path": "a.csv"}, "labels": "source"}
    config["columns"] = {"query": "q", "document": "t", "label": "l"}
    manifest = json.loads(mix.run(facts, declared(one=config)).read_text())["configs"]["one"]
    assert manifest["dropped"] == {"repeated pair": 2, "repeated pair with another label": 1}
    assert rows_of(facts, "one")["label"].to_pylist() == [1, 0, 0]


def test_rows_that_no_teacher_can_read_are_left_out_counted_and_never_held_out(
    facts: family.Family, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"query {row}" for row in range(100)]
    rows[3], rows[98], rows[99] = "", " ", ""
    config = upstream("a.parquet", 100, query=rows) | {"filters": {}, "held_out": {"rows": 5, "split": "validation"}}
    entry = json.loads(mix.run(facts, declared(one=config)).read_text())["configs"]["one"]
    assert entry["dropped"] == {"empty query": 3}
    assert "left out 3 empty query" in capsys.readouterr().err
    assert rows_of(facts, "one", "validation")["query"].to_pylist() == [f"query {row}" for row in range(93, 98)]
    assert len(rows_of(facts, "one")) == 92
    capped = config | {"cap": {"rows": 4, "draw": "first"}, "held_out": {"rows": 1, "split": "test"}}
    entry = json.loads(mix.run(facts, declared(one=capped)).read_text())["configs"]["one"]
    assert entry["dropped"] == {"cap": 96, "empty query": 1}
    assert rows_of(facts, "one", "test")["query"].to_pylist() == ["query 2"]


def test_overlap_is_dropped_although_some_text_is_no_utf8(facts: family.Family) -> None:
    facts = benchmark(facts, ["What is it?"], [LONG])
    queries = pa.array([b"good", b"\xff", b"what is it"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"q": queries, "t": ["a", "b", "c"]}), "a.parquet")
    config = {"source": {"kind": "files", "path": "a.parquet"}, "columns": {"query": "q", "document": "t"}}
    for overlap, expected in (("drop", ["good"]), ("report", ["good", "what is it"])):
        entry = json.loads(mix.run(facts, declared(one=config), overlap=overlap).read_text())["configs"]["one"]
        assert rows_of(facts, "one")["query"].to_pylist() == expected
        assert entry["dropped"].get("invalid unicode in the query") == 1
        assert entry["overlap"]["bench"]["queries"] == 1


@pytest.mark.parametrize(
    ("rows", "config", "says"),
    [
        (
            ["a"] * 3,
            {"held_out": {"rows": 5, "split": "validation"}},
            r"5 rows are held out of 3.*configs.one.held_out",
        ),
        (["a"] * 3, {"held_out": {"rows": 3, "split": "validation"}}, "3 rows are held out of 3"),
        (["a", "", ""], {"held_out": {"rows": 1, "split": "validation"}}, "1 rows are held out of 1"),
        (["", " "], {}, "no row is left .left out: 2 empty query"),
        ([None, None], {}, "the source gives no row .left out: 2 no text.*configs.one.source"),
        ([], {"held_out": {"rows": 1, "split": "validation"}}, "the source gives no row;"),
        ([], {"cap": {"rows": 1, "draw": "first"}}, "the source gives no row;"),
    ],
)
def test_too_few_rows_are_said_and_leave_nothing(
    facts: family.Family, rows: list[str | None], config: dict[str, Any], says: str
) -> None:
    pq.write_table(
        pa.table({"query": pa.array(rows, pa.string()), "document": pa.array(["x"] * len(rows), pa.string())}),
        "a.parquet",
    )
    with pytest.raises(ReleaseError, match=says):
        mix.run(facts, declared(one={"source": {"kind": "files", "path": "a.parquet"}} | config))
    assert not list((facts.build / "data").glob("pairs/*"))


def test_a_config_is_never_written_or_removed_outside_its_folder(facts: family.Family) -> None:
    precious = facts.build / "mini/model/model.safetensors"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"trained for hours")
    for name in ("../../mini", "..", "../../../build/docstring-reranker/mini"):
        with pytest.raises(ReleaseError, match="cannot be the name of a folder"):
            mix.run(facts, declared(**{name: upstream("a.parquet")}))
    assert precious.read_bytes() == b"trained for hours"


def test_shards_of_no_rows_are_refused_before_they_are_written_for_ever(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would never end"):
        shards.SplitWriter(tmp_path, "train", shards.TEXTS, 0)


# --- Retrieval sources ------------------------------------------------------------------------------------------------

PLAN = {"candidates": 20, "hardest": 4, "keep": 8, "head": 4, "band": [4, 20]}


def retrieval(folder: str, **wrong: Any) -> dict[str, Any]:
    """Five queries with 50 scored candidates of 200 documents each."""
    rng = np.random.default_rng(0)
    ids = [rng.choice(200, 50, replace=False).tolist() for _ in range(5)]
    scores = {
        "query_id": [10, 11, 12, 13, 14],
        "document_ids": ids,
        "scores": [np.sort(rng.normal(size=50))[::-1].astype(np.float32).tolist() for _ in range(5)],
        "positive_ids": [candidates[:2] for candidates in ids],
    }
    tables = {
        "documents": {"document_id": list(range(199, -1, -1)), "document": [f"text {n}" for n in range(199, -1, -1)]},
        "queries": {"query_id": [14, 13, 12, 11, 10], "query": [f"ask {n}" for n in (14, 13, 12, 11, 10)]},
        "scores": scores | wrong,
    }
    for name, table in tables.items():
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), Path(folder) / name / "nq-00000-of-00001.parquet")
    source = {"kind": "retrieval", "path": folder, "domain": "nq", "scores": "scores"}
    return {"source": source, "labels": "source", "sampling": PLAN}


def test_candidates_are_thinned_then_joined_with_their_texts(facts: family.Family) -> None:
    manifest = json.loads(mix.run(facts, declared(rerank_nq=retrieval("r"))).read_text())["configs"]["rerank_nq"]
    table = rows_of(facts, "rerank_nq").to_pylist()
    assert Counter(row["query"] for row in table) == {f"ask {n}": 8 for n in range(10, 15)}
    raw = pq.read_table("r/scores/nq-00000-of-00001.parquet").to_pylist()
    truth = {
        (f"ask {row['query_id']}", f"text {document}"): score
        for row in raw
        for document, score in zip(row["document_ids"], row["scores"], strict=True)
    }
    assert all(truth[row["query"], row["document"]] == row["label"] for row in table)
    assert {f"text {document}" for document in raw[0]["positive_ids"]} <= {
        row["document"] for row in table if row["query"] == "ask 10"
    }
    assert (manifest["rows_in"], manifest["dropped"]) == (250, {"not sampled": 210})


def test_candidates_without_text_and_repeated_ones_are_counted(facts: family.Family) -> None:
    ids = [[1, 1, 999, 2]] + [[3]] * 4
    config = retrieval("r", document_ids=ids, scores=[[1.0] * 4] + [[2.0]] * 4, positive_ids=[[]] * 5)
    manifest = json.loads(mix.run(facts, declared(rerank_nq=config)).read_text())["configs"]["rerank_nq"]
    assert manifest["dropped"] == {"no text": 1, "duplicate": 1}
    assert len(rows_of(facts, "rerank_nq")) == 6


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scores": [[float("nan")] * 50] * 5}, "a score of query 10 is NaN.*config rerank_nq, table scores"),
        ({"scores": [[1.0] * 50] * 2 + [[1.0]] + [[1.0] * 50] * 2}, "query 12 has not as many scores as documents"),
        ({"positive_ids": None}, "no column 'positive_ids'.*config rerank_nq, table scores"),
    ],
)
def test_a_bad_retrieval_source_is_one_clear_line(facts: family.Family, wrong: dict[str, Any], says: str) -> None:
    config = retrieval("r", **{key: value for key, value in wrong.items() if value})
    if wrong.get("positive_ids", 0) is None:
        path = "r/scores/nq-00000-of-00001.parquet"
        pq.write_table(pq.read_table(path).drop_columns(["positive_ids"]), path)
    with pytest.raises(ReleaseError, match=says):
        mix.run(facts, declared(rerank_nq=config))


# --- The embedded default ---------------------------------------------------------------------------------------------


def objects(count: int = 400) -> list[DocstringPair]:
    rng = np.random.default_rng(0)
    words = np.array([f"word{n}" for n in range(300)])
    return [
        DocstringPair(f"p.m.f{n}", "numpy", " ".join(rng.choice(words, 5)), " ".join(rng.choice(words, 30)),
             "heldout" if n % 5 == 0 else "train")
        for n in range(count)
    ]  # fmt: skip


CANDIDATES = spec.CandidateSpec(queries=100, documents=200, hard=5, depth=20, random=2)
EVALUATION = spec.EvaluationSpec(spec.CollectionSpec("c", 20, 60), spec.NanoSpec("NanoC", 10, 50, 15))


def test_the_three_sets_share_no_object() -> None:
    sets = demo_sets.divide(objects(), CANDIDATES, EVALUATION, 12)
    names = [{pair.name for pair in part} for part in (sets.collection, sets.nano, sets.training)]
    assert [len(part) for part in names] == [60, 50, 200]
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert {pair.split for pair in sets.collection} == {"heldout"}
    assert demo_sets.divide(objects()[::-1], CANDIDATES, EVALUATION, 12) == sets


def test_every_query_gets_its_gold_document_hard_ones_and_random_ones() -> None:
    pairs = demo_sets.divide(objects(), CANDIDATES, EVALUATION, 12).training
    rows = demo_sets.training_rows(pairs, CANDIDATES, 80, 12)
    assert len(rows) == 800
    assert len(set(rows)) == 800
    gold = {pair.summary: pair.body for pair in pairs}
    by_query: dict[str, list[str]] = {}
    for query, document in rows:
        by_query.setdefault(query, []).append(document)
    assert all(len(documents) == 8 and gold[query] in documents for query, documents in by_query.items())
    validation = {query for query, _ in rows[-80:]}
    assert len(validation) == 10
    assert not validation & {query for query, _ in rows[:-80]}
    training_documents = [row[1] for row in rows[:-80]]
    assert sum(left != right for left, right in pairwise(training_documents)) == len(set(training_documents)) - 1
    assert rows == demo_sets.training_rows(pairs, CANDIDATES, 80, 12)


def test_the_evaluation_sets_load_in_the_forms_they_claim(tmp_path: Path) -> None:
    from datasets import load_dataset

    sets = demo_sets.divide(objects(), CANDIDATES, EVALUATION, 12)
    hashes = demo_sets.write_files(tmp_path, demo_sets.nano_files(sets.nano, EVALUATION.nano), "nano")
    assert demo_sets.present(tmp_path, hashes)
    loaded = {
        name: load_dataset(str(tmp_path / "nano"), name, split="NanoC")
        for name in ("corpus", "queries", "qrels", "bm25")
    }
    assert [len(part) for part in loaded.values()] == [50, 10, 10, 10]
    ids = set(loaded["corpus"]["_id"])
    assert all(len(row["corpus-ids"]) == 15 and set(row["corpus-ids"]) <= ids for row in loaded["bm25"])
    assert set(loaded["qrels"]["corpus-id"]) <= ids
    files = demo_sets.collection_files(sets.collection, EVALUATION.collection)
    assert len(files["corpus.jsonl"].splitlines()) == 60
    assert files["qrels.tsv"].splitlines()[0] == "query-id\tcorpus-id\tscore"
    assert len(files["qrels.tsv"].splitlines()) == 21


def test_a_nano_set_that_changed_is_read_anew(tmp_path: Path) -> None:
    from datasets import load_dataset

    pairs = demo_sets.divide(objects(), CANDIDATES, EVALUATION, 12).nano
    for candidates in (15, 5):  # datasets caches what it reads of a folder
        plan = dataclasses.replace(EVALUATION.nano, candidates=candidates)
        demo_sets.write_files(tmp_path, demo_sets.nano_files(pairs, plan), "nano")
        loaded = load_dataset(str(tmp_path / "nano"), "bm25", split="NanoC")
        assert {len(row["corpus-ids"]) for row in loaded} == {candidates}


def test_a_row_less_leaves_most_of_a_shard_as_it_was(tmp_path: Path) -> None:
    """What Xet then uploads again is little: that is what content-defined chunks are for."""
    rng = np.random.default_rng(1)
    documents = [" ".join(map(str, rng.integers(0, 10**6, 60))) for _ in range(20_000)]
    columns = {"query": documents[::-1], "document": documents, "label": rng.normal(size=20_000)}
    table = pa.table(columns, schema=shards.ROWS)
    whole = shards.write_table(tmp_path / "whole.parquet", table).read_bytes()
    less = pa.concat_tables([table.slice(0, 100), table.slice(101)]).combine_chunks()
    changed = shards.write_table(tmp_path / "less.parquet", less).read_bytes()
    blocks = [changed[offset : offset + 4096] for offset in range(0, len(changed) - 4096, 4096)]
    assert sum(block in whole for block in blocks) / len(blocks) > 0.8


# --- Overlap ----------------------------------------------------------------------------------------------------------


def test_equal_and_nearly_equal_texts_are_found_and_others_are_not() -> None:
    rng = np.random.default_rng(3)
    words = [f"w{n}" for n in range(5000)]
    texts = [" ".join(rng.choice(words, 60)) for _ in range(300)]
    near = texts[7].split()
    near[0] = "changed"  # 55 of 57 shingles stay
    far = texts[8].split()
    far[10:40] = ["x"] * 30
    queries = [texts[3].upper() + " !", " ".join(near), " ".join(far), "something else entirely", "", texts[9][:40]]
    assert TextIndex({"t": texts}).repeats(queries).tolist() == [[True, True, False, False, False, False]]
    assert not TextIndex({"t": [], "u": ["", "?"]}).repeats(["a", "", "?"]).any()
    matches = TextIndex({"t": ["two words", "“Ünï” — x"], "u": ["a b"]}).repeats(
        ["Two, words!", "two words more", "ünï x", "A b"]
    )
    assert matches.tolist() == [[True, False, True, False], [False, False, False, True]]
    often = TextIndex({"t": [*[texts[3]] * 500, texts[4]], "u": texts[3:5], "v": texts[5:9]})
    matches = often.repeats([texts[4], "none of these", texts[3], " ".join(near)])
    assert matches.tolist() == [[True, False, True, False], [True, False, True, False], [False, False, False, True]]


@settings(deadline=None)
@given(st.lists(st.text("ab cD_1.,é“ ", max_size=60), max_size=30))
def test_shingles_are_runs_of_five_words(texts: list[str]) -> None:
    """The readable version is the oracle: equal runs of words have equal hashes, others have others."""
    runs, all_hashes = [], []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        runs += [tuple(words[n : n + 5]) for n in range(max(len(words) - 4, min(len(words), 1)))]
    for _, hashes, starts in shingles(texts):
        assert starts[-1] == len(hashes)
        all_hashes += hashes.tolist()
    assert len(all_hashes) == len(runs)
    assert len(set(zip(all_hashes, runs, strict=True))) == len(set(all_hashes)) == len(set(runs))


def five_words(text: str) -> set[tuple[str, ...]]:
    """The readable version of a text's shingles."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[n : n + 5]) for n in range(max(len(words) - 4, min(len(words), 1)))}


@settings(deadline=None, max_examples=60)
@example([" ".join(f"w{n}" for n in range(18))], 3)  # 0.7 exactly
@example([" ".join(f"w{n}" for n in range(60))], 20)  # a long beginning that says one thing
@given(st.lists(st.text("ab cD_1.,é“ ", max_size=90), min_size=1, max_size=8), st.integers(0, 30))
def test_a_first_look_passes_every_text_that_repeats_an_indexed_one(texts: list[str], cut: int) -> None:
    """Whole, cut, lengthened in front, said twice or in capitals; of one word as of twenty, at the end of a text as within."""
    screen = Screen(0.7)
    screen.add(texts)
    screen.close()
    queries = [form for one in texts for form in (one, one.upper(), one[cut:], "b a " * cut + one, f"{one} {one}")]
    queries += ["1 2 3 4 5 6 7", *reversed(texts), "x_ " * 9]
    expected = set()
    for row, text in enumerate(queries):
        mine = five_words(text)
        others = (five_words(other) for other in texts)
        if any(len(mine & theirs) >= 0.7 * len(mine | theirs) for theirs in others if mine and theirs):
            expected.add(row)
    possible = screen.possible(pa.chunked_array([queries[:3], queries[3:]]))
    assert expected <= set(possible.tolist())
    assert (np.diff(possible) > 0).all()


def test_a_first_look_leaves_little_of_what_repeats_nothing() -> None:
    rng = np.random.default_rng(3)
    texts = [" ".join(map(str, rng.integers(10, 10**6, rng.integers(5, 90)))) for _ in range(600)]
    screen = Screen(0.7)
    screen.add(texts[:300])
    screen.close()
    assert screen.possible(texts[299:])[0] == 0
    assert len(screen.possible(texts[299:])) < 10


def test_a_text_counts_the_same_wherever_the_stream_is_cut() -> None:
    texts = [f"a{n} b c d e f" * (n % 7 + 1) for n in range(20_000)] + ["x" * 3_000_000, "the last"]
    together = pa.array(texts)
    cut = pa.chunked_array([together.slice(0, 7), together.slice(7, 1), together.slice(8)])
    index = TextIndex({"t": [*texts[:20_000:100], texts[-1]]})
    expected = [number % 100 == 0 for number in range(20_000)] + [False, True]
    assert index.repeats(together).tolist() == index.repeats(cut).tolist() == [expected]


LONG = " ".join(f"w{n}" for n in range(30))


def benchmark(facts: family.Family, queries: list[str], documents: list[str]) -> family.Family:
    """A collection in BEIR's form that the family is evaluated on."""
    folder = facts.build / "data/collections/bench"
    folder.mkdir(parents=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        lines = [json.dumps({"_id": str(n), "text": text}) + "\n" for n, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "qrels.tsv").write_text("0\t0\t1\n")
    return dataclasses.replace(facts, evaluation=dataclasses.replace(facts.evaluation, collections=("bench",)))


def overlapping() -> dict[str, Any]:
    """A source of 1000 rows in which two queries and one document repeat the benchmark's."""
    queries, documents = ([f"{name} {row}" for row in range(1000)] for name in ("query", "document"))
    queries[3], queries[501], documents[999] = "What is it", "what IS it?", LONG + " and"
    return upstream("a.parquet", query=queries, document=documents) | {"filters": {}}


def test_overlap_with_the_evaluation_sets_is_counted_as_the_rows_stream_by(facts: family.Family) -> None:
    facts = benchmark(facts, ["What is it?"], [LONG])
    manifest = json.loads(mix.run(facts, declared(agnews=overlapping())).read_text())
    counted = {"queries": 2, "query_share": 0.002, "documents": 1, "document_share": 0.001}
    assert manifest["configs"]["agnews"]["overlap"] == {"bench": counted}
    assert manifest["overlap"] == "report"
    assert len(rows_of(facts, "agnews")) == 1000


def test_overlap_is_counted_among_the_rows_that_a_cap_leaves(facts: family.Family) -> None:
    facts = benchmark(facts, ["What is it?"], [LONG])
    config = overlapping() | {"cap": {"rows": 100, "draw": "first"}}
    manifest = json.loads(mix.run(facts, declared(agnews=config)).read_text())["configs"]["agnews"]
    assert manifest["overlap"]["bench"] == {"queries": 1, "query_share": 0.01, "documents": 0, "document_share": 0.0}


def test_overlap_is_dropped_before_cap_and_held_out_rows_are_drawn(facts: family.Family) -> None:
    facts = benchmark(facts, ["What is it?"], [LONG])
    config = overlapping() | {"cap": {"rows": 990, "draw": "first"}, "held_out": {"rows": 10, "split": "validation"}}
    manifest = json.loads(mix.run(facts, declared(agnews=config), overlap="drop").read_text())["configs"]["agnews"]
    assert manifest["dropped"] == {"overlap": 3, "cap": 7}
    assert manifest["overlap"]["bench"]["queries"] == 2  # what was found, and is gone
    rows = [row for row in range(1000) if row not in (3, 501, 999)][:990]
    assert rows_of(facts, "agnews")["document"].to_pylist() == [f"document {row}" for row in rows[:980]]
    assert rows_of(facts, "agnews", "validation")["document"].to_pylist() == [f"document {row}" for row in rows[980:]]


def test_an_evaluation_set_that_changed_is_compared_anew_and_a_missing_one_is_refused(facts: family.Family) -> None:
    with_bench = benchmark(facts, ["other"], ["other"])
    declaration = declared(agnews=overlapping())
    assert not json.loads(mix.run(with_bench, declaration).read_text())["configs"]["agnews"]["overlap"]["bench"][
        "queries"
    ]
    queries = facts.build / "data/collections/bench/queries.jsonl"
    queries.write_text(json.dumps({"_id": "0", "text": "what is it"}))
    counts = json.loads(mix.run(with_bench, declaration).read_text())["configs"]["agnews"]["overlap"]["bench"]
    assert counts["queries"] == 2
    queries.unlink()
    with pytest.raises(ReleaseError, match=r"no queries.jsonl.*collections 'bench'.*--no-overlap"):
        mix.run(with_bench, declaration)
    manifest = json.loads(mix.run(with_bench, declaration, overlap="ignore").read_text())
    assert (manifest["overlap"], manifest["configs"]["agnews"]["overlap"]) == ("ignore", None)


def test_docstrings_are_compared_with_a_set_that_came_later(
    facts: family.Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docstrings, "pairs", objects)  # of all packages they take a while
    source = {"source": {"kind": "docstrings"}, "candidates": dataclasses.asdict(CANDIDATES)}
    mixture = dataclasses.replace(declared(docs=source), evaluation=EVALUATION)
    assert json.loads(mix.run(facts, mixture).read_text())["configs"]["docs"]["overlap"] == {}
    with_bench = benchmark(facts, [rows_of(facts, "docs")["query"][0].as_py()], ["other"])
    manifest = json.loads(mix.run(with_bench, mixture).read_text())["configs"]["docs"]
    assert manifest["overlap"]["bench"]["queries"] == 8
    made = {path: path.stat().st_ino for path in (facts.build / "data/pairs/docs").iterdir()}
    assert json.loads(mix.run(with_bench, mixture).read_text())["configs"]["docs"] == manifest
    assert {path: path.stat().st_ino for path in (facts.build / "data/pairs/docs").iterdir()} == made


def test_interrupted_writing_leaves_the_old_config(facts: family.Family, monkeypatch: pytest.MonkeyPatch) -> None:
    mix.run(facts, declared(agnews=upstream("a.parquet")))
    before = sha256_file(facts.build / "data/pairs/agnews/manifest.json")

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards.SplitWriter, "_flush", full_disk)
    with pytest.raises(ReleaseError, match=r"No space left.*config agnews"):
        mix.run(facts, declared(agnews=upstream("a.parquet", 1200)))
    assert sha256_file(facts.build / "data/pairs/agnews/manifest.json") == before
    assert [path.name for path in (facts.build / "data/pairs").iterdir() if path.is_dir()] == ["agnews"]
