"""Whether training text repeats what a family is evaluated on: the evaluation texts are indexed, the training rows stream by.

An evaluation set is an mteb task, a collection in BEIR's form under the family's build folder, or a NanoBEIR set. What cannot be
had stops the mixture: an overlap that nobody measured must not look like none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from release import beir
from release.data.minhash import TextIndex
from release.errors import ReleaseError
from release.family import Family
from release.local_datasets import named_by_contents

UNMEASURED = "or pass --no-overlap: the manifest and the card then say that the overlap was not measured"


# --- The texts of the evaluation sets ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvalSet:
    """An evaluation set: its name, and its texts, read anew by each call."""

    name: str
    queries: Callable[[], Iterator[str]]
    documents: Callable[[], Iterator[str]]


@dataclass(frozen=True)
class EvalIndex:
    """The queries and the documents of the evaluation sets."""

    queries: TextIndex
    documents: TextIndex

    @property
    def names(self) -> tuple[str, ...]:
        """The sets, in the order of the report."""
        return self.queries.names

    @property
    def revision(self) -> str:
        """Names all texts of it."""
        return f"{self.queries.sha256} {self.documents.sha256}"


def build_eval_index(family: Family) -> EvalIndex:
    """Read and index every evaluation set of the family.

    Raises:
        ReleaseError: One of them is not here and cannot be fetched.
    """
    sets = [*_collections(family), *_tasks(family), *_nano(family)]
    queries = TextIndex({one.name: one.queries() for one in sets})
    return EvalIndex(queries, TextIndex({one.name: one.documents() for one in sets}))


def _collections(family: Family) -> Iterator[EvalSet]:
    for name in family.evaluation.collections:
        folder = family.build / "data/collections" / name
        try:
            corpus, queries, _ = beir.files(folder)
        except ReleaseError as error:
            where, hint = f"[evaluation] collections {name!r}", f"put it there, {UNMEASURED}"
            raise ReleaseError(error.what, where=where, hint=hint) from error
        yield EvalSet(name, lambda file=queries: _beir_texts(file), lambda file=corpus: _beir_texts(file))


def _beir_texts(path: Path) -> Iterator[str]:
    return (beir.document_text(title, text) for _, title, text in beir.texts(path))


def _tasks(family: Family) -> Iterator[EvalSet]:
    if not family.evaluation.tasks:
        return
    from release.evaluation.tasks import mteb_task  # mteb takes seconds to import

    for name in family.evaluation.tasks:
        try:
            task = mteb_task(name)
        except ReleaseError as error:
            raise ReleaseError(error.what, where=error.where, hint=f"{error.hint}, {UNMEASURED}") from error
        parts = task.split
        yield _of_rows(name, parts["queries"], parts["corpus"])


def _nano(family: Family) -> Iterator[EvalSet]:
    """The sets that training is watched with, from a folder or a dataset with the configs `queries` and `corpus`."""
    source = family.evaluation.nano
    if not family.evaluation.nano_sets:
        return
    from datasets import disable_progress_bars, load_dataset  # takes a second to import

    if Path(source).is_dir():  # a moment's work, and no lines about it
        disable_progress_bars()
    with named_by_contents(source) as folder:
        for name in family.evaluation.nano_sets:
            try:
                parts = {part: load_dataset(folder, part, split=name) for part in ("queries", "corpus")}
            except Exception as error:  # datasets, the Hub and the network each raise their own
                what = f"the set {name} is not here and cannot be fetched ({type(error).__name__})"
                hint = f"run where the Hub can be reached, {UNMEASURED}"
                raise ReleaseError(what, where=source, hint=hint) from error
            for part, rows in parts.items():
                if "text" not in rows.column_names:
                    what = f"the {part} of {name} have no column 'text' (there are: {', '.join(rows.column_names)})"
                    raise ReleaseError(what, where=source, hint="correct the set")
            yield _of_rows(name, parts["queries"], parts["corpus"])


def _of_rows(name: str, queries: Any, documents: Any) -> EvalSet:
    return EvalSet(name, lambda: _row_texts(queries), lambda: _row_texts(documents))


def _row_texts(rows: Any) -> Iterator[str]:
    """The text of every row of a dataset that has one, after its title where it has one."""
    for batch in rows.iter(1000):
        titles = batch.get("title") or [""] * len(batch["text"])
        pairs = zip(titles, batch["text"], strict=True)
        yield from (beir.document_text(title, text) for title, text in pairs if text is not None)


# --- What is counted of the training rows -----------------------------------------------------------------------------


class OverlapCounter:
    """Counts, table by table, the pairs whose query or document repeats a text of an evaluation set."""

    def __init__(self, index: EvalIndex) -> None:
        self.index = index
        self.rows = 0
        self._counts = {column: np.zeros(len(index.names), int) for column in ("query", "document")}

    def repeated(self, table: pa.Table) -> np.ndarray:
        """Count the rows of `table`; returns which of them repeat anything, bool of shape (rows,)."""
        self.rows += table.num_rows
        repeated = np.zeros(table.num_rows, bool)
        for column, index in (("query", self.index.queries), ("document", self.index.documents)):
            by_set = index.repeats(table[column])
            self._counts[column] += by_set.sum(axis=1)
            repeated |= by_set.any(axis=0)
        return repeated

    def report(self) -> dict[str, dict[str, Any]]:
        """set -> {queries, documents (pairs whose query or document repeats one of the set), query_share, document_share}."""
        rows = max(self.rows, 1)
        return {
            name: {
                "queries": int(queries),
                "documents": int(documents),
                "query_share": round(int(queries) / rows, 6),
                "document_share": round(int(documents) / rows, 6),
            }
            for name, queries, documents in zip(
                self.index.names, self._counts["query"], self._counts["document"], strict=True
            )
        }
