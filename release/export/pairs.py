"""The texts on which forms and engines are compared: real pairs, and those on which engines disagree most easily."""

from __future__ import annotations

import argparse
import inspect
import json
import pathlib
import statistics
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as parquet

from release import mode
from release.errors import ReleaseError
from release.family import Family
from release.files import write_atomic

Pair = tuple[str, str]

PAIRS, REHEARSED = 64, 8  # and in a rehearsal
PAIRS_FILE = "pairs.json"  # beside a model that was fine-tuned
CHARACTERS = 2_000  # of each text: the comparison is about numbers, not about long documents on a small machine
FEW_CHARACTERS = 120  # in a rehearsal, whose tokenizers know few words: a batch is as long as its longest pair
# Pairs that are longer than the model reads, or than LONG tokens: padded batches of longer ones need tens of GB.
CUT = 28
LONG = 1_024


def sample_pairs(family: Family, count: int = PAIRS) -> list[Pair]:
    """`count` real pairs, evenly spread over the mixture's validation split, or over training rows without one.

    Raises:
        ReleaseError: The family has no scored mixture, or one with too few rows.
    """
    count = mode.amount(count, REHEARSED)
    file = _pairs_file(family.mixture_folder, family.data.validation)
    table = parquet.ParquetFile(file).read_row_group(0, columns=["query", "document"])
    if table.num_rows < count:
        raise ReleaseError(f"{table.num_rows} rows, but {count} are compared", where=str(file), hint="make score")
    rows = table.take([index * table.num_rows // count for index in range(count)]).to_pylist()
    return [(row["query"][: _characters()], row["document"][: _characters()]) for row in rows]


def _characters() -> int:
    return mode.amount(CHARACTERS, FEW_CHARACTERS)


def _pairs_file(mixture: Path, validation: str) -> Path:
    for pattern in (f"{validation}/validation-*.parquet", "*/validation-*.parquet", "*/train-*.parquet"):
        if files := sorted(mixture.glob(pattern)):
            return files[0]
    raise ReleaseError("no scored pairs to compare the forms on", where=str(mixture), hint="make score")


def library_pairs(count: int = PAIRS) -> list[Pair]:
    """`count` real pairs that every machine has, for a model without a family: docstrings of Python's own library.

    Each first line is the query of its own text and, every second time, of its neighbour's.
    """
    texts: dict[str, str] = {}
    for module in (argparse, inspect, json, pathlib, statistics, tarfile):
        members = [member for _, value in inspect.getmembers(module) for member in (value, *vars(type(value)).values())]
        members += [value for _, kind in inspect.getmembers(module, inspect.isclass) for value in vars(kind).values()]
        for member in members:
            line, _, rest = (inspect.getdoc(member) or "").partition("\n")
            if callable(member) and len(rest.strip()) > 40:
                texts[line.strip()] = rest.strip()[: _characters()]
    rows = sorted(texts.items())
    pairs = [pair for at, (line, text) in enumerate(rows) for pair in ((line, text), (line, rows[at - 1][1]))]
    return [pairs[index * len(pairs) // count] for index in range(count)]


def longest_pairs(natural: Sequence[Pair], limit: int) -> list[Pair]:
    """For a model that reads more than LONG tokens, whose hard pairs are not cut: one pair that is, and one whose query alone is.

    Each takes as much memory as a whole batch of others, so they are scored one at a time; in a rehearsal not at all.
    """
    if limit <= LONG or mode.active():
        return []
    (query, document), (_, other) = natural[:2]
    text = _repeated(document or query, limit)
    return [(query, text), (text, other)]


def _repeated(text: str, length: int) -> str:
    """`text` again and again: `length` words and one more, which have a token or more each, in at most 12 characters for each."""
    words = text.split() or ["word"]
    return " ".join(" ".join(words * (1 + length // len(words)))[: 12 * length].split()[: length + 1])


def hard_pairs(natural: Sequence[Pair], limit: int) -> list[Pair]:
    """Pairs that engines cut, pad or read differently where they do at all.

    Args:
        natural: Real pairs to make long ones of.
        limit: Tokens of a pair that the model reads.

    Returns:
        CUT pairs that are longer than the model reads (or than LONG tokens), then one whose query alone is, and then empty texts,
        emoji, Chinese, Japanese, Korean and right-to-left text, one very long word, and other text that tokenizers split in
        their own ways.
    """
    length = limit if limit <= LONG else mode.amount(LONG, 140)
    long_ones = natural[: mode.amount(CUT, 1)]
    cut = [(query, _repeated(document or query, length)) for query, document in long_ones]
    query, document = natural[0]
    others = [
        (_repeated(query, length), document),
        (query, ""),
        ("", document),
        (query, "🙂 👩‍👩‍👧 🏳️‍🌈 works fine 🎉"),
        ("如何逐行读取文件", "打开文件,然后用循环一行一行地读取。"),
        ("ファイルを一行ずつ読む", "파일을 한 줄씩 읽으려면 반복문을 쓰세요."),
        ("قراءة ملف سطرا سطرا", "עבור על הקובץ שורה אחר שורה"),
        (query, "a" * mode.amount(400, FEW_CHARACTERS)),
        (query, f"  {document}\t\n\n  "),
        (query.upper(), "naïve café — “quoted” … x²"),
        ("[CLS] tokens [SEP]", "[PAD] <s> </s> [MASK]"),
        ("if x<3:\n\tprint('y')", "def f(x):\r\n    return x  # ünïcode"),
    ]
    return cut + others


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Keep at most PAIRS of `pairs`, evenly spread, for a model without a mixture of its family."""
    count = min(PAIRS, len(pairs))
    chosen = [pairs[index * len(pairs) // count] for index in range(count)]
    cut = [(query[:CHARACTERS], document[:CHARACTERS]) for query, document in chosen]
    write_atomic(path, json.dumps(cut, ensure_ascii=False))


def read_pairs(path: Path) -> list[Pair]:
    """The pairs that `write_pairs` kept.

    Raises:
        ReleaseError: They are not there.
    """
    try:
        return [(query, document) for query, document in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError) as error:
        raise ReleaseError("no pairs to compare the forms on", where=str(path), hint="run finetune again") from error
