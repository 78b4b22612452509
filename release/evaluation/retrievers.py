"""Retrievers with mteb's search interface: BM25, and MiniLM from the extra `demo`; embedders.py has all others."""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from mteb.models.model_meta import ModelMeta

from release import bm25
from release.console import Bar
from release.errors import ReleaseError
from release.evaluation.metrics import ranking
from release.evaluation.tasks import UNDETERMINED, document_text
from release.family import MINILM
from release.teachers import minilm
from release.teachers.minilm import MiniLM

VECTORS = "vectors.safetensors"
NO_LANGUAGE = "zxx"  # ISO 639-3 for text in no language


class Bm25Retriever:
    """BM25 as an mteb search model; documents that share no word with a query are left out.

    Args:
        language: Of texts whose task names none: a folder in BEIR's form, or a task in several languages.
    """

    def __init__(self, language: str = "en") -> None:
        self.language = language
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={"name": "local/bm25", "revision": metadata.version("bm25s"), "model_type": ["sparse"]}
        )

    def index(self, corpus: Any, *, task_metadata: Any, hf_subset: str, **_: Any) -> None:
        """Index title and text of every document.

        Raises:
            ReleaseError: No document has a word.
        """
        self.names = np.array(corpus["id"], dtype=object)
        language = task_language(task_metadata, hf_subset) or self.language
        try:
            self.retriever = bm25.Bm25Index((document_text(row) for row in corpus), language)
        except ReleaseError as error:
            raise ReleaseError(error.what, where=task_metadata.name, hint=error.hint) from error

    def search(self, queries: Any, *, top_k: int, **_: Any) -> dict[str, dict[str, float]]:
        """The `top_k` best documents of every query, equal scores by falling id."""
        results = {}
        with Bar("bm25: queries", len(queries)) as bar:
            for query, scores in zip(queries["id"], self.retriever.scores(list(queries["text"])), strict=True):
                results[query] = self._best(scores, top_k)
                bar.advance()
        return results

    def _best(self, scores: np.ndarray, top_k: int) -> dict[str, float]:
        hits = np.flatnonzero(scores > 0)
        if len(hits) > top_k:  # keep every document that ties with the last one, so that the cut below is by id
            hits = hits[scores[hits] >= np.partition(scores[hits], -top_k)[-top_k]]
        by_name = {str(self.names[hit]): float(scores[hit]) for hit in hits}
        return {name: by_name[name] for name in ranking({"": by_name}, top_k)[""]}


def task_language(task_metadata: Any, subset: str) -> str | None:
    """The one language of an mteb task's subset as an ISO 639-3 code, or None where there are several, or nobody knows.

    A programming language is none, so that no stopword of a language is left out of it, as in mteb.
    """
    languages = task_metadata.eval_langs
    languages = languages.get(subset, []) if isinstance(languages, dict) else languages
    codes = {NO_LANGUAGE if name.endswith("-Code") else name.partition("-")[0] for name in languages} - {UNDETERMINED}
    return codes.pop() if len(codes) == 1 else None


def packaged_revision() -> str | None:
    """What scores by the package's MiniLM depend on; None where the extra `demo` is not installed."""
    if find_spec(minilm.PACKAGE) is None:
        return None
    return f"weights sha256 {minilm.SHA256[:16]}, {minilm.fast_dtype()}"


@lru_cache(maxsize=1)
def shared_minilm() -> MiniLM:
    """One MiniLM per process: the first stage and the stand-in teacher then encode each text once between them."""
    return MiniLM(max_length=256)


class PackagedMiniLM:
    """release.teachers.minilm's MiniLM as an mteb search model: exact cosine search over the whole corpus.

    Its vectors are kept in `folder`, since the stand-in teacher encodes the same texts, often in another process.
    """

    def __init__(self, folder: Path) -> None:
        self.model, self.cache = shared_minilm(), folder / VECTORS
        self.mteb_model_meta = ModelMeta.create_empty(overwrites={"name": MINILM, "revision": "package"})

    def index(self, corpus: Any, **_: Any) -> None:
        """Encode every document."""
        texts = [document_text(row) for row in corpus]
        self.names = list(corpus["id"])
        with Bar("MiniLM: documents", len(texts)) as bar:
            self.vectors = self.model.encode(texts, progress=bar.advance)

    def search(self, queries: Any, *, top_k: int, **_: Any) -> dict[str, dict[str, float]]:
        """The `top_k` nearest documents of every query."""
        similarity = self.model.encode(list(queries["text"])) @ self.vectors.T
        self.model.save(self.cache)
        depth = min(top_k, len(self.names))
        nearest = np.argpartition(-similarity, depth - 1, axis=1)[:, :depth]
        return {
            query: {self.names[index]: float(row[index]) for index in indices}
            for query, row, indices in zip(queries["id"], similarity, nearest, strict=True)
        }
