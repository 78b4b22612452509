"""Near-duplicates between training text and evaluation text: MinHash over word shingles, candidates checked exactly.

Equal texts (up to case and punctuation) and texts whose sets of five-word shingles overlap by at least 0.7 count as
duplicates. MinHash only finds candidates; each is then confirmed by its exact Jaccard similarity, so chance plays no part in
what is reported.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

SHINGLE = 5  # words; shorter texts are one shingle, so they match only when equal
THRESHOLD = 0.7
PERMUTATIONS = 64
BAND = 4  # rows per band: at a Jaccard of 0.7 a pair is missed with a probability of 1.2 %
WORDS = re.compile(r"\w+")


def shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashed shingles of all texts in one uint64 array, and where each text's begin: shapes (total,), (len(texts) + 1,)."""
    known: dict[str, int] = {}
    codes: list[int] = []
    lengths = np.zeros(len(texts), np.int64)
    for place, text in enumerate(texts):
        words = WORDS.findall(text.lower()) or [""]
        lengths[place] = len(words)
        for word in words:
            code = known.get(word)
            if code is None:
                code = known[word] = zlib.crc32(word.encode("utf-8", "replace")) | 1
            codes.append(code)
    flat = _mix(np.array(codes, np.uint64))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rolled = _mix(flat)
    width = np.minimum(lengths, SHINGLE)
    for step in range(1, SHINGLE):
        reach = np.repeat(width > step, lengths)
        shifted = np.concatenate([flat[step:], np.zeros(step, np.uint64)])[: len(flat)]
        rolled = np.where(reach, _mix(rolled ^ (shifted + np.uint64(step))), rolled)
    kept = lengths - width + 1
    inside = np.arange(len(flat)) - np.repeat(starts[:-1], lengths)
    return rolled[inside < np.repeat(kept, lengths)], np.concatenate([[0], np.cumsum(kept)])


def signatures(hashes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """MinHash signatures, uint64 of shape (texts, PERMUTATIONS)."""
    found = np.empty((len(starts) - 1, PERMUTATIONS), np.uint64)
    for number in range(PERMUTATIONS):
        found[:, number] = np.minimum.reduceat(
            _mix(hashes + np.uint64(number * 0x9E3779B97F4A7C15 % 2**64)), starts[:-1]
        )
    return found


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: a cheap bijection that scatters 64 bits."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@dataclass
class Index:
    """The texts of an evaluation set, ready to be asked whether a training text repeats one of them."""

    texts: Sequence[str]
    _bands: list[dict[int, list[int]]] = field(init=False, repr=False)
    _sets: list[frozenset[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.texts = list(dict.fromkeys(self.texts))
        self._bands = [{} for _ in range(PERMUTATIONS // BAND)]
        if not self.texts:
            self._sets = []
            return
        hashes, starts = shingles(self.texts)
        self._sets = _as_sets(hashes, starts)
        for number, keys in enumerate(_band_keys(signatures(hashes, starts))):
            for place, key in enumerate(keys.tolist()):
                self._bands[number].setdefault(key, []).append(place)

    def repeats(self, texts: Sequence[str]) -> np.ndarray:
        """Whether each text is an exact or near-duplicate of one in the index: bool of shape (len(texts),)."""
        found = np.zeros(len(texts), bool)
        if not len(texts) or not self._sets:
            return found
        hashes, starts = shingles(texts)
        candidates: dict[int, set[int]] = {}
        for band, keys in zip(self._bands, _band_keys(signatures(hashes, starts)), strict=True):
            known = np.fromiter(band, np.uint64, len(band))
            for place in np.flatnonzero(np.isin(keys, known)).tolist():
                candidates.setdefault(place, set()).update(band[int(keys[place])])
        for place, others in candidates.items():
            own = frozenset(hashes[starts[place] : starts[place + 1]].tolist())
            found[place] = any(jaccard(own, self._sets[other]) >= THRESHOLD for other in others)
        return found


def jaccard(left: frozenset[int], right: frozenset[int]) -> float:
    """The share of shingles that two texts have in common, 0 to 1."""
    return len(left & right) / len(left | right)


def _as_sets(hashes: np.ndarray, starts: np.ndarray) -> list[frozenset[int]]:
    return [frozenset(part.tolist()) for part in np.split(hashes, starts[1:-1])]


def _band_keys(found: np.ndarray) -> list[np.ndarray]:
    """One uint64 key per band and text, from the band's rows of the signature."""
    keys = []
    for start in range(0, PERMUTATIONS, BAND):
        key = np.zeros(len(found), np.uint64)
        for column in range(start, start + BAND):
            key = _mix(key ^ found[:, column])
        keys.append(key)
    return keys
