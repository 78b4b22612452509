"""The losses that a family file can name, each with the order of rows that it needs."""

from __future__ import annotations

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.cross_encoder.losses import MSELoss
from sentence_transformers.util import batch_to_device
from torch import nn

from release.errors import ReleaseError
from release.training.samplers import QueriesTogether, ShuffledBatches


class MarginMSE(MSELoss):
    """Squared error of the differences between the scores of a query's documents: what all of them share is free.

    Hofstätter et al., arXiv 2010.02666, over every pair of a query's documents in the batch instead of one positive and
    one negative.
    """

    def forward(
        self, inputs: list[list[str]], labels: torch.Tensor, prompt: str | None = None, task: str | None = None
    ) -> torch.Tensor:
        """The loss, a scalar, of (queries, documents) and the teacher's logits, shape (pairs,)."""
        pairs = self.model.preprocess(list(zip(*inputs, strict=True)), prompt=prompt, task=task)
        scores = self.model(batch_to_device(pairs, labels.device))["scores"]
        errors = scores.view(-1).float() - labels.view(-1).float()
        number = torch.from_numpy(np.unique(inputs[0], return_inverse=True)[1]).to(labels.device)
        same = (number[:, None] == number).float()
        # The mean over all pairs of a query's documents, and over their order, is twice the variance.
        return 2 * (errors - (same * errors).sum(1) / same.sum(1)).square().mean()


LOSSES: dict[str, tuple[type[MSELoss], type[DefaultBatchSampler]]] = {
    "mse": (MSELoss, ShuffledBatches),
    "margin-mse": (MarginMSE, QueriesTogether),
}


def loss_and_sampler(name: str, model: CrossEncoder) -> tuple[nn.Module, type[DefaultBatchSampler]]:
    """The loss called `name` in a family file, over `model`, and the batch sampler that belongs to it.

    Raises:
        ReleaseError: No such loss.
    """
    if name not in LOSSES:
        raise ReleaseError(f"unknown loss {name!r}", where="[training] loss", hint=f"one of {', '.join(LOSSES)}")
    loss, sampler = LOSSES[name]
    return loss(model), sampler
