"""What every kind of source gives: rows as a stream of tables (query, document[, label]), counted, with a revision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from release import hub_access
from release.data.shards import ROWS, TEXTS
from release.errors import ReleaseError
from release.files import sha256_file
from release.spec import ConfigSpec

BATCH_ROWS = 16_384
TableStream = Callable[[], Iterator[pa.Table]]  # each call reads the rows anew, in the source's order


@dataclass(frozen=True)
class Batch:
    """Some rows of one file: their numbers there, from 1 on, and their columns by what they are for."""

    file: str
    rows: Sequence[int]
    columns: Mapping[str, pa.Array]


@dataclass(frozen=True)
class Source:
    """A source that was found and has the declared columns.

    Attributes:
        rows: Rows before any filter.
        remaining: How many of them the filters keep.
        dropped: Why the others were left out -> how many.
        revision: What was read: a commit of the Hub, or a hash of the local files.
        tables: The kept rows, in the config's schema.
        license: What the source's own card says, None where it says nothing or is no dataset on a Hub.
    """

    rows: int
    remaining: int
    dropped: dict[str, int]
    revision: str
    tables: TableStream
    license: str | None = None


def schema(config: ConfigSpec) -> pa.Schema:
    """The columns that the config's pairs have: with a label where the source gives it."""
    return ROWS if config.labels == "source" else TEXTS


def where(config: ConfigSpec) -> str:
    """The config and its source, for messages."""
    return f"config {config.name}, {config.source.label}"


FAILURES = (pa.ArrowException, OSError, httpx2.HTTPError)  # what pyarrow, the disk and the Hub's client raise


def unreadable(config: ConfigSpec, error: Exception) -> ReleaseError:
    """What to raise where pyarrow, the disk or the Hub gives up."""
    if why := hub_access.reason(error, config.source.origin):
        return ReleaseError(f"{why.what}, while it was read", where=where(config), hint=why.hint)
    what = f"cannot read or write ({' '.join(str(error).split())[:200]})"
    return ReleaseError(what, where=where(config), hint="free some space or fix the source")


def fingerprint(files: list[Path]) -> str:
    """A hash over names and contents: the revision of local files."""
    return sha256("\n".join(f"{path.name} {sha256_file(path)}" for path in files).encode()).hexdigest()


def as_rows(config: ConfigSpec, table: pa.Table, file: str | None = None, rows: np.ndarray | None = None) -> pa.Table:
    """`table` in the config's schema; a label that is no finite number stops the config.

    Args:
        file, rows: Where the rows of `table` come from, for the message.

    Raises:
        ReleaseError: A label is missing, NaN or infinite (as float32, which it becomes).
    """
    texts = table.select(TEXTS.names).cast(TEXTS)
    if schema(config) == TEXTS:
        return texts
    labels = table["label"].cast(pa.float32(), safe=False)
    finite = pc.fill_null(pc.is_finite(labels), False)
    if not pc.all(finite).as_py():
        bad = pc.index(finite, False).as_py()
        query = texts["query"][bad].as_buffer().to_pybytes().decode(errors="replace")[:60]  # it may be no UTF-8
        position = "" if file is None or rows is None else f", file {Path(file).name} row {rows[bad]:,}"
        raise ReleaseError(
            f"the label of the pair with query {query!r} is {table['label'][bad].as_py()}",
            where=f"{where(config)}{position}",
            hint="remove that row, or let the teacher label the config (labels: teacher)",
        )
    return texts.append_column(ROWS.field("label"), labels)
