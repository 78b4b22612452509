"""A reranker as a search model of mteb."""

from __future__ import annotations

from typing import Any

import numpy as np
from mteb.models.model_meta import ModelMeta

from release.errors import ReleaseError
from release.evaluation.rerankers import Reranker, predict_sorted
from release.evaluation.tasks import document_text

_STEP, _LEAST = np.float32(2.0**-22), np.float32(1e-30)  # of a score, and near zero, where a share of it is nothing


class Search:
    """A reranker as mteb sees it: it searches among given candidates only.

    All pairs of a task are scored in one go, sorted by length (mteb's own wrapper goes batch by batch, several times
    slower on texts of uneven length), and a pair that another first stage brought up before is not scored again.

    Attributes:
        scores: Query -> document -> raw score of the last search.
        known: The same over all searches of this task.
        scored: How many pairs the last search really scored.
    """

    def __init__(self, reranker: Reranker, experiment: dict[str, Any], known: dict[str, dict[str, float]]) -> None:
        self.reranker, self.known = reranker, known
        self.scores: dict[str, dict[str, float]] = {}
        self.scored = 0
        name = reranker.name if "/" in reranker.name else f"local/{reranker.name}"
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": name,
                "revision": reranker.revision[:40],
                "model_type": ["cross-encoder"],
                "experiment_kwargs": experiment,  # without it mteb's cache would mix up the first stages
            }
        )

    def index(self, corpus: Any, **_: Any) -> None:
        """Remember the documents; their text is title and text, as mteb joins them."""
        self.corpus = corpus

    def search(self, queries: Any, *, top_k: int, top_ranked: Any = None, **_: Any) -> dict[str, dict[str, float]]:
        """Score every candidate of every query. The scores returned have no ties: equal ones keep the given order."""
        if top_ranked is None:
            raise ReleaseError("a reranker needs candidates", hint="run the first stage before it")
        texts = dict(zip(queries["id"], queries["text"], strict=True))
        new = [
            (query, document)
            for query in texts
            for document in top_ranked.get(query, [])
            if document not in self.known.get(query, {})
        ]
        documents = self._documents({document for _, document in new})
        self.scored = len(new)
        scores = predict_sorted(self.reranker, [(texts[query], documents[document]) for query, document in new])
        for (query, document), score in zip(new, scores, strict=True):
            self.known.setdefault(query, {})[document] = float(score)
        self.scores = {
            query: {document: self.known[query][document] for document in top_ranked.get(query, [])} for query in texts
        }
        return {query: untied(scores) for query, scores in self.scores.items()}

    def _documents(self, names: set[str]) -> dict[str, str]:
        rows = [row for row, key in enumerate(self.corpus["id"]) if key in names]
        return {row["id"]: document_text(row) for row in self.corpus.select(rows)}


def untied(scores: dict[str, float]) -> dict[str, float]:
    """Scores with each tie broken by a least step in single precision, so that trec_eval keeps the given order."""
    result: dict[str, float] = {}
    highest = np.float32(np.inf)
    for name in sorted(scores, key=lambda name: -np.float32(scores[name])):
        score = min(np.float32(scores[name]), highest)
        result[name] = float(score)
        highest = np.float32(score - max(abs(score) * _STEP, _LEAST))
    return result
