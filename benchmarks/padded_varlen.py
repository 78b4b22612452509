"""Variable-length attention on padded inputs: padding is taken out before attention and put back after it, in every layer.

This is how transformers runs a sequence classifier with flash attention, and so what most published rerankers on
ModernBERT get; all other layers still work on padding. With it the benchmarks measure that way on machines without flash-attn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, flash_attention_mask

from release.runtime import unpadded

NAME = "padded-varlen"


def register() -> None:
    """Make it known to transformers as `NAME`; it is given the plain mask of the batch, (batch, length), or None."""
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, flash_attention_mask)


def attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """`unpadded.attention` for transformers' AttentionInterface, (batch, heads, length, head) each.

    Returns:
        (batch, length, heads, head), zero on padding, and None
    """
    batch, heads, length, head = query.shape
    mask = query.new_ones(batch, length, dtype=torch.bool) if attention_mask is None else attention_mask
    tokens, starts, longest = _rows(mask)
    flat = (part.transpose(1, 2).flatten(0, 1).index_select(0, tokens) for part in (query, key, value))
    row = (part.transpose(0, 1)[None] for part in flat)
    out, _ = unpadded.attention(module, *row, cu_seq_lens_q=starts, max_length_q=longest, **kwargs)
    padded = out.new_zeros(batch * length, heads, head).index_copy(0, tokens, out[0])
    return padded.view(batch, length, heads, head), None


def _rows(mask: Tensor) -> tuple[Tensor, Tensor, int]:
    """The places of all tokens in the flat batch, where each sequence starts, and the longest length; kept on the mask."""
    rows = getattr(mask, "_rows", None)
    if rows is None:
        lengths = mask.sum(1)
        starts = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
        rows = mask.flatten().nonzero()[:, 0], starts, int(lengths.max())
        mask._rows = rows  # ty: ignore[unresolved-attribute]  # every layer gets the same tensor
    return rows
