"""Speed as a record: pairs per second by the published protocol, with the ablation, memory and latency beside it.

Natural pairs cut at a fixed length; batches from a first size, doubled until memory runs out or the rate falls clearly;
three timed passes per batch size, of which the median counts; the best batch size counts.
"""

from __future__ import annotations

import hashlib
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from release import family as families
from release import options, records
from release.console import Bar, print_json, table
from release.errors import ReleaseError
from release.evaluation import rerankers
from release.export import parity
from release.family import Family
from release.files import write_json
from release.speed.configurations import CannotRun, Loaded, Way, candidates, load
from release.speed.machine import driver, energy, peak_memory_mb, reset_peak
from release.speed.pairs import draw, lengths
from release.speed.timing import MOST, Pairs, batches, latency, memory_is_out, pairs_for, rates

PASS_SECONDS = {"CPU": 0.8, "GPU": 4.0}  # how long one pass should take: decides the number of pairs
LATENCY = (10, 50, 100)  # documents for one query


def command(
    family: options.Family = options.ETTIN,
    size: Annotated[str | None, typer.Option(help="One of the family's sizes.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Instead of a size: any CrossEncoder, a folder or Hub id, by this protocol.")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(min=8, help="Number of pairs; by this machine's rate if left out.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the record to this file too.")] = None,
) -> None:
    """Measure pairs per second, peak memory and latency by the family's protocol (the table "speed" of its file)."""
    facts = families.load(family)
    if (size is None) == (model is None):
        raise ReleaseError("what is to be measured?", hint=f"--size {' | '.join(facts.sizes)}, or --model DIR_OR_ID")
    with parity.quiet():
        if size is not None:
            record, kept = measure_size(facts, size, count=pairs), facts.folder(size) / "records" / "speed.json"
        else:
            assert model is not None
            record, kept = measure_other(facts, model, count=pairs)
    _show(record, write_json(output, asdict(record)) if output else kept)


def measure_size(family: Family, size: str, *, count: int | None = None) -> records.Record:
    """Measure one size and write its record, whole at the end: a run that is stopped leaves the earlier one as it was.

    Raises:
        ReleaseError: No model or no pairs to time it on.
    """
    folder = family.folder(size)
    sha256 = records.model_hash(folder / "model")
    record = _record(family, size, sha256, measure(str(folder / "model"), family, count=count))
    records.write(record, folder / "records")
    return record


def measure_other(family: Family, source: str, *, count: int | None = None) -> tuple[records.Record, Path | None]:
    """Measure any CrossEncoder by the family's protocol.

    Returns:
        The record and where it is kept for the table that compares: only of the family's teacher and of the public
        rerankers that the family names.

    Raises:
        ReleaseError: No such model, or no pairs to time it on.
    """
    revision = rerankers.load(source).revision
    record = _record(family, "", revision, measure(source, family, count=count))
    record.subject["model"] = source
    folder = family.compared_folder(source) if source in family.evaluation.compared else None
    folder = family.build / "teacher" if source == family.teacher.model else folder
    return record, records.write(record, folder / "records") if folder else None


def _record(
    family: Family, size: str, sha256: str, found: tuple[dict[str, Any], dict[str, Any], str]
) -> records.Record:
    measured, subject, device = found
    return records.new(
        "speed",
        family=family.about.name,
        size=size,
        model_sha256=sha256,
        measured=measured,
        subject=subject,
        device=device,
    )


def measure(source: str, family: Family, *, count: int | None = None) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Run the protocol on a model; returns `measured` and `subject` of the record, and the device's name.

    `measured` holds `best` (a row of `settings`), `settings` (one row per way, with all its batch sizes and passes),
    `skipped` (way -> why it cannot run here), `latency`, `lengths` of the pairs in tokens, `pairs`, `energy` of the
    best setting and, where pairs are cut at the protocol's length, `full_length`.
    """
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    pool = draw(family, MOST if count is None else count)
    protocol = family.speed
    ways, skipped = candidates(device)
    first = load(ways[0], source, protocol.max_length)
    if count is None:
        count = pairs_for(first.predict, pool, protocol.first_batch, PASS_SECONDS["CPU" if device == "CPU" else "GPU"])
    chosen = pool[:count]
    counted = lengths(first.model, chosen, protocol.max_length)
    reference = first.predict(chosen, protocol.first_batch)
    settings = []
    with Bar("speed: settings", len(ways) + 1) as bar:
        for place, way in enumerate(ways):
            try:
                loaded = first if place == 0 else load(way, source, protocol.max_length)
                settings.append(_setting(way, loaded, chosen, reference, family))
            except CannotRun as error:
                skipped[way.name] = error.what
            bar.advance()
        best = max(settings, key=lambda row: row["pairs_per_second"])
        fastest = load(next(way for way in ways if way.name == best["name"]), source, protocol.max_length)
        waits = [latency(fastest.predict, pool, documents, best["batch"]) for documents in LATENCY]
        spent = energy(lambda: fastest.predict(chosen, best["batch"]), device)
    joules = spent.pop("joules")
    measured = {
        "best": best,
        "settings": settings,
        "skipped": skipped,
        "latency": waits,
        "energy": {"joules_per_pair": None if joules is None else joules / len(chosen), **spent},
        "lengths": counted,
        "pairs": len(chosen),
    }
    if counted["truncated"] and (full := _full_length(fastest, source, chosen, best["batch"], family)):
        measured["full_length"] = full
    return measured, _subject(family, chosen, device), device


def _subject(family: Family, chosen: Pairs, device: str) -> dict[str, Any]:
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
        "driver": driver() if device != "CPU" else None,
        "wanted_device": family.speed.device,
    }


def _setting(way: Way, loaded: Any, pairs: Pairs, reference: np.ndarray, family: Family) -> dict[str, Any]:
    """One row of the ablation: the best batch size of one way to run the model."""
    reset_peak()
    tried = batches(loaded.predict, pairs, family.speed.first_batch, family.speed.passes)
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


def _full_length(fastest: Loaded, source: str, pairs: Pairs, batch: int, family: Family) -> dict[str, Any] | None:
    """The best setting again on pairs cut only where the model's positions end, whatever length it was trained on.

    None where that is no further than the protocol reads. Positions that are no table end where the tokenizer says.
    """
    config = fastest.model[0].model.config
    turning = getattr(config, "rope_parameters", None) is not None
    limit = config.max_position_embeddings if turning else fastest.model.tokenizer.model_max_length
    if limit <= family.speed.max_length:
        return None
    loaded = load(fastest.way, source, limit)
    while True:
        try:
            rate = statistics.median(rates(loaded.predict, pairs, batch, family.speed.passes))
            break
        except (MemoryError, RuntimeError) as error:  # longer pairs need more of it
            if not memory_is_out(error) or batch == 1:
                raise
            batch //= 2
    cut = lengths(loaded.model, pairs, limit)["truncated"]
    return {
        "name": fastest.way.name,
        "batch": batch,
        "max_length": limit,
        "truncated": cut,
        "pairs_per_second": rate,
    }


def _show(record: records.Record, path: Path | None) -> None:
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
    if "full_length" in measured:
        full = measured["full_length"]
        print(f"cut at {full['max_length']} tokens instead: {full['pairs_per_second']:.1f} pairs/s")
    spent = measured["energy"]
    per_pair = spent["joules_per_pair"]
    print("energy:", spent["source"] if per_pair is None else f"{per_pair:.3g} J per pair ({spent['source']})")
    for name, reason in measured["skipped"].items():
        print(f"not run: {name}: {reason}")
    print_json(
        {
            "best": best,
            "latency": measured["latency"],
            "pairs": measured["pairs"],
            "record": str(path) if path else None,
        }
    )
