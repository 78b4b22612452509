"""The guard set: other text than the user's, measured before and after, so that forgetting is seen.

By default it is made of the standard library's docstrings that no demo model was trained on: every machine has it. For an
Ettin reranker take NanoBEIR, by its Hub id or a folder of its form.
"""

from __future__ import annotations

from pathlib import Path

from release.data import demo_sets, docstrings
from release.evaluation import judged_pairs
from release.evaluation.judged_pairs import JudgedPairs
from release.files import atomic_directory, write_atomic
from release.spec import CollectionSpec

QUERIES, DOCUMENTS = 200, 2_000
NAME = "stdlib-docstrings"


def load(source: str | None, output: Path, *, top_k: int, queries: int | None = None) -> JudgedPairs:
    """The guard set: the embedded one, a folder in BEIR's form, or sets of NanoBEIR's form.

    Args:
        source: A folder or a Hub id; None takes the embedded set.
        output: Where the embedded set and BM25's ranking are kept.
        queries: Only the first so many, of each set.

    Raises:
        ReleaseError: It is not here and cannot be fetched.
    """
    folder = embedded(output / "guard") if source is None else Path(source)
    if source is None or any((folder / name).is_file() for name in ("corpus.jsonl", "corpus.jsonl.gz")):
        return judged_pairs.from_folder(folder, output / "runs", top_k=top_k, queries=queries)
    return judged_pairs.from_nano(source, top_k=top_k, queries=queries)


def embedded(folder: Path) -> Path:
    """The embedded guard set in BEIR's form, made below `folder` where it is not there yet."""
    collection = folder / NAME
    if not collection.is_dir():
        objects = [pair for pair in docstrings.pairs(("stdlib",)) if pair.split == "heldout"][:DOCUMENTS]
        files = demo_sets.collection_files(objects, CollectionSpec(name=NAME, queries=QUERIES, documents=DOCUMENTS))
        with atomic_directory(collection) as made:
            for name, text in files.items():
                write_atomic(made / name, text)
    return collection
