"""Rows of parquet files, batch by batch, here or on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from release import hub_access
from release.data.sources.base import BATCH_ROWS, FAILURES, Batch
from release.errors import ReleaseError

BUFFER = 2**20  # bytes of a column that are read at once


def opened(path: str, filesystem: Any, where: str) -> pq.ParquetFile:
    """The file, to be closed by the caller; `where` names the config, for messages.

    Raises:
        ReleaseError: It is no parquet file.
    """
    try:
        return pq.ParquetFile(path, filesystem=filesystem, buffer_size=BUFFER, pre_buffer=False)
    except FAILURES as error:
        raise _unreadable(f"{where}, file {path}", error) from error


def batches(file: pq.ParquetFile, path: str, names: Mapping[str, str], where: str) -> Iterator[Batch]:
    """Some columns of all rows, 16,384 rows at a time: never a whole row group, however large it is.

    Args:
        names: What the columns are for -> what the file calls them.

    Raises:
        ReleaseError: A later part of the file is damaged.
    """
    if not names:  # there is nothing to look at, only rows to count
        yield Batch(path, range(1, file.metadata.num_rows + 1), {})
        return
    first = 1
    try:
        for batch in file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(names.values()))):
            yield Batch(path, range(first, first + len(batch)), {role: batch[name] for role, name in names.items()})
            first += len(batch)
    except FAILURES as error:
        raise _unreadable(f"{where}, file {path} after row {first - 1:,}", error) from error


def may_be_null(file: pq.ParquetFile, name: str) -> bool:
    """Whether a column's statistics leave open that it holds a null."""
    index = file.schema_arrow.names.index(name)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    flat = file.metadata.num_columns == len(file.schema_arrow.names)
    statistics = [group.column(index).statistics for group in groups] if flat else [None]
    return any(each is None or not each.has_null_count or each.null_count for each in statistics)


def _unreadable(where: str, error: Exception) -> ReleaseError:
    if why := hub_access.reason(error):
        return ReleaseError(f"{why.what}, while it was read", where=where, hint=why.hint)
    what = f"unreadable ({' '.join(str(error).split())[:200]})"
    return ReleaseError(what, where=where, hint="fetch or write that file again")
