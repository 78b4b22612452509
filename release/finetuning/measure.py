"""NDCG@10 per query of a model on the user's held-out queries and on the guard set."""

from __future__ import annotations

from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder
from sentence_transformers.base.evaluation import BaseEvaluator

from release.evaluation.judged_pairs import JudgedPairs
from release.finetuning import lora
from release.finetuning.merge import Weights
from release.finetuning.model import scores


class QueryNdcg:
    """NDCG@10 of every query, shape (queries,), of models with one tokenizer that read the same number of tokens."""

    def __init__(self, judged: JudgedPairs) -> None:
        self.judged = judged
        self._tokens: dict[int, dict[str, Any]] = {}

    def __call__(self, model: CrossEncoder) -> np.ndarray:
        return self.judged.ndcg(scores(model, self.judged.pairs, self._tokens))


class DevEvaluator(BaseEvaluator):
    """The mean NDCG@10 on the held-out queries `dev`, which picks the checkpoint; the best one's weights are kept.

    It is measured in float32 on a second model that takes over the weights: the trainer leaves a model that computes in bf16,
    also after the training, and the saved one does not.

    Attributes:
        history: (step, score) of every evaluation; at step 0 the base's.
        best: The weights of the best evaluation after step 0, the first of equal ones; empty before there is one.
        best_step: Its step.
    """

    def __init__(self, dev: QueryNdcg, scorer: CrossEncoder, base: np.ndarray) -> None:
        super().__init__()
        self.dev, self.scorer, self.primary_metric = dev, scorer, "dev_ndcg@10"
        self.history = [(0, float(base.mean()))]
        self.best: Weights = {}
        self.best_step = 0

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        weights = lora.folded(model)
        self.scorer.load_state_dict(weights)
        score = float(self.dev(self.scorer).mean())
        if not self.best or score > max(earlier for _, earlier in self.history[1:]):
            self.best, self.best_step = weights, steps
        self.history.append((steps, score))
        return {"dev_ndcg@10": score}
