"""Memory while a model runs: its peak, whether it ran out, and giving back what is no longer used. Imports torch alone."""

from __future__ import annotations

import ctypes
import gc
import resource
from contextlib import suppress
from pathlib import Path

import torch


def free() -> None:
    """Give back what is no longer used: a model of an earlier configuration, or what a batch that was too large left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak() -> None:
    """Start a new peak of memory: the GPU's, or where Linux allows it this process's."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError, AttributeError):  # glibc holds on to what was freed, and it would count
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory_mb() -> float:
    """The most memory in use since `reset_peak`, in MB: allocated on the GPU, else resident in this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch or Python means that memory ran out; an illegal access to memory is something else."""
    phrases = ("out of memory", "allocate memory", "alloc_failed")  # the last: cuBLAS and cuDNN
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in phrases)
