"""NanoBEIR with both figures that are published under one name, from one prediction: in training and in evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator

from release.errors import ReleaseError
from release.local_datasets import named_by_contents

ALL, RETRIEVED = "all_positives_ndcg@10", "retrieved_positives_ndcg@10"


class NanoBEIR(CrossEncoderNanoBEIREvaluator):
    """Sentence Transformers' evaluator, which reports mean NDCG@10 over all positives and over the retrieved ones.

    With `always_rerank_positives` every relevant document is ranked; without, only those among BM25's candidates are, and the
    best possible ranking of them counts as 1, and a query without any of them 0. Either may be the higher one (.804 and .673 for
    the demo's model): they differ by more than rerankers do, and one must never be compared with the other.
    `always_rerank_positives` says which of them is the primary metric.

    Attributes:
        both: Sentence Transformers' metrics of the last evaluation, with `always_rerank_positives` (True) and without (False).
    """

    both: dict[bool, dict[str, float]]

    def __init__(self, dataset_names: list[Any], dataset_id: str, *args: Any, **kwargs: Any) -> None:
        source = dataset_id
        try:
            with named_by_contents(dataset_id) as source:
                super().__init__(dataset_names, source, *args, **kwargs)
        except Exception as error:  # datasets, the Hub and the network each raise their own
            reason = " ".join(str(error.__cause__ or error).replace(source, dataset_id).split())[:300]
            hint = "correct the folder, or connect to the Hub"
            raise ReleaseError(f"the nano sets cannot be read ({reason})", where=dataset_id, hint=hint) from error
        self.dataset_id = dataset_id

    def __call__(
        self, model: CrossEncoder, output_path: str | None = None, *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Sentence Transformers' metrics, and both means under `ALL` and `RETRIEVED`."""
        known: Any = _Predicted(model)
        chosen, self.both = self.always_rerank_positives, {}
        for with_all in (True, False):  # all first: the others' pairs are among them
            for evaluator in self.evaluators:
                evaluator.always_rerank_positives = with_all
            path = output_path if with_all == chosen else None
            self.both[with_all] = super().__call__(known, path, *args, **kwargs)
        for evaluator in self.evaluators:
            evaluator.always_rerank_positives = chosen
        means = {name: self.both[every][str(self.primary_metric)] for name, every in ((ALL, True), (RETRIEVED, False))}
        return self.both[chosen] | means


class _Predicted:
    """A model that scores each pair once; what the evaluators write onto its card stays here, for the record is the source."""

    def __init__(self, model: CrossEncoder) -> None:
        self.model: Any = model
        self.model_card_data = self
        self.scores: dict[tuple[str, str], float] = {}

    def set_evaluation_metrics(self, *_: Any, **__: Any) -> None:
        """Write nothing."""

    def predict(self, pairs: list[list[str]], **kwargs: Any) -> np.ndarray:
        """(pairs,) raw scores."""
        named = [(query, document) for query, document in pairs]
        unknown = [pair for pair in dict.fromkeys(named) if pair not in self.scores]
        if unknown:
            self.scores.update(zip(unknown, self.model.predict(unknown, **kwargs).tolist(), strict=True))
        return np.array([self.scores[pair] for pair in named], dtype=np.float32)
