"""What taking the padding out of every layer is worth, at one true shape with random weights: `make bench-unpadded`.

(a) a padded sequence classifier with torch's sdpa, as Sentence Transformers runs it by default; (b) the same with
variable-length or flash attention, which leaves padding in all other layers; (c) one flat row without padding through every
layer. All three have the same weights, dtype and pairs, and must give the same scores. The pairs are as long as questions
with their Wikipedia passages. The same command runs on a CPU and on a GPU, with flash-attn too where it is installed.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from transformers.utils import logging

from benchmarks import padded_varlen, shapes, timing
from benchmarks.matrix_rate import flops_per_pair, share
from benchmarks.timing import Cost
from release.console import print_json, table
from release.runtime import unpadded
from release.runtime.memory import peak_memory_mb, reset_peak
from release.runtime.precision import has_fast_bf16

Pairs = list[tuple[str, str]]
CHECKED = 16  # pairs that every side must score alike in float32
TOLERANCE = 1e-4  # rounding is near 1e-6


@dataclass(frozen=True)
class ScoringSide:
    """One way to score.

    Attributes:
        predict: Pairs and the pairs of a batch -> float32 scores, (pairs,).
        exact: Whether it can compute in float32.
    """

    name: str
    model: CrossEncoder
    predict: Callable[[Pairs, int], np.ndarray]
    exact: bool = True

    @property
    def weights_mb(self) -> float:
        return sum(weight.numel() * weight.element_size() for weight in self.model.parameters()) / 1e6


@dataclass(frozen=True)
class SideCosts:
    """A side at its best batch: all rounds, memory with the weights, and how far its scores are from those of (a)."""

    batch: int
    costs: list[Cost]
    peak_mb: float
    max_score_difference: float

    @property
    def median(self) -> Cost:
        return timing.median(self.costs)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu = torch.cuda.is_available()
    named = shapes.published_shapes() | shapes.tiny_shapes()
    parser.add_argument("--shape", choices=list(named), default="150m")
    parser.add_argument("--pairs", type=timing.positive, default=4096 if gpu else 64)
    parser.add_argument(
        "--batch", type=timing.positive, nargs="+", default=[128, 512, 2048] if gpu else [32], help="pairs"
    )
    parser.add_argument("--rounds", type=timing.positive, default=3)
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="bfloat16" if has_fast_bf16() else "float32"
    )
    options = parser.parse_args(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    load, pairs = os.getloadavg()[0], shapes.question_pairs(options.pairs)
    flash = gpu and options.dtype == "bfloat16" and find_spec("flash_attn") is not None
    sides = make_sides(named[options.shape], "cuda" if gpu else "cpu", flash)
    apart = largest_difference([side for side in sides if side.exact], pairs[:CHECKED])
    if not apart <= TOLERANCE:
        parser.exit(1, f"error: the sides' float32 scores are {apart:.1e} apart, more than {TOLERANCE}\n")
    for side in sides:
        side.model.to(getattr(torch, options.dtype))
        side.predict(pairs[:CHECKED], CHECKED)
    measured = measure(sides, pairs, options.batch, options.rounds)
    theirs = measured[sides[0].name]
    ours = min((each for name, each in measured.items() if name[:3] == "(c)"), key=lambda each: each.median.wall)
    show(measured, pairs)
    alone = {} if gpu else with_one_thread(sides, measured, pairs, options.rounds, options.dtype)
    judged = "wall" if gpu else "cpu"  # a CPU's wall seconds depend on what else it does
    print_json(
        {
            "ratio": round(timing.ratio(theirs.costs, ours.costs, judged), 2),
            "ratio_wall": round(timing.ratio(theirs.costs, ours.costs, "wall"), 2),
            "peak_mb": round(ours.peak_mb),
            "peak_mb_padded": round(theirs.peak_mb),
            **alone,
            "judged_by": f"{judged} seconds",
            "sides": {name: as_row(each, len(pairs)) for name, each in measured.items()},
            "max_score_difference_float32": apart,
            "model": f"{options.shape} shape, random weights",
            "dtype": options.dtype,
            "pairs": len(pairs),
            "mean_tokens": round(shapes.mean_tokens(pairs), 1),
            "rounds": options.rounds,
            "device": torch.cuda.get_device_name() if gpu else "CPU",
            "threads": torch.get_num_threads(),
            "load_before": load,
        }
    )


def make_sides(shape: shapes.Shape, device: str, flash: bool) -> list[ScoringSide]:
    """Every side, (a) first, all with the same weights in float32; `flash`: those with flash attention 2 as well."""
    padded_varlen.register()
    flat = shapes.modular(shape, device)
    plain, varlen = shapes.classifier(flat, shape, device), shapes.classifier(flat, shape, device)
    varlen[0].model.set_attn_implementation(padded_varlen.NAME)
    sides = [
        ScoringSide("(a) classifier, sdpa", plain, in_batches(plain)),
        ScoringSide("(b) classifier, varlen", varlen, in_batches(varlen)),
        ScoringSide("(c) no padding at all", unpadded.unpad(flat), in_rows(flat)),
    ]
    if flash:
        padded, rows = shapes.classifier(flat, shape, device), shapes.modular(shape, device)
        for model in (padded, rows):
            model[0].model.set_attn_implementation("flash_attention_2")
        rows[0].unpad_inputs = True
        sides.append(ScoringSide("(b) classifier, flash 2", padded, in_batches(padded), exact=False))
        sides.append(ScoringSide("(c) no padding, flash 2", rows, in_batches(rows), exact=False))
    return sides


def largest_difference(sides: list[ScoringSide], pairs: Pairs) -> float:
    """Between the scores of the first side and those of any other."""
    first, *others = (side.predict(pairs, len(pairs)) for side in sides)
    return max(float(np.abs(scores - first).max()) for scores in others)


def in_batches(model: CrossEncoder) -> Callable[[Pairs, int], np.ndarray]:
    """Sentence Transformers' own loop: batches of so many pairs, sorted by length."""
    return lambda pairs, batch: model.predict(pairs, batch_size=batch, show_progress_bar=False)


def in_rows(model: CrossEncoder) -> Callable[[Pairs, int], np.ndarray]:
    """Our loop: rows of as many tokens as so many pairs have on average."""

    def predict(pairs: Pairs, batch: int) -> np.ndarray:
        return unpadded.predict(model, pairs, token_budget=round(batch * shapes.mean_tokens(pairs)))

    return predict


def measure(sides: list[ScoringSide], pairs: Pairs, batches: list[int], rounds: int) -> dict[str, SideCosts]:
    """Every side at its best batch. The first pass shows how much memory the work takes."""
    best: dict[str, SideCosts] = {}
    for batch in batches:
        work = {side.name: partial(side.predict, pairs, batch) for side in sides}
        peaks, scores = {}, {}
        for side in sides:
            reset_peak()
            before = peak_memory_mb()
            scores[side.name] = work[side.name]()
            peaks[side.name] = peak_memory_mb() - before + side.weights_mb
        reference = scores[sides[0].name]
        for name, costs in timing.rounds(work, rounds).items():
            row = SideCosts(batch, costs, peaks[name], float(np.abs(scores[name] - reference).max()))
            if name not in best or row.median.wall < best[name].median.wall:
                best[name] = row
    return best


def with_one_thread(
    sides: list[ScoringSide], measured: dict[str, SideCosts], pairs: Pairs, rounds: int, dtype: str
) -> dict[str, Any]:
    """Every side again with one thread, at its best batch: a table for people; for programs ratio, sides and our share.

    On a CPU, where one side alone leaves all padding out.
    """
    plain, ours = sides[0], next(side for side in sides if side.name[:3] == "(c)")
    work = {side.name: partial(side.predict, pairs, measured[side.name].batch) for side in sides}
    with timing.threads(1):
        costs = timing.rounds(work, rounds)
    print("with one thread:")
    show(alone := {name: replace(measured[name], costs=taken) for name, taken in costs.items()}, pairs)
    rate = len(pairs) / alone[ours.name].median.cpu
    return {
        "ratio_one_thread": round(timing.ratio(costs[plain.name], costs[ours.name]), 2),
        "sides_one_thread": {name: as_row(each, len(pairs)) for name, each in alone.items()},
        **share(rate, flops_per_pair(ours.model, pairs), dtype == "bfloat16"),
    }


def as_row(measured: SideCosts, pairs: int) -> dict[str, float]:
    """One side for programs."""
    return {
        "pairs_per_second": round(pairs / measured.median.wall, 2),
        "wall_seconds": round(measured.median.wall, 3),
        "cpu_seconds": round(measured.median.cpu, 3),
        "peak_mb": round(measured.peak_mb),
        "batch": measured.batch,
        "max_score_difference": measured.max_score_difference,
    }


def show(measured: dict[str, SideCosts], pairs: Pairs) -> None:
    """A table for people."""
    theirs = next(iter(measured.values()))
    rows = []
    for name, each in measured.items():
        row = as_row(each, len(pairs))
        times = [f"{timing.ratio(theirs.costs, each.costs, seconds):.2f}" for seconds in ("wall", "cpu")]
        seconds = [f"{row['wall_seconds']:.2f}", f"{row['cpu_seconds']:.2f}"]
        rows.append([name, f"{row['pairs_per_second']:.1f}", *seconds, *times, row["peak_mb"]])
    title = f"{len(pairs)} pairs of {shapes.mean_tokens(pairs):.0f} tokens, median of {len(theirs.costs)} rounds"
    table(title, ["", "pairs/s", "wall s", "CPU s", "x wall", "x CPU", "MB"], rows)


if __name__ == "__main__":
    main()
