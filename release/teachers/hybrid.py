"""A stand-in for the teacher of a real release: BM25 and all-MiniLM-L6-v2 blended into one number per pair.

It is no trained reranker. It has the interface of a CrossEncoder teacher (`predict(pairs) -> logits`), needs no network,
and its score of a pair depends on that pair alone.

    hybrid = cosine(query, document) + BM25(query, document) / sum of the query's idf
    logit  = 10 * (hybrid - 0.6)

BM25 without its constant (k1 + 1) divided by the query's idf is in [0, 1), so the two halves weigh alike. The affine map
puts the boundary between unrelated and relevant text near zero and spreads the range to that of a large reranker's
raw logits (about -7 to 14 where mxbai-rerank-large-v2 has -12 to 22): the recipe's loss and learning rate then meet targets of the
usual size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from release.bm25 import CorpusStatistics
from release.teachers import minilm
from release.teachers.minilm import MiniLM

NAME = "bm25-minilm-hybrid"
REVISION = "1"  # raise it whenever a score changes
SCALE, CENTRE = 10.0, 0.6  # logit = SCALE * (hybrid - CENTRE)


class HybridStandIn:
    """The stand-in teacher with a CrossEncoder's interface.

    Args:
        statistics: Document frequencies, fixed from the training documents.
        max_length: Tokens that MiniLM reads of each text; BM25 reads all of it.
        dtype: As for `MiniLM`.
    """

    def __init__(self, statistics: CorpusStatistics, *, max_length: int = 256, dtype: str | None = None) -> None:
        self.statistics = statistics
        self.minilm = MiniLM(max_length=max_length, dtype=dtype)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides a score; two stand-ins with the same identity give the same scores."""
        return {
            "model": NAME,
            "kind": "stand-in",
            "revision": f"{REVISION}, MiniLM {minilm.SHA256[:12]}",
            "template_sha256": hashlib.sha256(f"{SCALE} * (hybrid - {CENTRE})".encode()).hexdigest(),
            "statistics_sha256": self.statistics.sha256,
            "dtype": self.minilm.dtype,
            "max_length": self.minilm.max_length,
        }

    def predict(
        self,
        pairs: Sequence[tuple[str, str]],
        progress: Callable[[int], None] | None = None,
        batch_size: int = 32,
        show_progress_bar: bool = False,
        **_: Any,
    ) -> np.ndarray:
        """Logits of (query, document) pairs, float32 of shape (len(pairs),).

        Args:
            progress: Called while texts are encoded with how many more pairs that amounts to, len(pairs) in the end.
            batch_size, show_progress_bar: Accepted for the interface; batches have a fixed shape (see the module).
        """
        if not len(pairs):
            return np.zeros(0, np.float32)
        pairs = [(query, document) for query, document in pairs]
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        row = {text: index for index, text in enumerate(texts)}
        vectors = self.minilm.encode(texts, progress=_in_pairs(progress, len(pairs), len(texts)))
        left = vectors[[row[query] for query, _ in pairs]].astype(np.float64)
        right = vectors[[row[document] for _, document in pairs]]
        hybrid = (left * right).sum(axis=1) + self.statistics.relevance(pairs)
        return (SCALE * (hybrid - CENTRE)).astype(np.float32)


def _in_pairs(progress: Callable[[int], None] | None, pairs: int, texts: int) -> Callable[[int], None] | None:
    """Progress over `texts` as progress over `pairs`, in whole pairs that add up."""
    if progress is None:
        return None
    done = reported = 0

    def advance(more: int) -> None:
        nonlocal done, reported
        done += more
        now = done * pairs // texts
        progress(now - reported)
        reported = now

    return advance
