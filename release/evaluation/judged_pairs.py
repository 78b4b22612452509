"""A collection's queries with a first stage's best: the pairs that a reranker scores, and NDCG@10 from their scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from huggingface_hub import HfApi, try_to_load_from_cache

from release import hub_access
from release.errors import ReleaseError
from release.evaluation import metrics
from release.evaluation.metrics import Judgements, Ranking
from release.family import BM25
from release.local_datasets import named_by_contents
from release.start_up import loading
from release.text_files import lines, number

TOP_K = 20  # candidates of each query, where what is compared are two rerankers on the same ones
NANO_HINT = "give a folder in BEIR's form, or sentence-transformers/NanoBEIR-en where the Hub can be reached"
RUN_FORM = "six columns between blanks, as trec_eval reads them: query Q0 document rank score tag"


@dataclass(frozen=True)
class JudgedPairs:
    """Candidates of each query, their judgements and their texts.

    Attributes:
        name: Of the collection.
        first_stage: What ranked the candidates; of each query at most `top_k`.
        first: Query -> its candidates, best first; the queries in the order of `judgements`.
        pairs: All (query, document) that are scored, in the order of `first`.
    """

    name: str
    first_stage: str
    top_k: int
    first: Ranking
    judgements: Judgements
    pairs: list[tuple[str, str]]

    @property
    def description(self) -> str:
        """What they are, for people."""
        ranker = "BM25" if self.first_stage == BM25 else self.first_stage
        return f"{self.name}, {ranker}'s top {self.top_k} of {len(self.first)} queries"

    @property
    def sha256(self) -> str:
        """Over queries, candidates, judgements and texts: whoever has the same data gets the same."""
        content = [self.first, {query: dict(grades) for query, grades in self.judgements.items()}, self.pairs]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def ndcg(self, scores: np.ndarray) -> np.ndarray:
        """NDCG@10 of every query, shape (queries,), from the scores of `pairs`."""
        values = iter(scores.tolist())
        by_query = {query: {name: next(values) for name in names} for query, names in self.first.items()}
        return metrics.ndcg(metrics.rerank(self.first, by_query), self.judgements)

    def first_stage_ndcg(self) -> np.ndarray:
        """NDCG@10 of the candidates as they came, shape (queries,)."""
        return metrics.ndcg(self.first, self.judgements)


def from_folder(
    folder: Path,
    runs: Path,
    *,
    top_k: int = TOP_K,
    queries: int | None = None,
    retriever: str = BM25,
    run: Path | None = None,
    language: str = "en",
) -> JudgedPairs:
    """A folder in BEIR's form.

    Args:
        runs: Where the retriever's ranking is written, or read from.
        queries: Only the first so many.
        retriever: "bm25", or an embedder's folder or Hub id.
        run: A ranking of the user's own instead, in TREC's form.
        language: Of the folder's texts, for BM25: an ISO 639 code.

    Raises:
        ReleaseError: The folder, the retriever or the run cannot be read, or the run does not fit the folder.
    """
    with loading():
        from release.evaluation.first_stage import first_stage, retrieve  # late: mteb takes seconds to import
        from release.evaluation.tasks import document_text, from_folder
        from release.evaluation.two_stage import candidates

    task = from_folder(folder)
    judgements = task.judgements
    documents = {row["id"]: document_text(row) for row in task.split["corpus"]}
    if run is None:
        ranking = retrieve(first_stage(retriever, language), task, runs).ranking
        name, ranked = retriever, candidates(task, ranking, top_k)
    else:
        name, ranked = run.name, _own(run, judgements, documents, top_k)
    first = {query: ranked.get(query, []) for query in list(judgements)[:queries]}
    texts = dict(zip(task.split["queries"]["id"], task.split["queries"]["text"], strict=True))
    pairs = [(texts[query], documents[name]) for query, names in first.items() for name in names]
    return JudgedPairs(task.name, name, top_k, first, {query: judgements[query] for query in first}, pairs)


def from_nano(source: str, *, top_k: int = TOP_K, queries: int | None = None) -> JudgedPairs:
    """All sets of NanoBEIR's form as one, over their own BM25 rankings; `queries` of each set.

    Raises:
        ReleaseError: They are not here and cannot be fetched, or are not of that form.
    """
    from datasets import get_dataset_split_names, load_dataset

    if not source or not Path(source).is_dir():
        _check_on_hub(source)
    try:
        with named_by_contents(source) as folder:
            tables = {
                name: [load_dataset(folder, config, split=name) for config in ("corpus", "queries", "qrels", "bm25")]
                for name in sorted(get_dataset_split_names(folder, "queries"))
            }
    except Exception as error:  # datasets, the Hub and the network each raise their own
        what = f"no sets of NanoBEIR's form here, and none can be fetched ({type(error).__name__})"
        raise ReleaseError(what, where=source, hint=NANO_HINT) from error
    first: Ranking = {}
    judged: dict[str, dict[str, int]] = {}
    pairs: list[tuple[str, str]] = []
    for name, (corpus, query_rows, qrels, ranked) in tables.items():
        documents = dict(zip(corpus["_id"], corpus["text"], strict=True))
        texts = dict(zip(query_rows["_id"], query_rows["text"], strict=True))
        for row in qrels:
            judged.setdefault(f"{name} {row['query-id']}", {})[f"{name} {row['corpus-id']}"] = 1
        for row in list(ranked)[:queries]:
            names = row["corpus-ids"][:top_k]
            first[f"{name} {row['query-id']}"] = [f"{name} {document}" for document in names]
            pairs += [(texts[row["query-id"]], documents[document]) for document in names]
    judgements = {query: judged.get(query, {}) for query in first}
    return JudgedPairs(Path(source).name, BM25, top_k, first, judgements, pairs)


def _check_on_hub(source: str) -> None:
    """Ask the Hub for a data set once: the library `datasets` asks again and again for half a minute.

    Raises:
        ReleaseError: `source` is no id of a data set, or neither the Hub nor its cache has it.
    """
    nothing = "no sets of NanoBEIR's form here"
    if source.count("/") != 1:
        what = f"{nothing}: {source!r} is neither a folder nor the id of a data set"
        raise ReleaseError(what, hint=NANO_HINT)
    try:
        HfApi().dataset_info(source, timeout=20)
    except Exception as error:  # no network, no such data set, no access: the Hub's client raises its own
        why = hub_access.reason(error, source)
        away = why is None or why.kind in ("unreachable", "offline")
        if away and isinstance(try_to_load_from_cache(source, "README.md", repo_type="dataset"), str):
            return
        what = why.what if why else f"it cannot be fetched ({type(error).__name__})"
        raise ReleaseError(f"{nothing}: {what}", where=source, hint=NANO_HINT) from error


def _own(path: Path, judgements: Judgements, documents: Mapping[str, str], top_k: int) -> Ranking:
    """The user's own ranking of the judged queries, checked against the collection."""
    scores = {query: ranked for query, ranked in read_run(path).items() if query in judgements}
    if not scores:
        raise ReleaseError("it ranks no judged query", where=str(path), hint="write the ids of queries.jsonl")
    if absent := [name for ranked in scores.values() for name in ranked if name not in documents]:
        what = f"{len(absent):,} documents are not in the corpus, such as {absent[0]!r}"
        raise ReleaseError(what, where=str(path), hint="write the ids of corpus.jsonl")
    return metrics.ranking(scores, top_k)


def read_run(path: Path) -> dict[str, dict[str, float]]:
    """Query -> document -> score of a run file in TREC's form.

    Raises:
        ReleaseError: A row does not parse, or ranks a document twice.
    """
    by_query: dict[str, dict[str, float]] = {}
    for row, line in lines(path):
        if line.isspace():
            continue
        try:
            query, _, document, _, score, _ = line.split()
            value = number(score)
        except ValueError as error:
            raise ReleaseError(f"damaged row ({error})", where=f"{path} row {row}", hint=RUN_FORM) from error
        if document in by_query.setdefault(query, {}):
            what = f"query {query!r} ranks document {document!r} twice"
            raise ReleaseError(what, where=f"{path} row {row}", hint="keep one of the two rows")
        by_query[query][document] = value
    return by_query
