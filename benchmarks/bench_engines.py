"""CPU engines side by side on the same pairs and the same number of threads: `make bench-engines`.

Sentence Transformers' default is `CrossEncoder.predict` as it comes: padded batches of 32 sorted by length, fp32. Beside it
`release/runtime/unpadded.py` and, through `release/runtime/cpu_engines.py`, ONNX Runtime and OpenVINO. Every engine reranks
BM25's best for the same queries of a BEIR folder, so that what a narrower type costs in NDCG@10 stands beside its speed.

With `--shape 17m` the weights are random: rates, but no NDCG.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer

from benchmarks.common import natural_pairs, ratio, reranker, rounds, write_encoder
from release.console import print_json, table
from release.export import checkpoint, parity
from release.export.quantize import ALLOWED, TOP_K, JudgedPairs, int8_onnx
from release.runtime import cpu_engines, unpadded
from release.runtime.precision import has_fast_bf16

DEMO = Path("build/docstring-reranker")
GOAL = 5.0  # times Sentence Transformers' default
GEMM = (512, 1024, 2048)  # sides of the square matrices that the machine's rate is measured on; the best counts
PACKAGES = ("torch", "sentence-transformers", "transformers", "onnxruntime", "openvino")
Pairs = list[tuple[str, str]]
Score = Callable[[Pairs], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEMO / "mini/model", help="a trained modular CrossEncoder")
    parser.add_argument("--collection", type=Path, default=DEMO / "data/collections/docstrings", help="a BEIR folder")
    parser.add_argument("--shape", choices=["17m"], help="random weights in this shape instead of a model")
    parser.add_argument("--queries", type=int, default=500, help="the collection's first ones, reranked for NDCG@10")
    parser.add_argument("--top-k", type=int, default=TOP_K)
    parser.add_argument("--pairs", type=int, default=512, help="of them (drawn), timed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every engine")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["RAYON_NUM_THREADS"] = str(options.threads)  # the tokenizers'
    if not options.shape and not (options.model / "modules.json").is_file():
        parser.exit(1, f"error: no model; in {options.model}; hint: make demo, or --shape 17m\n")
    with tempfile.TemporaryDirectory() as temporary, parity.quiet():
        folder = Path(temporary)
        if options.shape:
            pairs, quality = natural_pairs(options.pairs), None
            write_encoder(folder / "encoder", [" ".join(pair) for pair in pairs])
            reranker(folder / "encoder").save_pretrained(str(folder / "model"))
            model = folder / "model"
        else:
            model = options.model
            quality = JudgedPairs(options.collection, folder / "runs", top_k=options.top_k, queries=options.queries)
            order = np.random.default_rng(12).permutation(len(quality.pairs))[: options.pairs]
            pairs = [quality.pairs[place] for place in order]
        sides, skipped = prepare(model, folder / "export", options.threads)
        scores = {name: score(pairs) for name, score in sides.items()}  # also the warm-up
        taken = rounds({name: lambda score=score: score(pairs) for name, score in sides.items()}, options.rounds)
        ndcg = (
            {name: float(quality.ndcg(score(quality.pairs)).mean()) for name, score in sides.items()} if quality else {}
        )
        flops = flops_per_pair(folder / "export", pairs)
        dtypes = {name: name.rsplit(" ", 1)[-1] for name in sides}
        gemm = {dtype: gemm_rate(dtype) for dtype in sorted(set(dtypes.values()))}
    fastest = gemm | {"int8": max(gemm.values())}  # 8-bit weights may well be multiplied in a wider type
    default = next(iter(sides))
    rows = {}
    for name, seconds in taken.items():
        rate = len(pairs) / statistics.median(seconds)
        rows[name] = {
            "pairs_per_second": rate,
            "ratio": ratio(taken[default], seconds),
            "ndcg@10": ndcg.get(name),
            "ndcg_delta": ndcg[name] - ndcg[default] if ndcg else None,
            "max_score_difference": float(np.abs(scores[name] - scores[default]).max()),
            "share_of_matrix_rate": rate * flops / fastest[dtypes[name]],
        }
    about = {
        "model": f"{options.shape} shape, random weights" if options.shape else str(options.model),
        "ndcg_on": quality.description if quality else None,
        "score_range": float(np.ptp(scores[default])),
        "pairs": len(pairs),
        "gflop_per_pair": flops / 1e9,
        "matrix_gflop_per_second": {dtype: rate / 1e9 for dtype, rate in gemm.items()},
        "threads": options.threads,
        "rounds": options.rounds,
        "unit": "pairs/s",
        "versions": {name: metadata.version(name) for name in PACKAGES if find_spec(name.replace("-", "_"))},
    }
    show(rows, about, skipped)


def prepare(model: Path, folder: Path, threads: int) -> tuple[dict[str, Score], dict[str, str]]:
    """Every engine that runs here, the default first and its type last in its name; and why others are left out."""

    def loaded() -> CrossEncoder:
        return CrossEncoder(str(model), device="cpu", model_kwargs={"dtype": "float32"})

    def flat(dtype: torch.dtype) -> Score:
        found = unpadded.unpad(loaded(), dtype)
        return lambda pairs: unpadded.predict(found, pairs)

    def ort(dtype: str) -> Score:
        return cpu_engines.onnxruntime(folder, dtype, threads).predict

    def vino(dtype: str) -> Score:
        return cpu_engines.openvino(folder, dtype, threads).predict

    padded = loaded()
    checkpoint.dual_root(model, folder)
    checkpoint.make_portable(folder)
    checkpoint.whole_onnx(folder)
    int8_onnx(folder)
    makers: dict[str, Callable[[], Score]] = {
        "Sentence Transformers, fp32": lambda: lambda pairs: padded.predict(pairs, show_progress_bar=False),
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


def flops_per_pair(folder: Path, pairs: Pairs) -> float:
    """Floating-point operations that the matrix products of one pair need on average, counted by torch.

    That is without padding, and in the last layer for the first token alone; attention is counted in full, also where a
    layer looks at a window only.
    """
    model, tokenizer = checkpoint.classifier(folder), AutoTokenizer.from_pretrained(folder)
    queries, documents = (list(texts) for texts in zip(*pairs, strict=True))
    lengths = [len(ids) for ids in tokenizer(queries, documents, truncation=True)["input_ids"]]
    counted = {}
    for length in (8, 64, 256):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(torch.ones(1, length, dtype=torch.long))
        counted[length] = counter.get_total_flops()
    quadratic = np.polyfit(list(counted), list(counted.values()), 2)  # exact: attention grows with the square
    return float(np.polyval(quadratic, lengths).mean())


def gemm_rate(dtype: str) -> float:
    """Operations per second of a matrix product in this type, a multiply and an add being two: the better library's."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}[dtype]
    best = 0.0
    for side in GEMM:
        left, right = torch.randn(side, side).to(kind), torch.randn(side, side).to(kind)
        products = [lambda a=left, b=right: torch._int_mm(a, b) if kind == torch.int8 else a @ b]
        if kind == torch.float32 and find_spec("openvino"):  # neither library is the faster one on every CPU
            products.append(_openvino_product(left.numpy(), right.numpy()))
        for product in products:
            seconds = []
            while len(seconds) < 3 or (sum(seconds) < 1 and len(seconds) < 100):
                started = time.perf_counter()
                product()
                seconds.append(time.perf_counter() - started)
            best = max(best, 2 * side**3 / statistics.median(seconds))
        if sum(seconds) > 2:  # without instructions for the type, larger ones would take minutes and be no faster
            break
    return best


def _openvino_product(left: np.ndarray, right: np.ndarray) -> Callable[[], object]:
    """One matrix product in fp32 by OpenVINO with as many threads as torch has."""
    import openvino as ov
    from openvino import opset13

    given = opset13.parameter(left.shape, np.float32)
    model = ov.Model([opset13.matmul(given, opset13.constant(right), False, False)], [given])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([left], share_inputs=True, share_outputs=True)


def show(rows: dict[str, dict[str, Any]], about: dict[str, Any], skipped: dict[str, str]) -> None:
    """A table for people, then the one JSON line for programs."""
    columns = ["engine", "pairs/s", "ratio", "NDCG@10", "change", "score difference", "of the matrix rate"]
    cells = [
        [
            name,
            f"{row['pairs_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            "-" if row["ndcg_delta"] is None else f"{row['ndcg@10']:.4f}",
            "-" if row["ndcg_delta"] is None else f"{row['ndcg_delta']:+.4f}",
            f"{row['max_score_difference']:.1e}",
            f"{row['share_of_matrix_rate']:.2f}",
        ]
        for name, row in rows.items()
    ]
    table(f"CPU engines: {about['model']}, {about['pairs']} pairs, {about['threads']} threads", columns, cells)
    for name, reason in skipped.items():
        print(f"not run: {name}: {reason}")
    same = [name for name, row in rows.items() if abs(row["ndcg_delta"] or 0.0) <= ALLOWED]
    best = max(same, key=lambda name: rows[name]["pairs_per_second"])
    reached = about["ndcg_on"] is not None and rows[best]["ratio"] >= GOAL
    line = {"engines": rows, "best": best, "ratio": rows[best]["ratio"], "goal": GOAL, "reached": reached}
    line |= {"share_of_matrix_rate": rows[best]["share_of_matrix_rate"], "skipped": skipped}
    print_json(line | about)


if __name__ == "__main__":
    main()
