"""What is known of an encoder before its weights are here: its shape, its parameters, and what a backward pass keeps of it.

The model is built on torch's meta device, so all of that is counted, not estimated by a formula.
"""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AttentionInterface, ModernBertConfig, ModernBertModel

from release.errors import ReleaseError
from release.files import resource

BYTES_OF_STATE = 16  # per parameter: fp32 weight, gradient and AdamW's two moments
BACKWARD = 1.2  # times what is kept is in use at the peak of a backward pass: 1.09 to 1.17 at six sizes on an H100
SEEN = 2048  # tokens in the counted pass; what is kept grows in proportion to tokens


class Unpadded(torch.autograd.Function):
    """Attention that keeps what flash attention keeps: query, key, value, the result, and one number per head and token."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out


def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **_: Any) -> tuple[Tensor, None]:
    """`Unpadded` with transformers' interface: (batch, heads, tokens, width) -> (batch, tokens, heads, width)."""
    return Unpadded.apply(query, key, value).transpose(1, 2), None


def shape(encoder: str) -> ModernBertConfig:
    """The encoder's configuration: from its folder, or from shapes.toml.

    Raises:
        ReleaseError: It is neither a folder nor listed, or the folder's is no ModernBERT, whose parts alone are counted.
    """
    file = resource(encoder) / "config.json"
    if file.is_file():
        return _read(file)
    known = published()
    if encoder not in known["encoders"]:
        raise ReleaseError(
            f"the shape of {encoder!r} is not known",
            where="release/shapes.toml",
            hint="name a local folder, or add its shape",
        )
    return ModernBertConfig(**known["common"], **known["encoders"][encoder])


def _read(file: Path) -> ModernBertConfig:
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        kind = settings.get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ReleaseError("cannot be read as settings of an encoder", where=str(file), hint="write it anew") from error
    if kind != ModernBertConfig.model_type:
        what = f"parameters and memory of an encoder of type {kind!r} are not counted here"
        raise ReleaseError(what, where=str(file), hint="choose a ModernBERT; only plan-train needs it")
    try:
        return ModernBertConfig(**settings)
    except (TypeError, ValueError, StrictDataclassError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise ReleaseError(f"no settings of a ModernBERT ({first})", where=str(file), hint="correct it") from error


def published() -> dict[str, Any]:
    """shapes.toml."""
    return tomllib.loads(Path(__file__).with_name("shapes.toml").read_text(encoding="utf-8"))


def count(config: ModernBertConfig) -> dict[str, int]:
    """Parameters of encoder and head, and the bytes per token that a bf16 forward pass keeps for the backward one."""
    AttentionInterface.register("counted", attention)
    width = config.hidden_size
    with torch.device("meta"):
        encoder = ModernBertModel(config).to(torch.bfloat16)
        head = nn.Sequential(nn.Linear(width, width, bias=False), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 1))
        ids = torch.zeros((1, SEEN), dtype=torch.long)
    encoder.set_attn_implementation("counted")
    weights = {id(weight) for weight in encoder.parameters()}
    tensors: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base  # views share the memory of their base
        if id(base) not in weights:
            tensors[id(base)] = base  # held on to, so that no other tensor gets its id
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(input_ids=ids)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    return {
        "encoder": sum(weight.numel() for weight in encoder.parameters()),
        "head": sum(weight.numel() for weight in head.parameters()),
        "kept_per_token": math.ceil(size / SEEN),
    }
