"""Rerank on a CPU with OpenVINO or ONNX Runtime, from the ONNX file of a released model.

Pairs are sorted by length and batched by tokens, and as many batches are worked on at once as there are threads, one
thread each: little is padded, and small matrices gain little from several threads.

    reranker = openvino("folder/of/the/model")                      # bf16 where this CPU has it
    scores = reranker.predict([("a query", "a document"), ...])

This file needs numpy, tokenizers and the engine, and nothing else: it may be copied next to a model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from tokenizers import Tokenizer

TOKEN_BUDGET = 1024  # tokens of a batch, padding included: larger ones leave a core's caches
STEP = 8  # lengths are rounded up to it: engines prepare every new shape, and so there are few


@dataclass(frozen=True)
class CpuEngine:
    """A model on one engine.

    Attributes:
        name: Engine and type of the matrix products, for example "OpenVINO, bf16".
        tokenizer: Set up to cut pairs where the model does.
        run: ids and mask, int64 of shape (batch, length) each -> logits (batch, 1); called from several threads.
        threads: Batches worked on at once.
    """

    name: str
    tokenizer: Tokenizer
    run: Callable[[np.ndarray, np.ndarray], np.ndarray]
    threads: int

    def predict(self, pairs: Sequence[tuple[str, str]], token_budget: int = TOKEN_BUDGET) -> np.ndarray:
        """Raw scores, float32 of shape (pairs,), in the order of `pairs`."""
        if not pairs:
            return np.empty(0, dtype=np.float32)
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(pairs))]
        scores = np.empty(len(ids), dtype=np.float32)

        def score(batch: np.ndarray) -> None:
            scores[batch] = self.run(*padded([ids[row] for row in batch]))[:, 0]

        with ThreadPoolExecutor(self.threads) as pool:
            for _ in pool.map(score, batches(np.array([len(each) for each in ids]), token_budget)):
                pass
        return scores


def batches(lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Indices of sequences of `lengths` tokens, longest first, at most `token_budget` per batch with its padding."""
    order, result, start = np.argsort(-lengths, kind="stable"), [], 0
    while start < len(order):
        count = max(1, token_budget // _rounded(int(lengths[order[start]])))
        result.append(order[start : start + count])
        start += count
    return result


def padded(ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of one batch, int64 of shape (sequences, longest rounded up) each."""
    filled = np.zeros((len(ids), _rounded(max(map(len, ids)))), dtype=np.int64)  # the mask hides what is no token
    mask = np.zeros_like(filled)
    for row, tokens in enumerate(ids):
        filled[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
    return filled, mask


def _rounded(length: int) -> int:
    return -(-length // STEP) * STEP


def openvino(folder: str | Path, dtype: str | None = None, threads: int | None = None) -> CpuEngine:
    """A released model on OpenVINO.

    Args:
        folder: A folder with `onnx/model.onnx` and the tokenizer.
        dtype: "fp32", "bf16", or "int8": weights of 8 bits (needs nncf), multiplied in bf16 or fp32. If left out,
            bf16 if this CPU has it, else fp32.
        threads: All usable cores if left out.
    """
    import openvino as ov

    core, threads = ov.Core(), threads or len(os.sched_getaffinity(0))
    fast = "BF16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "FP32"
    dtype = dtype or fast.lower()
    model = core.read_model(Path(folder) / "onnx/model.onnx")
    if dtype == "int8":
        import nncf

        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": {"BF16": "bf16", "FP32": "f32"}[fast]}[
            dtype
        ],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1 if dtype == "int8" else threads,  # two streams gave wrong scores in int8 (OpenVINO 2026.4.1)
    }
    compiled, idle = core.compile_model(model, "CPU", settings), SimpleQueue[Any]()
    for _ in range(threads):
        idle.put(compiled.create_infer_request())

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        request = idle.get()  # a request works on one batch at a time
        try:
            return request.infer({"input_ids": ids, "attention_mask": mask})[0]
        finally:
            idle.put(request)

    return CpuEngine(f"OpenVINO, {dtype}", _tokenizer(folder), run, threads)


def onnxruntime(folder: str | Path, dtype: str = "fp32", threads: int | None = None) -> CpuEngine:
    """A released model on ONNX Runtime.

    Args:
        folder: A folder with `onnx/model.onnx` ("fp32"), `onnx/model_quantized.onnx` ("int8") or `onnx/model_fp16.onnx`
            ("fp16", for GPUs: a CPU computes most of it in fp32), and the tokenizer.
        threads: All usable cores if left out.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    file = {"fp32": "model.onnx", "int8": "model_quantized.onnx", "fp16": "model_fp16.onnx"}[dtype]
    session = ort.InferenceSession(Path(folder) / "onnx" / file, options, ["CPUExecutionProvider"])

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.asarray(session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0])

    return CpuEngine(f"ONNX Runtime, {dtype}", _tokenizer(folder), run, threads or len(os.sched_getaffinity(0)))


def _tokenizer(folder: str | Path) -> Tokenizer:
    """The model's tokenizer, cutting pairs at the tokenizer's limit or the position table's, the lower one."""
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    limits = {"tokenizer_config.json": "model_max_length", "config.json": "max_position_embeddings"}
    tokenizer.enable_truncation(
        int(min(json.loads((Path(folder) / file).read_text(encoding="utf-8"))[key] for file, key in limits.items()))
    )
    tokenizer.no_padding()
    return tokenizer
