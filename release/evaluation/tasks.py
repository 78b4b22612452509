"""What is evaluated on: mteb's retrieval tasks, and any folder in BEIR's form as one more such task."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata

from release.errors import ReleaseError
from release.files import sha256_file

_FORM = "a folder in BEIR's form holds corpus.jsonl, queries.jsonl (either may end in .gz) and qrels.tsv"


@dataclass(frozen=True)
class Task:
    """A retrieval task with its data loaded: one split, one subset.

    `revision` names the data: the dataset's commit for an mteb task, a hash of the files for a folder.
    """

    name: str
    revision: str
    loaded: AbsTaskRetrieval

    @property
    def split(self) -> RetrievalSplitData:
        """Corpus, queries and judgements of the only split."""
        (splits,) = self.loaded.dataset.values()
        (split,) = splits.values()
        return split

    @property
    def judgements(self) -> dict[str, dict[str, int]]:
        """Query -> document -> relevance, for the queries that have any judgement."""
        known = set(self.split["queries"]["id"])
        return {query: dict(found) for query, found in self.split["relevant_docs"].items() if found and query in known}

    def fresh(self) -> AbsTaskRetrieval:
        """A copy for one evaluation, because `convert_to_reranking` and the evaluation itself change the task."""
        task = copy.copy(self.loaded)
        task.dataset = {
            subset: {split: copy.copy(data) for split, data in splits.items()}
            for subset, splits in self.loaded.dataset.items()
        }
        return task


class Collection(AbsTaskRetrieval):
    """A BEIR folder as an mteb task, so that people's own text runs through the same code as the benchmark."""

    metadata: TaskMetadata

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revision = collection_revision(folder)
        self.metadata = TaskMetadata(
            name=folder.resolve().name,
            description="A local collection in BEIR's form.",
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            dataset={"path": folder.resolve().name, "revision": self.revision},
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            reference=None,
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation=None,
        )
        super().__init__()

    def load_data(self, num_proc: int | None = None, *, timer: Any = None, **kwargs: Any) -> None:
        """Read the folder; queries without a positive judgement cannot be measured and are left out.

        Raises:
            ReleaseError: A file is missing or a row is damaged; file and row are named.
        """
        if self.data_loaded:
            return
        corpus_file, queries_file, qrels_file = collection_files(self.folder)
        corpus = [{"id": key, "title": title, "text": text} for key, title, text in _texts(corpus_file)]
        queries = {key: text for key, _, text in _texts(queries_file)}
        judgements = _judgements(qrels_file)
        for query in judgements:
            if query not in queries:
                raise ReleaseError(
                    f"query {query!r} is judged but has no text",
                    where=str(qrels_file),
                    mend=f"add it to {queries_file}",
                )
        judged = {query: found for query, found in judgements.items() if any(level > 0 for level in found.values())}
        if not corpus or not judged:
            raise ReleaseError(
                "no documents, or no query with a positive judgement", where=str(self.folder), mend=_FORM
            )
        data = RetrievalSplitData(
            corpus=Dataset.from_list(corpus),
            queries=Dataset.from_list([{"id": query, "text": queries[query]} for query in judged]),
            relevant_docs=judged,
            top_ranked=None,
        )
        self.dataset = {"default": {"test": data}}
        self.data_loaded = True


def from_folder(folder: Path) -> Task:
    """Read a collection in BEIR's form.

    Raises:
        ReleaseError: The folder or a file is missing or damaged.
    """
    task = Collection(folder)
    task.load_data()
    return Task(task.metadata.name, task.revision, task)


def from_mteb(task: AbsTaskRetrieval) -> Task:
    """Load an mteb task's data from the Hub, its cache, or the local folder that its metadata names.

    Raises:
        ReleaseError: The data cannot be had here, or the task has several splits or subsets.
    """
    source, revision = task.metadata.dataset["path"], task.metadata.dataset["revision"]
    try:
        task.load_data()
    except Exception as error:  # datasets, huggingface_hub and the network each raise their own
        raise ReleaseError(
            f"the data of task {task.metadata.name} is not here and cannot be fetched ({type(error).__name__})",
            where=f"{source}@{revision}",
            mend=f"run where the Hub can be reached, or first `hf download --repo-type dataset {source}`",
        ) from error
    task.convert_v1_dataset_format_to_v2(None)
    if len(task.dataset) != 1 or any(len(splits) != 1 for splits in task.dataset.values()):
        raise ReleaseError(f"task {task.metadata.name} has several subsets", mend="choose a task with a single one")
    if task.skip_first_result:
        raise ReleaseError(f"task {task.metadata.name} drops each first result", mend="choose a text retrieval task")
    return Task(task.metadata.name, revision, task)


def mteb_task(name: str) -> Task:
    """The mteb retrieval task called `name`, loaded.

    Raises:
        ReleaseError: mteb knows no such retrieval task, or its data cannot be had here.
    """
    import mteb

    try:
        task = mteb.get_task(name)
    except KeyError as error:
        raise ReleaseError(
            f"mteb has no task {name!r}", mend="correct [evaluation] tasks in the family file"
        ) from error
    if not isinstance(task, AbsTaskRetrieval):
        raise ReleaseError(f"task {name!r} is no retrieval task", mend="correct [evaluation] tasks in the family file")
    return from_mteb(task)


def collection_files(folder: Path) -> tuple[Path, Path, Path]:
    """The corpus, queries and judgements of a BEIR folder.

    Raises:
        ReleaseError: One of them is missing.
    """
    if not folder.is_dir():
        raise ReleaseError(f"no collection {folder}", mend=_FORM)
    found = []
    for wanted in (
        ("corpus.jsonl", "corpus.jsonl.gz"),
        ("queries.jsonl", "queries.jsonl.gz"),
        ("qrels.tsv", "qrels/test.tsv"),
    ):
        files = [folder / name for name in wanted if (folder / name).is_file()]
        if not files:
            raise ReleaseError(f"no {' or '.join(wanted)}", where=str(folder), mend=_FORM)
        found.append(files[0])
    return found[0], found[1], found[2]


def collection_revision(folder: Path) -> str:
    """A hash over the three files of a BEIR folder: it moves whenever the collection does."""
    lines = "\n".join(sha256_file(path) for path in collection_files(folder))
    return hashlib.sha256(lines.encode()).hexdigest()[:40]


def _open(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a plain or gzipped UTF-8 file, without empty ones."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(f"cannot be read ({error})", where=str(path), mend=_FORM) from error


def _texts(path: Path) -> Iterator[tuple[str, str, str]]:
    """(id, title, text) of every row; of rows with the same id the first counts, and a warning says how many others."""
    seen: set[str] = set()
    repeated = 0
    for number, line in _open(path):
        try:
            row = json.loads(line)
            key, title, text = str(row["_id"]), row.get("title") or "", row["text"]
            if not isinstance(title, str) or not isinstance(text, str):
                raise ValueError("title or text is no string")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(
                f"damaged row ({type(error).__name__}: {error})",
                where=f"{path} row {number}",
                mend='one JSON object per line, {"_id": ..., "text": ...}',
            ) from error
        if key in seen:
            repeated += 1
            continue
        seen.add(key)
        yield key, title, text
    if repeated:
        print(f"warning: {path}: {repeated} rows left out, their _id was there before", file=sys.stderr)


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    """Query -> document -> relevance from `query document relevance` rows, with or without a heading."""
    found: dict[str, dict[str, int]] = {}
    for number, line in _open(path):
        words = line.rstrip("\n").split("\t")
        if len(words) == 4:  # TREC's own form has an unused second column
            words = [words[0], *words[2:]]
        try:
            query, document, level = words
            if number == 1 and not level.strip().lstrip("-").isdigit():
                continue
            found.setdefault(query, {})[document] = int(level)
        except ValueError as error:
            raise ReleaseError(
                "damaged judgement",
                where=f"{path} row {number}",
                mend="three columns between tabs: query, document, whole-number relevance",
            ) from error
    return found
