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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, pairwise
from threading import Semaphore
from types import MethodType
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

NAME = "unpadded"
_LOW = -1e30  # as good as minus infinity, but a row that sees nothing (padding) stays finite
_TILE = 32
_LONG = 512  # from here on the fused kernel wins, and the matrix of probabilities would cost too much memory
_FAR = 384  # from here on a sliding window is worth attending to in blocks of
_BLOCK = 64  # queries, each block with the keys around it
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@dataclass(frozen=True)
class _Bucket:
    """`count` sequences of nearly equal length, attended to by one call: `count * length` rows, padding included."""

    count: int
    length: int
    keys: Tensor | None  # (count, 1, 1, length), 0 on tokens and very low on padding; None without padding


@dataclass(frozen=True)
class _Plan:
    """Where the tokens of one flat row go for attention: into buckets, and back.

    gather: (rows,) the token at each row of all buckets; padding repeats a token of its sequence.
    scatter: (tokens,) the row of each token.
    firsts: (sequences,) the first token of each sequence, in the order of the buckets.
    padding: (rows,) true on padding.
    masks: what `_mask` or `_block_mask` made, by number of the bucket, window and dtype; the layers share them.
    """

    gather: Tensor
    scatter: Tensor
    firsts: Tensor
    padding: Tensor
    buckets: list[_Bucket]
    masks: dict[tuple[Any, ...], Tensor | None] = field(default_factory=dict)


def register() -> None:
    """Make the attention known to transformers as `NAME`; registering twice does no harm."""
    AttentionInterface.register(NAME, attention)


def _buckets(lengths: list[int]) -> dict[int, list[int]]:
    """Sequences by length, rounded up to whole tiles of the matrix kernels: 94 tokens take twice the time of 96."""
    buckets: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        buckets.setdefault(-(-length // _TILE) * _TILE, []).append(index)
    return buckets


def _plan(starts: Tensor) -> _Plan:
    """The plan for a flat row whose sequences start at `starts` (last: the number of tokens); kept on the tensor."""
    plan = getattr(starts, "_unpadded_plan", None)
    if plan is None:
        plan = _make_plan(starts.tolist(), starts.device)
        starts._unpadded_plan = plan  # ty: ignore[missing-attribute]  # every layer gets the same tensor
    return plan


def _make_plan(starts: list[int], device: torch.device) -> _Plan:
    lengths = [end - start for start, end in pairwise(starts)]
    gather, buckets, members_of = [], [], _buckets(lengths)
    for longest, members in members_of.items():
        begin, size = np.array([starts[i] for i in members])[:, None], np.array([lengths[i] for i in members])[:, None]
        position = np.arange(longest)[None]
        gather.append((begin + np.minimum(position, size - 1)).ravel())
        keys = None
        if (size < longest).any():
            low = np.where(position < size, 0, _LOW).astype(np.float32)
            keys = torch.from_numpy(low).to(device)[:, None, None]
        buckets.append(_Bucket(len(members), longest, keys))
    rows = np.concatenate(gather)
    padding = np.concatenate([[False], rows[1:] == rows[:-1]])
    scatter = np.empty(starts[-1], dtype=np.int64)
    scatter[rows[~padding]] = np.flatnonzero(~padding)
    return _Plan(
        gather=torch.from_numpy(rows).to(device),
        scatter=torch.from_numpy(scatter).to(device),
        firsts=torch.tensor([starts[index] for members in members_of.values() for index in members], device=device),
        padding=torch.from_numpy(padding).to(device),
        buckets=buckets,
    )


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
    """(rows, width) -> (tokens, width), without padding."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, plan: _Plan) -> Tensor:
        ctx.plan = plan
        return rows.index_select(0, plan.scatter)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        rows = gradients[0].index_select(0, ctx.plan.gather)
        return rows.masked_fill_(ctx.plan.padding[:, None], 0), None


def _mask(plan: _Plan, number: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
    """What is added to a bucket's scores, (count or 1, 1, length or 1, length): padding and the sliding window."""
    bucket = plan.buckets[number]
    window = None if window is None or bucket.length <= window else window
    if (number, window, dtype) not in plan.masks:
        mask = bucket.keys
        if window is not None:
            position = torch.arange(bucket.length, device=plan.gather.device)
            outside = (position[:, None] - position).abs() >= window
            band = torch.zeros(outside.shape, device=outside.device).masked_fill_(outside, _LOW)
            # The lower of two very low numbers, because their sum could leave the range.
            mask = band[None, None] if mask is None else torch.minimum(band, mask)
        plan.masks[number, window, dtype] = None if mask is None else mask.to(dtype)
    return plan.masks[number, window, dtype]


def _blocks(rows: Tensor, side: int) -> Tensor:
    """Each block of `_BLOCK` rows with `side` rows to both sides of it, (rows, ...) -> (blocks, ..., rows of a block).

    The blocks overlap in memory; beyond the ends are zeros.
    """
    ends = (0, 0) * (rows.dim() - 1) + (side, side + -len(rows) % _BLOCK)
    return functional.pad(rows, ends).unfold(0, _BLOCK + 2 * side, _BLOCK)


def _block_mask(plan: _Plan, number: int, window: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of a bucket in blocks, (blocks, 1, `_BLOCK`, keys of a block)."""
    bucket, side = plan.buckets[number], window - 1
    if (number, window, dtype, "blocks") not in plan.masks:
        owner = torch.arange(bucket.count * bucket.length, device=plan.gather.device) // bucket.length + 1
        tokens = owner if bucket.keys is None else owner.masked_fill(bucket.keys.flatten() < 0, 0)
        position = torch.arange(_BLOCK + 2 * side, device=owner.device) - side
        near = (position - torch.arange(_BLOCK, device=owner.device)[:, None]).abs() <= side
        seen = near & (_blocks(owner, 0)[:, :, None] == _blocks(tokens, side)[:, None])
        mask = torch.zeros(seen.shape, dtype=dtype, device=owner.device).masked_fill_(~seen, _LOW)
        plan.masks[number, window, dtype, "blocks"] = mask[:, None]
    return cast(Tensor, plan.masks[number, window, dtype, "blocks"])


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float) -> Tensor:
    """Attention within one bucket, (count, heads, length, head) each; in blocks there are more keys than queries.

    Multiplied out where that is faster than the fused kernel on a CPU: in training, whose backward pass is slow there, and
    in bfloat16, whose products oneDNN makes at twice the rate.
    """
    count, heads, length = key.shape[:3]
    multiplied = query.requires_grad or (query.dtype == torch.bfloat16 and not query.is_cuda)
    if length > _LONG or dropout or not multiplied:
        mask = mask if mask is None else mask.expand(count, 1, query.shape[2], length)
        return functional.scaled_dot_product_attention(query, key, value, mask, dropout, scale=scaling)
    scores = torch.bmm((query * scaling).flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    if mask is not None:
        scores.unflatten(0, (count, heads)).add_(mask)
    # In place: new memory for the largest matrix of a layer costs as much as the products.
    shares = scores.softmax(-1) if scores.requires_grad else torch.softmax(scores, -1, out=scores)
    return torch.bmm(shares, value.flatten(0, 1)).unflatten(0, (count, heads))


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
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention for transformers' AttentionInterface, over one flat row: `varlen` where that runs, else `in_buckets`.

    Args:
        query, key, value: (1, heads, tokens, head) each.
        sliding_window: How far a token looks to each side, plus one (transformers counts so); None is everywhere.
        cu_seq_lens_q: (sequences + 1,) where each sequence starts, then the number of tokens. Without it the batch is
            a plain one, (batch, heads, length, head), in which every token is seen: that is for a single sequence.
        max_length_q: Tokens of the longest sequence; None waits for the device to find it out.

    Returns:
        (1, tokens, heads, head), None
    """
    kernel = query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout
    return (varlen if kernel else in_buckets)(
        module,
        query,
        key,
        value,
        attention_mask,
        scaling=scaling,
        dropout=dropout,
        sliding_window=sliding_window,
        cu_seq_lens_q=cu_seq_lens_q,
        max_length_q=max_length_q,
    )


def varlen(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """`attention` by torch's own variable-length kernel: CUDA, half precision, no dropout."""
    from torch.nn.attention.varlen import varlen_attn

    starts = _starts(query, cu_seq_lens_q)
    longest = int((starts[1:] - starts[:-1]).max()) if max_length_q is None else max_length_q
    side = -1 if sliding_window is None else sliding_window - 1
    row = (part[0].transpose(0, 1) for part in (query, key, value))
    out = varlen_attn(*row, starts, starts, longest, longest, scale=scaling, window_size=(side, side))
    return cast(Tensor, out)[None], None


def in_buckets(
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
    """`attention` on any device and in any dtype: sequences of nearly equal length share one call."""
    plan, heads, width = _plan(_starts(query, cu_seq_lens_q)), query.shape[1], query.shape[3]
    scaling = width**-0.5 if scaling is None else scaling
    row = (part[0].transpose(0, 1) for part in (query, key, value))
    rows = [_ToBuckets.apply(part.reshape(-1, heads * width), plan) for part in row]
    rows = _attend_rows(torch.stack(rows, 1).unflatten(2, (heads, width)), plan, sliding_window, scaling, dropout)
    return _ToTokens.apply(rows, plan).view(1, -1, heads, width), None


def _starts(query: Tensor, starts: Tensor | None) -> Tensor:
    """Where each sequence of the flat row starts; a plain batch of one sequence is such a row too."""
    if starts is not None:
        return starts
    if query.shape[0] != 1:
        raise ValueError("a padded batch cannot be attended to unpadded: pass one flat row with cu_seq_lens_q")
    return torch.tensor([0, query.shape[2]], dtype=torch.int32, device=query.device)


def _attend_rows(
    rows: Tensor, plan: _Plan, window: int | None, scaling: float, dropout: float, queries: int | None = None
) -> Tensor:
    """Attention in every bucket.

    Args:
        rows: (rows, 3, heads, head) queries, keys and values.
        queries: Answer only for the first so many tokens of each sequence; None is all.

    Returns:
        (rows, heads * head); with `queries`, so many rows per sequence
    """
    parts = []
    # One split and not a slice per bucket: the gradient of every slice is a whole tensor of zeros.
    for number, part in enumerate(rows.split([bucket.count * bucket.length for bucket in plan.buckets])):
        bucket = plan.buckets[number]
        if window is not None and queries is None and bucket.length >= max(_FAR, 2 * window):
            mask = _block_mask(plan, number, window, rows.dtype)
            sides = zip(part.unbind(1), (0, window - 1, window - 1), strict=True)
            query, key, value = (_blocks(each, side).transpose(2, 3) for each, side in sides)
        else:
            mask = _mask(plan, number, window, rows.dtype)
            query, key, value = part.unflatten(0, (bucket.count, bucket.length)).permute(2, 0, 3, 1, 4)
            if queries is not None:
                query, mask = query[:, :, :queries], mask if mask is None else mask[:, :, :queries]
        attended = _attend(query, key, value, mask, scaling, dropout).transpose(1, 2).flatten(2).flatten(0, 1)
        parts.append(attended if queries else attended[: len(part)])
    return torch.cat(parts)


class _ToRotatedBuckets(torch.autograd.Function):
    """(tokens, 3, heads, head) -> the same in buckets, queries and keys rotated by their positions on the way.

    `cos` and `sin` are (tokens, head / 2). One pass over the memory instead of transformers' twelve.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, cos: Tensor, sin: Tensor, plan: _Plan) -> Tensor:
        ctx.plan, ctx.cos, ctx.sin = plan, cos, sin
        rows = tokens.flatten(1).index_select(0, plan.gather).view(-1, *tokens.shape[1:])
        return _rotate(rows, cos.index_select(0, plan.gather), sin.index_select(0, plan.gather))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0]
        tokens = gradient.flatten(1).index_select(0, ctx.plan.scatter).view(-1, *gradient.shape[1:])
        return _rotate(tokens, ctx.cos, -ctx.sin), None, None, None


def _rotate(rows: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate queries and keys of `rows` (rows, 3, heads, head) in place."""
    left, right = rows[:, :2].chunk(2, -1)
    cos, sin, old = cos[:, None, None], sin[:, None, None], left.clone()
    left.mul_(cos).addcmul_(right, sin, value=-1)
    right.mul_(cos).addcmul_(old, sin)
    return rows


def _modernbert_attention(
    self: Any,
    hidden_states: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    attention_mask: Tensor | None = None,
    cu_seq_lens_q: Tensor | None = None,
    queries: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """ModernBertAttention.forward for one flat row on a CPU; elsewhere transformers' own.

    Args:
        queries: Answer only for the first so many tokens of each sequence, in the order of the buckets.
    """
    if cu_seq_lens_q is None or hidden_states.is_cuda:
        return type(self).forward(
            self, hidden_states, position_embeddings, attention_mask, cu_seq_lens_q=cu_seq_lens_q, **kwargs
        )
    plan, dropout = _plan(cu_seq_lens_q), self.attention_dropout if self.training else 0.0
    tokens = self.Wqkv(hidden_states)[0].unflatten(1, (3, -1, self.head_dim))
    cos, sin = (part[0, :, : self.head_dim // 2].to(tokens.dtype) for part in position_embeddings)
    rows = _ToRotatedBuckets.apply(tokens, cos, sin, plan)
    rows = _attend_rows(rows, plan, self.sliding_window, self.head_dim**-0.5, dropout, queries)
    rows = rows if queries else _ToTokens.apply(rows, plan)
    return self.out_drop(self.Wo(rows))[None], None


def _modernbert_last_layer(
    self: Any, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
) -> Tensor:
    """ModernBertEncoderLayer.forward where only each sequence's first token is read: the other rows become zero."""
    starts = kwargs.get("cu_seq_lens_q")
    if starts is None or hidden_states.is_cuda:
        return type(self).forward(self, hidden_states, attention_mask, **kwargs)
    first = _plan(starts).firsts
    attended, _ = self.attn(self.attn_norm(hidden_states), attention_mask=attention_mask, queries=1, **kwargs)
    hidden = hidden_states.index_select(1, first) + attended
    hidden = hidden + self.mlp(self.mlp_norm(hidden))
    return torch.zeros_like(hidden_states, dtype=hidden.dtype).index_copy(1, first, hidden)


def _linear(self: Any, rows: Tensor) -> Tensor:
    """nn.Linear.forward, by oneDNN where torch would take MKL: fp32 on a CPU, without gradients.

    On an AMD CPU MKL leaves half of the rate. The operator is the one that torch's compiler puts in this place.
    """
    plain = torch.is_grad_enabled() or rows.is_cuda or rows.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if plain or self.weight.dtype != torch.float32 or not _ONEDNN:
        return functional.linear(rows, self.weight, self.bias)
    return torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "none", [], "")


def _speed_up_modernbert(encoder: Any, only_first: bool) -> None:
    """Give a ModernBertModel our forward passes; the same numbers with fewer passes over the memory."""
    for layer in encoder.layers:
        layer.attn.forward = MethodType(_modernbert_attention, layer.attn)
        for linear in (layer.attn.Wqkv, layer.attn.Wo, layer.mlp.Wi, layer.mlp.Wo):
            linear.forward = MethodType(_linear, linear)
    if only_first:
        encoder.layers[-1].forward = MethodType(_modernbert_last_layer, encoder.layers[-1])


def _flatten(texts: list[dict[str, Any]]) -> dict[str, Any]:
    """One flat row of the tokens of all texts: what transformers' DataCollatorWithFlattening gives, without its labels.

    That one loops over every token in Python, for ten times as long; nothing else of a batch's work is done meanwhile.
    """
    lengths = np.array([len(text["input_ids"]) for text in texts])
    starts = np.concatenate([[0], lengths.cumsum()])
    tokens = np.fromiter(chain.from_iterable(text["input_ids"] for text in texts), np.int64, starts[-1])
    positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
    where, longest = torch.from_numpy(starts.astype(np.int32)), int(lengths.max())
    return {
        "input_ids": torch.from_numpy(tokens)[None],
        "position_ids": torch.from_numpy(positions)[None],
        "cu_seq_lens_q": where,
        "cu_seq_lens_k": where,
        "max_length_q": longest,
        "max_length_k": longest,
    }


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
    transformer.data_collator = _flatten
    if transformer.model_forward_params is not None:
        transformer.model_forward_params |= {"cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}
    transformer._flatten_position_offset = transformer._infer_flatten_position_offset()
    transformer.can_flatten_inputs = True
    if type(transformer.model).__name__ == "ModernBertModel":
        _speed_up_modernbert(transformer.model, only_first=getattr(model[1], "pooling_mode", None) in ("cls", ("cls",)))
    if dtype is not None:
        model.to(dtype)
    return model


def predict(
    model: CrossEncoder,
    pairs: Sequence[tuple[str, str]],
    token_budget: int = 2048,
    tokens: dict[int, dict[str, Any]] | None = None,
) -> np.ndarray:
    """Score pairs with a model that `unpad` prepared, in batches of about `token_budget` tokens.

    On a CPU as many batches are worked on at once as torch has threads, one thread each: small matrices gain little
    from several threads, and the tokenizer works meanwhile.

    Args:
        tokens: Filled with the tokens of each batch, and read by further calls for the same pairs: with other weights they
            are scored without the tokenizer, a fourth of the time of a small model.

    Returns:
        (pairs,) float32 scores after the model's activation function, in the order of `pairs`.
    """
    scores = np.empty(len(pairs), dtype=np.float32)
    batches = _batches(np.array([len(query) + len(document) for query, document in pairs]), token_budget)
    activation, threads = model.activation_fn or torch.nn.Identity(), torch.get_num_threads()
    workers = max(1, min(threads, len(batches))) if model.device.type == "cpu" else 1
    slots = Semaphore(2 * workers)  # so that not all pairs are in memory as tokens
    model.eval()

    def score(batch: np.ndarray, features: dict[str, Any]) -> None:
        try:
            with torch.inference_mode():
                scores[batch] = activation(model(features)["scores"]).view(-1).float().cpu().numpy()
        finally:
            slots.release()

    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            work = []
            for number, batch in enumerate(batches):
                slots.acquire()
                features = (tokens or {}).get(number) or model.preprocess([pairs[index] for index in batch])
                if tokens is not None:
                    tokens[number] = features
                # Copies: attention keeps its plan on one of these tensors.
                features = {
                    key: value.to(model.device, copy=True) if hasattr(value, "to") else value
                    for key, value in features.items()
                }
                work.append(pool.submit(score, batch, features))
            for done in work:
                done.result()
    finally:
        torch.set_num_threads(threads)  # torch takes over what its newest thread was told
    return scores


def _batches(sizes: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Indices of texts of `sizes` characters in batches of like length, the longest first."""
    order = np.argsort(-sizes, kind="stable")
    filled = np.cumsum(sizes[order]) // (token_budget * 4)  # about four characters to a token
    return [batch for batch in np.split(order, np.flatnonzero(np.diff(filled)) + 1) if len(batch)]
