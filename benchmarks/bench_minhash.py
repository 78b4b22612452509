"""Near-duplicates of an evaluation set among training texts: release/data/minhash.py against datasketch, rensa and datatrove.

    pip install datasketch rensa && python -m benchmarks.bench_minhash

The evaluation set is 2,000 docstrings of the installed packages; the training rows are 20,000 others, into which 1,000 copies of
evaluation texts are put with up to a tenth of their words changed. Truth is the exact Jaccard similarity (0.7) of five-word
shingles. Every side has 64 permutations in 16 bands and one thread, confirms its candidates with the exact similarity, and reads
the rows as a stream (the index is not timed). datatrove has no index to ask: its signatures are joined with those of the evaluation
set; it gets our words, because its own tokenizer needs spacy. A side that is not installed is left out.
"""

from __future__ import annotations

import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from release.console import print_json, table
from release.data.docstrings import pairs
from release.data.minhash import BAND, PERMUTATIONS, SHINGLE, THRESHOLD, TextIndex

INDEXED, ROWS, PLANTED, ROUNDS = 2_000, 20_000, 1_000, 3
BANDS = PERMUTATIONS // BAND
Shingles = frozenset[str]
Find = Callable[[], set[int]]  # the rows that repeat an indexed text


def main() -> None:
    indexed, rows = texts()
    evaluated = [shingles(text) for text in indexed]
    truth = exact(evaluated, rows)
    sides: dict[str, Find] = {"ours": ours(indexed, rows)}
    for name, side in {"datasketch": datasketch, "rensa": rensa, "datatrove": datatrove}.items():
        if find_spec(name):
            sides[name] = side(evaluated, rows)
    matches: dict[str, set[int]] = {}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):  # in turns; CPU seconds, because every side has one thread and the machine may be busy
        for name, side in sides.items():
            began = time.process_time()
            matches[name] = side()
            taken[name].append(time.process_time() - began)
    rates = {name: len(rows) / statistics.median(seconds) for name, seconds in taken.items()}
    shown = [[name, f"{rates[name]:,.0f}", len(matches[name] & truth), len(matches[name] - truth)] for name in sides]
    table(
        f"Near-duplicates among {len(rows):,} rows; {len(truth):,} are",
        ["", "rows per CPU second", "found", "wrong"],
        shown,
    )
    line = {name: {"rows_per_second": round(rates[name]), "found": len(matches[name] & truth)} for name in sides}
    print_json({"rows": len(rows), "truth": len(truth), **line})


def texts() -> tuple[list[str], list[str]]:
    """The evaluation texts, and the training rows with the planted copies in seeded places."""
    draw = random.Random(12)
    bodies = [pair.body for pair in pairs() if len(pair.body.split()) >= 20]
    draw.shuffle(bodies)
    indexed, rows = bodies[:INDEXED], bodies[INDEXED : INDEXED + ROWS - PLANTED]
    for text in draw.choices(indexed, k=PLANTED):
        words = text.split()
        for position in draw.sample(range(len(words)), draw.randint(0, len(words) // 10)):
            words[position] = f"other{position}"
        rows.append(" ".join(words))
    draw.shuffle(rows)
    return indexed, rows


def shingles(text: str) -> Shingles:
    """Runs of five words, as the readable version of ours has them."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(" ".join(words[at : at + SHINGLE]) for at in range(max(len(words) - SHINGLE + 1, 1)))


def similar(left: Shingles, right: Shingles) -> bool:
    return len(left & right) >= THRESHOLD * len(left | right)


def exact(evaluated: list[Shingles], rows: list[str]) -> set[int]:
    """The truth, through every shingle that two texts share."""
    owners = defaultdict(list)
    for number, one in enumerate(evaluated):
        for shingle in one:
            owners[shingle].append(number)
    result = set()
    for row, text in enumerate(rows):
        mine = shingles(text)
        near = {owner for shingle in mine for owner in owners.get(shingle, ())}
        if any(similar(mine, evaluated[owner]) for owner in near):
            result.add(row)
    return result


# --- The sides --------------------------------------------------------------------------------------------------------


def ours(indexed: list[str], rows: list[str]) -> Find:
    index = TextIndex({"held": indexed})
    return lambda: set(np.flatnonzero(index.repeats(rows)[0]).tolist())


def datasketch(evaluated: list[Shingles], rows: list[str]) -> Find:
    library = import_module("datasketch")

    def sketch(one: Shingles) -> Any:
        result = library.MinHash(num_perm=PERMUTATIONS, seed=1)
        result.update_batch([shingle.encode() for shingle in one])
        return result

    index = library.MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, BAND))
    for number, one in enumerate(evaluated):
        index.insert(number, sketch(one))
    return lambda: confirmed(evaluated, rows, lambda mine: index.query(sketch(mine)))


def rensa(evaluated: list[Shingles], rows: list[str]) -> Find:
    library = import_module("rensa")
    index = library.RMinHashLSH(THRESHOLD, PERMUTATIONS, BANDS)
    for number, sketch in enumerate(library.RMinHash.from_token_sets(list(map(list, evaluated)), PERMUTATIONS, 1)):
        index.insert(number, sketch)

    def near(mine: Shingles) -> Iterable[int]:
        sketch = library.RMinHash(PERMUTATIONS, 1)
        sketch.update(list(mine))
        return index.query(sketch)

    return lambda: confirmed(evaluated, rows, near)


def datatrove(evaluated: list[Shingles], rows: list[str]) -> Find:
    dedup = import_module("datatrove.pipeline.dedup.minhash")
    tokenizer = import_module("datatrove.utils.word_tokenizers").WhitespaceTokenizer()
    config = dedup.MinhashConfig(n_grams=SHINGLE, num_buckets=BANDS, hashes_per_bucket=BAND)
    with TemporaryDirectory() as folder:
        step = dedup.MinhashDedupSignature(folder, config, language=tokenizer)

    def buckets(mine: Shingles) -> list[tuple[int, tuple[int, ...]]]:
        hashes = np.fromiter((step._hash_func(shingle.encode()) for shingle in mine), np.uint64, len(mine)).reshape(
            -1, 1
        )
        return [(number, tuple(bucket)) for number, bucket in enumerate(step.get_signature(hashes))]

    owners = defaultdict(list)
    for number, one in enumerate(evaluated):
        for bucket in buckets(one):
            owners[bucket].append(number)
    return lambda: confirmed(
        evaluated, rows, lambda mine: {owner for bucket in buckets(mine) for owner in owners.get(bucket, ())}
    )


def confirmed(evaluated: list[Shingles], rows: list[str], near: Callable[[Shingles], Iterable[int]]) -> set[int]:
    """The rows with a candidate whose exact similarity is high enough."""
    result = set()
    for row, text in enumerate(rows):
        mine = shingles(text)
        if any(similar(mine, evaluated[owner]) for owner in near(mine)):
            result.add(row)
    return result


if __name__ == "__main__":
    main()
