"""BM25, in one place: as a first stage over a collection (through bm25s), and as a score of single pairs with fixed frequencies.

Both use Lucene's formula with k1 = 1.5 and b = 0.75, as mteb's BM25 does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import bm25s
import numpy as np
from scipy import sparse

K1, B = 1.5, 0.75
WORDS = re.compile(r"[a-z0-9]+")  # of the pair scores
Weigh = Callable[[list[str]], dict[str, float]]


# --- A collection -----------------------------------------------------------------------------------------------------


class Bm25:
    """An index over some documents: words of two letters and more, lowercased, without English stopwords."""

    def __init__(self, documents: Sequence[str]) -> None:
        self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
        self._index.index(bm25s.tokenize(list(documents), stopwords="en", show_progress=False), show_progress=False)
        self._documents = len(documents)

    def scores(self, queries: Sequence[str]) -> Iterator[np.ndarray]:
        """For each query the score of every document, float32 of shape (documents,); 0 where no word is shared."""
        for tokens in bm25s.tokenize(list(queries), stopwords="en", show_progress=False, return_ids=False):
            known = [str(token) for token in tokens if token in self._index.vocab_dict]
            yield self._index.get_scores(known) if known else np.zeros(self._documents, np.float32)


def best(scores: np.ndarray, top_k: int) -> np.ndarray:
    """The documents with the `top_k` highest scores, best first, equal ones in the order of the documents."""
    return np.argsort(-scores, kind="stable")[:top_k]


# --- Single pairs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CorpusStatistics:
    """What BM25 needs of a corpus: how many documents, their average length in words, and in how many a word occurs."""

    documents: int
    average_length: float
    frequency: dict[str, int]

    @classmethod
    def of(cls, documents: Iterable[str]) -> CorpusStatistics:
        """Count over distinct `documents`.

        Raises:
            ValueError: There is no document.
        """
        frequency: Counter[str] = Counter()
        length = count = 0
        for document in dict.fromkeys(documents):
            words = WORDS.findall(document.lower())
            frequency.update(set(words))
            length, count = length + len(words), count + 1
        if not count:
            raise ValueError("BM25 needs at least one document to count in")
        return cls(count, length / count, dict(sorted(frequency.items())))

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def idf(self, word: str) -> float:
        """The weight of a word, above zero and largest for a word that no document has."""
        frequency = self.frequency.get(word, 0)
        return float(np.log1p((self.documents - frequency + 0.5) / (frequency + 0.5)))

    def relevance(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """BM25 of each (query, document) over the sum of the query's idf, in [0, 1): float64 of shape (len(pairs),).

        Without the constant (k1 + 1). A pair's score depends on that pair alone.
        """
        queries = {query: row for row, query in enumerate(dict.fromkeys(query for query, _ in pairs))}
        documents = {document: row for row, document in enumerate(dict.fromkeys(document for _, document in pairs))}
        vocabulary: dict[str, int] = {}
        query_weights = _weight_rows(queries, vocabulary, self._query_weights)
        document_weights = _weight_rows(documents, vocabulary, self._document_weights)
        query_weights.resize(len(queries), len(vocabulary))
        document_weights.resize(len(documents), len(vocabulary))
        left = query_weights[[queries[query] for query, _ in pairs]]
        right = document_weights[[documents[document] for _, document in pairs]]
        return np.asarray(left.multiply(right).sum(axis=1)).ravel()

    def _query_weights(self, words: list[str]) -> dict[str, float]:
        weights = {word: self.idf(word) for word in sorted(set(words))}
        total = sum(weights.values())
        return {word: weight / total for word, weight in weights.items()}

    def _document_weights(self, words: list[str]) -> dict[str, float]:
        shrink = K1 * (1 - B + B * len(words) / self.average_length)
        return {word: count / (count + shrink) for word, count in Counter(words).items()}


def _weight_rows(texts: Iterable[str], vocabulary: dict[str, int], weigh: Weigh) -> sparse.csr_matrix:
    """One sparse row of word weights per text; new words are added to `vocabulary`."""
    values: list[float] = []
    columns: list[int] = []
    starts = [0]
    for text in texts:
        weights = weigh(WORDS.findall(text.lower()))
        values += weights.values()
        columns += [vocabulary.setdefault(word, len(vocabulary)) for word in weights]
        starts.append(len(values))
    return sparse.csr_matrix((values, columns, starts), shape=(len(starts) - 1, max(len(vocabulary), 1)))
