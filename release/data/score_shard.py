"""Labelling one shard of pairs: read, ask the teacher, check, and write it whole with a stamp of what made it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from release.data import shards
from release.data.rejects import reject_reasons
from release.errors import ReleaseError
from release.files import write_atomic
from release.teachers.base import Progress, Teacher

STAMP = b"labelled"  # the key in a shard's metadata


@dataclass(frozen=True)
class ShardJob:
    """One shard to label: its pairs, where the labelled ones go, and a stamp of the pairs and the teacher."""

    source: Path
    target: Path
    rows: int
    stamp: str

    @property
    def quarantine(self) -> Path:
        """Where rows are listed that were set aside: their number in the pairs' shard and the reason."""
        return self.target.with_name(f"{self.target.stem}.quarantine.jsonl")

    @property
    def finished(self) -> bool:
        """Whether the shard stands there, labelled by this teacher from these pairs, each of them or listed beside it."""
        if not (self.target.is_file() and self.quarantine.is_file()):
            return False
        try:
            footer, aside = pq.read_metadata(self.target), self.quarantine.read_bytes().count(b"\n")
        except (OSError, pa.ArrowException):
            return False
        stamp = (footer.metadata or {}).get(STAMP)
        return stamp == self.stamp.encode() and footer.num_rows + aside == self.rows


def score_shard(teacher: Teacher | None, job: ShardJob, progress: Progress | None = None) -> None:
    """Label one shard; rows that cannot be scored are listed beside it. Labels that came with the source are kept.

    Raises:
        ReleaseError: The pairs cannot be read, or the teacher gives too few scores, NaN or infinity; the shard is not written.
    """
    where = f"{job.source.parent.name}/{job.source.name}"
    try:
        table = pq.read_table(job.source)
    except (OSError, pa.ArrowException) as error:
        what = f"the pairs are unreadable ({' '.join(str(error).split())[:200]})"
        raise ReleaseError(what, where=where, hint="make mix") from error
    reasons = reject_reasons(table)
    keep = [row for row in range(table.num_rows) if row not in reasons]
    rows = table.take(pa.array(keep, pa.int64()))
    if "label" in table.column_names:
        origin, scores = "the source", rows["label"].to_numpy()
    elif teacher is None:
        raise ReleaseError("the pairs have no label, and no teacher is asked", where=where, hint="make mix")
    else:
        pairs = list(zip(rows["query"].to_pylist(), rows["document"].to_pylist(), strict=True))
        origin, scores = "the teacher", teacher.predict(pairs, progress) if pairs else np.zeros(0, np.float32)
    if len(scores) != len(keep):
        what = f"the teacher gave {len(scores)} scores for {len(keep)} pairs"
        raise ReleaseError(what, where=where, hint="fix the teacher")
    if not np.isfinite(scores).all():
        row = keep[int(np.flatnonzero(~np.isfinite(scores))[0])]
        what = f"{origin} gave a score that is not a number"
        raise ReleaseError(what, where=f"{where} row {row}", hint=f"fix {origin}")
    lines = [json.dumps({"row": row, "reason": reason}) + "\n" for row, reason in reasons.items()]
    write_atomic(job.quarantine, "".join(lines))
    labelled = pa.table({"query": rows["query"], "document": rows["document"], "label": scores}, schema=shards.ROWS)
    shards.write_table(job.target, labelled.replace_schema_metadata({STAMP: job.stamp}))


@dataclass
class Scorer:
    """The work of one of several processes (release/workers.py): it loads the teacher once, and labels a shard at a time.

    Attributes:
        make: Loads the teacher, in the worker.
        identity: What the teacher must be; another one on another machine is refused.
    """

    make: Callable[[], Teacher]
    identity: dict[str, Any]

    def __call__(self, job: ShardJob) -> int:
        score_shard(self.teacher, job)
        return job.rows

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher, loaded.

        Raises:
            ReleaseError: It is another one than the run began with.
        """
        teacher = self.make()
        if teacher.identity != self.identity:
            differs = [key for key in self.identity if teacher.identity.get(key) != self.identity[key]]
            raise ReleaseError(
                f"this worker's teacher has another {', '.join(differs)}",
                hint="give every worker the same machine, packages and model",
            )
        return teacher
