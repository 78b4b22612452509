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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from release import bm25
from release.console import Bar
from release.data import docstrings
from release.data.docstrings import DocstringPair
from release.errors import ReleaseError
from release.files import sha256_file, write_atomic
from release.spec import CandidateSpec, CollectionSpec, EvaluationSpec, NanoSpec


@dataclass(frozen=True)
class Objects:
    """The documented objects by purpose. `collection` and `nano` hold the corpus; their first ones are also the queries."""

    collection: list[DocstringPair]
    nano: list[DocstringPair]
    training: list[DocstringPair]


def divide(
    pairs: Sequence[DocstringPair], plan: CandidateSpec, evaluation: EvaluationSpec | None, seed: int
) -> Objects:
    """Draw the three sets, each in a seeded order that does not depend on the order of `pairs`."""
    held_out = _shuffled([pair for pair in pairs if pair.split == "heldout"], seed)
    training = _shuffled([pair for pair in pairs if pair.split == "train"], seed)
    if evaluation is None:
        return Objects([], [], training[: plan.documents])
    watched = evaluation.nano.documents
    objects = Objects(
        held_out[: evaluation.collection.documents],
        training[:watched],
        training[watched : watched + plan.documents],
    )
    if min(len(objects.collection), len(objects.nano), len(objects.training)) < 10:
        raise ReleaseError(
            f"only {len(pairs)} documented objects were found in the installed packages",
            hint="install the project's requirements, or lower evaluation.nano.documents in the declaration",
        )
    return objects


def _shuffled(pairs: list[DocstringPair], seed: int) -> list[DocstringPair]:
    return sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed} {pair.name}".encode()).digest())


def training_rows(objects: list[DocstringPair], plan: CandidateSpec, held_out: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of (query, document): each query with its gold body, `hard` ones of BM25's best and `random` others.

    The last `held_out` rows belong to whole queries of their own. The rows before them are ordered by document, so that a shard
    holds all pairs of its documents and a teacher that encodes texts reads each document once.
    """
    bodies = [pair.body for pair in objects]
    queries = objects[: plan.queries]
    ranking = candidates([pair.summary for pair in queries], bodies, depth=plan.depth + 1)
    rows = []
    for number, (pair, ranked) in enumerate(zip(queries, ranking, strict=True)):
        draw = random.Random(f"{seed} {pair.name}")
        others = [body for body in ranked if body != number][: plan.depth]
        best = others[: plan.hard // 2]
        hard = best + draw.sample(others[len(best) :], min(plan.hard - len(best), len(others) - len(best)))
        taken = {number, *hard}
        rest = draw.sample(range(len(bodies)), min(len(bodies), plan.random + len(taken)))
        easy = [body for body in rest if body not in taken][: plan.random]
        rows += [(pair.summary, bodies[body]) for body in (number, *hard, *easy)]
    cut = len(rows) - held_out
    return sorted(rows[:cut], key=lambda row: hashlib.sha256(row[1].encode()).digest()) + rows[cut:]


def candidates(queries: list[str], documents: list[str], *, depth: int) -> list[list[int]]:
    """The numbers of the `depth` best documents of each query, best first, by the BM25 that also serves as first stage."""
    ranked = []
    with Bar("bm25: candidates", len(queries)) as bar:
        for scores in bm25.Bm25Index(documents).scores(queries):
            ranked.append(bm25.best(scores, depth).tolist())
            bar.advance()
    return ranked


def version_of(package: str) -> str | None:
    """The installed version of an import package, Python's for the standard library, None where it is absent."""
    if package == "stdlib":
        return platform.python_version()
    if find_spec(package) is None:
        return None
    return metadata.version(_distributions().get(package, [package])[0])


_distributions = cache(metadata.packages_distributions)  # it reads what all installed packages hold


def code_hash() -> str:
    """Names the code that reads and pairs the docstrings: when it changes, the pairs are made again."""
    modules = (docstrings.__file__, bm25.__file__, __file__)
    return hashlib.sha256(b"".join(Path(module).read_bytes() for module in modules)).hexdigest()


def collection_files(objects: list[DocstringPair], plan: CollectionSpec) -> dict[str, str]:
    """The collection in BEIR's form: file name -> text. Every query has one relevant document, its own body."""
    queries = objects[: plan.queries]
    return {
        "corpus.jsonl": _lines({"_id": pair.name, "title": "", "text": pair.body} for pair in _by_name(objects)),
        "queries.jsonl": _lines({"_id": f"q:{pair.name}", "text": pair.summary} for pair in _by_name(queries)),
        "qrels.tsv": _table(
            [("query-id", "corpus-id", "score")] + [(f"q:{p.name}", p.name, "1") for p in _by_name(queries)]
        ),
    }


def nano_files(objects: list[DocstringPair], plan: NanoSpec) -> dict[str, str]:
    """A NanoBEIR set as a local dataset folder: file name -> text, with README.md naming the configs and the split."""
    corpus, queries = _by_name(objects), _by_name(objects[: plan.queries])
    ranking = candidates([pair.summary for pair in queries], [pair.body for pair in corpus], depth=plan.candidates)
    files = {
        f"corpus/{plan.name}.jsonl": _lines({"_id": pair.name, "text": pair.body} for pair in corpus),
        f"queries/{plan.name}.jsonl": _lines({"_id": f"q:{pair.name}", "text": pair.summary} for pair in queries),
        f"qrels/{plan.name}.jsonl": _lines({"query-id": f"q:{p.name}", "corpus-id": p.name} for p in queries),
        f"bm25/{plan.name}.jsonl": _lines(
            {"query-id": f"q:{pair.name}", "corpus-ids": [corpus[row].name for row in ranked]}
            for pair, ranked in zip(queries, ranking, strict=True)
        ),
    }
    return {"README.md": _nano_readme(plan.name, files), **files}


def write_files(folder: Path, files: dict[str, str], under: str) -> dict[str, str]:
    """Write each file whole to `folder / under`, and return their sha256 by their path in `folder`."""
    return {f"{under}/{name}": sha256_file(write_atomic(folder / under / name, text)) for name, text in files.items()}


def present(folder: Path, files: dict[str, str]) -> bool:
    """Whether all `files` (path in `folder` -> sha256) stand there unchanged."""
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


def _by_name(pairs: list[DocstringPair]) -> list[DocstringPair]:
    return sorted(pairs, key=lambda pair: pair.name)


def _lines(rows: Iterable[dict[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _table(rows: list[tuple[str, ...]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", lineterminator="\n").writerows(rows)
    return stream.getvalue()
