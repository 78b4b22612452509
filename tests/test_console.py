"""What is printed reads well in a terminal of 80 columns: nothing is cut, and numbers stand below their headings."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from release.console import as_text, lay_out, table, wrapped

EMBEDDER = "sentence-transformers/static-retrieval-mrl-en-v1"
LAST = ["-0.0151 to +0.0087", 1.0, "4321/1234"]
TABLES: dict[str, tuple[list[str], list[list[Any]]]] = {
    "evaluate": (
        ["", "queries", "first stage", "reranked", "gain", "95 % interval", "oracle", "helped/hurt"],
        [
            ["docstrings over bm25", 700, 0.6389, 0.676, "+0.0371", "+0.0179 to +0.0566", 0.7786, "123/89"],
            [f"teacher: CQADupstackGamingRetrieval over {EMBEDDER}", 10_000, 0.1, 1.0, "-0.0004", *LAST],
        ],
    ),
    "speed": (
        ["configuration", "weights", "scores", "batch", "pairs/s", "peak MB", "score difference"],
        [["fp32, padded (Sentence Transformers' default)", "float32", "float32", 1024, "12345.6", "81559", "3.6e-06"]],
    ),
    "export": (
        ["form", "file", "bytes of weights", "largest difference", "allowed"],
        [["AutoModelForSequenceClassification", "onnx/model_quint8_avx2.onnx", 4_123_456_789, "2.9e-06", "1.0e-03"]],
    ),
    "select": (
        ["checkpoint", "step", "nano NDCG@10", "mean NDCG@10", "released"],
        [["best", 504_126, 0.6915, None, True], ["last", 560_130, 0.6911, None, False]],
    ),
    "compare": (
        ["model", "reranked", "pairs/s", "parameters"],
        [["granite-embedding-reranker-english-r2", 0.6091, 1738.2, 149_014_272], ["mxbai-rerank-large-v2", None, None, None]],
    ),
    "plan": (
        ["make", "state", "makes"],
        [["export", "to run", "dual root and ONNX, compared with the model -> record"]],
    ),
    "plan-data": (
        ["config", "rows", "bytes", "licence", "overlaps"],
        [["stackexchange_duplicate_questions", "143,393,475 (cap)", "1,234,567,890,123", "cc-by-nc-sa-4.0", "none"]],
    ),
    "overlap": (
        ["config", "set", "by the query", "by the document"],
        [["stackexchange_duplicate_questions", "ClimateFEVERHardNegatives", "0.1234%", "12.3456%"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("width", [80, 120, 40])
def test_no_cell_is_cut_and_no_line_is_too_long(name: str, width: int) -> None:
    columns, rows = TABLES[name]
    lines = lay_out(columns, rows, width)
    shown = " ".join(" ".join(lines).split())
    for cell in (as_text(cell) for row in rows for cell in row):
        assert cell in shown, cell
    for word in " ".join(columns[1:]).split():
        assert word in shown, word
    assert "…" not in shown
    longest = max(len(word) for word in shown.split())
    assert max(map(len, lines)) <= max(width, longest)


@pytest.mark.parametrize("name", TABLES)
def test_in_80_columns_what_is_told_of_a_name_is_one_line_below_the_headings(name: str) -> None:
    columns, rows = TABLES[name]
    lines = lay_out(columns, rows, 80)
    assert sum(bool(re.fullmatch(r"[- ]+", line)) for line in lines) == 1
    for row in rows:
        assert any(all(as_text(cell) in line for cell in row[1:]) for line in lines), row


def test_a_short_table_stays_in_one_piece() -> None:
    assert lay_out(["documents", "p50", "p95"], [[10, "24.4", "27.6"], [100, "154.6", None]], 80) == [
        "documents    p50   p95",
        "---------  -----  ----",
        "10          24.4  27.6",
        "100        154.6     -",
    ]


def test_long_names_stand_above_their_numbers() -> None:
    assert lay_out(["", "queries", "first stage"], [["a name that is long", 1000, 0.5]], 20) == [
        "              first",
        "    queries   stage",
        "    -------  ------",
        "a name that is long",
        "      1,000  0.5000",
    ]


def test_a_table_is_as_wide_as_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns, rows = TABLES["evaluate"]
    for width in ("80", "200"):
        monkeypatch.setenv("COLUMNS", width)
        table("NDCG@10", columns, rows)
    narrow, wide = capsys.readouterr().out.split("NDCG@10\n")[1:]
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, wide.splitlines()))


def test_text_breaks_between_words_only() -> None:
    assert wrapped("one long-hyphenated-word https://127.0.0.1/a-b", 10) == [
        "one",
        "long-hyphenated-word",
        "https://127.0.0.1/a-b",
    ]
    assert wrapped("a b c", 5, "  ") == ["  a b", "    c"]


def test_without_a_terminal_libraries_draw_no_bars_and_a_line_tells_of_each_step() -> None:
    code = (
        "from release import console; console.hide_bars(); from tqdm.auto import tqdm; list(tqdm(range(3)));"
        " console.note('one of three')\n"
        "with console.quiet():\n import warnings, logging; warnings.warn('old name'); logging.getLogger('x').warning('odd')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "one of three\n")
