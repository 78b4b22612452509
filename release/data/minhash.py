"""Near-duplicates of texts: an index of some texts is asked which of others repeat one of them, exactly or nearly.

Equal texts (up to case and punctuation) and texts whose sets of five-word shingles overlap by at least 0.7 (Jaccard) count as
duplicates. Three steps, each for the few that the one before lets through: at least a third of a text's shingles occur in the
index at all; MinHash finds which text it may repeat; the exact Jaccard similarity decides, so chance adds nothing to
what is reported.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SHINGLE = 5  # words; shorter texts are one shingle, so they match only when equal
THRESHOLD = 0.7
PERMUTATIONS = 64
BAND = 4  # rows per band: at a Jaccard of 0.7 a pair is missed with a probability of 1.2 %
AT_ONCE = 2**18  # bytes of text per step: the tables of a step stay within the processor's caches
LONGEST = 2**20  # bytes of a text that are looked at
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers have inverses
_draw = np.random.default_rng(5)
BYTES = _draw.integers(1, 2**63, 256, np.uint64)  # what each byte adds to the hash of its word
IN_WORD = np.array([chr(byte).isalnum() or chr(byte) == "_" or byte > 127 for byte in range(256)])
Texts = pa.Array | pa.ChunkedArray | Sequence[str]


# --- Shingles ---------------------------------------------------------------------------------------------------------


def shingles(texts: Texts) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Hashed shingles of all texts, some 256 kB of text at a time.

    Yields:
        The number of the first text, the shingles of all texts of this step (uint64), and where each text's begin: shape
        (texts + 1,). A text without a word has none.
    """
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
    before = 0
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        lowered = pc.utf8_lower(pc.fill_null(chunk, "")).cast(pa.large_binary())
        if (pc.max(pc.binary_length(lowered)).as_py() or 0) > LONGEST:
            lowered = pc.binary_slice(lowered, 0, LONGEST)
        _, ends, content = lowered.buffers()
        offsets = np.frombuffer(ends, np.int64)[lowered.offset : lowered.offset + len(lowered) + 1]
        data = np.frombuffer(content or b"", np.uint8)
        begin = 0
        while begin < len(lowered):
            end = max(int(np.searchsorted(offsets, offsets[begin] + AT_ONCE, "right")) - 1, begin + 1)
            end = min(end, len(lowered))
            words, starts = _words(data[offsets[begin] : offsets[end]], offsets[begin : end + 1] - offsets[begin])
            yield before + begin, *_rolled(words, starts)
            begin = end
        before += len(lowered)


def _words(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A hash per word of the texts in `data`, and where each text's begin. Every letter beyond ASCII belongs to a word."""
    inside = IN_WORD[data]
    for lead, follows in (
        (0xE2, (0x80, 0x81, 0x94, 0x95, 0x96, 0x97)),
        (0xE3, (0x80,)),
        (0xC2, range(0xA0, 0xC0)),
    ):  # quotes, dashes, spaces
        marks = np.flatnonzero(data[:-1] == lead)
        marks = marks[np.isin(data[marks + 1], follows)] if len(marks) else marks
        for step in range(2 if lead == 0xC2 else 3):
            inside[np.minimum(marks + step, len(data) - 1)] = False
    first, last = inside.copy(), inside.copy()
    first[1:] &= ~inside[:-1]
    last[:-1] &= ~inside[1:]
    edges = offsets[:-1][np.diff(offsets) > 0]
    first[edges], last[edges - 1] = inside[edges], np.where(edges > 0, inside[edges - 1], last[edges - 1])
    begins, ends = np.flatnonzero(first), np.flatnonzero(last) + 1
    powers, inverses = _powers(max(len(data), AT_ONCE))
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
    keys = np.zeros((PERMUTATIONS // BAND, len(starts) - 1), np.uint64)
    for number in range(PERMUTATIONS):
        seed = np.uint64(number * int(MULTIPLIER) % 2**64)
        least = np.minimum.reduceat(_mix(hashes + seed), starts[:-1])
        keys[number // BAND] = _mix(keys[number // BAND] ^ least)
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
        for owner, name in enumerate(self.names):
            for texts in _batches(sets[name]):
                for _, hashes, starts in shingles(texts):
                    hashes, starts = _distinct(hashes, starts)
                    if len(hashes):
                        bands.append(_bands(hashes, starts))
                        lengths.append(np.diff(starts))
                        owners.append(np.full(len(starts) - 1, owner, np.int16))
                        sums.append(np.add.reduceat(hashes, starts[:-1]))
                        self._file.write(hashes.tobytes())
                        digest.update(hashes.tobytes())
        self._file.flush()  # the map below reads the file
        self.sha256 = digest.hexdigest()
        owner, length = np.concatenate(owners), np.concatenate(lengths)
        ends = np.cumsum(length)
        # What a set says a thousand times is compared once.
        same = np.stack([owner.astype(np.uint64), np.concatenate(sums)])
        fresh = np.unique(same, axis=1, return_index=True)[1]
        self._owner, self._starts, self._ends = owner[fresh], (ends - length)[fresh], ends[fresh]
        total = int(ends[-1]) if len(ends) else 0
        self._hashes = np.memmap(self._file, np.uint64, "r", shape=(total,)) if total else np.zeros(0, np.uint64)
        keys = np.concatenate(bands, axis=1)[:, fresh]
        self._order = np.argsort(keys, axis=1).astype(np.int32)
        self._keys = np.take_along_axis(keys, self._order, axis=1)
        self._bits = max(int(total * 8).bit_length(), 10)
        self._seen = np.zeros(2 ** (self._bits - 3), np.uint8)
        for begin in range(0, total, 2**20):
            byte, bit = self._slot(self._hashes[begin : begin + 2**20])
            np.bitwise_or.at(self._seen, byte, bit)

    def repeats(self, texts: Texts) -> np.ndarray:
        """Which sets each text repeats, exactly or nearly: bool of shape (sets, texts)."""
        repeated = np.zeros((len(self.names), len(texts)), bool)
        if not len(self._owner):
            return repeated
        for first, hashes, starts in shingles(texts):
            # Half the threshold, because a text that repeats itself counts its shingles more than once here.
            rows, hashes, starts = self._familiar(np.arange(len(starts) - 1) + first, hashes, starts, THRESHOLD / 2)
            # What is shared with one text is no more than what is shared with all of them.
            rows, hashes, starts = self._familiar(rows, *_distinct(hashes, starts), THRESHOLD)
            for text, other in self._candidates(hashes, starts):
                owner, row = self._owner[other], rows[text]
                if not repeated[owner, row]:
                    theirs = self._hashes[self._starts[other] : self._ends[other]]
                    repeated[owner, row] = jaccard(hashes[starts[text] : starts[text + 1]], theirs) >= THRESHOLD
        return repeated

    def _familiar(
        self, rows: np.ndarray, hashes: np.ndarray, starts: np.ndarray, share: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the texts `rows` with these shingles those of which at least this share occurs in the index, and theirs."""
        byte, bit = self._slot(hashes)
        known = np.concatenate([[0], np.cumsum((self._seen[byte] & bit) != 0)])
        shared, lengths = known[starts[1:]] - known[starts[:-1]], np.diff(starts)
        keep = (lengths > 0) & (shared >= lengths * share)
        return rows[keep], hashes[np.repeat(keep, lengths)], np.concatenate([[0], np.cumsum(lengths[keep])])

    def _candidates(self, hashes: np.ndarray, starts: np.ndarray) -> Iterator[tuple[int, int]]:
        """What MinHash takes for alike: a text with these distinct shingles, and an indexed one that shares a key with it."""
        if len(starts) == 1:
            return
        bands = list(zip(self._keys, _bands(hashes, starts), strict=True))
        begins, ends = (np.stack([np.searchsorted(*band, side) for band in bands]) for side in ("left", "right"))
        for text in np.flatnonzero((ends > begins).any(axis=0)).tolist():
            same = zip(self._order, begins[:, text], ends[:, text], strict=True)
            others = np.unique(np.concatenate([order[begin:end] for order, begin, end in same]))
            yield from ((text, other) for other in others.tolist())

    def _slot(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a shingle is marked as seen: the byte and the bit."""
        slot = hashes >> np.uint64(64 - self._bits)
        return (slot >> np.uint64(3)).astype(np.int64), np.left_shift(1, slot & np.uint64(7)).astype(np.uint8)


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


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """The share of shingles that two texts have in common, 0 to 1; both are sorted and distinct."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)
