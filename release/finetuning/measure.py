"""NDCG@10 per query of a model on the user's held-out queries and on the guard set, and what a comparison says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder
from sentence_transformers.base.evaluation import BaseEvaluator

from release.errors import ReleaseError
from release.evaluation.metrics import bootstrap, interval
from release.export.quantize import JudgedPairs
from release.finetuning.model import scores
from release.results.finetuning import Comparison


class JudgedSet:
    """A folder in BEIR's form with BM25's best of each query: what a model is measured on, always the same pairs."""

    def __init__(self, folder: Path, runs: Path, *, top_k: int, queries: int | None = None) -> None:
        self.name = folder.resolve().name
        self.pairs = JudgedPairs(folder, runs, top_k=top_k, queries=queries)

    def measure(self, model: CrossEncoder) -> np.ndarray:
        """NDCG@10 of every query, shape (queries,)."""
        return self.pairs.ndcg(scores(model, self.pairs.pairs))

    def first_stage(self) -> np.ndarray:
        """NDCG@10 of BM25's own order, shape (queries,)."""
        return self.pairs.ndcg(-np.arange(len(self.pairs.pairs), dtype=np.float32))


class DevEvaluator(BaseEvaluator):
    """The mean NDCG@10 on the held-out queries `dev`, which picks the checkpoint.

    It is measured in float32 on a second model that takes over the weights: the trainer leaves a model that computes in bf16,
    also after the training, and the saved one does not.
    """

    def __init__(self, dev: JudgedSet, scorer: CrossEncoder) -> None:
        super().__init__()
        self.dev, self.scorer, self.primary_metric = dev, scorer, "dev_ndcg@10"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        self.scorer.load_state_dict(model.state_dict())
        return {"dev_ndcg@10": float(self.dev.measure(self.scorer).mean())}


def compare(model: np.ndarray, base: np.ndarray, first_stage: np.ndarray) -> Comparison:
    """NDCG@10 per query of a model, its base and the first stage, each of shape (queries,), as a paired comparison.

    Raises:
        ReleaseError: They are not of the same queries.
    """
    if not model.shape == base.shape == first_stage.shape or not len(model):
        raise ReleaseError("the two models were measured on other queries", hint="measure both again")
    gains = model - base
    low, high = interval(bootstrap(gains))
    means = float(model.mean()), float(base.mean()), float(first_stage.mean())
    return Comparison(*means, float(gains.mean()), low, high, len(model))
