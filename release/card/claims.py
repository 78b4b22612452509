"""Words that claim a rank ("best", "fastest") stand on a card only where the comparison on the same card shows it."""

from __future__ import annotations

import re

from release.card.beside import Beside
from release.card.comparison import COMPARED
from release.errors import ReleaseError
from release.family import Family

QUALITY = r"state[- ]of[- ]the[- ]art|\bsota\b|\bbest\b|\bleading\b|\bstrongest\b|\boutperform\w*|\bmost accurate\b|\bunmatched\b"
SPEED = r"\bfastest\b|\bquickest\b"


def check(family: Family, size: str, beside: Beside | None) -> None:
    """Refuse a summary that claims a rank among rerankers which the comparison beside it does not show for this size.

    Raises:
        ReleaseError: The word is named.
    """
    for pattern, figure in ((QUALITY, "reranked_ndcg"), (SPEED, "pairs_per_second")):
        claim = re.search(pattern, family.about.summary, re.IGNORECASE)
        if claim and not _first(family.model_name(size), beside, figure):
            what = f"the summary says {claim.group()!r}, and no comparison shows it of {size}"
            hint = "say what the models are, or let make compare show it"
            raise ReleaseError(what, where=f"{family.path}, key family.summary", hint=hint)


def _first(name: str, beside: Beside | None, figure: str) -> bool:
    """Whether no compared reranker reaches this model's figure, all of them measured and at least one."""
    rows = beside.rows if beside else ()
    own = next((getattr(row, figure) for row in rows if row.name == name), None)
    others = [getattr(row, figure) for row in rows if row.role == COMPARED]
    return own is not None and bool(others) and all(other is not None and other < own for other in others)
