"""The teacher that a family names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from release.bm25 import CorpusStatistics
from release.errors import ReleaseError
from release.family import Family
from release.teachers.base import Teacher
from release.teachers.cross_encoder import CrossEncoderTeacher
from release.teachers.hybrid import HybridStandIn


def load_teacher(family: Family, pairs: Path, dtype: str | None = None) -> Teacher:
    """The family's teacher; the stand-in counts its document frequencies in the training documents under `pairs`.

    Args:
        dtype: Of a cross-encoder's weights; bfloat16 on CUDA and float32 on a CPU if left out.

    Raises:
        ReleaseError: It cannot be loaded here, or there are no training documents to count in.
    """
    if family.teacher.kind != "stand-in":
        revision = family.model(family.teacher.model).revision
        return CrossEncoderTeacher(family.teacher.model, family.teacher.max_length, revision=revision, dtype=dtype)
    try:
        statistics = CorpusStatistics.of(training_documents(pairs))
    except ValueError as error:
        what = "the stand-in teacher needs the training documents to count words in"
        raise ReleaseError(what, where=str(pairs), hint="make mix") from error
    return HybridStandIn(statistics, max_length=family.teacher.max_length)


def training_documents(pairs: Path) -> Iterable[str]:
    """Every document of the training split, config by config, in the order of the rows."""
    for file in sorted(pairs.glob("*/train-*.parquet")):
        yield from pq.read_table(file, columns=["document"])["document"].to_pylist()
