"""Training, unpadded against the published path on the same pairs: `python benchmarks/bench_train.py`.

Theirs is what Sentence Transformers does on a machine without flash-attn: padded batches, single precision. Ours is
`release.runtime.unpadded` under bfloat16 autocast where the CPU has it. Both start from the same weights and take the same
steps (forward, backward, clipping, AdamW); in single precision the losses must be equal, and that is checked first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import MSELoss

from benchmarks.common import natural_pairs, reranker, write_encoder
from benchmarks.matrix_rate import flops_per_pair, share
from benchmarks.timing import compare, positive
from release.console import print_json
from release.runtime.precision import has_fast_bf16
from release.runtime.unpadded import unpad


class TrainingSide:
    """A model, its optimizer and its losses; every call trains on the next batch."""

    def __init__(self, model: CrossEncoder, batches: list[list[tuple[str, str]]], half: bool) -> None:
        self.model, self.half, self.losses = model.train(), half, list[float]()
        self.loss = MSELoss(model)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=2.4e-4, fused=True)
        self.batches: Iterator[list[tuple[str, str]]] = iter(batches)

    def __call__(self) -> None:
        batch = next(self.batches)
        columns = [list(column) for column in zip(*batch, strict=True)]
        labels = torch.tensor([len({*q.split()} & {*d.split()}) - 4.0 for q, d in batch])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            loss = self.loss(columns, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(loss.item())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=6)
    parser.add_argument("--batch", type=positive, default=32)
    options = parser.parse_args(argv)
    size = options.batch
    with tempfile.TemporaryDirectory() as folder:
        pairs = natural_pairs(size * 2 * (options.rounds + 1))  # with one thread and with all, each after a warm-up
        write_encoder(Path(folder), [" ".join(pair) for pair in pairs])
        batches = [pairs[first : first + size] for first in range(0, len(pairs), size)]
        half = has_fast_bf16()
        sides = {
            "padded, fp32": TrainingSide(reranker(Path(folder)), batches, half=False),
            "unpadded, fp32": TrainingSide(unpad(reranker(Path(folder))), batches, half=False),
        }
        if half:
            sides["unpadded, bf16"] = TrainingSide(unpad(reranker(Path(folder))), batches, half=True)
        measured = compare(dict(sides), options.rounds)
        needed = 3 * flops_per_pair(sides["unpadded, fp32"].model.eval(), pairs)  # backward takes twice as many

    theirs, single, *half_precision = sides
    ours = half_precision[0] if half_precision else single  # where the CPU has no bf16
    losses = {name: np.array(side.losses) for name, side in sides.items()}
    difference = {name: float(np.abs(each / losses[theirs] - 1).max()) for name, each in losses.items()}
    measured.show(f"Training, 17m shape, {options.rounds} steps of {size} pairs", size, "pairs")
    for name, apart in difference.items():
        print(f"losses of {name}: {apart:.1e} apart, relative")
    line = measured.as_json(ours, size, "pairs")
    print_json(
        line
        | share(line["ours"], needed, half)
        | {
            "ratio_fp32": round(measured.times(single), 2),
            "max_loss_difference": difference[ours],
            "max_loss_difference_fp32": difference[single],
            "max_score_difference": difference[single],  # the benchmarks' common key; here of the losses, relative
            "loss_last": {"ours": losses[ours][-1], "theirs": losses[theirs][-1]},
        }
    )


if __name__ == "__main__":
    main()
