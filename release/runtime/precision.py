"""Whether bfloat16 is worth its rounding on a device, and whether flash attention is here. Imports torch and transformers alone."""

from __future__ import annotations

import torch


def has_fast_bf16(device: str | None = None) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware; where they are emulated, float32 is faster.

    Args:
        device: "cpu" or "cuda"; CUDA if left out where there is one, else the CPU.
    """
    if device == "cuda" or (device is None and torch.cuda.is_available()):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def has_flash_attention() -> bool:
    """Whether transformers finds flash attention: the package flash-attn, or `kernels`, which fetches it as published."""
    from transformers import utils  # it takes seconds to import

    return bool(utils.is_flash_attn_2_available() or utils.is_kernels_available())
