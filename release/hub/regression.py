"""A release beside the one before it: every traced figure, old and new, and whether it fell by more than its interval.

The release before is the model of the version before (v1 of v2) at its tag on the Hub, or a folder or ID@REVISION that is named.
Where both measured the same queries the interval is of the difference query by query; else it is that of both gains together.
Speeds are compared on one device only. Nothing here writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from release import records, results
from release.console import say, table
from release.errors import ReleaseError
from release.evaluation import metrics, queries
from release.family import Family
from release.hub.state import hub_errors
from release.results.evaluation import EvaluationResult, QueryScores


@dataclass(frozen=True)
class TracedFigure:
    """One figure of both releases; `low` to `high` is the 95 % interval of `new` - `old`, or for a speed the passes' range."""

    name: str
    old: float
    new: float
    low: float
    high: float

    @property
    def fell(self) -> bool:
        """Whether all of the interval lies below zero."""
        return self.high < 0


def check(
    family: Family, size: str, api: Any, previous: str | None = None, *, refuse: bool = True
) -> list[TracedFigure]:
    """Print the figures beside those of the release before; none where there is no such release.

    Args:
        previous: A folder of a repository, or ID@REVISION; the version before, if it is on the Hub, where it is left out.
        refuse: Whether a fall that the family file does not allow is an error.

    Raises:
        ReleaseError: A figure fell by more than its interval, or what is named in `previous` cannot be read.
    """
    named = previous or before(family, size)
    folder = _folder(named, api, asked=previous is not None) if named else None
    if folder is None:
        return []
    try:
        figures = list(traced(folder / "records", family.folder(size) / "records"))
    except ReleaseError as error:
        if previous is not None:
            raise
        say(f"not compared with {named}: {error.what}")
        return []
    rows = [
        [
            each.name,
            f"{each.old:.4g}",
            f"{each.new:.4g}",
            f"{each.low:+.4g} to {each.high:+.4g}",
            "fell" if each.fell else "",
        ]
        for each in figures
    ]
    table(f"beside {named}", ["figure", "old", "new", "95 % interval of the change", ""], rows)
    fallen = [each.name for each in figures if each.fell and each.name not in family.release.allow_regression]
    if fallen and refuse:
        what = f"{', '.join(fallen[:3])} fell by more than the interval beside {named}"
        hint = f'find out why, or allow it by name: [release] allow_regression = ["{fallen[0]}"]'
        raise ReleaseError(what, where=str(family.path), hint=hint)
    return figures


def before(family: Family, size: str) -> str | None:
    """ID@TAG of the model of the version before, None for a first version or one without a number."""
    match = re.fullmatch(r"(.*?)(\d+)", family.about.version)
    if match is None or int(match.group(2)) < 2:
        return None
    tag = f"{match.group(1)}{int(match.group(2)) - 1}"
    return f"{family.about.organization}/{family.about.name}-{size}-{tag}@{tag}"


def _folder(named: str, api: Any, *, asked: bool) -> Path | None:
    """The folder that holds the records, from the Hub if need be."""
    if asked and Path(named).is_dir():
        return Path(named)
    name, _, revision = named.partition("@")
    if api is None:
        if asked:
            raise ReleaseError(f"no folder {named}, and no Hub is named", hint="set HF_ENDPOINT, or name a folder")
        return None
    with hub_errors(api, f"read the records of {named}"):
        try:
            options = {"revision": revision or None, "allow_patterns": "records/*", "endpoint": str(api.endpoint)}
            return Path(snapshot_download(name, **options))  # ty: ignore
        except (RepositoryNotFoundError, RevisionNotFoundError):
            if asked:
                raise
            return None


def traced(old: Path, new: Path) -> Iterator[TracedFigure]:
    """The figures of two folders of records that both have.

    Raises:
        ReleaseError: One is missing or of another form.
    """
    earlier, later = (records.read(folder, results.EVALUATE).measured for folder in (old, new))
    yield from _quality(earlier, later, queries.read(old, earlier).model, queries.read(new, later).model)
    slow, fast = (records.read(folder, results.SPEED) for folder in (old, new))
    if slow.machine.device == fast.machine.device:
        first, second = slow.measured.best, fast.measured.best
        low, high = min(second.passes) - max(first.passes), max(second.passes) - min(first.passes)
        yield TracedFigure("pairs_per_second", first.pairs_per_second, second.pairs_per_second, low, high)


def _quality(
    earlier: EvaluationResult, later: EvaluationResult, old: tuple[QueryScores, ...], new: tuple[QueryScores, ...]
) -> Iterator[TracedFigure]:
    known = {(each.task, each.first_stage): each for each in old}
    pairs = [(known[key], each) for each in new if (key := (each.task, each.first_stage)) in known]
    same = [(one, two) for one, two in pairs if one.queries == two.queries]
    changes = [np.subtract(two.reranked_ndcg, one.reranked_ndcg) for one, two in same]
    if same and len(same) == len(old) == len(new):
        mean, low, high = metrics.macro(changes)
        was = earlier.means.all.reranked_ndcg
        yield TracedFigure("ndcg", was, was + mean, low, high)
    else:
        was, now = earlier.means.all, later.means.all
        half = math.hypot(was.ci_high - was.ci_low, now.ci_high - now.ci_low) / 2
        change = now.reranked_ndcg - was.reranked_ndcg
        yield TracedFigure("ndcg", was.reranked_ndcg, now.reranked_ndcg, change - half, change + half)
    for (one, two), change in zip(same, changes, strict=True):
        _, low, high = metrics.macro([change])
        values = (float(np.mean(each.reranked_ndcg)) for each in (one, two))
        yield TracedFigure(f"ndcg {two.task} {two.first_stage}", *values, low, high)
