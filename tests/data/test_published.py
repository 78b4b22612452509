"""A mixture beside the published one: each pair once, the counts that are known, and a stop where the total is another."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import mteb
import numpy as np
import pyarrow as pa
import pytest

from release import spec
from release.data import published, repeats
from release.data.plan import command as plan
from release.errors import ReleaseError
from release.family import load

ROOT = Path(__file__).resolve().parents[2]
ETTIN = spec.load(ROOT / "datasets/ettin-reranker-v1-data.yaml")


KNOWN = {  # from the published data card
    "agnews": 1_157_745,
    "altlex": 110_708,
    "amazon_qa": 1_095_290,
    "amazon_reviews": 5_000_000,
    "arxiv_title_abstract": 1_999_486,
    "beir_dbpedia": 2_500_000,
    "biorxiv_title_abstract": 283_550,
    "cc_news_en": 353_670,
}


def test_the_counts_that_are_known_are_declared_and_no_others() -> None:
    assert {name: config.rows for name, config in ETTIN.configs.items() if config.rows} == KNOWN
    assert (len(ETTIN.configs), sum(KNOWN.values())) == (39, 12_500_449)
    assert ETTIN.published is not None and ETTIN.published.held_out == 5_000


def made(rows: int) -> dict[str, dict]:
    """Manifests in which every config has no row but one, which has them all; its held-out rows do not count."""
    first, *others = ETTIN.configs
    shards = [
        {"split": "train", "rows": rows - 7},
        {"split": "train", "rows": 7},
        {"split": "validation", "rows": 5000},
    ]
    return {first: {"shards": shards}} | {name: {"shards": []} for name in others}


def test_a_mixture_of_another_total_than_the_published_one_stops_unless_it_is_told_to_go_on() -> None:
    published.check(ETTIN, made(143_393_475))
    with pytest.raises(ReleaseError, match=r"143,393,474 pairs to train on, where 143,393,475 were published \(-1\)"):
        published.check(ETTIN, made(143_393_474))
    assert ETTIN.published is not None
    told = replace(ETTIN, published=replace(ETTIN.published, otherwise="go on"))
    published.check(told, made(5))
    assert published.described(told)["published"]["rows"] == 143_393_475


def test_the_plan_shows_what_is_known_beside_what_is_declared(capsys: pytest.CaptureFixture[str]) -> None:
    plan(ROOT / "recipes/ettin.toml")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["amazon_reviews", "5,000,000", "at", "most", "5,000,000", "?"] in lines
    assert ["beir_dbpedia", "2,500,000", "at", "most", "2,500,000", "?"] in lines
    assert ["rerank_fiqa", "?", "at", "most", "352,000", "?"] in lines
    assert ["total", "143,393,475", "?", "?"] in lines
    for kind in ("known:", "unknown:", "assumed:"):
        assert [kind] in lines
    published.show(ETTIN, made(143_393_470))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["agnews", "1,157,745", "143,393,470", "+142,235,725"] in lines
    assert ["total", "143,393,475", "143,393,470", "-5"] in lines


def test_a_mixture_that_repeats_no_other_shows_no_such_table(capsys: pytest.CaptureFixture[str]) -> None:
    plan(ROOT / "recipes/demo.toml")
    assert "published" not in capsys.readouterr().out


def test_candidates_come_from_the_table_with_one_row_a_query() -> None:
    tables = {config.source.scores for config in ETTIN.configs.values() if config.source.kind == "hf-retrieval"}
    assert tables == {"scores_merged"}


def test_the_nano_sets_of_the_same_origin_are_those_of_mtebs_registry() -> None:
    declared = {name for config in ETTIN.configs.values() for name in config.overlaps or ()}
    ours = {name for name in load(ROOT / "recipes/ettin.toml").evaluation.nano_sets if name in declared}
    registry = mteb.get_model_meta("cross-encoder/ettin-reranker-68m-v1").training_datasets
    assert registry is not None
    theirs = {name.removesuffix("Retrieval") for name in registry if name.startswith("Nano")}
    assert {name.removesuffix("Retrieval") for name in ours} == theirs
    assert len(ours) == 8


def test_each_pair_counts_once() -> None:
    draw = np.random.default_rng(3)
    rows = [(f"q{number % 50}", f"d{number}") for number in draw.integers(0, 4_000, 10_000)]
    tables = [pa.table({"query": queries, "document": documents}) for queries, documents in _parts(rows, 700)]
    counts: Counter[str] = Counter()
    unique_rows = [row for table in repeats.distinct(iter(tables), len(rows), counts) for row in _rows(table)]
    assert unique_rows == list(dict.fromkeys(rows))
    assert counts == {repeats.REASON: len(rows) - len(unique_rows)}


def test_a_query_and_a_document_that_change_places_are_another_pair() -> None:
    table = pa.table({"query": ["a", "b", "a", "ab", "a"], "document": ["b", "a", "bc", "c", "a"]})
    counts: Counter[str] = Counter()
    assert sum(part.num_rows for part in repeats.distinct(iter([table]), 5, counts)) == 5
    assert not counts


def test_a_full_table_still_tells_hashes_apart() -> None:
    hashes = np.arange(1, 2 * 4095, 2, dtype=np.uint64)
    seen = repeats.SeenHashes(len(hashes))
    assert seen.add(hashes).all()
    assert not seen.add(hashes[::-1]).any()


def _parts(rows: list[tuple[str, str]], size: int) -> list[tuple[list[str], list[str]]]:
    cut = [rows[first : first + size] for first in range(0, len(rows), size)]
    return [([query for query, _ in part], [document for _, document in part]) for part in cut]


def _rows(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["query"].to_pylist(), table["document"].to_pylist(), strict=True))
