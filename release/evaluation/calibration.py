"""A map from raw logits to 0-1 that leaves every ranking as it is: logistic, with a temperature and an offset.

The plain sigmoid saturates on raw teacher-scale logits (10.8 and 8.6 are both 1.0 in bf16), and people ask for 0-1.
The target is what the teacher thinks, the sigmoid of its logit. It is not a probability that people judged.
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as parquet

from release.evaluation.rerankers import Reranker, predict_sorted
from release.family import Family
from release.results.evaluation import Calibration, ReliabilityBin

LIMIT = 5000  # validation pairs used; the split of the published data has as many
_BINS = 10
_ROUNDS = 100


def sigmoid(values: np.ndarray) -> np.ndarray:
    """The logistic function without overflow, for any shape."""
    return 0.5 * (1 + np.tanh(values / 2))


def fit(scores: np.ndarray, targets: np.ndarray) -> tuple[float, float] | None:
    """Temperature and offset so that sigmoid((score - offset) / temperature) comes nearest to `targets` (0 to 1).

    Newton's method on the cross-entropy of two parameters. None where no rising map fits, because the scores say
    nothing about the targets.
    """
    slope, shift = 1.0 / max(float(scores.std()), 1e-6), -float(scores.mean()) / max(float(scores.std()), 1e-6)
    inputs = np.stack([scores, np.ones_like(scores)], axis=1).astype(np.float64)
    weights = np.array([slope, shift])
    for _ in range(_ROUNDS):
        guessed = sigmoid(inputs @ weights)
        gradient = inputs.T @ (guessed - targets)
        curvature = (inputs * (guessed * (1 - guessed))[:, None]).T @ inputs + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    if not np.isfinite(weights).all() or weights[0] <= 1e-9:
        return None
    return float(1 / weights[0]), float(-weights[1] / weights[0])


def measure(scores: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fit on the even rows, measure on the odd ones.

    Args:
        scores, labels: Raw logits of model and teacher for the same pairs, shape (pairs,).
    """
    targets = sigmoid(labels.astype(np.float64))
    scores = scores.astype(np.float64)
    temperature, offset = fit(scores[::2], targets[::2]) or (None, None)
    others, target = scores[1::2], targets[1::2]
    predicted = None if temperature is None else sigmoid((others - offset) / temperature)
    return Calibration(
        target="sigmoid of the teacher's logit",
        pairs_fitted=len(scores[::2]),
        pairs_measured=len(others),
        temperature=temperature,
        offset=offset,
        brier=None if predicted is None else float(np.mean((predicted - target) ** 2)),
        brier_sigmoid=float(np.mean((sigmoid(others) - target) ** 2)),
        brier_constant=float(np.mean((targets[::2].mean() - target) ** 2)),
        reliability=() if predicted is None else _reliability(predicted, target),
    )


def _reliability(predicted: np.ndarray, target: np.ndarray) -> tuple[ReliabilityBin, ...]:
    bins = np.minimum((predicted * _BINS).astype(int), _BINS - 1)
    return tuple(
        ReliabilityBin(float(predicted[bins == bin].mean()), float(target[bins == bin].mean()), int(count))
        for bin, count in enumerate(np.bincount(bins, minlength=_BINS))
        if count
    )


def calibrate(reranker: Reranker, family: Family) -> Calibration | None:
    """Calibrate on the mixture's held-out, teacher-labelled pairs; None where the family has no such split here."""
    labelled = validation_pairs(family)
    if labelled is None:
        return None
    pairs, labels = labelled
    return measure(predict_sorted(reranker, pairs), labels)


def validation_pairs(family: Family) -> tuple[list[tuple[str, str]], np.ndarray] | None:
    """The first `LIMIT` rows of the family's validation split: pairs, and the teacher's logits, shape (pairs,)."""
    files = sorted(family.mixture_folder.glob(f"{family.data.validation}/validation-*.parquet"))
    if not files:
        return None
    rows = parquet.read_table(files, columns=["query", "document", "label"]).slice(0, LIMIT)
    if len(rows) < 4:
        return None
    pairs = list(zip(rows["query"].to_pylist(), rows["document"].to_pylist(), strict=True))
    return pairs, rows["label"].to_numpy().astype(np.float64)
