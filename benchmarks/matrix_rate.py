"""How near a benchmark comes to what the machine can do: its rate of matrix products, and how many of them a pair needs."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.timing import threads

SIDES = (512, 1024, 2048)  # of the square matrices that the machine's rate is measured on; the best counts
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}


def flops(forward: Callable[[torch.Tensor], Any], lengths: list[int]) -> float:
    """Floating-point operations of the matrix products of one sequence on average, counted by torch.

    Args:
        forward: Runs the model on token ids, (1, length).
        lengths: Tokens of each sequence. Attention is counted in full, also where a layer looks at a window only.
    """
    uncounted = {  # by torch's counter
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        torch.ops.mkldnn._linear_pointwise: _linear_flops,
    }
    counted = {}
    for length in (64, 128, 256):
        with FlopCounterMode(display=False, custom_mapping=uncounted) as counter, torch.inference_mode():
            forward(torch.ones(1, length, dtype=torch.long))
        counted[length] = counter.get_total_flops()
    quadratic = np.polyfit(list(counted), list(counted.values()), 2)  # exact: attention grows with the square
    return float(np.polyval(quadratic, lengths).mean())


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Of torch's attention on a CPU."""
    return sdpa_flop_count(query, key, value)


def _linear_flops(rows: Any, weight: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Of oneDNN's product of rows (..., in) and weight (out, in)."""
    return 2 * math.prod(rows) * weight[0]


def flops_per_pair(model: CrossEncoder, pairs: list[tuple[str, str]]) -> float:
    """`flops` of a model that `unpad` prepared: no padding, and in the last layer the first token alone."""
    queries, documents = (list(texts) for texts in zip(*pairs, strict=True))
    encoder: Any = model[0].model
    lengths = [len(ids) for ids in model.tokenizer(queries, documents, truncation=True)["input_ids"]]

    def forward(ids: torch.Tensor) -> None:
        length = ids.shape[1]
        starts = torch.tensor([0, length], dtype=torch.int32)
        encoder(input_ids=ids, position_ids=torch.arange(length)[None], cu_seq_lens_q=starts)

    return flops(forward, lengths)


def gemm_rate(dtype: str, sides: tuple[int, ...] = SIDES) -> float:
    """Operations per second of a product of square matrices in this type, a multiply and an add being two: the better library's.

    With one thread they are CPU seconds, so that other work on the host does not make the machine look slow.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    kind, best = DTYPES[dtype], 0.0
    for side in sides:
        left, right = torch.randn(side, side).to(kind), torch.randn(side, side).to(kind)
        products = [lambda a=left, b=right: torch._int_mm(a, b) if kind == torch.int8 else a @ b]
        if kind == torch.float32 and find_spec("openvino"):  # neither library is the faster one on every CPU
            products.append(_openvino_product(left.numpy(), right.numpy()))
        for product in products:
            seconds: list[float] = []
            while len(seconds) < 3 or (sum(seconds) < 1 and len(seconds) < 100):
                started = clock()
                product()
                seconds.append(clock() - started)
            best = max(best, 2 * side**3 / statistics.median(seconds))
        if sum(seconds) > 2:  # without instructions for the type, larger ones would take minutes and be no faster
            break
    return best


def share(pairs_per_second: float, flops_of_a_pair: float, half: bool) -> dict[str, Any]:
    """What share of one thread's rate of matrix products some pairs per CPU second are, and the two rates."""
    dtype = "bf16" if half else "fp32"
    with threads(1):
        rate = gemm_rate(dtype)
    return {
        "share": round(pairs_per_second * flops_of_a_pair / rate, 3),
        "share_of": f"{rate / 1e9:.0f} GFLOP/s of {dtype} matrix products with one thread",
        "gflop_per_pair": flops_of_a_pair / 1e9,
    }


def _openvino_product(left: np.ndarray, right: np.ndarray) -> Callable[[], object]:
    """One matrix product in fp32 by OpenVINO with as many threads as torch has."""
    import openvino as ov
    from openvino import opset13

    given = opset13.parameter(left.shape, np.float32)
    model = ov.Model([opset13.matmul(given, opset13.constant(right), False, False)], [given])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([left], share_inputs=True, share_outputs=True)
