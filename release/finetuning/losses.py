"""The losses that fine-tuning knows, what labels each is for, and the table that each trains on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.base.sampler import BatchSamplers, DefaultBatchSampler
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, MultipleNegativesRankingLoss
from torch import nn

from release.errors import ReleaseError
from release.finetuning.prepare import Prepared
from release.training.losses import loss_and_sampler
from release.training.samplers import ShuffledBatches

LossName = Literal["margin-mse", "mse", "info-nce", "bce"]
NEGATIVES = 4  # hard ones per positive of InfoNCE, and as many from the batch
_NEGATIVES = tuple(f"negative_{place}" for place in range(1, NEGATIVES + 1))


@dataclass(frozen=True)
class Loss:
    """A named loss.

    Attributes:
        labels: The kind of labels that it learns from.
        about: When to take it, and what it does to the scale of the scores.
        scaled: Whether labels must lie between 0 and 1.
    """

    labels: Literal["judgements", "scores"]
    about: str
    scaled: bool = False


LOSSES: dict[LossName, Loss] = {
    "margin-mse": Loss(
        "scores", "a teacher's scores, several documents a query; the scale of differences stays the teacher's"
    ),
    "mse": Loss("scores", "a teacher's scores as the model was trained on them; the scale becomes the teacher's"),
    "info-nce": Loss(
        "judgements", "relevant against other documents of the query; the scale is free, the order counts"
    ),
    "bce": Loss(
        "judgements",
        "each pair on its own, relevant or not; scores move to where a sigmoid says the share",
        scaled=True,
    ),
}


def default_loss(prepared: Prepared) -> LossName:
    """MarginMSE for scores, InfoNCE for judgements: both won over pointwise losses on every backbone of arXiv 2603.03010."""
    return "margin-mse" if prepared.labels == "scores" else "info-nce"


def check(name: LossName, prepared: Prepared) -> None:
    """Refuse labels that a loss cannot learn from.

    Raises:
        ReleaseError: The labels are of the other kind, or out of range.
    """
    loss = LOSSES[name]
    fitting = ", ".join(other for other, each in LOSSES.items() if each.labels == prepared.labels)
    if loss.labels != prepared.labels:
        what = f"{name} learns from {loss.labels}, and the labels are {prepared.labels}"
        raise ReleaseError(what, where=prepared.source, hint=f"take one of {fitting}")
    if loss.scaled and not (prepared.lowest >= 0 and prepared.highest <= 1):
        what = f"{name} takes labels from 0 to 1, and these go from {prepared.lowest:g} to {prepared.highest:g}"
        raise ReleaseError(what, where=prepared.source, hint="take info-nce, or judge with 0 and 1")


def build(
    name: LossName, model: CrossEncoder, rows: Dataset, seed: int
) -> tuple[nn.Module, Dataset, type[DefaultBatchSampler] | BatchSamplers]:
    """The loss over `model`, the table that it trains on, and how its batches are drawn.

    Raises:
        ReleaseError: No row fits the loss.
    """
    if name == "info-nce":
        # The logits have a scale of their own: on a sigmoid of them, the library's default, no gradient is left.
        loss = MultipleNegativesRankingLoss(model, NEGATIVES, scale=1, activation_fn=nn.Identity())
        return loss, contrasts(rows, seed), BatchSamplers.NO_DUPLICATES
    if name == "bce":
        return BinaryCrossEntropyLoss(model, activation_fn=nn.Identity()), rows, ShuffledBatches
    loss, sampler = loss_and_sampler(name, model)  # margin-mse keeps the rows of a query together
    return loss, rows, sampler


def contrasts(rows: Dataset, seed: int) -> Dataset:
    """One row for each relevant document: query, positive, negative_1, ... with documents of less relevance to the query.

    Raises:
        ReleaseError: No query has a document of less relevance.
    """
    groups: dict[str, list[tuple[str, float]]] = {}
    for batch in rows.with_format("arrow").iter(1000):
        columns = (batch[name].to_pylist() for name in ("query", "document", "label"))
        for query, document, label in zip(*columns, strict=True):
            groups.setdefault(query, []).append((document, label))
    generator = np.random.default_rng(seed)
    table: dict[str, list[str]] = {name: [] for name in ("query", "positive", *_NEGATIVES)}
    for query, documents in groups.items():
        for positive, grade in documents:
            if grade > 0 and (others := [text for text, label in documents if label < grade]):
                drawn = generator.choice(len(others), NEGATIVES, replace=len(others) < NEGATIVES)
                texts = [query, positive, *(others[place] for place in drawn)]
                for column, text in zip(table.values(), texts, strict=True):
                    column.append(text)
    if not table["query"]:
        what = "no query has both a relevant document and one of less relevance"
        raise ReleaseError(what, where="the prepared data", hint="prepare again with --negatives 7")
    return Dataset.from_dict(table)
