"""The ONNX file once more in 8 and in 16 bits, a fourth and a half of its size, where that costs no more than a trifle of quality.

`onnx/model_quantized.onnx` holds 8-bit weights per channel, activations are quantized as they come; in `onnx/model_fp16.onnx`
all but ids, mask and outputs is in 16 bits, for GPUs and browsers. transformers.js looks for both names. Each is kept only if
NDCG@10, measured on the family's own collection or else on its nano sets, falls by at most `ALLOWED`; whether and why is in
the record "export". It is judged on all `QUERIES` or not at all, and not at all where this machine would take longer than `HOURS`:
fewer queries would say less than `ALLOWED` asks.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from release import mode
from release.errors import ReleaseError
from release.evaluation import metrics
from release.evaluation.judged_pairs import JudgedPairs, from_folder, from_nano
from release.export import graph
from release.family import Family
from release.results.export import NarrowExport, NarrowMeasurement
from release.runtime.cpu_engines import CpuEngine, onnxruntime

FILES = {"int8": "onnx/model_quantized.onnx", "fp16": "onnx/model_fp16.onnx"}
ALLOWED = 0.001  # of NDCG@10
HOURS = 1.0  # that judging may take
QUERIES, REHEARSED = 250, 13  # that it is measured on, 20 candidates each: 700 took most of an export


def int8_onnx(folder: Path) -> Path:
    """Write the file with 8-bit weights beside the `onnx/model.onnx` of `folder`.

    Weights are unsigned: signed ones are faster where a CPU multiplies 8-bit numbers (VNNI), but on others their sums
    overflow 16 bits, and scores would depend on the machine.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = folder / FILES["int8"]
    quantize_dynamic(folder / graph.FILE, path, per_channel=True, weight_type=QuantType.QUInt8)
    return path


def fp16_onnx(folder: Path) -> Path:
    """Write the file in 16 bits beside the `onnx/model.onnx` of `folder`; its inputs and outputs stay as they are."""
    import onnx
    import onnx_ir
    from onnxruntime.transformers.float16 import convert_float_to_float16

    whole = onnx.load(folder / graph.FILE)
    narrow = convert_float_to_float16(whole, keep_io_types=True, disable_shape_infer=True)  # which 2 GB would break
    graph.save(onnx_ir.from_proto(narrow), folder / FILES["fp16"])
    return folder / FILES["fp16"]


WRITERS = {"int8": int8_onnx, "fp16": fp16_onnx}


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


def add_narrow(family: Family, folder: Path, hours: float = HOURS) -> dict[str, NarrowExport]:
    """Add to an export those of `FILES` that may be released.

    Args:
        hours: That judging may take; none is added where it would take longer.

    Returns:
        Of every type whether its file is there, and what was measured.
    """
    if (judged := judged_pairs(family, mode.amount(QUERIES, REHEARSED))) is None:
        name = (*family.evaluation.collections, family.evaluation.nano)[0]
        return dict.fromkeys(FILES, NarrowExport(False, f"{name!r} is not here to measure NDCG@10 on", None))
    engine = onnxruntime(folder)
    if (needed := _hours(engine, judged)) > hours:
        reason = f"NDCG@10 on {len(judged.pairs)} pairs would take about {needed:.2g} hours here, {hours:g} are allowed"
        return dict.fromkeys(FILES, NarrowExport(False, f"not judged: {reason}", None))
    exact = engine.predict(judged.pairs)
    return {dtype: _judged(judged, exact, folder, dtype) for dtype in FILES}


def _hours(engine: CpuEngine, judged: JudgedPairs) -> float:
    """How long fp32 and `FILES` take for all pairs, by a few of them that are spread over all."""
    count = min(len(judged.pairs), 8 * engine.threads)
    started = time.perf_counter()
    engine.predict([judged.pairs[at * len(judged.pairs) // count] for at in range(count)])
    taken = time.perf_counter() - started
    return taken * len(judged.pairs) / count * (1 + len(FILES)) / 3600


def _judged(judged: JudgedPairs, exact: np.ndarray, folder: Path, dtype: str) -> NarrowExport:
    WRITERS[dtype](folder)
    scores = onnxruntime(folder, dtype).predict(judged.pairs)
    if not np.isfinite(scores).all():
        _remove(folder / FILES[dtype])
        return NarrowExport(False, "scores that are no numbers", None)
    before, after = judged.ndcg(exact), judged.ndcg(scores)
    low, high = metrics.interval(metrics.bootstrap(after - before))
    measured = NarrowMeasurement(
        file=FILES[dtype],
        bytes=sum(file.stat().st_size for file in (folder / "onnx").glob(f"{Path(FILES[dtype]).name}*")),
        max_score_difference=float(np.abs(scores - exact).max()),
        collection=judged.description,
        queries=len(before),
        float32_ndcg=float(before.mean()),
        ndcg=float(after.mean()),
        change=float((after - before).mean()),
        ci_low=low,
        ci_high=high,
    )
    if measured.change >= -ALLOWED:
        return NarrowExport(True, None, measured)
    _remove(folder / FILES[dtype])
    return NarrowExport(False, f"NDCG@10 changes by {measured.change:+.4f}, {-ALLOWED} is allowed", measured)


def _remove(path: Path) -> None:
    """A file with its weights beside it, where they are."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
