"""What recipes/distill.py takes from this project: losses, samplers, training without padding, checks, the run record."""

from release.evaluation.nano_evaluator import NanoBEIR
from release.runtime.precision import has_fast_bf16
from release.runtime.unpadded import unpad
from release.training.losses import loss_and_sampler
from release.training.run import Run

__all__ = ["NanoBEIR", "Run", "has_fast_bf16", "loss_and_sampler", "unpad"]
