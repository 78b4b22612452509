"""A fine-tuned model beside its base, query by query: the comparisons, the candidates, and which of them is released.

Every figure of the record `finetune` that is over queries is computed here, when it is measured and when it is checked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from release.errors import ReleaseError
from release.evaluation.judged_pairs import JudgedPairs
from release.evaluation.metrics import bootstrap, interval
from release.results.finetuning import MergeCandidate, PairedComparison, ScoredSet

BASE = "0"  # of `ScoredSet.models`


def share(ratio: float) -> str:
    """The name of a candidate in `ScoredSet.models`."""
    return f"{ratio:g}"


def scored(judged: JudgedPairs, models: dict[float, np.ndarray]) -> ScoredSet:
    """What the record keeps of one set.

    Args:
        models: NDCG@10 of every query, shape (queries,), by the share of the fine-tuned weights; 0 is the base.
    """
    names = {share(ratio): tuple(ndcg.tolist()) for ratio, ndcg in models.items()}
    return ScoredSet(judged.sha256, tuple(judged.first_stage_ndcg().tolist()), names)


def compare(model: np.ndarray, base: np.ndarray, first_stage: np.ndarray) -> PairedComparison:
    """NDCG@10 per query of a model, its base and the first stage, each of shape (queries,), as a paired comparison.

    Raises:
        ReleaseError: They are not of the same queries.
    """
    if not model.shape == base.shape == first_stage.shape or not len(model):
        raise ReleaseError("the two models were measured on other queries", hint="measure both again")
    gains = model - base
    low, high = interval(bootstrap(gains))
    means = float(model.mean()), float(base.mean()), float(first_stage.mean())
    return PairedComparison(*means, float(gains.mean()), low, high, len(model))


def of_share(scores: ScoredSet, ratio: float) -> PairedComparison:
    """One candidate against the base.

    Raises:
        ReleaseError: It was not measured on this set, or not on the same queries.
    """
    if not {share(ratio), BASE} <= scores.models.keys():
        raise ReleaseError(f"no scores of the base and of the share {share(ratio)}", hint="measure both")
    one, base = scores.models[share(ratio)], scores.models[BASE]
    return compare(np.array(one), np.array(base), np.array(scores.first_stage))


def candidates(dev: ScoredSet, guard: ScoredSet) -> tuple[MergeCandidate, ...]:
    """All that could be released, and the base, by their share of the fine-tuned weights.

    One forgets where it is worse than the base on the guard set, with its whole interval.

    Raises:
        ReleaseError: Not the same candidates were measured on both sets, or not all on the same queries.
    """
    if dev.models.keys() != guard.models.keys():
        raise ReleaseError("other candidates were measured on `dev` than on the guard set", hint="measure both again")
    rows = []
    for ratio in sorted(map(float, dev.models)):
        remembered = of_share(guard, ratio)
        rows.append(MergeCandidate(ratio, of_share(dev, ratio).score, remembered.score, remembered.ci_high < 0))
    return tuple(rows)


def choose(candidates: Sequence[MergeCandidate]) -> float:
    """The ratio that is released: the best on `dev` of those that do not forget; where all forget, the fine-tuned model.

    Equal ones are told apart by the guard set, then by the larger share.
    """
    remembering = [one for one in candidates if one.ratio > 0 and not one.forgets]
    return max(remembering, key=lambda one: (one.dev, one.guard, one.ratio)).ratio if remembering else 1.0
