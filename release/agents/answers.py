"""A file of queries, positives and negatives that every machine can make: names of functions, and what their docstrings say.

The demo's reranker was trained on the first lines of docstrings as queries; a name in words is another kind of query, and it
was trained on none of these objects.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from release.data import demo_sets, docstrings
from release.data.docstrings import DocstringPair
from release.files import write_atomic

PACKAGES = ("stdlib", "numpy", "scipy", "pandas", "sklearn")
QUERIES, NEGATIVES = 800, 5
DEPTH = 20  # negatives are drawn from BM25's best so many


def write(path: Path) -> Path:
    """Write the file, the same one wherever the same packages are installed."""
    objects = [
        pair for pair in docstrings.pairs(PACKAGES) if pair.split == "heldout" and len(in_words(pair).split()) > 1
    ]
    random.Random(12).shuffle(objects)
    documents = [f"{pair.summary} {pair.body}" for pair in objects]
    queries = [in_words(pair) for pair in objects[:QUERIES]]
    ranked = demo_sets.candidates(queries, documents, depth=DEPTH)
    lines = []
    for number, (query, best) in enumerate(zip(queries, ranked, strict=True)):
        others = [index for index in best if index != number and in_words(objects[index]) != query]
        negatives = random.Random(number).sample(others, min(NEGATIVES, len(others)))
        row = {"query": query, "positives": [documents[number]], "negatives": [documents[index] for index in negatives]}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return write_atomic(path, "".join(lines))


def in_words(pair: DocstringPair) -> str:
    """The last two parts of an object's name as words: `pandas.io.parsers.read_csv` asks for "parsers read csv"."""
    last = " ".join(pair.name.split(".")[-2:])
    return " ".join(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", last).replace("_", " ").lower().split())
