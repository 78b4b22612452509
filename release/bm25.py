"""BM25, in one place: as a first stage over a collection (through bm25s), and as a score of single pairs with fixed frequencies.

Both use Lucene's formula with k1 = 1.5 and b = 0.75, as mteb's BM25 does.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice

import bm25s
import numpy as np
import regex
import Stemmer
from bm25s import stopwords
from bm25s.tokenization import Tokenized
from scipy import sparse

from release.errors import ReleaseError
from release.names import language_name

K1, B = 1.5, 0.75
WORDS = re.compile(r"[a-z0-9]+")  # of single pairs
Weigh = Callable[[list[str]], dict[str, float]]


# --- Words ------------------------------------------------------------------------------------------------------------

STOPWORDS = {  # the lists that mteb's BM25 takes, by ISO 639 codes
    "en eng": stopwords.STOPWORDS_EN,
    "de deu": stopwords.STOPWORDS_GERMAN,
    "nl nld": stopwords.STOPWORDS_DUTCH,
    "fr fra": stopwords.STOPWORDS_FRENCH,
    "es spa": stopwords.STOPWORDS_SPANISH,
    "pt por": stopwords.STOPWORDS_PORTUGUESE,
    "it ita": stopwords.STOPWORDS_ITALIAN,
    "ru rus": stopwords.STOPWORDS_RUSSIAN,
    "sv swe": stopwords.STOPWORDS_SWEDISH,
    "no nb nn nor nob nno": stopwords.STOPWORDS_NORWEGIAN,
}
SNOWBALL = {"nb": "no", "nn": "no", "nob": "no", "nno": "no", "arb": "ar"}  # codes that Snowball knows by another one
# Scripts without blanks between words: Thai, Lao, Tibetan, Burmese, Khmer, Tai, Balinese, Javanese, Yi, kana, Han, Tangut; and
# Hangul, whose words are whole phrases.
UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19ff\u1a20-\u1b7f\u3005-\u3007\u3040-\u318f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua9ff\uaa60-\uaadf\uac00-\ud7ff\uf900-\ufaff"
    "\uff66-\uffdc\U00016fe0-\U0001b2ff\U00020000-\U0003ffff"
)
RUN = re.compile(f"[{UNSPACED}]")
ASCII_TOKENS = re.compile(r"\w{2,}", re.ASCII)
# Runs of such characters, and words of two characters and more, in which marks are (Unicode's annex 29, as Lucene has it): the
# words of Hindi, Bengali or Tamil fall apart without their vowel signs.
TOKENS = regex.compile(rf"[{UNSPACED}]+|[\p{{L}}\p{{N}}_\p{{M}}\u200d--[{UNSPACED}]]{{2,}}", regex.V1)
FULLWIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # letters as wide as a Han character
RULE = "stopwords and Snowball stemmer of the language, words with their marks, character bigrams for scripts without blanks"


LOOKED_AT = 5_000  # texts, to tell that they are not English


class Analyzer:
    """The words that BM25 counts in a text of some language, as mteb's BM25 has them.

    Lowercased, without the language's stopwords (where there is a list), stemmed by Snowball (where it knows the language). Two
    things differ, where mteb's would find little: a run of characters of a script without blanks becomes its bigrams, whatever
    the language, and a word keeps its combining marks.

    Args:
        language: ISO 639 code of two or three letters.

    Raises:
        ReleaseError: It is no such code.
    """

    def __init__(self, language: str = "en") -> None:
        if language_name(language) is None:  # a slip of the pen would mean neither stopwords nor a stemmer
            raise ReleaseError(f"{language!r} is no ISO 639 code of a language", hint="such as en or deu")
        self._stopwords = frozenset(
            next((words for codes, words in STOPWORDS.items() if language in codes.split()), ())
        )
        try:
            self._stem = Stemmer.Stemmer(SNOWBALL.get(language, language)).stemWord
        except KeyError:
            self._stem = str
        self._known: dict[str, str] = {}  # word -> stem

    def words(self, text: str) -> list[str]:
        """The words of `text`, in their order."""
        words = []
        for token in _tokens(text):
            if (stem := self._known.get(token)) is None:
                if token[0] >= UNSPACED[0] and RUN.match(token):
                    words += _bigrams(token)
                    continue
                stem = self._known[token] = "" if token in self._stopwords else self._stem(token)
            if stem:
                words.append(stem)
        return words


def check_english(texts: Iterable[str], where: str) -> None:
    """Whether texts whose language nobody named may be taken for English, by the stopwords of the first ones.

    English has 26 to 29 in 100 words and at most 6 of another list's, German 27 to 29 of its own and 2 of the English ones.

    Raises:
        ReleaseError: Another language has many more: BM25 would find less, and every gain over it look larger.
    """
    words = Counter(token for text in islice(texts, LOOKED_AT) for token in _tokens(text))
    shares = {
        codes.split()[0]: sum(words[word] for word in set(listed)) / max(words.total(), 1)
        for codes, listed in STOPWORDS.items()
    }
    likely = max(shares, key=shares.__getitem__)
    if shares[likely] > max(0.1, 3 * shares["en"]):
        what = f"the texts look like {likely}: {shares[likely]:.0%} of their words are its stopwords"
        raise ReleaseError(what, where=where, hint=f"--language {likely}, or --language en where they are English")


def _tokens(text: str) -> list[str]:
    if text.isascii():
        return ASCII_TOKENS.findall(text.lower())
    text = unicodedata.normalize("NFC", text).translate(FULLWIDTH).lower()
    return TOKENS.findall(text.replace("i\u0307", "i"))  # what lower() makes of a capital I with a dot


def _bigrams(run: str) -> list[str]:
    run = unicodedata.normalize("NFKC", run)
    return [run[at : at + 2] for at in range(max(len(run) - 1, 1))]


# --- A collection -----------------------------------------------------------------------------------------------------


class Bm25Index:
    """An index over some documents.

    Raises:
        ReleaseError: No document has a word.
    """

    def __init__(self, documents: Iterable[str], language: str = "en") -> None:
        self._analyzer = Analyzer(language)
        vocabulary: dict[str, int] = {}
        ids = [
            [vocabulary.setdefault(word, len(vocabulary)) for word in self._analyzer.words(text)] for text in documents
        ]
        if not vocabulary:
            what = f"BM25 finds no word in any of the {len(ids):,} documents but stopwords"
            raise ReleaseError(what, hint="look at the texts of the documents")
        self._index = bm25s.BM25(k1=K1, b=B, method="lucene")
        self._index.index(Tokenized(ids=ids, vocab=vocabulary), show_progress=False)
        self._documents = len(ids)

    def scores(self, queries: Iterable[str]) -> Iterator[np.ndarray]:
        """For each query the score of every document, float32 of shape (documents,); 0 where no word is shared."""
        for query in queries:
            known = [word for word in self._analyzer.words(query) if word in self._index.vocab_dict]
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
