"""What happens to the rows between their source and their shards, table by table in constant memory."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa

from release.console import Bar
from release.data.contamination import OverlapCounter
from release.data.rejects import kind_of, reject_reasons
from release.data.sources.base import Source
from release.spec import ConfigSpec


def without_overlap(source: Source, counter: OverlapCounter, name: str) -> Source:
    """The source without the pairs that repeat an evaluation text. It is read once more for it; a bit per row is remembered.

    Rows that no teacher can read are not compared; `usable` leaves them out later.
    """
    repeated = []
    with Bar(f"mix: {name}, overlap", source.remaining) as bar:
        for table in source.tables():
            flags = np.zeros(table.num_rows, bool)
            readable = np.setdiff1d(np.arange(table.num_rows), list(reject_reasons(table)))
            flags[readable] = counter.repeated(table.take(pa.array(readable)))
            repeated.append(np.packbits(flags))
            bar.advance(table.num_rows)
    count = sum(int(np.bitwise_count(bits).sum()) for bits in repeated)

    def stream() -> Iterator[pa.Table]:
        for table, bits in zip(source.tables(), repeated, strict=True):
            keep = np.unpackbits(bits, count=table.num_rows) == 0
            if keep.any():
                yield table.filter(pa.array(keep))

    dropped = source.dropped | ({"overlap": count} if count else {})
    return replace(source, remaining=source.remaining - count, dropped=dropped, tables=stream)


def usable(tables: Iterator[pa.Table], rejected: Counter[str]) -> Iterator[pa.Table]:
    """The same tables without the rows that no teacher can read; `rejected` counts them by reason."""
    for table in tables:
        if reasons := reject_reasons(table):
            rejected.update(map(kind_of, reasons.values()))
            keep = np.ones(table.num_rows, bool)
            keep[list(reasons)] = False
            table = table.filter(pa.array(keep))
        if table.num_rows:
            yield table


def counted(tables: Iterator[pa.Table], counter: OverlapCounter) -> Iterator[pa.Table]:
    """The same tables, compared with the evaluation sets as they pass."""
    for table in tables:
        counter.repeated(table)
        yield table


def capped(tables: Iterator[pa.Table], total: int, cap: int, config: ConfigSpec, seed: int) -> Iterator[pa.Table]:
    """Exactly `cap` of the `total` rows of a stream, uniformly at random or the first ones, in constant memory."""
    if cap == total:
        yield from tables
        return
    name = int.from_bytes(hashlib.sha256(config.name.encode()).digest()[:8], "big")
    draw = np.random.default_rng([seed, name])
    first = config.cap is not None and config.cap.draw == "first"
    for table in tables:
        rows = table.num_rows
        if first:
            keep = np.arange(min(cap, rows))
        else:  # how many of the remaining picks fall into this table, then which rows they are
            hits = int(draw.hypergeometric(rows, total - rows, cap)) if total > rows else cap
            keep = np.sort(draw.choice(rows, hits, replace=False))
        total, cap = total - rows, cap - len(keep)
        if len(keep):
            yield table.take(pa.array(keep))
        if not cap:
            return


def prefetch(tables: Iterator[pa.Table], steps: int = 4) -> Iterator[pa.Table]:
    """The same tables, a few steps ahead in a thread: the next ones are read and filtered while one is written."""
    with ThreadPoolExecutor(1) as reader:
        waiting = deque(reader.submit(next, tables, None) for _ in range(steps))
        while (table := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, tables, None))
            yield table
