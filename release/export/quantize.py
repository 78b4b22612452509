"""The ONNX file once more with 8-bit weights, a fourth of the size, where that costs no more than a trifle of quality.

`onnx/model_quantized.onnx` (the name under which transformers.js looks for it) holds 8-bit weights per channel; activations
are quantized as they come. It is kept only if NDCG@10, measured on the family's own collection, falls by at most
`ALLOWED`; whether and why is in the record "export".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from release.evaluation import metrics
from release.family import Family
from release.results.export import Int8Export, Int8Measurement

FILE = "onnx/model_quantized.onnx"
ALLOWED = 0.001  # of NDCG@10
TOP_K = 20  # candidates of each query: what is compared are two rerankers on the same ones


class JudgedPairs:
    """A collection's queries with BM25's best: NDCG@10 of anything that scores pairs.

    Attributes:
        pairs: All (query, document) that are scored.
        description: What they are, for people.
    """

    def __init__(
        self, collection: Path, runs: Path, *, top_k: int = TOP_K, queries: int | None = None, language: str = "en"
    ) -> None:
        """Read a BEIR folder; the run of BM25 is written to `runs`, or read from there. The first `queries` or all count.

        Args:
            language: Of the folder's texts, for BM25: an ISO 639 code.
        """
        from release.evaluation.first_stage import first_stage, retrieve  # late: mteb takes seconds to import
        from release.evaluation.tasks import document_text, from_folder
        from release.evaluation.two_stage import candidates

        task = from_folder(collection)
        first = candidates(task, retrieve(first_stage("bm25", language), task, runs).ranking, top_k)
        self.first = {query: first[query] for query in list(first)[:queries]}
        self.judgements = {query: task.judgements[query] for query in self.first}
        documents = {row["id"]: document_text(row) for row in task.split["corpus"]}
        texts = dict(zip(task.split["queries"]["id"], task.split["queries"]["text"], strict=True))
        self.pairs = [(texts[query], documents[name]) for query, names in self.first.items() for name in names]
        self.description = f"{task.name}, BM25's top {top_k} of {len(self.first)} queries"

    def ndcg(self, scores: np.ndarray) -> np.ndarray:
        """NDCG@10 of every query, shape (queries,), from the scores of `pairs`."""
        values = iter(scores.tolist())
        by_query = {query: {name: next(values) for name in names} for query, names in self.first.items()}
        return metrics.ndcg(metrics.rerank(self.first, by_query), self.judgements)


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
    judged = JudgedPairs(collection, family.build / "runs", language=family.about.language)
    measured = _measure(judged, folder)
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
