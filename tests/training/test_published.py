"""The page takes the steps of the published recipe: 20 of them in fp32, against a plain loop in torch."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from sentence_transformers import CrossEncoder
from torch.nn import functional
from torch.utils.data import RandomSampler
from transformers import AutoModel, set_seed

from recipes import distill
from tests.training.conftest import rows
from tests.training.helpers import METRIC, record, weights

STEPS, BATCH, RATE, WARMUP, SEED = 20, 8, 2e-3, 0.03, 12
PAIRS = rows(STEPS * BATCH, 4)


def batches() -> Iterator[pl.DataFrame]:
    """The rows in the order of torch's RandomSampler."""
    order = list(RandomSampler(range(len(PAIRS)), generator=torch.Generator().manual_seed(SEED)))
    for first in range(0, len(order), BATCH):
        yield PAIRS[order[first : first + BATCH]]


def plain_scores(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """The published head over the encoder's first token: dense without bias, GELU, layer norm, dense to one logit."""
    tokens = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    dense, norm, last = model[2].linear, model[3].norm, model[4].linear
    assert dense.bias is None
    hidden = functional.gelu(model[0].model(**tokens).last_hidden_state[:, 0] @ dense.weight.T)
    hidden = functional.layer_norm(hidden, norm.normalized_shape, norm.weight, norm.bias)
    return functional.linear(hidden, last.weight, last.bias).view(-1)


def plain_loop(model: CrossEncoder, *, bf16: bool = False) -> list[float]:
    """Squared error on raw logits, AdamW without decay, linear warm-up and decay, clipping at 1: the loss of each step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, foreach=False)
    rising = math.ceil(STEPS * WARMUP)
    losses = []
    model.train()
    for step, batch in enumerate(batches()):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (step / rising if step < rising else (STEPS - step) / (STEPS - rising))
        inputs = model.preprocess(list(zip(batch["query"], batch["document"], strict=True)))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            scores = model(inputs)["scores"].view(-1) if bf16 else plain_scores(model, inputs)
        loss = functional.mse_loss(scores.float(), batch["label"].to_torch())
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
    logged = page_losses(work, tmp_path, monkeypatch, alone=alone)
    tolerance = 1e-6 if alone else 1e-5  # without padding, sums have another order
    assert logged == pytest.approx(losses, rel=tolerance)
    page, loop = weights(tmp_path / "page/model"), weights(tmp_path / "loop")
    assert page.keys() == loop.keys()
    for name, tensor in loop.items():
        torch.testing.assert_close(page[name], tensor, rtol=0, atol=tolerance, msg=name)


def test_an_encoder_that_is_stored_in_bf16_trains_in_fp32(encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "stored")
    AutoModel.from_pretrained(encoder, dtype=torch.bfloat16).save_pretrained(tmp_path / "stored")
    model = distill.build_model(str(tmp_path / "stored"), 64, device="cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("kept", [["4.linear"], []], ids=["fp32, ours", "bf16, as published"])
def test_under_bf16_the_last_layer_is_what_the_family_says(
    kept: list[str], work: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(distill, "project", None)
        set_seed(SEED)
        model = distill.build_model(str(encoder), 64, kept, device="cpu")
    losses = plain_loop(model, bf16=True)
    monkeypatch.setattr(distill.project, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(distill.project, "unpad", lambda model: model)
    row = f'precision = "bf16"\nkeep_in_fp32_modules = {json.dumps(kept)}'
    logged = page_losses(work, tmp_path, monkeypatch, alone=False, precision=row)
    assert logged == pytest.approx(losses, rel=1e-6)
    assert record(tmp_path / "page").subject.keep_in_fp32_modules == tuple(kept)
    with torch.autocast("cpu", torch.bfloat16):
        scores = CrossEncoder(str(tmp_path / "page/model"), device="cpu").predict(
            PAIRS.select("query", "document").rows()
        )
    rounded = torch.tensor(scores).bfloat16().float().numpy()
    assert (scores == rounded).all() == (not kept)


def page_losses(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, alone: bool, precision: str = 'precision = "fp32"'
) -> list[float]:
    """The losses that the page logs, one per step, on the rows of the plain loop; its output is `page`."""
    (tmp_path / "data/words").mkdir(parents=True)
    PAIRS.write_parquet(tmp_path / "data/words/train-0.parquet")
    family = (work / "family.toml").read_text().replace("evaluations = 3", "evaluations = 1")
    assert 'precision = "fp32"' in family
    family = family.replace('precision = "fp32"', precision)
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
    return logged
