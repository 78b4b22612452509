"""Near-duplicates of texts: an index of some texts is asked which of others repeat one of them, exactly or nearly.

Equal texts (up to case and punctuation) and texts whose sets of five-word shingles overlap by at least 0.7 (Jaccard) count as
duplicates. Three steps, each for the few that the one before lets through: at least a third of a text's shingles occur in the
index at all; MinHash finds which text it may repeat; the exact Jaccard similarity decides, so chance adds nothing to
what is reported.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import numpy as np
import pyarrow as pa

from release.data import words
from release.data.screen import SHINGLE, Screen, Seen, mapped
from release.data.words import Texts

THRESHOLD = 0.7
PERMUTATIONS = 64
BAND = 4  # rows per band: at a Jaccard of 0.7 a pair is missed with a probability of 1.2 %
PAIRS = 2**16  # candidates that are compared at once
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers have inverses
_draw = np.random.default_rng(5)
BYTES = _draw.integers(1, 2**63, 256, np.uint64)  # what each byte adds to the hash of its word


# --- Shingles ---------------------------------------------------------------------------------------------------------


def shingles(texts: Texts) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Hashed shingles of all texts, some 256 kB of text at a time.

    Yields:
        The number of the first text, the shingles of all texts of this step (uint64), and where each text's begin: shape
        (texts + 1,). A text without a word has none.
    """
    for first, data, offsets in words.steps(texts):
        yield first, *_rolled(*_hashed(data, offsets))


def _hashed(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A hash per word of the texts in `data`, and where each text's begin."""
    inside = words.inside(data)
    begins = np.flatnonzero(words.begins(inside, offsets))
    last = inside.copy()
    last[:-1] &= ~inside[1:]
    edges = offsets[1:][np.diff(offsets) > 0] - 1
    last[edges] = inside[edges]  # a text that ends also ends its last word
    ends = np.flatnonzero(last) + 1
    powers, inverses = _powers(max(len(data), words.AT_ONCE))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(BYTES[data] * powers[: len(data)], out=sums[1:])
    return _mix((sums[ends] - sums[begins]) * inverses[begins]), np.searchsorted(begins, offsets)


@cache
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first powers of the multiplier, and of its inverse, modulo 2**64."""
    inverse = np.uint64(pow(int(MULTIPLIER), -1, 2**64))
    steps = [np.full(count, value, np.uint64) for value in (MULTIPLIER, inverse)]
    for step in steps:
        step[0] = 1
    return np.cumprod(steps[0]), np.cumprod(steps[1])


def _rolled(words: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every run of five words within a text as one hash; the whole of a text that is shorter."""
    lengths = np.diff(starts)
    width = np.minimum(lengths, SHINGLE)
    reach = np.repeat(width, lengths)
    rolled = words.copy()
    for step in range(1, SHINGLE):
        further = rolled[:-step] * MULTIPLIER + words[step:]
        rolled[:-step] = np.where(reach[:-step] > step, further, rolled[:-step])
    runs = np.where(lengths > 0, lengths - width + 1, 0)
    position = np.arange(len(words)) - np.repeat(starts[:-1], lengths)
    return _mix(rolled[position < np.repeat(runs, lengths)]), np.concatenate([[0], np.cumsum(runs)])


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: a cheap bijection that scatters 64 bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _bands(hashes: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """MinHash: one uint64 key per band and text, shape (bands, texts); texts without shingles are not allowed."""
    seeds = np.arange(PERMUTATIONS, dtype=np.uint64)[:, None] * MULTIPLIER
    at_once = max(2**15 // len(hashes), 1)
    least = np.empty((PERMUTATIONS, len(starts) - 1), np.uint64)
    for first in range(0, PERMUTATIONS, at_once):
        some = slice(first, first + at_once)
        np.minimum.reduceat(_mix(hashes + seeds[some]), starts[:-1], axis=1, out=least[some])
    keys = np.zeros((PERMUTATIONS // BAND, len(starts) - 1), np.uint64)
    for number in range(BAND):
        keys = _mix(keys ^ least[number::BAND])
    return keys


# --- The index --------------------------------------------------------------------------------------------------------


class TextIndex:
    """The texts of some sets, ready to be asked whether another text repeats one of them.

    In memory are, per text, 16 keys of 12 bytes, and one or two bytes per word to know a shingle again. The shingles themselves lie
    in a temporary file that is mapped. `sha256` names the sets and their shingles.
    """

    def __init__(self, sets: Mapping[str, Iterable[str]]) -> None:
        self.names = tuple(sets)
        self._file = tempfile.TemporaryFile(prefix="overlap-")  # noqa: SIM115 - it lives as long as the map
        bands, owners = [np.zeros((PERMUTATIONS // BAND, 0), np.uint64)], [np.zeros(0, np.int16)]
        lengths, sums = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
        digest = hashlib.sha256(repr(self.names).encode())
        self._screen = Screen(THRESHOLD)
        for owner, name in enumerate(self.names):
            for texts in _batches(sets[name]):
                self._screen.add(texts)
                for _, hashes, starts in shingles(texts):
                    hashes, starts = _distinct(hashes, starts)
                    if len(hashes):
                        bands.append(_bands(hashes, starts))
                        lengths.append(np.diff(starts))
                        owners.append(np.full(len(starts) - 1, owner, np.int16))
                        sums.append(np.add.reduceat(hashes, starts[:-1]))
                        self._file.write(hashes.tobytes())
                        digest.update(hashes.tobytes())
        self._screen.close()
        self.sha256 = digest.hexdigest()
        owner, length = np.concatenate(owners), np.concatenate(lengths)
        ends = np.cumsum(length)
        # What a set says a thousand times is compared once.
        same = np.stack([owner.astype(np.uint64), np.concatenate(sums)])
        fresh = np.unique(same, axis=1, return_index=True)[1]
        self._owner, self._starts, self._ends = owner[fresh], (ends - length)[fresh], ends[fresh]
        self._hashes = mapped(self._file)
        keys = np.concatenate(bands, axis=1)[:, fresh]
        self._order = np.argsort(keys, axis=1).astype(np.int32)
        self._keys = np.take_along_axis(keys, self._order, axis=1)
        self._seen = Seen(self._hashes)

    def repeats(self, texts: Texts) -> np.ndarray:
        """Which sets each text repeats, exactly or nearly: bool of shape (sets, texts)."""
        repeated = np.zeros((len(self.names), len(texts)), bool)
        if not len(self._owner):
            return repeated
        array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
        possible = self._screen.possible(array)
        for first, hashes, starts in shingles(array.take(pa.array(possible))):
            rows = possible[first : first + len(starts) - 1]
            # Half the threshold, because a text that repeats itself counts its shingles more than once here.
            rows, hashes, starts = self._familiar(rows, hashes, starts, THRESHOLD / 2)
            # What is shared with one text is no more than what is shared with all of them.
            rows, hashes, starts = self._familiar(rows, *_distinct(hashes, starts), THRESHOLD)
            for texts, others in self._candidates(hashes, starts):
                while len(texts):  # what is still open between a text and a set, one pair of each at a time
                    owners = self._owner[others]
                    first = np.unique(texts * len(self.names) + owners, return_index=True)[1]
                    alike = self._jaccard(hashes, starts, texts[first], others[first]) >= THRESHOLD
                    repeated[owners[first[alike]], rows[texts[first[alike]]]] = True
                    left = ~repeated[owners, rows[texts]]
                    left[first] = False
                    texts, others = texts[left], others[left]
        return repeated

    def _familiar(
        self, rows: np.ndarray, hashes: np.ndarray, starts: np.ndarray, share: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the texts `rows` with these shingles those of which at least this share occurs in the index, and theirs."""
        known = np.concatenate([[0], np.cumsum(self._seen.has(hashes))])
        shared, lengths = known[starts[1:]] - known[starts[:-1]], np.diff(starts)
        keep = (lengths > 0) & (shared >= lengths * share)
        return rows[keep], hashes[np.repeat(keep, lengths)], np.concatenate([[0], np.cumsum(lengths[keep])])

    def _candidates(self, hashes: np.ndarray, starts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What MinHash takes for alike: texts with these distinct shingles, and indexed ones that share a key with them."""
        if len(starts) == 1:
            return
        bands = list(zip(self._keys, _bands(hashes, starts), strict=True))
        begins, ends = (np.stack([np.searchsorted(*band, side) for band in bands]) for side in ("left", "right"))
        counts = (ends - begins).sum(axis=0)
        groups = np.cumsum(counts) // PAIRS  # so that what is many times alike does not fill the memory
        for group in np.unique(groups[counts > 0]):
            texts = np.flatnonzero((groups == group) & (counts > 0))
            pairs = [
                np.repeat(texts, end - begin) * len(self._owner) + order[_ranges(begin, end)]
                for order, begin, end in zip(self._order, begins[:, texts], ends[:, texts], strict=True)
            ]
            yield np.divmod(np.unique(np.concatenate(pairs)), len(self._owner))

    def _jaccard(self, hashes: np.ndarray, starts: np.ndarray, texts: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The share of shingles that each of `texts` has in common with its one of `others`, 0 to 1."""
        lengths = starts[texts + 1] - starts[texts], self._ends[others] - self._starts[others]
        mine = hashes[_ranges(starts[texts], starts[texts + 1])]
        theirs = self._hashes[_ranges(self._starts[others], self._ends[others])]
        pair = np.concatenate([np.repeat(np.arange(len(texts)), length) for length in lengths])
        both = np.concatenate([mine, theirs])
        order = np.lexsort((both, pair))
        both, pair = both[order], pair[order]
        shared = np.bincount(pair[1:][(both[1:] == both[:-1]) & (pair[1:] == pair[:-1])], minlength=len(texts))
        return shared / (sum(lengths) - shared)


def _ranges(begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """All whole numbers from each of `begins` up to its one of `ends`, one range after the other."""
    lengths = ends - begins
    return np.arange(lengths.sum()) + np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)


def _batches(texts: Iterable[str], size: int = 2048) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _distinct(hashes: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each text's distinct shingles, sorted; texts without any are left out."""
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.lexsort((hashes, owner))
    hashes, owner = hashes[order], owner[order]
    fresh = np.ones(len(hashes), bool)
    fresh[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
    counts = np.bincount(owner[fresh]) if len(hashes) else np.zeros(0, np.int64)
    return hashes[fresh], np.concatenate([[0], np.cumsum(counts[counts > 0])])
