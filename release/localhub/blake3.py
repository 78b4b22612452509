"""Keyed BLAKE3 over many messages at once: the hash by which Xet names chunks, xorbs and files.

Python ships no BLAKE3, and hashing one message at a time in Python would be hopeless. But the function works on
independent pieces of 1024 bytes, so numpy can push thousands of pieces (here: "lanes") through it side by side.
Specification: https://github.com/BLAKE3-team/BLAKE3-specs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PIECE, BLOCK, LANES = 1024, 64, 2048  # bytes, bytes, and lanes per slab: what fits a core's cache
START, END, PARENT, ROOT, KEYED = 1, 2, 4, 8, 16
IV = np.array([0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A], np.uint32)
PERMUTATION = np.array([2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8])
LEFT, RIGHT = [1, 2, 3, 0], [3, 0, 1, 2]

Words = np.ndarray  # uint32, words x lanes


def keyed_hashes(key: bytes, messages: Sequence[bytes]) -> list[bytes]:
    """The 32-byte keyed BLAKE3 of every message, in order; `key` is 32 bytes."""
    if not messages:
        return []
    lengths = np.array([len(message) for message in messages])
    pieces = np.maximum(1, -(-lengths // PIECE))
    first = np.cumsum(pieces) - pieces
    padded = np.zeros((int(pieces.sum()), PIECE), np.uint8)
    for start, message in zip(first * PIECE, messages, strict=True):
        padded.reshape(-1)[start : start + len(message)] = np.frombuffer(message, np.uint8)
    index = np.arange(len(padded)) - np.repeat(first, pieces)  # the number of a lane within its message
    used = np.minimum(PIECE, np.repeat(lengths, pieces) - index * PIECE)
    root = np.where(np.repeat(pieces, pieces) == 1, ROOT, 0)
    chain = np.frombuffer(key, "<u4").astype(np.uint32)
    nodes = np.concatenate(
        [
            _leaves(chain, padded[low : low + LANES], index[low : low + LANES], used[low:], root[low:])
            for low in range(0, len(padded), LANES)
        ],
        axis=1,
    )
    return [hash_.tobytes() for hash_ in np.ascontiguousarray(_join(chain, nodes, pieces).T).astype("<u4")]


def _leaves(chain: Words, padded: np.ndarray, index: np.ndarray, used: np.ndarray, root: np.ndarray) -> Words:
    """The chaining values (8 x lanes) of one slab of pieces; `used` and `root` may be longer than the slab."""
    count = len(padded)
    used, root = used[:count], root[:count]
    words = np.ascontiguousarray(padded.view("<u4").astype(np.uint32, copy=False).T)
    blocks = np.maximum(1, -(-used // BLOCK))
    values = np.repeat(chain[:, None], count, axis=1)
    for block in range(int(blocks.max())):
        live = np.flatnonzero(blocks > block)
        last = blocks[live] == block + 1
        flags = KEYED + (START if block == 0 else 0) + np.where(last, END + root[live], 0)
        size = np.minimum(BLOCK, used[live] - block * BLOCK)
        message = words[16 * block : 16 * block + 16, live]
        values[:, live] = _compress(values[:, live], message, index[live], size, flags)
    return values


def _join(chain: Words, nodes: Words, counts: np.ndarray) -> Words:
    """Fold each message's `counts` nodes pairwise until one is left; an odd last node moves up as it is."""
    while counts.max() > 1:
        pairs, start = counts // 2, np.cumsum(counts) - counts
        above = pairs + counts % 2
        target = np.cumsum(above) - above
        within = np.arange(pairs.sum()) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        left = np.repeat(start, pairs) + 2 * within
        flags = KEYED + PARENT + np.repeat(np.where(counts == 2, ROOT, 0), pairs)
        message = np.concatenate([nodes[:, left], nodes[:, left + 1]])
        key = np.repeat(chain[:, None], len(left), axis=1)
        folded = np.empty((8, int(above.sum())), np.uint32)
        folded[:, np.repeat(target, pairs) + within] = _compress(key, message, 0 * left, 0 * left + BLOCK, flags)
        odd = counts % 2 == 1
        folded[:, (target + pairs)[odd]] = nodes[:, (start + counts - 1)[odd]]
        nodes, counts = folded, above
    return nodes


def _compress(chain: Words, message: Words, counter: np.ndarray, size: np.ndarray, flags: np.ndarray) -> Words:
    """BLAKE3's compression function on every lane: chain 8 x n, message 16 x n, the rest n; gives 8 x n."""
    lanes = message.shape[1]
    a, b = chain[:4].copy(), chain[4:].copy()
    c = np.repeat(IV[:, None], lanes, axis=1)
    d = np.stack([counter & 0xFFFFFFFF, counter >> 32, size, flags]).astype(np.uint32)
    for turn in range(7):
        if turn:
            message = message[PERMUTATION]
        _mix(a, b, c, d, message[0:8:2], message[1:8:2])
        b, c, d = b[LEFT], c[[2, 3, 0, 1]], d[RIGHT]  # turn the diagonals into columns ...
        _mix(a, b, c, d, message[8:16:2], message[9:16:2])
        b, c, d = b[RIGHT], c[[2, 3, 0, 1]], d[LEFT]  # ... and back
    return np.concatenate([a ^ c, b ^ d])


def _mix(a: Words, b: Words, c: Words, d: Words, first: Words, second: Words) -> None:
    for message, turn_d, turn_b in ((first, 16, 12), (second, 8, 7)):
        a += b
        a += message
        d ^= a
        _rotate(d, turn_d)
        c += d
        b ^= c
        _rotate(b, turn_b)


def _rotate(words: Words, by: int) -> None:
    high = words << (32 - by)
    words >>= by
    words |= high
