"""The texts that a family is evaluated on, held so that training rows can be compared with them as they stream by.

A set is an mteb task, a collection in BEIR's form under the family's build folder, or a NanoBEIR set. What cannot be had stops
the mixture: an overlap that nobody measured must not look like none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release.data.minhash import Held, Index
from release.errors import ReleaseError

if TYPE_CHECKING:
    from release.family import Family

UNMEASURED = "or pass --no-overlap: the manifest and the card then say that the overlap was not measured"


@dataclass(frozen=True)
class Benchmark:
    """An evaluation set: its name, and its texts, read anew by each call."""

    name: str
    queries: Callable[[], Iterator[str]]
    documents: Callable[[], Iterator[str]]


def hold(family: Family) -> Held:
    """Read every evaluation set of the family.

    Raises:
        ReleaseError: One of them is not here and cannot be fetched.
    """
    found = [*_collections(family), *_tasks(family), *_nano(family)]
    queries = Index({one.name: one.queries() for one in found})
    return Held(queries, Index({one.name: one.documents() for one in found}))


def _collections(family: Family) -> Iterator[Benchmark]:
    from release.errors import ReleaseError
    from release.evaluation import beir

    for name in family.evaluation.collections:
        folder = family.build / "data/collections" / name
        try:
            corpus, queries, _ = beir.files(folder)
        except ReleaseError as error:
            raise ReleaseError(
                error.what, where=f"[evaluation] collections {name!r}", hint=f"put it there, {UNMEASURED}"
            ) from error
        yield Benchmark(name, lambda file=queries: _beir(file), lambda file=corpus: _beir(file))


def _beir(path: Path) -> Iterator[str]:
    from release.evaluation import beir

    return (f"{title} {text}".strip() for _, title, text in beir.texts(path))


def _tasks(family: Family) -> Iterator[Benchmark]:
    if not family.evaluation.tasks:
        return
    from release.errors import ReleaseError
    from release.evaluation.tasks import mteb_task

    for name in family.evaluation.tasks:
        try:
            task = mteb_task(name)
        except ReleaseError as error:
            raise ReleaseError(error.what, where=error.where, hint=f"{error.hint}, {UNMEASURED}") from error
        parts = task.split
        yield _of_rows(name, parts["queries"], parts["corpus"])


def _nano(family: Family) -> Iterator[Benchmark]:
    """The sets that training is watched with, from a folder or a dataset with the configs `queries` and `corpus`."""
    source = family.evaluation.nano
    if not family.evaluation.nano_sets:
        return
    from datasets import disable_progress_bars, load_dataset

    if Path(source).is_dir():  # a moment's work, and no lines about it
        disable_progress_bars()
    for name in family.evaluation.nano_sets:
        try:
            parts = {part: load_dataset(source, part, split=name) for part in ("queries", "corpus")}
        except Exception as error:  # datasets, the Hub and the network each raise their own
            what = f"the set {name} is not here and cannot be fetched ({type(error).__name__})"
            raise ReleaseError(what, where=source, hint=f"run where the Hub can be reached, {UNMEASURED}") from error
        yield _of_rows(name, parts["queries"], parts["corpus"])


def _of_rows(name: str, queries: Any, documents: Any) -> Benchmark:
    return Benchmark(name, lambda: _rows(queries), lambda: _rows(documents))


def _rows(rows: Any) -> Iterator[str]:
    """The text of every row of a dataset, behind its title where it has one."""
    for batch in rows.iter(1000):
        titles = batch.get("title") or [""] * len(batch["text"])
        yield from (f"{title or ''} {text}".strip() for title, text in zip(titles, batch["text"], strict=True))
