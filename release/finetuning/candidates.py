"""What could be released: the fine-tuned model, and its merges with the base; `dev` and the guard set say which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sentence_transformers import CrossEncoder

from release.finetuning import merge
from release.finetuning.measure import QueryNdcg, compare
from release.finetuning.merge import Weights
from release.results.finetuning import MergeCandidate

RATIOS = (0.25, 0.5, 0.75)  # of the fine-tuned weights in a merge


@dataclass(frozen=True)
class MergeNdcg:
    """NDCG@10 per query of one share of the fine-tuned weights: 0 is the base, 1 the fine-tuned model."""

    ratio: float
    dev: np.ndarray
    guard: np.ndarray

    def beside(self, base: MergeNdcg) -> MergeCandidate:
        """The candidate as the record keeps it; it forgets where its whole interval on the guard set lies below the base."""
        forgets = compare(self.guard, base.guard, base.guard).ci_high < 0
        return MergeCandidate(self.ratio, float(self.dev.mean()), float(self.guard.mean()), forgets)


def measure(scorer: CrossEncoder, base: Weights, tuned: Weights, dev: QueryNdcg, guard: QueryNdcg) -> list[MergeNdcg]:
    """The merges and the fine-tuned model, measured by `scorer`, whose weights are replaced."""
    measured = []
    for ratio in (*RATIOS, 1.0):
        scorer.load_state_dict(merge.blend(base, tuned, ratio))
        measured.append(MergeNdcg(ratio, dev(scorer), guard(scorer)))
    return measured


def choose(candidates: Sequence[MergeCandidate]) -> float:
    """The ratio that is released: the best on `dev` of those that do not forget; where all forget, the fine-tuned model.

    Equal ones are told apart by the guard set, then by the larger share.
    """
    remembering = [one for one in candidates if one.ratio > 0 and not one.forgets]
    return max(remembering, key=lambda one: (one.dev, one.guard, one.ratio)).ratio if remembering else 1.0
