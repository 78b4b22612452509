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

from release import mode, options, records, results
from release.console import Bar, print_json, table
from release.errors import CannotRun, ReleaseError
from release.evaluation import rerankers
from release.export import parity
from release.family import Family
from release.family import load as load_family
from release.records import Record
from release.results.speed import (
    ConfigurationSpeed,
    EnergyPerPair,
    FullLength,
    SpeedResult,
    SpeedSubject,
)
from release.speed.configurations import Configuration, Loaded, candidates, load
from release.speed.machine import driver, energy, memory_is_out, peak_memory_mb, reset_peak
from release.speed.pairs import draw, lengths
from release.speed.timing import MOST, Pairs, batches, latency, pairs_for, rates

Measured = Record[SpeedResult, SpeedSubject]
PASS_SECONDS = {"CPU": 0.8, "GPU": 4.0}  # how long one pass should take: decides the number of pairs
LATENCY = (10, 50, 100)  # documents for one query
REHEARSED = 32, (10,)  # pairs and documents of a rehearsal: nobody reads its figures


def command(
    family_file: options.Family = options.ETTIN,
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
    family = load_family(family_file)
    if (size is None) == (model is None):
        raise ReleaseError("what is to be measured?", hint=f"--size {' | '.join(family.sizes)}, or --model DIR_OR_ID")
    with parity.quiet():
        if size is not None:
            record, path = measure_size(family, size, count=pairs), family.folder(size) / "records" / "speed.json"
        else:
            assert model is not None
            record, path = measure_other(family, model, count=pairs)
    _show(record, records.write_file(record, output) if output else path)


def measure_size(family: Family, size: str, *, count: int | None = None) -> Measured:
    """Measure one size and write its record, whole at the end: a run that is stopped leaves the earlier one as it was.

    Raises:
        ReleaseError: No model or no pairs to time it on.
    """
    folder = family.folder(size)
    sha256 = records.model_hash(folder / "model")
    record = measure(str(folder / "model"), family, size=size, name=family.model_id(size), sha256=sha256, count=count)
    records.write(record, folder / "records")
    return record


def measure_other(family: Family, source: str, *, count: int | None = None) -> tuple[Measured, Path | None]:
    """Measure any CrossEncoder by the family's protocol.

    Returns:
        The record and where it lies for the table that compares: only of the family's teacher and of the public
        rerankers that the family names.

    Raises:
        ReleaseError: No such model, or no pairs to time it on.
    """
    revision = rerankers.load(source).revision
    record = measure(source, family, size="", name=source, sha256=revision, count=count)
    folder = family.compared_folder(source) if source in family.evaluation.compared else None
    folder = family.build / "teacher" if source == family.teacher.model else folder
    return record, records.write(record, folder / "records") if folder else None


def measure(source: str, family: Family, *, size: str, name: str, sha256: str, count: int | None = None) -> Measured:
    """Run the protocol on a model.

    Args:
        source: Its folder or Hub id; `size`, `name` and `sha256` are what the record calls it.
        count: Number of pairs; by this machine's rate if left out.
    """
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    count, latency_documents = REHEARSED if mode.active() else (count, LATENCY)
    pool, protocol = draw(family, MOST if count is None else count), family.speed
    configurations, skipped = candidates(device)
    first = load(configurations[0], source, protocol.max_length)
    if count is None:
        count = pairs_for(first.predict, pool, protocol.first_batch, PASS_SECONDS["CPU" if device == "CPU" else "GPU"])
    pairs = pool[:count]
    tokens = lengths(first.model, pairs, protocol.max_length)
    measured = _ablation(first, configurations, skipped, source, pairs, family)
    best = max(measured, key=lambda speed: speed.pairs_per_second)
    fastest = load(next(each for each in configurations if each.name == best.name), source, protocol.max_length)
    latencies = tuple(latency(fastest.predict, pool, documents, best.batch) for documents in latency_documents)
    spent = energy(lambda: fastest.predict(pairs, best.batch), device)
    result = SpeedResult(
        best=best,
        configurations=measured,
        skipped=skipped,
        latency=latencies,
        energy=EnergyPerPair(None if spent.joules is None else spent.joules / len(pairs), spent.source),
        lengths=tokens,
        pairs=len(pairs),
        full_length=_full_length(fastest, source, pairs, best.batch, family) if tokens.truncated else None,
    )
    about: dict[str, Any] = {"family": family.about.name, "size": size, "model_sha256": sha256, "device": device}
    return records.new(results.SPEED, measured=result, subject=_subject(family, name, pairs, device), **about)


def _ablation(
    first: Loaded,
    configurations: list[Configuration],
    skipped: dict[str, str],
    source: str,
    pairs: Pairs,
    family: Family,
) -> tuple[ConfigurationSpeed, ...]:
    """Every configuration that runs, slowest first; `skipped` gets the reason of each that does not."""
    reference = first.predict(pairs, family.speed.first_batch)
    measured = []
    with Bar("speed: configurations", len(configurations)) as bar:
        for configuration in configurations:
            try:
                again = configuration.name != first.configuration.name
                loaded = load(configuration, source, family.speed.max_length) if again else first
                measured.append(_configuration_speed(loaded, pairs, reference, family))
            except CannotRun as error:
                skipped[configuration.name] = error.what
            bar.advance()
    return tuple(measured)


def _subject(family: Family, model: str, pairs: Pairs, device: str) -> SpeedSubject:
    import torch

    text = "\n".join(f"{query}\t{document}" for query, document in pairs)
    return SpeedSubject(
        model=model,
        pairs=family.speed.pairs,
        pairs_sha256=hashlib.sha256(text.encode()).hexdigest(),
        max_length=family.speed.max_length,
        first_batch=family.speed.first_batch,
        passes=family.speed.passes,
        threads=torch.get_num_threads(),
        cuda=torch.version.cuda if device != "CPU" else None,
        driver=driver() if device != "CPU" else None,
        required_device=family.speed.device,
    )


def _configuration_speed(loaded: Loaded, pairs: Pairs, reference: np.ndarray, family: Family) -> ConfigurationSpeed:
    """One row of the ablation: a configuration at its best batch size."""
    configuration = loaded.configuration
    reset_peak()
    tried = batches(loaded.predict, pairs, family.speed.first_batch, family.speed.passes)
    best = max(tried, key=lambda speed: speed.pairs_per_second)
    scores = loaded.predict(pairs, best.batch)
    return ConfigurationSpeed(
        **asdict(best),
        name=configuration.name,
        dtype=loaded.weights,
        scores_dtype=loaded.scores,
        attention=configuration.attention,
        padded=configuration.padded,
        peak_memory_mb=peak_memory_mb(),
        max_score_difference=float(np.abs(scores - reference).max()),
        batches=tuple(tried),
    )


def _full_length(fastest: Loaded, source: str, pairs: Pairs, batch: int, family: Family) -> FullLength | None:
    """The best configuration again on pairs cut only where the model's positions end, whatever length it was trained on.

    None where that is no further than the protocol reads. Positions that are no table end where the tokenizer says.
    """
    config = fastest.model[0].model.config
    rotary = getattr(config, "rope_parameters", None) is not None
    limit = config.max_position_embeddings if rotary else fastest.model.tokenizer.model_max_length
    if limit <= family.speed.max_length:
        return None
    loaded = load(fastest.configuration, source, limit)
    while True:
        try:
            rate = statistics.median(rates(loaded.predict, pairs, batch, family.speed.passes))
            break
        except (MemoryError, RuntimeError) as error:  # longer pairs need more of it
            if not memory_is_out(error) or batch == 1:
                raise
            batch //= 2
    cut = lengths(loaded.model, pairs, limit).truncated
    return FullLength(fastest.configuration.name, batch, max_length=limit, truncated=cut, pairs_per_second=rate)


def _show(record: Measured, path: Path | None) -> None:
    """A table for people, then one JSON line for programs."""
    result = record.measured
    columns = ["configuration", "weights", "scores", "batch", "pairs/s", "peak MB", "score difference"]
    rows = [
        [
            speed.name,
            speed.dtype,
            speed.scores_dtype,
            speed.batch,
            f"{speed.pairs_per_second:.1f}",
            f"{speed.peak_memory_mb:.0f}",
            f"{speed.max_score_difference:.1e}",
        ]
        for speed in result.configurations
    ]
    title = f"{result.pairs} pairs of {result.lengths.mean:.0f} tokens on average (longest {result.lengths.max})"
    table(title, columns, rows)
    latencies = [[one.documents, f"{one.p50_ms:.1f}", f"{one.p95_ms:.1f}"] for one in result.latency]
    table("Latency of one query, milliseconds", ["documents", "p50", "p95"], latencies)
    if full := result.full_length:
        print(f"cut at {full.max_length} tokens instead: {full.pairs_per_second:.1f} pairs/s")
    joules, source = result.energy.joules_per_pair, result.energy.source
    print("energy:", source if joules is None else f"{joules:.3g} J per pair ({source})")
    for name, reason in result.skipped.items():
        print(f"not run: {name}: {reason}")
    best = {key: getattr(result.best, key) for key in ("name", "dtype", "batch", "pairs_per_second", "peak_memory_mb")}
    print_json(
        {
            "best": best,
            "latency": [asdict(one) for one in result.latency],
            "pairs": result.pairs,
            "record": str(path) if path else None,
        }
    )
