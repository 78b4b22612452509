"""The ONNX file once more with 8-bit weights, a fourth of the size, where that costs no more than a trifle of quality.

`onnx/model_quantized.onnx` (the name under which transformers.js looks for it) holds 8-bit weights per channel; activations
are quantized as they come. It is kept only if NDCG@10, measured on the family's own collection or else on its nano sets, falls
by at most `ALLOWED`; whether and why is in the record "export".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from release.errors import ReleaseError
from release.evaluation import metrics
from release.evaluation.judged_pairs import JudgedPairs, from_folder, from_nano
from release.family import Family
from release.results.export import Int8Export, Int8Measurement
from release.runtime.cpu_engines import onnxruntime

FILE = "onnx/model_quantized.onnx"
ALLOWED = 0.001  # of NDCG@10
QUERIES = 250  # that it is measured on, 20 candidates each: 700 took most of an export


def int8_onnx(folder: Path) -> Path:
    """Write `FILE` beside the `onnx/model.onnx` of `folder`.

    Weights are unsigned: signed ones are faster where a CPU multiplies 8-bit numbers (VNNI), but on others their sums
    overflow 16 bits, and scores would depend on the machine.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(folder / "onnx/model.onnx", folder / FILE, per_channel=True, weight_type=QuantType.QUInt8)
    return folder / FILE


def judged_pairs(family: Family, queries: int | None = None) -> JudgedPairs | None:
    """What NDCG@10 is measured on: the family's first collection, or else its nano sets; None where neither is here.

    Args:
        queries: Of all of it, evenly over the sets; all if left out.
    """
    evaluation = family.evaluation
    if evaluation.collections and (folder := family.build / "data/collections" / evaluation.collections[0]).is_dir():
        return from_folder(folder, family.build / "runs", queries=queries, language=family.about.language)
    if evaluation.collections:
        return None
    try:
        return from_nano(evaluation.nano, queries=queries and max(1, queries // len(evaluation.nano_sets)))
    except ReleaseError:
        return None


def add_int8(family: Family, folder: Path) -> Int8Export:
    """Add `FILE` to an export if it may be released."""
    if (judged := judged_pairs(family, QUERIES)) is None:
        name = (*family.evaluation.collections, family.evaluation.nano)[0]
        return Int8Export(False, f"{name!r} is not here to measure NDCG@10 on", None)
    path = int8_onnx(folder)
    measured = _measure(judged, folder)
    if measured.change >= -ALLOWED:
        return Int8Export(True, None, measured)
    path.unlink()
    return Int8Export(False, f"NDCG@10 changes by {measured.change:+.4f}, {-ALLOWED} is allowed", measured)


def _measure(judged: JudgedPairs, folder: Path) -> Int8Measurement:
    exact, narrow = (onnxruntime(folder, dtype).predict(judged.pairs) for dtype in ("fp32", "int8"))
    before, after = judged.ndcg(exact), judged.ndcg(narrow)
    low, high = metrics.interval(metrics.bootstrap(after - before))
    return Int8Measurement(
        file=FILE,
        bytes=(folder / FILE).stat().st_size,
        max_score_difference=float(np.abs(narrow - exact).max()),
        collection=judged.description,
        queries=len(before),
        float32_ndcg=float(before.mean()),
        int8_ndcg=float(after.mean()),
        change=float((after - before).mean()),
        ci_low=low,
        ci_high=high,
    )
