"""Small data of a user: questions about animals, each with its answer and some other animals' answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ANIMALS = [
    "fox",
    "dog",
    "cat",
    "owl",
    "bear",
    "wolf",
    "deer",
    "hare",
    "mole",
    "swan",
    "frog",
    "toad",
    "newt",
    "crow",
    "dove",
    "hawk",
    "kite",
    "lark",
    "wren",
    "duck",
]
PLACES = ["river", "forest", "mountain", "desert", "island"]


def rows() -> list[tuple[str, str, list[str]]]:
    """(query, its document, documents of others) for a hundred queries of eight words."""
    names = [(animal, habitat) for animal in ANIMALS for habitat in PLACES]
    texts = [f"the {animal} of the {habitat} sleeps by day and hunts for {habitat} food" for animal, habitat in names]
    queries = [f"where and when does the {habitat} {animal} sleep" for animal, habitat in names]
    return [
        (query, texts[row], [texts[(row + step) % len(texts)] for step in (5, 35, 60)])
        for row, query in enumerate(queries)
    ]


def write_jsonl(path: Path, count: int = 100, **change: Any) -> Path:
    """Rows of query, positives and negatives; `change` goes into the last row."""
    lines = [{"query": query, "positives": [good], "negatives": bad} for query, good, bad in rows()[:count]]
    lines[-1] |= change
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_scored(path: Path, *, good: float = 7.5, bad: float = -3.25) -> Path:
    """Rows of query, document and a teacher's score."""
    lines = [
        {"query": query, "document": text, "score": score}
        for query, right, wrong in rows()
        for text, score in [(right, good), *((text, bad - index) for index, text in enumerate(wrong))]
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def write_beir(folder: Path, *, train: bool) -> Path:
    """The same in BEIR's form: 60 queries to train on and 40 to test, or all of them in one file of judgements."""
    folder.mkdir(parents=True)
    every = rows()
    corpus = [{"_id": f"d{row}", "title": "", "text": text} for row, (_, text, _) in enumerate(every)]
    queries = [{"_id": f"q{row}", "text": query} for row, (query, _, _) in enumerate(every)]
    for name, lines in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = {"qrels.train.tsv": range(60), "qrels.tsv": range(60, 100)} if train else {"qrels.tsv": range(100)}
    for name, numbers in parts.items():
        (folder / name).write_text("".join(f"q{row}\td{row}\t1\n" for row in numbers))
    return folder
