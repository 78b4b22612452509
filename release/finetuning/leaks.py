"""Training queries that repeat a query of the evaluation, exactly or nearly: a score on those measures memory, not quality."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import regex

from release.bm25 import UNSPACED
from release.data.minhash import TextIndex
from release.errors import ReleaseError

ASCII_WORD = re.compile("[a-z0-9]+")
# Words keep their marks, which are the vowels of Hindi; of a script without blanks each character is a word.
WORD = regex.compile(rf"[{UNSPACED}]|[\p{{L}}\p{{N}}\p{{M}}--[{UNSPACED}]]+", regex.V1)
INVISIBLE = regex.compile(r"\p{Cf}+")  # soft hyphens, characters without width, marks of direction
CLOSING = "?!.,;:\u3002"
_remembered = lru_cache(maxsize=1024)  # the rows of a query mostly follow each other


@_remembered
def same_query(query: str) -> str:
    """A query without case, spelling of letters, invisible characters, odd blanks and final punctuation.

    Two that agree in this are one query, whose judgements belong together; "C++" and "C#" are two.
    """
    return " ".join(_plain(query).split()).rstrip(CLOSING).rstrip() or query.strip()


@_remembered
def normalized(query: str) -> str:
    """The words of a query alone: of two that agree in this, none is held out while the other is trained on."""
    plain = _plain(query)
    return " ".join((ASCII_WORD if plain.isascii() else WORD).findall(plain)) or same_query(query)


def _plain(text: str) -> str:
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold()
    return INVISIBLE.sub("", unicodedata.normalize("NFKC", folded))


class LeakCheck:
    """The evaluation's queries, ready to be compared with training queries.

    Near are texts whose sets of five-word shingles overlap by 0.7 or more (release/data/minhash.py); shorter queries must agree
    in every word. Both are compared by their words alone.
    """

    def __init__(self, queries: Iterable[str]) -> None:
        self._exact = dict.fromkeys(map(normalized, queries))
        self._near = TextIndex({"evaluation": iter(self._exact)})

    def repeats(self, queries: Sequence[str]) -> np.ndarray:
        """Which of `queries` repeat a query of the evaluation, bool of shape (queries,)."""
        texts = [normalized(query) for query in queries]
        exact = np.array([text in self._exact for text in texts], bool)
        return exact | self._near.repeats(texts)[0]

    def check(self, queries: Sequence[str], where: str) -> None:
        """Stop where a training query repeats one of the evaluation.

        Raises:
            ReleaseError: At least one does; the first is shown.
        """
        repeats = self.repeats(queries)
        if repeats.any():
            repeated = [query for query, repeats_one in zip(queries, repeats, strict=True) if repeats_one]
            count = len({normalized(query) for query in repeated})
            what = f"the training data repeats test queries ({count:,} seen), such as {repeated[0][:80]!r}"
            hint = "remove them, or pass --drop-leaks to train without them: a score on them would measure memory"
            raise ReleaseError(what, where=where, hint=hint)
