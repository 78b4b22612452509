"""A first look at texts: which of them cannot repeat any of some indexed ones. It leaves a few too many, and never one too few.

Two texts whose sets of shingles (runs of five words) overlap by at least 0.7 share 0.7 of either one's. So a text of n shingles of
which more than 0.3 n different ones are in no indexed text is like none of them, and its first half is enough to see that. Here a
word is its first two bytes: what differs then differs in full as well.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import IO

import numpy as np

from release.data import words
from release.data.words import Texts

SHINGLE = 5  # words; shorter texts are one shingle, so they match only when equal
FACTORS = np.array([0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xFF51AFD7ED558CCD], np.uint64)  # odd, of well mixed bits
PLACES = 2**18  # of the table in which equal shingles of a text meet
BITS = np.left_shift(1, np.arange(8)).astype(np.uint8)


class Seen:
    """Which of some hashes (uint64, well mixed) a few were: a byte or two each. One in eight of the others looks like them."""

    def __init__(self, hashes: np.ndarray) -> None:
        self._shift = np.uint64(64 - max(int(len(hashes) * 8).bit_length(), 10))
        self._bits = np.zeros(2 ** (61 - int(self._shift)), np.uint8)
        for begin in range(0, len(hashes), 2**20):
            np.bitwise_or.at(self._bits, *self._place(hashes[begin : begin + 2**20]))

    def has(self, hashes: np.ndarray) -> np.ndarray:
        """Bool of shape (hashes,)."""
        byte, bit = self._place(hashes)
        return (self._bits.take(byte) & bit) != 0

    def _place(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        position = hashes >> self._shift
        return (position >> np.uint64(3)).view(np.int64), BITS.take((position & np.uint64(7)).view(np.int64))


class Screen:
    """Tells texts apart from those that were `add`ed, once all of them were and it is `close`d.

    Args:
        threshold: Texts whose shingles overlap by less do not matter.
    """

    def __init__(self, threshold: float) -> None:
        self._percent = round(100 * (1 - threshold))  # of a text's shingles, so many may be unknown
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="overlap-")  # noqa: SIM115 - until it is closed

    def add(self, texts: Texts) -> None:
        for _, data, offsets in words.steps(texts):
            short = _shortened(data, offsets, whole=True)
            self._file.write(short.keys[short.of_texts()].tobytes())

    def close(self) -> None:
        self._seen = Seen(mapped(self._file))
        self._file.close()

    def possible(self, texts: Texts) -> np.ndarray:
        """The rows of `texts` that may repeat one that was added, ascending."""
        rows = [np.zeros(0, np.int64)]
        for first, data, offsets in words.steps(texts):
            short = _shortened(data, offsets)
            new = ~self._seen.has(short.keys) & short.distinct()
            total = np.concatenate([[0], np.cumsum(new)])
            unknown = total[short.begins + short.looked] - total[short.begins]
            keep = (short.shingles > 0) & (100 * unknown <= self._percent * short.shingles)
            rows.append(np.flatnonzero(keep) + first)
        return np.concatenate(rows)


@dataclass(frozen=True)
class Shortened:
    """Keys (uint64) for `looked` of the `shingles` of each text, by two bytes of each word.

    A text's keys start at `begins`; the four that follow them reach into the next text and are no shingles.
    """

    shingles: np.ndarray
    looked: np.ndarray
    begins: np.ndarray
    keys: np.ndarray

    def of_texts(self) -> np.ndarray:
        """Which keys are shingles: bool of shape (keys,)."""
        return np.arange(len(self.keys)) < np.repeat(self.begins + self.looked, _words(self.looked))

    def distinct(self) -> np.ndarray:
        """Of equal keys of a text at most one, and at times none: bool of shape (keys,)."""
        numbers, table = np.arange(len(self.keys), dtype=np.int32), np.empty(PLACES, np.int32)
        texts = np.arange(len(self.looked), dtype=np.uint64) * FACTORS[0]
        slots = self.keys + np.repeat(texts, _words(self.looked))
        slots >>= np.uint64(20)
        slots &= np.uint64(PLACES - 1)
        table[slots.view(np.int64)] = numbers
        return table.take(slots.view(np.int64)) == numbers


def _shortened(data: np.ndarray, offsets: np.ndarray, whole: bool = False) -> Shortened:
    """The first half of each text's shingles, or the `whole` text."""
    within = words.inside(data)
    positions = np.flatnonzero(words.begins(within, offsets))
    starts = np.searchsorted(positions, offsets)
    counts = np.diff(starts)
    shingles = np.maximum(counts - SHINGLE + 1, counts > 0)
    looked = shingles if whole else np.minimum(shingles // 2 + 1, shingles)
    taken = _words(looked)
    ends = np.cumsum(taken)
    begins, total = ends - taken, int(ends[-1]) if len(ends) else 0
    positions = positions.take(np.repeat(starts[:-1] - begins, taken) + np.arange(total), mode="clip")
    second = np.zeros(len(data) + 1, np.uint8)  # nothing where no word goes on
    np.multiply(data, within.view(np.uint8), out=second[:-1])
    second[offsets] = 0
    letters = np.zeros((total + SHINGLE - 1, 2), np.uint8)
    letters[:total, 0] = data.take(positions)
    letters[:total, 1] = second.take(positions + 1)
    few = np.flatnonzero((counts > 0) & (counts < SHINGLE))  # all of it is the shingle
    missing = np.arange(SHINGLE) >= counts[few, None]
    letters[(begins[few, None] + np.arange(SHINGLE))[missing]] = 0
    four = np.ndarray(total + 1, np.uint64, letters, strides=(2,))  # the letters of four words, from each word on
    keys = four[:-1] * FACTORS[0]
    keys ^= four[1:] * FACTORS[1]
    keys ^= keys >> np.uint64(29)
    return Shortened(shingles, looked, begins, keys * FACTORS[2])


def _words(looked: np.ndarray) -> np.ndarray:
    """How many words so many shingles have."""
    return looked + (SHINGLE - 1) * (looked > 0)


def mapped(file: IO[bytes]) -> np.ndarray:
    """The uint64 that were written to a file, read where they lie."""
    file.flush()
    return np.memmap(file, np.uint64, "r") if file.tell() else np.zeros(0, np.uint64)
