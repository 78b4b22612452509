"""LoRA: two small matrices beside each of the encoder's, which alone are trained there; the head is trained whole.

They are folded into the encoder before anything is measured or saved, so that a release has no other form than any other. The
trained state and the optimiser shrink, the forward pass does not: it is for machines whose memory the optimiser would not fit.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor, nn

from release.errors import ReleaseError

ADAPTER = "default"  # peft's own name of the only one


def check(model: CrossEncoder, rank: int) -> None:
    """Refuse, before anything is measured, what cannot be trained with LoRA.

    Raises:
        ReleaseError: The package peft is not installed, or matrices of this rank are larger than the encoder's own.
    """
    if find_spec("peft") is None:
        hint = "pip install 'ettin-release[finetune,lora]', or leave --lora out"
        raise ReleaseError("the package 'peft' is not installed", hint=hint)
    encoder: Any = model[0]
    width = encoder.model.config.hidden_size
    if 2 * rank > width:  # two matrices of width x rank beside one of width x width
        what = f"matrices of rank {rank:,} are larger than those of an encoder {width:,} wide"
        raise ReleaseError(what, hint=f"take a --lora up to {width // 2}, such as 16, or leave it out")


def add(model: CrossEncoder, rank: int, seed: int) -> None:
    """Put matrices of `rank` beside every linear layer of the encoder, in place; its own weights are no longer trained."""
    from peft import LoraConfig, inject_adapter_in_model  # of the extra `lora`

    encoder: Any = model[0]
    linear = {name.rpartition(".")[2] for name, part in encoder.model.named_modules() if isinstance(part, nn.Linear)}
    torch.manual_seed(seed)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=sorted(linear)), encoder.model)


def folded(model: CrossEncoder) -> dict[str, Tensor]:
    """A copy of all weights under the names that they have without LoRA; without any it is a plain copy."""
    weights = {
        name.replace(".base_layer.", "."): tensor.detach().clone()
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, part in model.named_modules():
        if hasattr(part, "get_delta_weight"):
            weights[f"{name}.weight"] += part.get_delta_weight(ADAPTER).detach()
    return weights
