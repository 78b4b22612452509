"""The page takes the steps of the published recipe: 20 of them in fp32, against a plain loop in torch."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
from sentence_transformers import CrossEncoder
from torch.nn import functional
from torch.utils.data import RandomSampler
from transformers import set_seed

from recipes import distill
from tests.training.conftest import rows
from tests.training.helpers import METRIC, weights

STEPS, BATCH, RATE, WARMUP, SEED = 20, 8, 2e-3, 0.03, 12
PAIRS = rows(STEPS * BATCH, 4)


def batches() -> Iterator[pl.DataFrame]:
    """The rows in the order of torch's RandomSampler."""
    order = list(RandomSampler(range(len(PAIRS)), generator=torch.Generator().manual_seed(SEED)))
    for first in range(0, len(order), BATCH):
        yield PAIRS[order[first : first + BATCH]]


def plain_loop(model: CrossEncoder) -> list[float]:
    """Squared error on raw logits, AdamW without decay, linear warm-up and decay, clipping at 1: the loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, foreach=False)
    rising = math.ceil(STEPS * WARMUP)
    losses = []
    model.train()
    for step, batch in enumerate(batches()):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (step / rising if step < rising else (STEPS - step) / (STEPS - rising))
        pairs = list(zip(batch["query"], batch["document"], strict=True))
        scores = model(model.preprocess(pairs))["scores"].view(-1)
        loss = functional.mse_loss(scores, batch["label"].to_torch())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("alone", [True, False], ids=["the page alone", "with release.training"])
def test_losses_and_weights_are_those_of_a_plain_loop(
    alone: bool, work: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(distill, "project", None)  # with padding
        set_seed(SEED)
        model = distill.build_model(str(encoder), 64, device="cpu")
    losses = plain_loop(model)
    model.save_pretrained(str(tmp_path / "loop"))

    (tmp_path / "data/words").mkdir(parents=True)
    PAIRS.write_parquet(tmp_path / "data/words/train-0.parquet")
    family = (work / "family.toml").read_text().replace("evaluations = 3", "evaluations = 1")
    (tmp_path / "family.toml").write_text(family)
    words = ["--family", str(tmp_path / "family.toml"), "--size", "mini", "--data", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", ["distill.py", *words, "--output", str(tmp_path / "page")])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(distill, "project", None if alone else distill.project)
    logged: list[float] = []
    trainer = distill.CrossEncoderTrainer

    class Watched(trainer):
        def log(self, logs: dict[str, float], *args: object, **kwargs: object) -> None:
            logged.extend([logs["loss"]] if "loss" in logs and METRIC not in logs else [])
            super().log(logs, *args, **kwargs)

    monkeypatch.setattr(distill, "CrossEncoderTrainer", Watched)
    distill.main()
    tolerance = 1e-6 if alone else 1e-5  # without padding, sums have another order
    assert logged == pytest.approx(losses, rel=tolerance)
    page, loop = weights(tmp_path / "page/model"), weights(tmp_path / "loop")
    assert page.keys() == loop.keys()
    for name, tensor in loop.items():
        torch.testing.assert_close(page[name], tensor, rtol=0, atol=tolerance, msg=name)
