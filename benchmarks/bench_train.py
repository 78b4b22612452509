"""Training, unpadded against the published path on the same pairs: `python benchmarks/bench_train.py`.

Theirs is what Sentence Transformers does on a machine without flash-attn: padded batches, single precision. Ours is
`release.runtime.unpadded` under bfloat16 autocast where the CPU has it. Both start from the same weights and take the same
steps (forward, backward, clipping, AdamW); in single precision the losses must be equal, and that is checked first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import MSELoss

from benchmarks.common import natural_pairs, ratio, reranker, rounds, write_encoder
from release.runtime.precision import has_fast_bf16
from release.runtime.unpadded import unpad


class Side:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    size = options.batch
    with tempfile.TemporaryDirectory() as folder:
        pairs = natural_pairs(size * (options.rounds + 1))
        write_encoder(Path(folder), [" ".join(pair) for pair in pairs])
        batches = [pairs[first : first + size] for first in range(0, len(pairs), size)]
        half = has_fast_bf16()
        sides: dict[str, Callable[[], None]] = {
            "published: padded, fp32": Side(reranker(Path(folder)), batches, half=False),
            "unpadded, fp32": Side(unpad(reranker(Path(folder))), batches, half=False),
        }
        if half:
            sides["unpadded, bf16"] = Side(unpad(reranker(Path(folder))), batches, half=True)
        for warm_up in sides.values():
            warm_up()
        taken = rounds(sides, options.rounds)

    theirs, single, *half_precision = sides
    ours = half_precision[0] if half_precision else single  # where the CPU has no bf16
    losses = {name: np.array(side.losses) for name, side in sides.items() if isinstance(side, Side)}
    difference = {name: float(np.abs(found / losses[theirs] - 1).max()) for name, found in losses.items()}
    table = Table(
        title=f"Training, 17m shape, {options.rounds} steps of {size} pairs, {torch.get_num_threads()} threads"
    )
    for column in ("", "pairs/s (median)", "times as fast", "loss, greatest relative difference"):
        table.add_column(column, justify="right" if column else "left")
    for name, seconds in taken.items():
        rate = f"{size / statistics.median(seconds):.1f}"
        table.add_row(name, rate, f"{ratio(taken[theirs], seconds):.2f}", f"{difference[name]:.1e}")
    Console().print(table)
    last = {
        "ours": round(size / statistics.median(taken[ours]), 2),
        "theirs": round(size / statistics.median(taken[theirs]), 2),
        "ratio": round(ratio(taken[theirs], taken[ours]), 2),
        "unit": "pairs/s",
        "max_loss_difference": difference[ours],
        "max_loss_difference_fp32": difference[single],
        "max_score_difference": difference[single],  # the benchmarks' common key; here of the losses, relative
        "loss_last": {"ours": losses[ours][-1], "theirs": losses[theirs][-1]},
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(last), flush=True)


if __name__ == "__main__":
    main()
