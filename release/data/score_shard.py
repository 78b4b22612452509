"""Labelling one shard of pairs: read, ask the teacher, check, and write it whole with a stamp of what made it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from release.data import shards
from release.errors import ReleaseError
from release.teachers.cross_encoder import Teacher

LONGEST = 200_000  # characters: beyond this a document is no document but an accident
STAMP = b"labelled"  # the key in a shard's metadata


@dataclass(frozen=True)
class Job:
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
        """Whether the shard stands there, labelled by this teacher from these pairs."""
        if not (self.target.is_file() and self.quarantine.is_file()):
            return False
        try:
            found = pq.read_schema(self.target).metadata or {}
        except (OSError, pa.ArrowInvalid):
            return False
        return found.get(STAMP) == self.stamp.encode()


def score_shard(teacher: Teacher, job: Job, progress: Callable[[int], None] | None = None) -> None:
    """Label one shard; poisoned rows are listed beside it. Labels that came with the source are kept.

    Raises:
        ReleaseError: The teacher gives too few scores, NaN or infinity; the shard is not written.
    """
    from release.files import write_atomic

    table = pq.read_table(job.source)
    texts = list(zip(table["query"].to_pylist(), table["document"].to_pylist(), strict=True))
    reasons = [poison(query, document) for query, document in texts]
    keep = [row for row, reason in enumerate(reasons) if reason is None]
    if "label" in table.column_names:
        scores = table["label"].to_numpy()[keep]
    else:
        scores = teacher.predict([texts[row] for row in keep], progress) if keep else np.zeros(0, np.float32)
    where = f"{job.source.parent.name}/{job.source.name}"
    if len(scores) != len(keep):
        raise ReleaseError(
            f"the teacher gave {len(scores)} scores for {len(keep)} pairs", where=where, hint="fix the teacher"
        )
    if not np.isfinite(scores).all():
        row = keep[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise ReleaseError(
            "the teacher gave a score that is not a number", where=f"{where} row {row}", hint="fix the teacher"
        )
    lines = [json.dumps({"row": row, "reason": reason}) + "\n" for row, reason in enumerate(reasons) if reason]
    write_atomic(job.quarantine, "".join(lines))
    kept = table.take(pa.array(keep, pa.int64()))
    labelled = pa.table({"query": kept["query"], "document": kept["document"], "label": scores}, schema=shards.ROWS)
    shards.write_table(job.target, labelled.replace_schema_metadata({STAMP: job.stamp}))


def poison(query: str | None, document: str | None) -> str | None:
    """Why a row cannot be scored, or None. A lone surrogate, for one, reaches no tokenizer."""
    for name, text in (("query", query), ("document", document)):
        if not text or not text.strip():
            return f"empty {name}"
        if len(text) > LONGEST:
            return f"{name} of {len(text)} characters"
        try:
            text.encode()
        except UnicodeEncodeError:
            return f"invalid unicode in the {name}"
    return None
