"""Whether bfloat16 is worth its rounding on this machine. Imports torch and nothing else."""

from __future__ import annotations

import torch


def has_fast_bf16() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware: a CUDA device, or a CPU with AVX-512 BF16 or AMX."""
    capabilities = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
