"""What `bench_gpu` measures, one function per kind of job, run in a process of its own: JSON in, JSON out.

Every job makes its model with random weights on the device, so nothing is loaded and a job does not depend on the one before.
"""

from __future__ import annotations

import gc
import inspect
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # flash attention from the `kernels` package would try the Hub, and wait for it

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import MSELoss
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available, logging

from benchmarks import padded_varlen, shapes, timing
from release.runtime import unpadded
from release.runtime.memory import is_out_of_memory, peak_memory_mb, reset_peak
from release.runtime.precision import has_fast_bf16
from release.shapes import BACKWARD, BYTES_OF_STATE, count

PASSES = 3  # the protocol's
MOST_PAIRS = 16384
LEAST_FIRST = 32  # pairs: batches do not begin with more than this where two of them take long
CLEARLY = 0.9  # below this share of the best rate, larger batches are not tried
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}
WINDOW = 65  # as transformers counts a local attention of 128: 64 tokens to each side, plus one
BUCKETS = "unpadded-buckets"
Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Setup:
    """One way to run a model: "varlen" is torch's own kernel, "buckets" release/runtime/unpadded.py's."""

    attention: str
    dtype: str
    padded: bool

    @property
    def name(self) -> str:
        attention = "flash 2" if self.attention == "flash_attention_2" else self.attention
        return f"{'bf16' if self.dtype == 'bfloat16' else 'fp32'} {attention}{', padded' if self.padded else ''}"


SETUPS = (  # the most important first
    Setup("varlen", "bfloat16", padded=False),
    Setup("flash_attention_2", "bfloat16", padded=False),
    Setup("sdpa", "bfloat16", padded=True),
    Setup("sdpa", "float32", padded=True),
    Setup("flash_attention_2", "bfloat16", padded=True),
    Setup("buckets", "bfloat16", padded=False),
    Setup("buckets", "float32", padded=False),
    Setup("varlen", "bfloat16", padded=True),
)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job; what it measured, with the seconds that it took. Reasons for not measuring are in `skipped`."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    started = time.monotonic()
    shape = (shapes.published_shapes() | shapes.tiny_shapes())[job["size"]]
    work = {"machine": machine, "check": check, "speed": speed, "train": train}[job["kind"]]
    reason = (
        unavailable(Setup(**job["setup"])) if "setup" in job else None
    )  # another attention would run under its name
    row = {"skipped": reason} if reason else work(shape, job)
    return job | row | {"seconds": round(time.monotonic() - started, 1)}


def machine(shape: shapes.Shape, job: dict[str, Any]) -> dict[str, Any]:
    """Device and versions, and why some setups cannot run here."""
    from importlib import metadata

    names = ("torch", "transformers", "sentence-transformers", "flash-attn", "kernels")
    versions = {name: metadata.version(name) for name in names if find_spec(name.replace("-", "_"))}
    about: dict[str, Any] = {"device": "CPU", "threads": torch.get_num_threads(), "versions": versions}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        about |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        about |= {"free_mb": round(free / 1e6), "total_mb": round(total / 1e6)}
    return about | {"unavailable": {setup.name: reason for setup in SETUPS if (reason := unavailable(setup))}}


def unavailable(setup: Setup) -> str | None:
    """Why this machine cannot run a setup, or None."""
    if setup.attention == "varlen":
        if not torch.cuda.is_available():
            return "torch's varlen kernel needs CUDA"
        try:
            from torch.nn.attention.varlen import varlen_attn
        except ImportError:
            return f"torch {torch.__version__} has no varlen kernel"
        if "window_size" not in inspect.signature(varlen_attn).parameters:
            return f"the varlen kernel of torch {torch.__version__} knows no window"
    if setup.attention == "flash_attention_2" and not (is_flash_attn_2_available() or find_spec("kernels")):
        return "neither flash-attn nor kernels is installed"
    if setup.dtype == "bfloat16" and not has_fast_bf16():
        return "this CPU has no bf16 instructions"
    return None


def check(shape: shapes.Shape, job: dict[str, Any]) -> dict[str, Any]:
    """Each unpadded attention against torch's sdpa on one sequence at a time, with and without a window.

    Values may differ by `TOLERANCE`. Gradients are compared with sdpa's in float32, in shares of the largest one: they
    may be as far from those, or twice as far as sdpa's own in the same dtype.
    """
    rows = []
    for setup in SETUPS:
        if setup.padded or setup.attention not in ("varlen", "buckets") or unavailable(setup):
            continue
        attention = unpadded.varlen if setup.attention == "varlen" else unpadded.in_buckets
        for window in (None, WINDOW):
            values, gradients, theirs = _differences(shape, attention, getattr(torch, setup.dtype), window)
            allowed = TOLERANCE[setup.dtype]
            correct = values <= allowed and gradients <= max(allowed, 2 * theirs)
            result = {"values": values, "gradients": gradients, "gradients_of_sdpa": theirs, "correct": correct}
            rows.append({"setup": setup.name, "window": window} | result)
    return {"tolerance": TOLERANCE, "rows": rows, "correct": all(row["correct"] for row in rows)}


def _differences(
    shape: shapes.Shape, attention: Any, dtype: torch.dtype, window: int | None
) -> tuple[float, float, float]:
    """Of values, between `attention` and sdpa; of gradients, between `attention`, then sdpa, and sdpa in float32."""
    draw = torch.Generator().manual_seed(12)
    lengths = [*torch.randint(1, shapes.MAX_LENGTH, (12,), generator=draw).tolist(), 1, 64, shapes.MAX_LENGTH]
    heads = shape.config.num_attention_heads
    head = shape.config.hidden_size // heads
    scale = torch.tensor([1, 1, 0.25])[:, None, None, None]  # of query, key and value: results are of size 1
    given = (torch.randn((3, heads, sum(lengths), head), generator=draw) * scale).to(device(), dtype)
    weights = torch.randn(sum(lengths), heads, head, generator=draw).to(device(), dtype)
    starts = functional.pad(torch.tensor(lengths).cumsum(0), (1, 0)).int().to(device())

    def flat(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        where = {"sliding_window": window, "cu_seq_lens_q": starts, "max_length_q": max(lengths)}
        return attention(None, query, key, value, scaling=head**-0.5, **where)[0][0]

    def apart(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = []
        for row in zip(*(each.split(lengths, 2) for each in (query, key, value)), strict=True):
            position = torch.arange(row[0].shape[2], device=device())
            seen = None if window is None else (position[:, None] - position).abs() < window
            parts.append(functional.scaled_dot_product_attention(*row, attn_mask=seen)[0].transpose(0, 1))
        return torch.cat(parts)

    ours, theirs = _with_gradients(flat, given, weights), _with_gradients(apart, given, weights)
    exact = _with_gradients(apart, given.float(), weights.float())
    far = [
        max(float((got - true).abs().max() / true.abs().max()) for got, true in zip(each[1:], exact[1:], strict=True))
        for each in (ours, theirs)
    ]
    return float((ours[0] - theirs[0]).abs().max()), *far


def _with_gradients(work: Callable[..., Tensor], given: Tensor, weights: Tensor) -> list[Tensor]:
    """The values, and the gradients of query, key and value, in float32."""
    parts = [part[None].clone().requires_grad_() for part in given]
    values = work(*parts)
    return [each.detach().float() for each in (values, *torch.autograd.grad(values, parts, weights))]


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def load(shape: shapes.Shape, setup: Setup) -> tuple[CrossEncoder, Callable[[Pairs, int], np.ndarray]]:
    """A model set up in one way, and what scores pairs with it in batches of about so many pairs."""
    model = shapes.modular(shape, device()).to(getattr(torch, setup.dtype))
    if not setup.padded and setup.attention != "flash_attention_2":
        unpadded.unpad(model)
        if setup.attention == "buckets":
            AttentionInterface.register(BUCKETS, unpadded.in_buckets)
            model[0].model.set_attn_implementation(BUCKETS)  # ty: ignore[unresolved-attribute]
        return model, lambda pairs, batch: unpadded.predict(model, pairs, round(batch * shapes.mean_tokens(pairs)))
    padded_varlen.register()
    name = padded_varlen.NAME if setup.attention == "varlen" else setup.attention
    model[0].model.set_attn_implementation(name)  # ty: ignore[unresolved-attribute]
    transformer: Any = model[0]
    transformer.unpad_inputs = not setup.padded
    return model, lambda pairs, batch: model.predict(pairs, batch_size=batch, show_progress_bar=False)


@cache
def pool() -> Pairs:
    """The pairs that every job draws from, made once."""
    return shapes.question_pairs(MOST_PAIRS)


def speed(shape: shapes.Shape, job: dict[str, Any]) -> dict[str, Any]:
    """Pairs per second by the protocol: batches are doubled, three passes each, of which the median counts.

    Every pass is over as many pairs as take about `pass_seconds`, two batches at least, whatever the batch. The doubling
    ends where memory is out, the rate falls clearly, or two batches would take much longer than that.
    """
    before = start_peak()
    _, predict = load(shape, Setup(**job["setup"]))
    predict(pool()[:32], 32)  # warm-up
    rate = 64 / timing.cost(lambda: predict(pool()[:64], 32)).wall
    rows: list[dict[str, Any]] = []
    batch, stopped = job["first_batch"], f"more than {MOST_PAIRS} pairs"
    while batch > LEAST_FIRST and 2 * batch / rate > 2 * job["pass_seconds"]:
        batch //= 2
    while 2 * batch <= MOST_PAIRS:
        if 2 * batch / rate > 4 * job["pass_seconds"] and rows:
            stopped = f"two batches of {batch} take too long"
            break
        if time.time() + 4 * max(job["pass_seconds"], 2 * batch / rate) > job["until"]:
            stopped = "no time is left"
            break
        try:
            rows.append(_passes(predict, batch, rate * job["pass_seconds"]))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            stopped = f"memory is out at {batch} pairs"
            if rows or batch == 1:
                break
            batch //= 2
            continue
        rows[-1]["peak_mb"] = peak_memory_mb() - before
        rate = rows[-1]["pairs_per_second"]
        if rate < CLEARLY * max(row["pairs_per_second"] for row in rows):
            stopped = f"slower at {batch} pairs"
            break
        batch *= 2
    if not rows:
        return {"skipped": stopped}
    best = max(rows, key=lambda row: row["pairs_per_second"])
    return {"best": best, "batches": rows, "stopped": stopped, "published": shape.published}


def _passes(predict: Callable[[Pairs, int], np.ndarray], batch: int, count: float) -> dict[str, Any]:
    """Three passes over about `count` pairs in batches of so many; the peak of memory starts anew before them."""
    pairs = pool()[: batch * int(np.clip(round(count / batch), 2, MOST_PAIRS // batch))]
    start_peak()
    predict(pairs[: 2 * batch], batch)
    costs = [timing.cost(lambda: predict(pairs, batch)) for _ in range(PASSES)]
    passes = [len(pairs) / each.wall for each in costs]
    return {
        "batch": batch,
        "pairs_per_second": statistics.median(passes),
        "passes": passes,
        "cpu_seconds_per_pair": timing.median(costs).cpu / len(pairs),
        "pairs": len(pairs),
        "mean_tokens": shapes.mean_tokens(pairs),
    }


def start_peak() -> float:
    """Free what earlier work left, start a new peak of memory, and return what is in use, in MB."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    reset_peak()
    return peak_memory_mb()


def train(shape: shapes.Shape, job: dict[str, Any]) -> dict[str, Any]:
    """Steps per second and peak memory at the recipe's global batch on one device, in halves until memory suffices."""
    micro = shape.batch
    while True:
        try:
            row = _steps(shape, micro, job)
            break
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or micro == 1:
                raise
        micro //= 2
    counted = count(shape.config)
    weights = counted["encoder"] + counted["head"]
    state = weights * BYTES_OF_STATE / 1e6
    activations = counted["kept_per_token"] * BACKWARD * row.pop("micro_tokens") / 1e6
    planned = {"parameters": weights, "planned_state_mb": state, "planned_mb": state + activations}
    return {"batch": shape.batch, "micro_batch": micro, **row, **planned}


def _steps(shape: shapes.Shape, micro: int, job: dict[str, Any]) -> dict[str, Any]:
    """One step to warm up, then up to three timed ones; each sees the same batch of pairs in passes of `micro` pairs."""
    before = start_peak()
    model, _ = load(shape, Setup(**job["setup"] | {"dtype": "float32"}))
    model.train()
    loss_of, optimizer = MSELoss(model), torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    batch = pool()[: shape.batch]
    labels = torch.linspace(-4, 9, shape.batch, device=device())
    losses = []
    half = job["setup"]["dtype"] == "bfloat16"

    def step() -> None:
        for first in range(0, shape.batch, micro):
            columns = [list(column) for column in zip(*batch[first : first + micro], strict=True)]
            with torch.autocast(device(), torch.bfloat16, enabled=half):
                loss = loss_of(columns, labels[first : first + micro]) * micro / shape.batch
            loss.backward()
            losses.append(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    costs = [timing.cost(step)]  # warm-up: the optimizer's moments are made here
    while len(costs) <= PASSES and (len(costs) < 2 or time.time() + costs[-1].wall < job["until"]):
        costs.append(timing.cost(step))
    seconds = timing.median(costs[1:]).wall
    passes = [batch[first : first + micro] for first in range(0, shape.batch, micro)]
    return {
        "steps_per_second": 1 / seconds,
        "pairs_per_second": shape.batch / seconds,
        "steps": len(costs) - 1,
        "peak_mb": peak_memory_mb() - before,
        "micro_tokens": max(len(each) * shapes.mean_tokens(each) for each in passes),
        "loss_first": float(torch.stack(losses[: len(passes)]).sum()),
        "loss_last": float(torch.stack(losses[-len(passes) :]).sum()),
    }


def as_json(setup: Setup) -> dict[str, Any]:
    """A setup as a job carries it."""
    return asdict(setup)
