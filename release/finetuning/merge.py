"""A linear merge of the base model and the fine-tuned one: the usual guard against forgetting (as IBM Granite's models are).

`CrossEncoder.merge` does it with mergekit, which cannot be installed everywhere; for a linear merge a line of arithmetic is enough.
"""

from __future__ import annotations

from torch import Tensor

Weights = dict[str, Tensor]


def blend(base: Weights, tuned: Weights, ratio: float) -> Weights:
    """`ratio` of the fine-tuned weights and the rest of the base's; what is no floating-point number stays the base's."""
    return {
        name: base[name].lerp(tuned[name], ratio) if base[name].is_floating_point() else base[name] for name in base
    }
