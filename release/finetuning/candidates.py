"""What could be released: the fine-tuned model, and its merges with the base, each measured on `dev` and the guard set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sentence_transformers import CrossEncoder

from release.finetuning import merge
from release.finetuning.measure import QueryNdcg
from release.finetuning.merge import Weights

RATIOS = (0.25, 0.5, 0.75)  # of the fine-tuned weights in a merge


@dataclass(frozen=True)
class MergeNdcg:
    """NDCG@10 per query of one share of the fine-tuned weights: 0 is the base, 1 the fine-tuned model."""

    ratio: float
    dev: np.ndarray
    guard: np.ndarray


def measure(scorer: CrossEncoder, base: Weights, tuned: Weights, dev: QueryNdcg, guard: QueryNdcg) -> list[MergeNdcg]:
    """The merges and the fine-tuned model, measured by `scorer`, whose weights are replaced."""
    measured = []
    for ratio in (*RATIOS, 1.0):
        scorer.load_state_dict(merge.blend(base, tuned, ratio))
        measured.append(MergeNdcg(ratio, dev(scorer), guard(scorer)))
    return measured
