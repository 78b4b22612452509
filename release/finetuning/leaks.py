"""Training queries that repeat a query of the evaluation, exactly or nearly: a score on those measures memory, not quality."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from release.data.minhash import TextIndex
from release.errors import ReleaseError

WORD = re.compile(r"\w+")


def normalized(query: str) -> str:
    """A query without case and punctuation: two that agree in this are the same query."""
    return " ".join(WORD.findall(query.casefold())) or query.strip()


class LeakCheck:
    """The evaluation's queries, ready to be compared with training queries.

    Near are texts whose sets of five-word shingles overlap by 0.7 or more (release/data/minhash.py); shorter queries must agree
    in every word.
    """

    def __init__(self, queries: Iterable[str]) -> None:
        texts = list(queries)
        self._exact = {normalized(text) for text in texts}
        self._near = TextIndex({"evaluation": iter(texts)})

    def repeats(self, queries: Sequence[str]) -> np.ndarray:
        """Which of `queries` repeat a query of the evaluation, bool of shape (queries,)."""
        exact = np.array([normalized(query) in self._exact for query in queries], bool)
        return exact | self._near.repeats(queries)[0]

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
