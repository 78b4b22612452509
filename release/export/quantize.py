"""The ONNX file once more with 8-bit weights, a fourth of the size, where that costs no more than a trifle of quality.

`onnx/model_quantized.onnx` (the name under which transformers.js looks for it) holds 8-bit weights per channel; activations
are quantized as they come. It is kept only if NDCG@10, measured on the family's own collection, falls by at most
`ALLOWED`; whether and why is in the record "export".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from release.evaluation import metrics
from release.evaluation.judged_pairs import JudgedPairs, from_folder
from release.family import Family
from release.results.export import Int8Export, Int8Measurement

FILE = "onnx/model_quantized.onnx"
ALLOWED = 0.001  # of NDCG@10


def int8_onnx(folder: Path) -> Path:
    """Write `FILE` beside the `onnx/model.onnx` of `folder`.

    Weights are unsigned: signed ones are faster where a CPU multiplies 8-bit numbers (VNNI), but on others their sums
    overflow 16 bits, and scores would depend on the machine.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(folder / "onnx/model.onnx", folder / FILE, per_channel=True, weight_type=QuantType.QUInt8)
    return folder / FILE


def add_int8(family: Family, folder: Path) -> Int8Export:
    """Add `FILE` to an export if it may be released."""
    if not (names := family.evaluation.collections):
        return Int8Export(False, "the family has no collection of its own to measure NDCG@10 on", None)
    collection = family.build / "data/collections" / names[0]
    if not collection.is_dir():
        return Int8Export(False, f"the collection {names[0]!r} is not here to measure NDCG@10 on", None)
    path = int8_onnx(folder)
    measured = _measure(from_folder(collection, family.build / "runs", language=family.about.language), folder)
    if measured.change >= -ALLOWED:
        return Int8Export(True, None, measured)
    path.unlink()
    return Int8Export(False, f"NDCG@10 changes by {measured.change:+.4f}, {-ALLOWED} is allowed", measured)


def _measure(judged: JudgedPairs, folder: Path) -> Int8Measurement:
    from release.runtime.cpu_engines import onnxruntime

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
