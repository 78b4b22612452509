"""The teacher as one more reranker, because it is always in the table beside what was distilled from it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from release.errors import ReleaseError
from release.family import Family
from release.rerankers import Reranker
from release.rerankers import load as load_cross_encoder

if TYPE_CHECKING:
    from recipes.standin import Statistics


def load(family: Family) -> Reranker:
    """The family's teacher, as it labelled the mixture.

    Raises:
        ReleaseError: It cannot be loaded here, or the stand-in lacks the training documents that it counts words in.
    """
    if family.teacher.kind == "stand-in":
        return _stand_in(family)
    if family.teacher.kind != "cross-encoder":
        raise ReleaseError(
            f"unknown kind of teacher {family.teacher.kind!r}",
            where=f"{family.path} [teacher] kind",
            mend="cross-encoder or stand-in",
        )
    return load_cross_encoder(family.teacher.model, max_length=family.teacher.max_length)


def _stand_in(family: Family) -> Reranker:
    from recipes.standin import HybridStandIn
    from release.firststage import shared_minilm

    teacher = HybridStandIn(_statistics(family), max_length=family.teacher.max_length)
    shared = shared_minilm()
    if (shared.dtype, shared.max_length) == (teacher.minilm.dtype, teacher.minilm.max_length):
        teacher.minilm = shared  # each text is then encoded once for the first stage and the teacher
    identity = json.dumps(teacher.identity, sort_keys=True)
    return Reranker(
        name=f"{family.teacher.model} (stand-in)",
        revision=hashlib.sha256(identity.encode()).hexdigest(),
        predict=lambda pairs: teacher.predict(list(pairs)),
        dtype=teacher.minilm.dtype,
        max_length=family.teacher.max_length,
        attention="sdpa, padded",
    )


def _statistics(family: Family) -> Statistics:
    """Document frequencies over the training documents, as recipes/score.py counts them."""
    import polars

    from recipes.standin import Statistics

    files = sorted((family.build / "data" / "mixture").glob("*/train-*.parquet"))
    if not files:
        raise ReleaseError(
            "the stand-in teacher needs the training documents",
            where=str(family.build / "data" / "mixture"),
            mend="make data",
        )
    return Statistics.of(text for file in files for text in polars.read_parquet(file, columns=["document"])["document"])
