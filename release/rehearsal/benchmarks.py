"""Stand-ins of what a family is measured on: nano sets, mteb's data sets and the pairs for speed, in the forms that are read."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from release.rehearsal.tables import Table, write
from release.rehearsal.text import Passage, passages

NANO_QUERIES, NANO_DOCUMENTS, NANO_CANDIDATES = 2, 20, 8  # the published sets have 50 queries of 100 candidates
QUERIES, DOCUMENTS = 3, 16  # of an mteb task
SPEED_PAIRS, LONG = 200, 0.06  # and the share of pairs that are longer than the protocol reads


def nano(folder: Path, sets: tuple[str, ...]) -> Path:
    """NanoBEIR's form: the configs corpus, queries, qrels and bm25, in each a split for every set."""
    tables = []
    for name in sets:
        texts = passages(f"nano {name}", NANO_DOCUMENTS)
        documents = [f"doc-{number}" for number in range(len(texts))]
        chosen = list(range(0, NANO_QUERIES * 3, 3))
        rows = {
            "corpus": {"_id": documents, "text": [each.text for each in texts]},
            "queries": {"_id": [f"q-{number}" for number in chosen], "text": [texts[each].question for each in chosen]},
            "qrels": {"query-id": [f"q-{each}" for each in chosen], "corpus-id": [documents[each] for each in chosen]},
            "bm25": {
                "query-id": [f"q-{each}" for each in chosen],
                "corpus-ids": [
                    [documents[each] for each in _by_words(texts[number].question, texts)[:NANO_CANDIDATES]]
                    for number in chosen
                ],
            },
        }
        tables += [
            Table(config, name, f"{config}/{name}-00000-of-00001.parquet", pa.table(columns))
            for config, columns in rows.items()
        ]
    return write(folder, tables, license="cc-by-4.0", language=["en"])


def _by_words(question: str, documents: list[Passage]) -> list[int]:
    """The documents by the words that they share with the question, rare words first: what BM25 would do."""
    texts = [set(_words(each.text)) for each in documents]
    frequency = Counter(word for text in texts for word in text)

    def score(number: int) -> float:
        return sum(math.log(1 + len(texts) / frequency[word]) for word in set(_words(question)) & texts[number])

    return sorted(range(len(documents)), key=lambda number: (-score(number), number))


def _words(text: str) -> list[str]:
    return text.lower().replace(",", " ").replace(".", " ").split()


def mteb_data(folder: Path, task: str) -> Path:
    """The data set of one of mteb's retrieval tasks: the configs corpus, queries and default (the judgements).

    Each has what is odd about the published one: queries that are documents (ArguAna), judgements of -1 (TREC-COVID), of 0
    (SCIDOCS) and of 2 (Touche), documents without text (FiQA, TREC-COVID) and without a title (FiQA), integer ids (FiQA).
    """
    texts = passages(f"task {task}", DOCUMENTS)
    documents = [{"_id": f"d{number}", "title": each.title, "text": each.text} for number, each in enumerate(texts)]
    chosen = list(range(0, QUERIES * 4, 4))
    queries = [{"_id": f"q{number}", "text": texts[number].question} for number in chosen]
    judged = [(f"q{number}", f"d{number}", 1) for number in chosen]
    if task == "ArguAna":  # each query is a document, whose counterargument is another one
        queries = [{"_id": f"d{number}", "text": texts[number].text} for number in chosen]
        judged = [(f"d{number}", f"d{number + 1}", 1) for number in chosen]
    if task == "FiQA2018":
        documents = [{"_id": str(number), "title": "", "text": row["text"]} for number, row in enumerate(documents)]
        documents[-1]["text"] = ""
        queries = [{"_id": str(1000 + number), "text": texts[number].question} for number in chosen]
        judged = [(str(1000 + number), str(number), 1) for number in chosen]
    if task == "TRECCOVID":
        documents[-1]["text"] = ""
        judged = [(query, document, 2) for query, document, _ in judged]
        judged += [(f"q{number}", f"d{number + 1}", 0) for number in chosen] + [(f"q{chosen[0]}", "d2", -1)]
    if task == "SCIDOCS":
        judged += [(f"q{number}", f"d{number + 2}", 0) for number in chosen]
    if task.startswith("Touche"):
        judged += [(f"q{number}", f"d{number + 1}", 2) for number in chosen]
    rows = {"corpus": documents, "queries": queries, "default": _judgements(judged)}
    form = "parquet" if "HardNegatives" in task or task.endswith(".v3") else "jsonl"
    return write(folder, [_mteb_table(config, value, form) for config, value in rows.items()], license="cc-by-sa-4.0")


def _judgements(rows: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    return [{"query-id": query, "corpus-id": document, "score": float(level)} for query, document, level in rows]


def _mteb_table(config: str, rows: list[dict[str, Any]], form: str) -> Table:
    """One config in its own file: JSON lines as in the older data sets, parquet in the newer ones."""
    split = "test" if config == "default" or form == "parquet" else config
    names = {"jsonl": {"default": "qrels/test.jsonl"}, "parquet": {"default": "data/test-00000-of-00001.parquet"}}
    default = f"{config}.jsonl" if form == "jsonl" else f"{config}/test-00000-of-00001.parquet"
    return Table(config, split, names[form].get(config, default), pa.Table.from_pylist(rows))


def question_pairs(folder: Path) -> Path:
    """Natural Questions' form: one config `pair` with the columns query and answer; a few answers are very long."""
    draw = random.Random("speed")
    chosen = passages("speed", SPEED_PAIRS, sentences=4)
    long = {number for number in range(SPEED_PAIRS) if draw.random() < LONG}
    answers = [" ".join([each.text] * (14 if number in long else 1)) for number, each in enumerate(chosen)]
    rows = pa.table({"query": [each.question for each in chosen], "answer": answers})
    return write(folder, [Table("pair", "train", "pair/train-00000-of-00001.parquet", rows)], license="cc-by-sa-3.0")
