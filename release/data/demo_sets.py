"""The embedded default's rows: training pairs, an evaluation collection and a NanoBEIR set, all from docstrings.

Three sets of objects that share none: held-out ones become the collection; of the training side a seeded part becomes the Nano
set that training is watched with; only the rest is trained on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import platform
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from release.data.spec import CandidateSpec, CollectionSpec, EvaluationSpec, NanoSpec
from release.errors import ReleaseError

if TYPE_CHECKING:
    from release.data.docstrings import Pair


@dataclass(frozen=True)
class Objects:
    """The documented objects by purpose. `collection` and `nano` hold the corpus; their first ones are also the queries."""

    collection: list[Pair]
    nano: list[Pair]
    training: list[Pair]


def divide(pairs: Sequence[Pair], candidates: CandidateSpec, evaluation: EvaluationSpec | None, seed: int) -> Objects:
    """Draw the three sets, each in a seeded order that does not depend on the order of `pairs`."""
    held_out = _shuffled([pair for pair in pairs if pair.split == "heldout"], seed)
    training = _shuffled([pair for pair in pairs if pair.split == "train"], seed)
    if evaluation is None:
        return Objects([], [], training[: candidates.documents])
    watched = evaluation.nano.documents
    objects = Objects(
        held_out[: evaluation.collection.documents],
        training[:watched],
        training[watched : watched + candidates.documents],
    )
    if min(len(objects.collection), len(objects.nano), len(objects.training)) < 10:
        raise ReleaseError(
            f"only {len(pairs)} documented objects were found in the installed packages",
            hint="install the project's requirements, or lower evaluation.nano.documents in the declaration",
        )
    return objects


def _shuffled(pairs: list[Pair], seed: int) -> list[Pair]:
    return sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed} {pair.name}".encode()).digest())


def training_rows(objects: list[Pair], plan: CandidateSpec, held_out: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of (query, document): each query with its gold body, `hard` ones of BM25's best and `random` others.

    The last `held_out` rows belong to whole queries of their own. The rows before them are ordered by document, so that a shard
    holds all pairs of its documents and a teacher that encodes texts reads each document once.
    """
    bodies = [pair.body for pair in objects]
    asked = objects[: plan.queries]
    found = bm25([pair.summary for pair in asked], bodies, depth=plan.depth + 1)
    rows = []
    for number, (pair, ranked) in enumerate(zip(asked, found, strict=True)):
        draw = random.Random(f"{seed} {pair.name}")
        others = [place for place in ranked if place != number][: plan.depth]
        best = others[: plan.hard // 2]
        hard = best + draw.sample(others[len(best) :], min(plan.hard - len(best), len(others) - len(best)))
        taken = {number, *hard}
        rest = [place for place in draw.sample(range(len(bodies)), min(len(bodies), plan.random + len(taken)))]
        easy = [place for place in rest if place not in taken][: plan.random]
        rows += [(pair.summary, bodies[place]) for place in (number, *hard, *easy)]
    cut = len(rows) - held_out
    return sorted(rows[:cut], key=lambda row: hashlib.sha256(row[1].encode()).digest()) + rows[cut:]


def bm25(queries: list[str], documents: list[str], *, depth: int) -> list[list[int]]:
    """The places of the `depth` best documents of each query, best first, by the BM25 that also serves as first stage."""
    import bm25s

    from release.console import Bar

    retriever = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    retriever.index(bm25s.tokenize(documents, stopwords="en", show_progress=False), show_progress=False)
    words = bm25s.tokenize(queries, stopwords="en", show_progress=False, return_ids=False)
    found = []
    with Bar("bm25: candidates", len(words)) as bar:
        for tokens in words:
            known = [token for token in tokens if token in retriever.vocab_dict]
            scores = retriever.get_scores(known) if known else np.zeros(len(documents), np.float32)
            top = np.argpartition(-scores, min(depth, len(scores)) - 1)[:depth]
            found.append(top[np.lexsort((top, -scores[top]))].tolist())
            bar.advance()
    return found


def version_of(package: str) -> str | None:
    """The installed version of an import package, Python's for the standard library, None where it is absent."""
    if package == "stdlib":
        return platform.python_version()
    if find_spec(package) is None:
        return None
    return metadata.version(metadata.packages_distributions().get(package, [package])[0])


def code_hash() -> str:
    """Names the code that reads and pairs the docstrings: when it changes, the pairs are made again."""
    from release.data import docstrings

    sources = [Path(docstrings.__file__).read_bytes(), Path(__file__).read_bytes()]
    return hashlib.sha256(b"".join(sources)).hexdigest()


def collection_files(objects: list[Pair], plan: CollectionSpec) -> dict[str, str]:
    """The collection in BEIR's form: file name -> text. Every query has one relevant document, its own body."""
    asked = objects[: plan.queries]
    return {
        "corpus.jsonl": _lines({"_id": pair.name, "title": "", "text": pair.body} for pair in _by_name(objects)),
        "queries.jsonl": _lines({"_id": f"q:{pair.name}", "text": pair.summary} for pair in _by_name(asked)),
        "qrels.tsv": _table(
            [("query-id", "corpus-id", "score")] + [(f"q:{p.name}", p.name, "1") for p in _by_name(asked)]
        ),
    }


def nano_files(objects: list[Pair], plan: NanoSpec) -> dict[str, str]:
    """A NanoBEIR set as a local dataset folder: file name -> text, with README.md naming the configs and the split."""
    corpus, asked = _by_name(objects), _by_name(objects[: plan.queries])
    found = bm25([pair.summary for pair in asked], [pair.body for pair in corpus], depth=plan.candidates)
    files = {
        f"corpus/{plan.name}.jsonl": _lines({"_id": pair.name, "text": pair.body} for pair in corpus),
        f"queries/{plan.name}.jsonl": _lines({"_id": f"q:{pair.name}", "text": pair.summary} for pair in asked),
        f"qrels/{plan.name}.jsonl": _lines({"query-id": f"q:{p.name}", "corpus-id": p.name} for p in asked),
        f"bm25/{plan.name}.jsonl": _lines(
            {"query-id": f"q:{pair.name}", "corpus-ids": [corpus[place].name for place in ranked]}
            for pair, ranked in zip(asked, found, strict=True)
        ),
    }
    return {"README.md": _nano_readme(plan.name, files), **files}


def write_files(folder: Path, files: dict[str, str], under: str) -> dict[str, str]:
    """Write each file whole to `folder / under`, and return their sha256 by their path in `folder`."""
    from release.files import sha256_file, write_atomic

    return {f"{under}/{name}": sha256_file(write_atomic(folder / under / name, text)) for name, text in files.items()}


def present(folder: Path, files: dict[str, str]) -> bool:
    """Whether all `files` (path in `folder` -> sha256) stand there unchanged."""
    from release.files import sha256_file

    return all((folder / name).is_file() and sha256_file(folder / name) == digest for name, digest in files.items())


def _nano_readme(split: str, files: dict[str, str]) -> str:
    """Names configs and split, and describes each config by a hash of all files: `datasets` caches a folder by this page alone."""
    contents = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    blocks = [
        f"- config_name: {config}\n  description: {contents}\n"
        f"  data_files:\n  - split: {split}\n    path: {config}/{split}.jsonl"
        for config in ("corpus", "queries", "qrels", "bm25")
    ]
    return "---\nconfigs:\n" + "\n".join(blocks) + "\n---\n"


def _by_name(pairs: list[Pair]) -> list[Pair]:
    return sorted(pairs, key=lambda pair: pair.name)


def _lines(rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)  # type: ignore[attr-defined]


def _table(rows: list[tuple[str, ...]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)
    return stream.getvalue()
