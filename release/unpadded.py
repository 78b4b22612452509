"""Rerank and train without padding, on a CPU as well as on a GPU.

A batch of pairs of different lengths becomes one flat row of tokens; attention alone looks at where each pair begins.
Scores, losses and gradients are those of the padded model; the work on padding is gone. On a `CrossEncoder`:

    model = unpad(CrossEncoder("organization/reranker"))            # in place; trains and predicts as before
    scores = predict(model, [("a query", "a document"), ...])       # batches of equal work instead of equal count

On a bare encoder of transformers (positions start again at 0 for each sequence; `cu_seq_lens_q` says where it starts):

    register()
    encoder.set_attn_implementation(NAME)
    lengths = torch.tensor([5, 9, 2])
    starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()        # 0, 5, 14, 16
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    hidden = encoder(input_ids=row[None], position_ids=positions, cu_seq_lens_q=starts).last_hidden_state[0]

This file needs torch, transformers and sentence-transformers, and nothing else: it may be copied next to a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, DataCollatorWithFlattening

NAME = "unpadded"
_LONG = 512  # from here on the fused kernel wins, and the matrix of probabilities would cost too much memory


@dataclass
class _Bucket:
    """Sequences of nearly equal length, attended to by one call: rows `first` to `first + count * length`."""

    first: int
    count: int
    length: int
    keys: Tensor | None  # (count, 1, 1, length), 0 on tokens and very low on padding; None without padding


@dataclass
class _Plan:
    """Where the tokens of one flat row go for attention: into buckets, and back.

    gather: (rows,) the token at each row of all buckets; padding repeats a token of its sequence.
    scatter: (tokens,) the row of each token.
    padding: (rows,) true on padding.
    """

    gather: Tensor
    scatter: Tensor
    padding: Tensor
    buckets: list[_Bucket]
    bands: dict[tuple[int, int], Tensor] = field(default_factory=dict)


def register() -> None:
    """Make the attention known to transformers as `NAME`; registering twice does no harm."""
    AttentionInterface.register(NAME, attention)


def _bucket_lengths(lengths: list[int]) -> list[list[int]]:
    """Sort sequences, longest first, into buckets that waste little: lengths within an eighth, or within 8 tokens."""
    buckets: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[buckets[-1][0]] if buckets else 0
        if buckets and longest - lengths[index] <= max(8, longest // 8):
            buckets[-1].append(index)
        else:
            buckets.append([index])
    return buckets


def _plan(starts: Tensor) -> _Plan:
    """The plan for a flat row whose sequences start at `starts` (last: the number of tokens); kept on the tensor."""
    plan = getattr(starts, "_unpadded_plan", None)
    if plan is None:
        plan = _make_plan(starts.tolist())
        starts._unpadded_plan = plan  # ty: ignore[missing-attribute]  # every layer gets the same tensor
    return plan


def _make_plan(starts: list[int]) -> _Plan:
    lengths = [end - start for start, end in pairwise(starts)]
    gather, buckets, first = [], [], 0
    for members in _bucket_lengths(lengths):
        longest = lengths[members[0]]
        begin, size = np.array([starts[i] for i in members])[:, None], np.array([lengths[i] for i in members])[:, None]
        place = np.arange(longest)[None]
        gather.append((begin + np.minimum(place, size - 1)).ravel())
        low = torch.from_numpy(np.where(place < size, 0.0, torch.finfo(torch.float32).min).astype(np.float32))
        padded = bool((size < longest).any())
        buckets.append(_Bucket(first, len(members), longest, low[:, None, None] if padded else None))
        first += len(members) * longest
    rows = np.concatenate(gather)
    padding = np.concatenate([[False], rows[1:] == rows[:-1]])
    scatter = np.empty(starts[-1], dtype=np.int64)
    scatter[rows[~padding]] = np.flatnonzero(~padding)
    return _Plan(torch.from_numpy(rows), torch.from_numpy(scatter), torch.from_numpy(padding), buckets)


class _ToBuckets(torch.autograd.Function):
    """(tokens, width) -> (rows, width). Padding gets no gradient, so the backward pass is a plain gather."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, plan: _Plan) -> Tensor:
        ctx.plan = plan
        return tokens.index_select(0, plan.gather)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].index_select(0, ctx.plan.scatter), None


class _ToTokens(torch.autograd.Function):
    """(rows, width) -> (tokens, width), leaving padding behind."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, plan: _Plan) -> Tensor:
        ctx.plan = plan
        return rows.index_select(0, plan.scatter)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rows = gradients[0].index_select(0, ctx.plan.gather)
        return rows.masked_fill_(ctx.plan.padding[:, None], 0), None


def _mask(plan: _Plan, bucket: _Bucket, window: int | None, like: Tensor) -> Tensor | None:
    """What is added to a bucket's scores, broadcast to (count, 1, length, length): padding and the sliding window."""
    if window is None or bucket.length <= window:
        return None if bucket.keys is None else bucket.keys.to(like.dtype)
    band = plan.bands.get((bucket.length, window))
    if band is None:
        place = torch.arange(bucket.length)
        outside = (place[:, None] - place).abs() >= window
        band = torch.zeros(outside.shape).masked_fill_(outside, torch.finfo(torch.float32).min)[None, None]
        plan.bands[bucket.length, window] = band
    # The lower of two very low numbers, because their sum could leave the range.
    return (band if bucket.keys is None else torch.minimum(band, bucket.keys)).to(like.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float) -> Tensor:
    """Attention within one bucket, (count, heads, length, head) each.

    Training multiplies the matrices out, for on CPUs the backward pass of the fused kernel is slow at these lengths.
    """
    count, heads, length, width = query.shape
    if length > _LONG or dropout or not query.requires_grad:
        mask = mask if mask is None else mask.expand(count, 1, length, length)
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
    shape = (count * heads, length, width)
    query, key, value = query.reshape(shape), key.reshape(shape), value.reshape(shape)
    scores = torch.bmm(query * scaling, key.transpose(1, 2)).view(count, heads, length, length)
    scores = scores if mask is None else scores + mask
    return torch.bmm(scores.softmax(-1).view(-1, length, length), value).view(count, heads, length, width)


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' AttentionInterface, over one flat row.

    Args:
        query, key, value: (1, heads, tokens, head) each.
        sliding_window: How far a token looks to each side, plus one (transformers counts so); None is everywhere.
        cu_seq_lens_q: (sequences + 1,) where each sequence starts, then the number of tokens. Without it the batch is
            a plain one, (batch, heads, length, head), in which every token is seen: that is for a single sequence.

    Returns:
        (1, tokens, heads, head), None
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if cu_seq_lens_q is None:
        if query.shape[0] != 1:
            raise ValueError("a padded batch cannot be attended to unpadded: pass one flat row with cu_seq_lens_q")
        cu_seq_lens_q = torch.tensor([0, query.shape[2]], dtype=torch.int32, device=query.device)
    row = (part[0].transpose(0, 1) for part in (query, key, value))
    if query.is_cuda:
        return _varlen_cuda(*row, cu_seq_lens_q, scaling, sliding_window)[None], None
    plan, heads, width = _plan(cu_seq_lens_q), query.shape[1], query.shape[3]
    rows = [_ToBuckets.apply(part.reshape(-1, heads * width), plan) for part in row]
    parts = []
    for bucket in plan.buckets:
        size = bucket.count * bucket.length
        inside = [
            part[bucket.first : bucket.first + size].view(bucket.count, bucket.length, heads, width).transpose(1, 2)
            for part in rows
        ]
        mask = _mask(plan, bucket, sliding_window, query)
        parts.append(_attend(*inside, mask, scaling, dropout).transpose(1, 2).reshape(size, heads * width))
    tokens = _ToTokens.apply(torch.cat(parts), plan)
    return tokens.view(1, -1, heads, width), None


def _varlen_cuda(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, scaling: float, window: int | None) -> Tensor:
    """torch's own variable-length kernel for half precision on CUDA, (tokens, heads, head) each. Not measured."""
    from torch.nn.attention.varlen import varlen_attn

    longest = int((starts[1:] - starts[:-1]).max())
    side = -1 if window is None else window - 1
    out = varlen_attn(q, k, v, starts, starts, longest, longest, scale=scaling, window_size=(side, side))
    return cast(Tensor, out)


def unpad(model: CrossEncoder, dtype: torch.dtype | None = None) -> CrossEncoder:
    """Make a modular CrossEncoder train and predict without padding, in place.

    Args:
        dtype: Convert the weights too (`torch.bfloat16` is fast where the CPU has it); None leaves them as they are.

    Raises:
        ValueError: The model is not modular (its first module reads whole batches), or knows no attention interface.
    """
    transformer: Any = model[0]
    if transformer.transformer_task != "feature-extraction" or not transformer.model.is_backend_compatible():
        raise ValueError("only a modular CrossEncoder on an encoder with transformers' attention interface is unpadded")
    register()
    transformer.model.set_attn_implementation(NAME)
    # What Sentence Transformers does for attention with "flash" in its name (Transformer._can_flatten_inputs).
    transformer.data_collator = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_position_ids=True)
    if transformer.model_forward_params is not None:
        transformer.model_forward_params |= {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}
    transformer._flatten_position_offset = transformer._infer_flatten_position_offset()
    transformer.can_flatten_inputs = True
    if dtype is not None:
        model.to(dtype)
    return model


def predict(model: CrossEncoder, pairs: Sequence[tuple[str, str]], token_budget: int = 2048) -> np.ndarray:
    """Score pairs with a model that `unpad` prepared, in batches of about `token_budget` tokens.

    Returns:
        (pairs,) float32 scores after the model's activation function, in the order of `pairs`.
    """
    scores = np.empty(len(pairs), dtype=np.float32)
    sizes = np.array([len(query) + len(document) for query, document in pairs])
    order = np.argsort(sizes, kind="stable")
    budget = token_budget * 4  # about four characters to a token
    batches = np.split(order, np.flatnonzero(np.diff(np.cumsum(sizes[order]) // budget)) + 1)
    activation = model.activation_fn or torch.nn.Identity()
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            if len(batch):
                features = model.preprocess([pairs[index] for index in batch])
                features = {
                    key: value.to(model.device) if hasattr(value, "to") else value for key, value in features.items()
                }
                scores[batch] = activation(model(features)["scores"]).view(-1).float().cpu().numpy()
    return scores
