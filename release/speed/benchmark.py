"""Speed as a record: pairs per second by the published protocol, with the ablation, memory and latency beside it.

Natural pairs cut at a fixed length; batches from a first size, doubled until memory runs out; three timed passes per batch
size, of which the median counts; the best batch size counts. Where a rule of our own ends the doubling, the record says so.
"""

from __future__ import annotations

import functools
import hashlib
import statistics
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer

from release import mode, options, records, results
from release.console import Bar, print_json, quiet, say, table
from release.errors import CannotRun, ReleaseError
from release.evaluation import rerankers
from release.family import Family
from release.family import load as load_family
from release.records import Record
from release.results.speed import (
    ConfigurationSpeed,
    EnergyPerPair,
    FullLength,
    SpeedResult,
    SpeedSubject,
    folder_for,
)
from release.runtime.memory import free, is_out_of_memory
from release.speed.configurations import Configuration, Loaded, candidates, load
from release.speed.latency import latencies
from release.speed.machine import UNREADABLE, EnergyReading, driver, energy
from release.speed.pairs import MOST, REHEARSED, draw, lengths
from release.speed.timing import Pairs, batches, pairs_for, rates, seconds
from release.start_up import load_modules

SpeedRecord = Record[SpeedResult, SpeedSubject]
T = TypeVar("T")
PASS_SECONDS = {"CPU": 0.8, "GPU": 4.0}  # how long one pass should take: decides the number of pairs


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
    with quiet():
        if size is not None:
            record, path = measure_size(family, size, count=pairs)
        else:
            assert model is not None
            record, path = measure_other(family, model, count=pairs)
    _show(record, records.write_file(record, output) if output else path)


def measure_size(family: Family, size: str, *, count: int | None = None) -> tuple[SpeedRecord, Path]:
    """Measure one size and write its record, whole at the end: a run that is stopped leaves the earlier one as it was.

    Returns:
        The record and where it is: `records/speed.json`, or beside it in a folder of its own where this machine is not
        the one that the family's cards require. Such a record is a further table of the card.

    Raises:
        ReleaseError: No model or no pairs to time it on.
    """
    folder = family.folder(size)
    sha256 = records.model_hash(folder / "model")
    record = measure(str(folder / "model"), family, size=size, name=family.model_id(size), sha256=sha256, count=count)
    return record, records.write(record, _folder(folder, record, family))


def _folder(folder: Path, record: SpeedRecord, family: Family) -> Path:
    required = None if mode.active() else family.speed.device
    return folder_for(folder / "records", record.machine.device, record.machine.cpu, required)


def measure_other(family: Family, source: str, *, count: int | None = None) -> tuple[SpeedRecord, Path | None]:
    """Measure any CrossEncoder by the family's protocol.

    Returns:
        The record and where it is for the table that compares: only of the family's teacher and of the public
        rerankers that the family names.

    Raises:
        ReleaseError: No such model, or no pairs to time it on.
    """
    revision = rerankers.load_named(family, source).revision
    record = measure(source, family, size="", name=source, sha256=revision, count=count)
    folder = family.compared_folder(source) if source in family.evaluation.compared else None
    folder = family.build / "teacher" if source == family.teacher.model else folder
    return record, records.write(record, _folder(folder, record, family)) if folder else None


def measure(source: str, family: Family, *, size: str, name: str, sha256: str, count: int | None = None) -> SpeedRecord:
    """Run the protocol on a model. What fails is named in the record; no failure but that of all configurations ends it.

    Args:
        source: Its folder or Hub id; `size`, `name` and `sha256` are what the record calls it.
        count: Number of pairs; by this machine's rate if left out.
    """
    load_modules("sentence_transformers")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    count = REHEARSED if mode.active() else count
    pool, protocol = draw(family, MOST if count is None else count), family.speed
    configurations, skipped = candidates(device)
    first, count, reference = _first_that_runs(configurations, skipped, source, family, pool, count)
    pairs = pool[:count]
    tokens = lengths(first.model, pairs, protocol.max_length)
    del first  # memory is measured with one model at a time
    measured = _ablation(configurations, skipped, source, pairs, reference, family)
    best = max(measured, key=lambda speed: speed.pairs_per_second)
    public = [speed for speed in measured if not speed.ours]
    chosen = next(each for each in configurations if each.name == best.name)
    fastest = functools.cache(lambda: load(chosen, source, protocol.max_length, family.model(source)))
    waited = _attempt(
        "latency",
        skipped,
        lambda: latencies(lambda some: seconds(lambda: fastest().predict(some, best.batch)), pool),
        otherwise=(),
    )
    unread = EnergyReading(None, UNREADABLE)
    spent = _attempt(
        "energy", skipped, lambda: energy(lambda: fastest().predict(pairs, best.batch), device), otherwise=unread
    )
    full = None
    if tokens.truncated:
        work = functools.partial(_full_length, fastest, source, pairs, best.batch, family)
        full = _attempt("pairs of their full length", skipped, work, otherwise=None)
    result = SpeedResult(
        best=best,
        published=max(public, key=lambda speed: speed.pairs_per_second, default=None),
        configurations=measured,
        skipped=skipped,
        latency=waited,
        energy=EnergyPerPair(None if spent.joules is None else spent.joules / len(pairs), spent.source),
        lengths=tokens,
        pairs=len(pairs),
        full_length=full,
    )
    about: dict[str, Any] = {"family": family.about.name, "size": size, "model_sha256": sha256, "device": device}
    return records.new(results.SPEED, measured=result, subject=_subject(family, name, pairs, device), **about)


def _first_that_runs(
    configurations: list[Configuration],
    skipped: dict[str, str],
    source: str,
    family: Family,
    pool: Pairs,
    count: int | None,
) -> tuple[Loaded, int, np.ndarray]:
    """The model in the first configuration that runs, the number of pairs, and their scores in it.

    Configurations before it go from the list to `skipped`; `count` is by this machine's rate if left out.

    Raises:
        CannotRun: There is none.
    """
    error: Exception | None = None
    first, gpu = family.speed.first_batch, torch.cuda.is_available()
    for configuration in list(configurations):
        try:
            loaded = load(configuration, source, family.speed.max_length, family.model(source))
            enough = count or pairs_for(loaded.predict, pool, first, PASS_SECONDS["GPU" if gpu else "CPU"])
            return loaded, enough, loaded.predict(pool[:enough], first)
        except Exception as caught:  # kernels, drivers and model code each raise their own
            error = caught.with_traceback(None)  # which would keep the model in memory
            skipped[configuration.name] = _reason(caught)
            configurations.remove(configuration)
        loaded = None
        free()
    raise CannotRun(f"no configuration runs ({_reason(error)})", where=source, hint="look at its card") from error


def _attempt(what: str, skipped: dict[str, str], work: Callable[[], T], *, otherwise: T) -> T:
    """What `work` gives; where it fails, `otherwise`, and `skipped` gets the reason: the rates that were measured stay."""
    try:
        return work()
    except Exception as error:  # kernels, drivers and model code each raise their own
        skipped[what] = _reason(error)
        return otherwise


def _ablation(
    configurations: list[Configuration],
    skipped: dict[str, str],
    source: str,
    pairs: Pairs,
    reference: np.ndarray,
    family: Family,
) -> tuple[ConfigurationSpeed, ...]:
    """Every configuration that runs, slowest first; `skipped` gets the reason of each that does not, whatever it is.

    Raises:
        CannotRun: None does.
    """
    measured = []
    with Bar("speed: configurations", len(configurations)) as bar:
        for configuration in configurations:
            try:
                loaded = load(configuration, source, family.speed.max_length, family.model(source))
                measured.append(_configuration_speed(loaded, pairs, reference, family))
            except Exception as error:  # kernels, drivers and model code each raise their own
                skipped[configuration.name] = _reason(error)
            loaded = None
            free()
            bar.advance()
    if not measured:
        raise CannotRun(f"no configuration runs ({'; '.join(skipped.values())})", where=source, hint="look at its card")
    return tuple(measured)


def _reason(error: Exception | None) -> str:
    """What went wrong, in one line for the record: the first one, without what PyTorch says after it."""
    if isinstance(error, ReleaseError):
        return error.what
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"[:200]


def _subject(family: Family, model: str, pairs: Pairs, device: str) -> SpeedSubject:
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
    protocol, gpu = family.speed, loaded.model.device.type != "cpu"
    tried, stopped = batches(
        loaded.predict, pairs, protocol.first_batch, protocol.passes, until_memory_ends=gpu and not mode.active()
    )
    best = max(tried, key=lambda speed: speed.pairs_per_second)
    scores = loaded.predict(pairs, best.batch)
    return ConfigurationSpeed(
        **asdict(best),
        name=configuration.name,
        dtype=loaded.weights,
        scores_dtype=loaded.scores,
        attention=loaded.attention,
        padded=configuration.padded,
        ours=configuration.ours,
        max_score_difference=float(np.abs(scores - reference).max()),
        batches=tuple(tried),
        stopped=stopped,
    )


def _full_length(
    fastest: Callable[[], Loaded], source: str, pairs: Pairs, batch: int, family: Family
) -> FullLength | None:
    """The best configuration again on pairs cut only where the model's positions end, whatever length it was trained on.

    None where that is no further than the protocol reads. Positions that are no table end where the tokenizer says.
    """
    config, configuration = fastest().model[0].model.config, fastest().configuration
    limit = config.max_position_embeddings
    if getattr(config, "rope_parameters", None) is None:
        limit = min(limit, fastest().model.tokenizer.model_max_length)
    if limit <= family.speed.max_length:
        return None
    loaded = load(configuration, source, limit, family.model(source))
    while True:
        try:
            rate = statistics.median(rates(loaded.predict, pairs, batch, family.speed.passes))
            break
        except (MemoryError, RuntimeError) as error:  # longer pairs need more of it
            if not is_out_of_memory(error) or batch == 1:
                raise
            batch //= 2
    cut = lengths(loaded.model, pairs, limit).truncated
    return FullLength(configuration.name, batch, max_length=limit, truncated=cut, pairs_per_second=rate)


def _show(record: SpeedRecord, path: Path | None) -> None:
    """A table for people, then one JSON line for programs."""
    result = record.measured
    columns = ["configuration", "weights", "attention", "scores", "batch", "pairs/s", "peak MB", "score difference"]
    rows = [
        [
            speed.name,
            speed.dtype,
            speed.attention,
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
        say(f"cut at {full.max_length} tokens instead: {full.pairs_per_second:.1f} pairs/s")
    joules, source = result.energy.joules_per_pair, result.energy.source
    say(f"energy: {source if joules is None else f'{joules:.3g} J per pair ({source})'}")
    for speed in result.configurations:
        say(f"largest batch of {speed.name}: {speed.batches[-1].batch:,}; {speed.stopped}")
    for name, reason in result.skipped.items():
        say(f"not run: {name}: {reason}")
    best = {key: getattr(result.best, key) for key in ("name", "dtype", "batch", "pairs_per_second", "peak_memory_mb")}
    published = result.published
    print_json(
        {
            "best": best,
            "published": published and {"name": published.name, "pairs_per_second": published.pairs_per_second},
            "latency": [asdict(one) for one in result.latency],
            "pairs": result.pairs,
            "record": str(path) if path else None,
        }
    )
