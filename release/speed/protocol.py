"""Speed as a record: pairs per second by the published protocol, with the ablation, memory and latency beside it.

Natural pairs cut at a fixed length; batches from a first size, doubled until memory runs out or the rate falls clearly;
three timed passes per batch size, of which the median counts; the best batch size counts.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from release import family as families
from release import records
from release.console import Bar, last_line, table
from release.family import Family
from release.speed.texts import draw, lengths
from release.speed.ways import Way, candidates, load, peak_memory_mb, reset_peak

PASS_SECONDS = {"CPU": 0.8, "GPU": 4.0}  # how long one pass should take: decides the number of pairs
LEAST, MOST = 128, 65_536  # pairs
CLEARLY = 0.9  # below this share of the best rate, larger batches are not tried
LATENCY = (10, 50, 100)  # documents for one query
REPEATS = 20
LATENCY_SECONDS = 6.0  # and fewer repeats where they would take longer than this
Predict = Callable[[list[tuple[str, str]], int], np.ndarray]


def command(
    family: Annotated[Path, typer.Option(help="Family file: its [speed] table is the protocol.")],
    size: Annotated[str, typer.Option(help="The size in the family file.")],
    pairs: Annotated[
        int | None, typer.Option(min=8, help="Number of pairs; by this machine's rate if left out.")
    ] = None,
) -> None:
    """Measure pairs per second, peak memory and latency of one size of a family on this machine."""
    facts = families.load(family)
    record = measure_size(facts, size, count=pairs)
    _show(record, facts.folder(size) / "records" / "speed.json")


def measure_size(family: Family, size: str, *, count: int | None = None) -> records.Record:
    """Measure one size and write its record.

    Raises:
        ReleaseError: No model or no pairs to time it on.
    """
    folder = family.folder(size)
    sha256 = records.model_hash(folder / "model")
    measured, subject, device = measure(folder / "model", family, count=count)
    record = records.new(
        "speed",
        family=family.about.name,
        size=size,
        model_sha256=sha256,
        measured=measured,
        subject=subject,
        device=device,
    )
    records.write(record, folder / "records")
    return record


def measure(model: Path, family: Family, *, count: int | None = None) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Run the protocol on a model's folder; returns `measured` and `subject` of the record, and the device's name."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    pool = draw(family, MOST if count is None else count)
    protocol = family.speed
    ways, skipped = candidates(device)
    first = load(ways[0], model, protocol.max_length)
    if count is None:
        count = _pairs_for(first.predict, pool, protocol.first_batch, PASS_SECONDS["CPU" if device == "CPU" else "GPU"])
    chosen = pool[:count]
    counted = lengths(first.model, chosen, protocol.max_length)
    reference = first.predict(chosen, protocol.first_batch)
    settings = []
    with Bar("speed: settings", len(ways) + 1) as bar:
        for place, way in enumerate(ways):
            loaded = first if place == 0 else load(way, model, protocol.max_length)
            settings.append(_setting(way, loaded, chosen, reference, family))
            bar.advance()
        best = max(settings, key=lambda row: row["pairs_per_second"])
        fastest = load(next(way for way in ways if way.name == best["name"]), model, protocol.max_length)
        latency = [_latency(fastest.predict, pool, documents, best["batch"]) for documents in LATENCY]
    measured = {
        "best": best,
        "settings": settings,
        "skipped": skipped,
        "latency": latency,
        "lengths": counted,
        "pairs": len(chosen),
    }
    if counted["truncated"]:
        measured["full_length"] = _full_length(fastest.way, model, chosen, best["batch"], family)
    return measured, _subject(family, chosen, device), device


def _subject(family: Family, chosen: list[tuple[str, str]], device: str) -> dict[str, Any]:
    import torch

    text = "\n".join(f"{query}\t{document}" for query, document in chosen)
    return {
        "pairs": family.speed.pairs,
        "pairs_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "max_length": family.speed.max_length,
        "first_batch": family.speed.first_batch,
        "passes": family.speed.passes,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device != "CPU" else None,
        "wanted_device": family.speed.device,
    }


def _pairs_for(predict: Predict, pool: list[tuple[str, str]], batch: int, seconds: float) -> int:
    """A power of two of pairs that one pass of the slowest setting gets through in about `seconds`."""
    sample = pool[: max(batch * 4, 32)]
    predict(sample, batch)  # warm-up
    started = time.perf_counter()
    predict(sample, batch)
    rate = len(sample) / (time.perf_counter() - started)
    wanted = 2 ** round(np.log2(max(rate * seconds, 1)))
    return int(min(max(wanted, LEAST), MOST, len(pool)))


def _setting(
    way: Way, loaded: Any, pairs: list[tuple[str, str]], reference: np.ndarray, family: Family
) -> dict[str, Any]:
    """One row of the ablation: the best batch size of one way to run the model."""
    reset_peak()
    tried = _batches(loaded.predict, pairs, family.speed.first_batch, family.speed.passes)
    best = max(tried, key=lambda row: row["pairs_per_second"])
    scores = loaded.predict(pairs, best["batch"])
    return {
        "name": way.name,
        "dtype": loaded.weights,
        "scores_dtype": loaded.scores,
        "attention": way.attention,
        "padded": way.padded,
        **best,
        "peak_memory_mb": peak_memory_mb(),
        "max_score_difference": float(np.abs(scores - reference).max()),
        "batches": tried,
    }


def _batches(predict: Predict, pairs: list[tuple[str, str]], first: int, passes: int) -> list[dict[str, Any]]:
    """Rates by batch size, doubling until memory runs out, the rate falls clearly, or a batch is half of the pairs."""
    tried: list[dict[str, Any]] = []
    batch = first
    while batch <= max(first, len(pairs) // 2):
        try:
            predict(pairs[: 2 * batch], batch)  # warm-up at this size
            seconds = [_seconds(lambda size=batch: predict(pairs, size)) for _ in range(passes)]
        except (MemoryError, RuntimeError) as error:
            if tried and "memory" in str(error).lower():
                break
            raise
        rate = len(pairs) / statistics.median(seconds)
        tried.append({"batch": batch, "pairs_per_second": rate, "passes": [len(pairs) / each for each in seconds]})
        if rate < CLEARLY * max(row["pairs_per_second"] for row in tried):
            break
        batch *= 2
    return tried


def _seconds(work: Callable[[], Any]) -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()  # the scores arrive in main memory, which waits for the GPU
    return time.perf_counter() - started


def _latency(predict: Predict, pool: list[tuple[str, str]], documents: int, batch: int) -> dict[str, Any]:
    """Milliseconds that one query waits for `documents` scores: what a search box feels."""
    texts = [document for _, document in pool]
    waits: list[float] = []
    for place in range(-2, REPEATS):  # two to warm up
        start = (place * documents) % len(texts)
        chosen = (texts[start:] + texts)[:documents] if len(texts) >= documents else (texts * documents)[:documents]
        query = pool[place % len(pool)][0]
        waits.append(_seconds(lambda pairs=[(query, text) for text in chosen]: predict(pairs, batch)))
        if place >= 4 and sum(waits) > LATENCY_SECONDS:
            break
    p50, p95 = np.quantile(waits[2:], [0.5, 0.95]) * 1000
    return {"documents": documents, "p50_ms": float(p50), "p95_ms": float(p95), "repeats": len(waits) - 2}


def _full_length(way: Way, model: Path, pairs: list[tuple[str, str]], batch: int, family: Family) -> dict[str, Any]:
    """The best setting again on uncut pairs, up to the model's own limit."""
    loaded = load(way, model, None)
    loaded.predict(pairs[: 2 * batch], batch)
    seconds = [_seconds(lambda: loaded.predict(pairs, batch)) for _ in range(family.speed.passes)]
    return {
        "name": way.name,
        "batch": batch,
        "max_length": loaded.model.max_length,
        "pairs_per_second": len(pairs) / statistics.median(seconds),
    }


def _show(record: records.Record, path: Path) -> None:
    """A table for people, then one JSON line for programs."""
    measured = record.measured
    columns = ["setting", "weights", "scores", "batch", "pairs/s", "peak MB", "score difference"]
    rows = [
        [
            row["name"],
            row["dtype"],
            row["scores_dtype"],
            row["batch"],
            f"{row['pairs_per_second']:.1f}",
            f"{row['peak_memory_mb']:.0f}",
            f"{row['max_score_difference']:.1e}",
        ]
        for row in measured["settings"]
    ]
    found = measured["lengths"]
    title = f"{measured['pairs']} pairs of {found['mean']:.0f} tokens on average (longest {found['max']})"
    table(title, columns, rows)
    waits = [[row["documents"], f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}"] for row in measured["latency"]]
    table("One query, milliseconds", ["documents", "p50", "p95"], waits)
    best = {key: measured["best"][key] for key in ("name", "dtype", "batch", "pairs_per_second", "peak_memory_mb")}
    last_line({"best": best, "latency": measured["latency"], "pairs": measured["pairs"], "record": str(path)})
