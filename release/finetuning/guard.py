"""The guard set: other text than the user's, measured before and after, so that forgetting is seen.

By default it is made of the standard library's docstrings that no demo model was trained on: every machine has it. For an
Ettin reranker take NanoBEIR, by its Hub id or a folder of its form.
"""

from __future__ import annotations

from pathlib import Path

from release.data import demo_sets, docstrings
from release.data.spec import CollectionSpec
from release.files import atomic_directory, write_atomic

QUERIES, DOCUMENTS = 200, 2_000
NAME = "stdlib-docstrings"


def embedded(folder: Path) -> Path:
    """The embedded guard set in BEIR's form, made below `folder` where it is not there yet."""
    place = folder / NAME
    if not place.is_dir():
        objects = [pair for pair in docstrings.pairs(("stdlib",)) if pair.split == "heldout"][:DOCUMENTS]
        files = demo_sets.collection_files(objects, CollectionSpec(name=NAME, queries=QUERIES, documents=DOCUMENTS))
        with atomic_directory(place) as made:
            for name, text in files.items():
                write_atomic(made / name, text)
    return place
