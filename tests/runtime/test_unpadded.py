"""Without padding a model gives the scores, losses and gradients that it gives with padding."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import MSELoss
from transformers import AttentionInterface, DataCollatorWithFlattening, ModernBertConfig, ModernBertModel

from release.runtime.unpadded import NAME, _flatten, predict, register, unpad, varlen
from tests.tiny import PAIRS

LABELS = torch.linspace(-4, 9, len(PAIRS))


def load(folder: Path) -> CrossEncoder:
    return CrossEncoder(str(folder), device="cpu")


def test_scores_equal_padded_scores(reranker: Path) -> None:
    padded = load(reranker).predict(PAIRS)
    model = unpad(load(reranker))
    assert model[0].model.config._attn_implementation == NAME
    assert model.preprocess(PAIRS)["input_ids"].shape[0] == 1
    np.testing.assert_allclose(model.predict(PAIRS), padded, atol=1e-5)
    np.testing.assert_allclose(predict(model, PAIRS), padded, atol=1e-5)


@pytest.mark.parametrize("lengths", [[1], [7], [5, 1, 40, 2, 40], [2, 0, 1], [0]])
def test_a_flat_row_is_that_of_transformers(lengths: list[int]) -> None:
    texts = [{"input_ids": list(range(100 * length, 101 * length))} for length in lengths]
    theirs = DataCollatorWithFlattening(return_flash_attn_kwargs=True)([dict(text) for text in texts])
    ours, _ = _flatten(texts), theirs.pop("labels")
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert type(ours[key]) is type(value)
        torch.testing.assert_close(ours[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("budget", [1, 40, 10**6])
def test_the_token_budget_changes_no_score(reranker: Path, budget: int) -> None:
    scores = predict(unpad(load(reranker)), PAIRS * 3, token_budget=budget)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, load(reranker).predict(PAIRS * 3), atol=1e-5)


def test_no_pairs_no_scores(reranker: Path) -> None:
    assert predict(unpad(load(reranker)), []).shape == (0,)


def test_losses_and_gradients_equal_padded_ones_step_by_step(reranker: Path) -> None:
    padded, unpadded = load(reranker), unpad(load(reranker))
    models = [model.train() for model in (padded, unpadded)]
    optimizers = [torch.optim.SGD(model.parameters(), lr=1e-3) for model in models]
    columns = [[query for query, _ in PAIRS], [document for _, document in PAIRS]]
    for _ in range(4):
        losses = [MSELoss(model)(columns, LABELS) for model in models]
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
        for loss in losses:
            loss.backward()
        for (name, left), right in zip(padded.named_parameters(), unpadded.parameters(), strict=True):
            scale = left.grad.abs().max().item()
            torch.testing.assert_close(right.grad, left.grad, rtol=1e-3, atol=1e-5 * (1 + scale), msg=name)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def bare(length: int) -> ModernBertModel:
    torch.manual_seed(3)
    config = ModernBertConfig(
        vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=length, local_attention=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        cls_token_id=1, sep_token_id=2, initializer_range=0.2,
    )  # fmt: skip
    return ModernBertModel(config).eval()


@pytest.mark.parametrize(
    "lengths",
    [[1], [1, 1, 1], [3, 70, 17, 18, 16, 33, 69], [600, 1, 40, 530], [403, 388, 2, 384, 391], [8192]],
    ids=str,
)
@pytest.mark.parametrize("gradient", [False, True])
def test_every_length_on_a_bare_encoder(lengths: list[int], gradient: bool) -> None:
    model = bare(8192)
    row = torch.randint(3, 90, (sum(lengths),), generator=torch.Generator().manual_seed(5))
    with torch.set_grad_enabled(gradient):
        alone = torch.cat([model(input_ids=part[None]).last_hidden_state[0] for part in row.split(lengths)])
        direction = torch.randn(alone.shape, generator=torch.Generator().manual_seed(6))
        register()
        model.set_attn_implementation(NAME)
        starts = torch.nn.functional.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int()
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        flat = model(input_ids=row[None], position_ids=positions, cu_seq_lens_q=starts).last_hidden_state[0]
    torch.testing.assert_close(flat, alone, atol=1e-5, rtol=1e-5)
    if gradient:
        weights = list(model.parameters())
        gradients = [torch.autograd.grad((out * direction).sum(), weights) for out in (alone, flat)]
        for left, right in zip(*gradients, strict=True):
            torch.testing.assert_close(right, left, rtol=1e-3, atol=1e-5 * (1 + left.abs().max().item()))


def test_the_kernel_for_gpus_is_asked_for_the_same_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(
        query: Any, key: Any, value: Any, starts: Any, ends: Any, longest: int, also: int, **options: Any
    ) -> Any:
        """What torch documents for `varlen_attn`, one sequence at a time: (tokens, heads, head)."""
        assert starts is ends and longest == also == 300 and starts.dtype == torch.int32
        left, right = options["window_size"]
        parts = []
        for first, last in pairwise(starts.tolist()):
            index = torch.arange(last - first)
            far = index[None] - index[:, None]
            seen = (far >= -left if left >= 0 else far == far) & (far <= right if right >= 0 else far == far)
            rows = (part[first:last].transpose(0, 1) for part in (query, key, value))
            out = torch.nn.functional.scaled_dot_product_attention(*rows, attn_mask=seen, scale=options["scale"])
            parts.append(out.transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    AttentionInterface.register("varlen", varlen)
    model, lengths = bare(512), [70, 1, 300, 16]
    row = torch.randint(3, 90, (sum(lengths),), generator=torch.Generator().manual_seed(5))
    alone = torch.cat([model(input_ids=part[None]).last_hidden_state[0] for part in row.split(lengths)])
    model.set_attn_implementation("varlen")
    starts = torch.nn.functional.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int()
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    flat = model(input_ids=row[None], position_ids=positions, cu_seq_lens_q=starts, max_length_q=300)
    torch.testing.assert_close(flat.last_hidden_state[0], alone, atol=1e-5, rtol=1e-5)


def test_half_precision_ranks_alike_without_ties(reranker: Path) -> None:
    padded = load(reranker).predict(PAIRS)
    model = unpad(load(reranker), dtype=torch.bfloat16)
    assert {weight.dtype for weight in model[0].parameters()} == {torch.bfloat16}
    scores = predict(model, PAIRS)
    assert len(set(scores.tolist())) == len(PAIRS)  # the last module computes in single precision
    np.testing.assert_allclose(scores, padded, atol=0.05 * np.abs(padded).max())
    assert np.corrcoef(scores, padded)[0, 1] > 0.99


def test_a_saved_model_knows_nothing_of_it(reranker: Path, tmp_path: Path) -> None:
    unpad(load(reranker)).save_pretrained(str(tmp_path))
    assert NAME not in "".join(file.read_text() for file in tmp_path.glob("*.json") if "tokenizer" not in file.name)
    np.testing.assert_array_equal(load(tmp_path).predict(PAIRS), load(reranker).predict(PAIRS))


def test_a_padded_batch_is_refused(reranker: Path) -> None:
    model = unpad(load(reranker))
    with pytest.raises(ValueError, match="flat row"):
        model[0].model(input_ids=torch.ones(2, 4, dtype=torch.long))
