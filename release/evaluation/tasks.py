"""What is evaluated on: mteb's retrieval tasks, and any folder in BEIR's form as one more such task."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata

from release import beir, hub_access
from release.console import say
from release.errors import ReleaseError

LONGEST_NAME = 200  # bytes: files of a run are called by the collection, with endings of their own
FEW = (1, 10)  # without the first one mteb stops
UNDETERMINED = "und"  # ISO 639-3 for a language that nobody has named


def document_text(row: dict[str, Any]) -> str:
    """Title and text of a corpus row in one string, as mteb gives them to every model."""
    return beir.document_text(row.get("title"), row["text"])


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
        """Query -> document -> relevance, for the queries that have any judgement.

        In the order of the data's queries: mteb reads judgements in an order that is another in every process.
        """
        judged = self.split["relevant_docs"]
        return {query: dict(judged[query]) for query in self.split["queries"]["id"] if judged.get(query)}

    def fresh(self, *, few: bool = False) -> AbsTaskRetrieval:
        """A copy for one evaluation, because `convert_to_reranking` and the evaluation itself change the task.

        Args:
            few: Let mteb measure at the depths in FEW alone: at all of its own it draws 105 curves beside what is read here.
        """
        task = copy.copy(self.loaded)
        task.dataset = {
            subset: {split: copy.copy(data) for split, data in splits.items()}
            for subset, splits in self.loaded.dataset.items()
        }
        if few:
            task.k_values = FEW  # its `_top_k` stays: as many documents are searched
        return task


class Collection(AbsTaskRetrieval):
    """A BEIR folder as an mteb task, so that people's own text runs through the same code as the benchmark."""

    metadata: TaskMetadata

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if len(folder.resolve().name.encode()) > LONGEST_NAME:
            what = f"a collection is named after its folder, and this name is longer than {LONGEST_NAME} bytes"
            raise ReleaseError(what, where=str(folder), hint="rename the folder")
        self.revision = beir.revision(folder)
        self.metadata = TaskMetadata(
            name=folder.resolve().name,
            description="A local collection in BEIR's form.",
            type="Retrieval",
            category="t2t",
            modalities=["text"],
            dataset={"path": folder.resolve().name, "revision": self.revision},
            eval_splits=["test"],
            eval_langs=[f"{UNDETERMINED}-Zyyy"],
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
        documents, queries, judgements = beir.judged(self.folder)
        judged = {  # mteb hands them to trec_eval, which grades below 0 can end (see metrics.ndcg); they gain what 0 does
            query: {name: max(level, 0) for name, level in levels.items()} for query, levels in judgements.items()
        }
        self._ignore_own_texts({query: queries[query] for query in judged}, documents)
        corpus = [{"id": key, "title": title, "text": text} for key, (title, text) in documents.items()]
        data = RetrievalSplitData(
            corpus=Dataset.from_list(corpus),
            queries=Dataset.from_list([{"id": query, "text": queries[query]} for query in judged]),
            relevant_docs=judged,
            top_ranked=None,
        )
        self.dataset = {"default": {"test": data}}
        self.data_loaded = True

    def _ignore_own_texts(self, queries: dict[str, str], documents: dict[str, tuple[str, str]]) -> None:
        """Leave a query's own text out of what is found for it, as mteb's ArguAna does, where queries are in the corpus."""
        same = beir.queries_in_corpus(queries, documents)
        self.ignore_identical_ids = 2 * len(same) > len(queries.keys() & documents.keys())
        if self.ignore_identical_ids:
            what = f"{len(same):,} of {len(queries):,} queries are in the corpus; none of them finds itself"
            say(f"note: {self.folder}: {what} (as in mteb's ArguAna)", sys.stderr)


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
        ReleaseError: The data cannot be fetched here, or the task has several splits or subsets.
    """
    source, revision = task.metadata.dataset["path"], task.metadata.dataset["revision"]
    try:
        task.load_data()
    except Exception as error:  # datasets, huggingface_hub and the network each raise their own
        raise hub_access.refusal(error, source, f"task {task.metadata.name}") or ReleaseError(
            f"the data of task {task.metadata.name} is not here and cannot be fetched ({type(error).__name__})",
            where=f"{source}@{revision}",
            hint=f"run where the Hub can be reached, or first `hf download --repo-type dataset {source}`",
        ) from error
    task.convert_v1_dataset_format_to_v2(None)
    if len(task.dataset) != 1 or any(len(splits) != 1 for splits in task.dataset.values()):
        raise ReleaseError(f"task {task.metadata.name} has several subsets", hint="choose a task with a single one")
    if task.skip_first_result:
        raise ReleaseError(f"task {task.metadata.name} drops each first result", hint="choose a text retrieval task")
    return Task(task.metadata.name, revision, task)


def known_task(name: str) -> Any:
    """The mteb task called `name`, of which nothing is fetched.

    Raises:
        ReleaseError: mteb knows none of that name.
    """
    try:
        return mteb.get_task(name)
    except KeyError as error:
        hint = "correct [evaluation] tasks in the family file"
        raise ReleaseError(f"mteb has no task {name!r}", hint=hint) from error


def mteb_task(name: str) -> Task:
    """The mteb retrieval task called `name`, loaded once in a process: its corpus stays in files that are mapped into memory.

    Raises:
        ReleaseError: mteb knows no such retrieval task, or its data cannot be fetched here.
    """
    task = known_task(name)
    if not isinstance(task, AbsTaskRetrieval):
        raise ReleaseError(f"task {name!r} is no retrieval task", hint="correct [evaluation] tasks in the family file")
    return _loaded(name, task.metadata.dataset["path"], task.metadata.dataset["revision"])


@cache
def _loaded(name: str, path: str, revision: str) -> Task:
    """The task at one revision of its data."""
    return from_mteb(known_task(name))
