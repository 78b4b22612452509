"""Where the words of texts are, some 256 kB of lower-cased UTF-8 at a time: one rule for all that compares texts by their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

AT_ONCE = 2**18  # bytes of text per step: the tables of a step stay within the processor's caches
LONGEST = 2**20  # bytes of a text that are looked at
NO_LETTERS = (  # beyond ASCII: the first byte, the next ones, and how many bytes: quotes and dashes, CJK marks, Latin-1's signs
    (0xE2, (0x80, 0x81, 0x94, 0x95, 0x96, 0x97), 3),
    (0xE3, (0x80,), 3),
    (0xC2, range(0xA0, 0xC0), 2),
)
Texts = pa.Array | pa.ChunkedArray | Sequence[str]


def steps(texts: Texts) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The lower-cased bytes of all texts, one after the other.

    Yields:
        The number of the first text, the bytes of all texts of this step (uint8), and where each text's begin: shape (texts + 1,).
    """
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
    before = 0
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        data, offsets = _lowered(pc.fill_null(chunk, ""))
        begin, rows = 0, len(offsets) - 1
        while begin < rows:
            end = max(int(np.searchsorted(offsets, offsets[begin] + AT_ONCE, "right")) - 1, begin + 1)
            end = min(end, rows)
            yield before + begin, data[offsets[begin] : offsets[end]], offsets[begin : end + 1] - offsets[begin]
            begin = end
        before += rows


def _lowered(chunk: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    data, offsets = _buffers(chunk)
    of_chunk = data[offsets[0] : offsets[-1]]
    lower = pc.ascii_lower if not len(of_chunk) or of_chunk.max() < 128 else pc.utf8_lower  # a tenth of the time
    lowered = lower(chunk)
    if (pc.max(pc.binary_length(lowered)).as_py() or 0) > LONGEST:
        lowered = pc.binary_slice(lowered.cast(pa.large_binary()), 0, LONGEST)
    return _buffers(lowered)


def _buffers(chunk: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """All bytes that an array of texts points into, and where each text's begin."""
    wide = chunk.cast(pa.large_binary())
    _, ends, content = wide.buffers()
    offsets = np.frombuffer(ends, np.int64)[wide.offset : wide.offset + len(wide) + 1]
    return np.frombuffer(content or b"", np.uint8), offsets


def inside(data: np.ndarray) -> np.ndarray:
    """Which bytes belong to a word, bool: letters, digits, the underscore, and every letter beyond ASCII."""
    rest, result, more = np.empty_like(data), np.empty(len(data), bool), np.empty(len(data), bool)
    np.subtract(np.bitwise_or(data, 0x20, out=rest), ord("a"), out=rest)
    np.less(rest, 26, out=result)
    np.less(np.subtract(data, ord("0"), out=rest), 10, out=more)
    result |= more
    result |= np.equal(data, ord("_"), out=more)
    if np.greater(data, 127, out=more).any():
        result |= more
        for lead, follows, size in NO_LETTERS:
            marks = np.flatnonzero(data[:-1] == lead)
            marks = marks[np.isin(data[marks + 1], follows)] if len(marks) else marks
            for step in range(size):
                result[np.minimum(marks + step, len(data) - 1)] = False
    return result


def begins(within: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Which bytes are the first one of a word, bool; a text that begins also ends the word before."""
    first = within.copy()
    np.greater(within[1:], within[:-1], out=first[1:])
    edges = offsets[:-1][np.diff(offsets) > 0]
    first[edges] = within[edges]
    return first
