"""CPU engines side by side on the same pairs, with one thread and with all: `make bench-engines`.

Sentence Transformers' default is `CrossEncoder.predict` as it comes: padded batches of 32 sorted by length, fp32. Beside it
`release/runtime/unpadded.py` and, through `release/runtime/cpu_engines.py`, ONNX Runtime and OpenVINO. Every engine reranks
BM25's best for the same queries of a BEIR folder, so that what a narrower type costs in NDCG@10 stands beside its speed.

With `--shape 17m` the weights are random: rates, but no NDCG. The judge is CPU seconds with one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from benchmarks.common import natural_pairs, reranker, write_encoder
from benchmarks.matrix_rate import flops_per_pair, gemm_rate
from benchmarks.timing import SideTimings, median, positive, rounds, threads
from release.console import print_json, quiet, table
from release.evaluation.judged_pairs import TOP_K, from_folder
from release.export import checkpoint
from release.export.quantize import ALLOWED, int8_onnx
from release.runtime import cpu_engines, unpadded
from release.runtime.precision import has_fast_bf16

DEMO = Path("build/docstring-reranker")
GOAL = 5.0  # times Sentence Transformers' default
PACKAGES = ("torch", "sentence-transformers", "transformers", "onnxruntime", "openvino")
Pairs = list[tuple[str, str]]
Score = Callable[[Pairs], np.ndarray]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO / "mini/model", help="a trained modular CrossEncoder")
    parser.add_argument("--collection", type=Path, default=DEMO / "data/collections/docstrings", help="a BEIR folder")
    parser.add_argument("--shape", choices=["17m"], help="random weights in this shape instead of a model")
    parser.add_argument(
        "--queries", type=positive, default=500, help="the collection's first ones, reranked for NDCG@10"
    )
    parser.add_argument("--top-k", type=positive, default=TOP_K)
    parser.add_argument("--pairs", type=positive, default=512, help="of them (drawn), timed")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument(
        "--threads", type=positive, default=len(os.sched_getaffinity(0)), help="of every engine, after one"
    )
    options = parser.parse_args(argv)
    if not options.shape and not (options.model / "modules.json").is_file():
        parser.exit(1, f"error: no model; in {options.model}; hint: make demo, or --shape 17m\n")
    load, taken = os.getloadavg()[0], {}
    with tempfile.TemporaryDirectory() as temporary, quiet():
        folder = Path(temporary)
        if options.shape:
            pairs, quality = natural_pairs(options.pairs), None
            write_encoder(folder / "encoder", [" ".join(pair) for pair in pairs])
            reranker(folder / "encoder").save_pretrained(str(folder / "model"))
            model = folder / "model"
        else:
            model = options.model
            quality = from_folder(options.collection, folder / "runs", top_k=options.top_k, queries=options.queries)
            order = np.random.default_rng(12).permutation(len(quality.pairs))[: options.pairs]
            pairs = [quality.pairs[index] for index in order]
        export(model, folder / "export")
        for count in sorted({1, options.threads}):
            with threads(count):
                sides, skipped = prepare(model, folder / "export", count)
                scores = {name: score(pairs) for name, score in sides.items()}  # also the warm-up
                taken[count] = rounds({name: partial(score, pairs) for name, score in sides.items()}, options.rounds)
        ndcg = {}
        if quality:
            ndcg = {name: float(quality.ndcg(score(quality.pairs)).mean()) for name, score in sides.items()}
        needed = flops_per_pair(unpadded.unpad(padded(model)), pairs)
        with threads(1):
            gemm = {dtype: gemm_rate(dtype) for dtype in sorted({dtype_of(name) for name in sides})}
    measured, default = SideTimings(taken, load), next(iter(sides))
    fastest = gemm | {"int8": max(gemm.values())}  # 8-bit weights may well be multiplied in a wider type
    rows = {}
    for name in sides:
        rate = len(pairs) / median(taken[1][name]).cpu
        rows[name] = {
            "pairs_per_cpu_second": rate,
            "ratio": measured.times(name),
            "pairs_per_second": len(pairs) / median(taken[options.threads][name]).wall,
            "ratio_wall_all_threads": measured.times(name, "wall", threads=options.threads),
            "ndcg@10": ndcg.get(name),
            "ndcg_delta": ndcg[name] - ndcg[default] if ndcg else None,
            "max_score_difference": float(np.abs(scores[name] - scores[default]).max()),
            "share": rate * needed / fastest[dtype_of(name)],
        }
    about = {
        "model": f"{options.shape} shape, random weights" if options.shape else str(options.model),
        "ndcg_on": quality.description if quality else None,
        "score_range": float(np.ptp(scores[default])),
        "pairs": len(pairs),
        "gflop_per_pair": needed / 1e9,
        "share_of": {dtype: f"{rate / 1e9:.0f} GFLOP/s, one thread" for dtype, rate in gemm.items()},
        "versions": {name: metadata.version(name) for name in PACKAGES if find_spec(name.replace("-", "_"))},
    }
    measured.show(f"CPU engines: {about['model']}, {about['pairs']} pairs", len(pairs), "pairs")
    show(rows, about | measured.as_json(best_of(rows), len(pairs), "pairs"), skipped)


def padded(model: Path) -> CrossEncoder:
    """Sentence Transformers' default on a CPU."""
    return CrossEncoder(str(model), device="cpu", model_kwargs={"dtype": "float32"})


def dtype_of(name: str) -> str:
    """An engine's name ends with its type."""
    return name.rsplit(" ", 1)[-1]


def best_of(rows: dict[str, dict[str, Any]]) -> str:
    """The engine with the most pairs per CPU second among those whose NDCG@10 is that of the default."""
    same = [name for name, row in rows.items() if abs(row["ndcg_delta"] or 0.0) <= ALLOWED]
    return max(same, key=lambda name: rows[name]["pairs_per_cpu_second"])


def export(model: Path, folder: Path) -> None:
    """The forms that the engines read: the dual root, and ONNX in float32 and in 8 bits."""
    folder.mkdir()
    checkpoint.build(model, folder)
    int8_onnx(folder)


def prepare(model: Path, folder: Path, count: int) -> tuple[dict[str, Score], dict[str, str]]:
    """Every engine that runs here with `count` threads, the default first; and why others are left out."""

    def flat(dtype: torch.dtype) -> Score:
        model_without_padding = unpadded.unpad(padded(model), dtype)
        return lambda pairs: unpadded.predict(model_without_padding, pairs)

    def ort(dtype: str) -> Score:
        return cpu_engines.onnxruntime(folder, dtype, count).predict

    def vino(dtype: str) -> Score:
        return cpu_engines.openvino(folder, dtype, count).predict

    default = padded(model)
    makers: dict[str, Callable[[], Score]] = {
        "CrossEncoder, fp32": lambda: lambda pairs: default.predict(pairs, show_progress_bar=False),
        "unpadded.py, fp32": lambda: flat(torch.float32),
        "unpadded.py, bf16": lambda: flat(torch.bfloat16),
        "ONNX Runtime, fp32": lambda: ort("fp32"),
        "ONNX Runtime, int8": lambda: ort("int8"),
        "OpenVINO, fp32": lambda: vino("fp32"),
        "OpenVINO, bf16": lambda: vino("bf16"),
        "OpenVINO, int8": lambda: vino("int8"),
    }
    sides: dict[str, Score] = {}
    skipped: dict[str, str] = {}
    for name, make in makers.items():
        if name.endswith("bf16") and not has_fast_bf16("cpu"):
            skipped[name] = "this CPU has no bf16 instructions"
            continue
        try:
            sides[name] = make()
        except ImportError as error:
            skipped[name] = f"{error.name} is not installed"
    return sides, skipped


def show(rows: dict[str, dict[str, Any]], about: dict[str, Any], skipped: dict[str, str]) -> None:
    """What stands beside the speed, and the one JSON line for programs."""
    cells = [
        [
            name,
            "-" if row["ndcg_delta"] is None else f"{row['ndcg@10']:.4f}",
            "-" if row["ndcg_delta"] is None else f"{row['ndcg_delta']:+.4f}",
            f"{row['max_score_difference']:.1e}",
            f"{row['share']:.2f}",
        ]
        for name, row in rows.items()
    ]
    table("Quality, and the share of the matrix rate", ["", "NDCG@10", "change", "scores apart", "share"], cells)
    for name, reason in skipped.items():
        print(f"not run: {name}: {reason}")
    best = best_of(rows)
    reached = about["ndcg_on"] is not None and rows[best]["ratio"] >= GOAL
    line = {"engines": rows, "best": best, "share": rows[best]["share"], "skipped": skipped}
    print_json(about | line | {"goal": GOAL, "reached": reached})


if __name__ == "__main__":
    main()
