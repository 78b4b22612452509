"""The teacher as one more reranker, because it is always in the table beside what was distilled from it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from release.errors import ReleaseError
from release.evaluation.rerankers import Reranker, parameters
from release.family import Family
from release.teachers.load import load_teacher


def load(family: Family) -> Reranker:
    """The family's teacher, exactly as it labelled the mixture.

    Raises:
        ReleaseError: It cannot be loaded here, the training pairs that the stand-in counts words in are missing, or it
            is no longer the teacher that labelled the mixture.
    """
    pairs = family.build / "data" / "pairs"
    teacher: Any = load_teacher(family, pairs)
    _check_labelled(family, teacher.identity)
    if family.teacher.kind == "stand-in":
        _share_encoder(teacher, family)
    identity = json.dumps(teacher.identity, sort_keys=True)
    return Reranker(
        name=teacher.identity["model"],
        revision=hashlib.sha256(identity.encode()).hexdigest(),
        predict=lambda found: teacher.predict(list(found)),
        dtype=teacher.identity["dtype"],
        max_length=teacher.identity["max_length"],
        attention="the teacher's own",
        parameters=None if family.teacher.kind == "stand-in" else parameters(teacher.model),
    )


def _check_labelled(family: Family, identity: dict[str, Any]) -> None:
    path = family.build / "data" / "mixture" / "manifest.json"
    try:
        labelled = json.loads(path.read_text(encoding="utf-8")).get("teacher")
    except (OSError, ValueError):
        return  # a mixture from the Hub: its card names the teacher
    if labelled is not None and labelled != identity:
        differs = sorted(key for key in {*labelled, *identity} if labelled.get(key) != identity.get(key))
        raise ReleaseError(
            f"this teacher is not the one that labelled the mixture (other {', '.join(differs)})",
            where=str(path),
            hint="make score, then make train",
        )


def _share_encoder(teacher: Any, family: Family) -> None:
    """Let the stand-in use the first stage's MiniLM and what it knows: each text is then encoded once between them."""
    from release.evaluation.first_stage import first_stage
    from release.evaluation.retrievers import MINILM, VECTORS, shared_minilm

    shared = shared_minilm()
    if (shared.dtype, shared.max_length) == (teacher.minilm.dtype, teacher.minilm.max_length):
        teacher.minilm = shared
        if MINILM in family.evaluation.embedders:
            shared.recall(family.build / "runs" / first_stage(MINILM).slug / VECTORS)
