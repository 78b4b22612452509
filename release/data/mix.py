"""From a declaration to the pairs of a training mixture: `python -m release mix --family recipes/demo.toml`.

Each config of the declaration becomes a folder of parquet shards under build/<family>/data/pairs, with a manifest of what was read,
left out and why. A finished config is not made again while its declaration and source stay the same. The embedded default's
evaluation sets are made here too, from objects that no training pair contains.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from release import console, options
from release.data import shards, spec
from release.data.contamination import hold
from release.data.minhash import Held, Overlap
from release.data.sources import base
from release.data.sources.base import Opened
from release.data.spec import ConfigSpec, MixtureSpec
from release.errors import ReleaseError
from release.family import Family, load
from release.files import exclusive_lock, resource, write_json

UNKNOWN = "unknown until fetched"


def command(
    family: options.Family,
    config: Annotated[list[str] | None, typer.Option(help="Only this config (may be given several times).")] = None,
    drop_overlap: Annotated[
        bool, typer.Option("--drop-overlap", help="Leave out pairs that repeat an evaluation text.")
    ] = False,
    no_overlap: Annotated[
        bool, typer.Option("--no-overlap", help="Do not compare with the evaluation sets at all.")
    ] = False,
    only_plan: Annotated[
        bool, typer.Option("--plan", help="Print what is declared, fetch and write nothing (as plan-data).")
    ] = False,
) -> None:
    """Make the pairs that the family declares, and its own evaluation sets; what is finished is kept."""
    if drop_overlap and no_overlap:
        raise ReleaseError("--drop-overlap and --no-overlap exclude each other", hint="give one of them")
    if only_plan:
        return plan(family)
    loaded = load(family)
    overlap = "drop" if drop_overlap else "ignore" if no_overlap else "report"
    run(loaded, spec.load(resource(loaded.data.declaration)), only=config, overlap=overlap)


def plan(family: options.Family = options.ETTIN) -> None:
    """Print rows, bytes, licences and overlaps of what the family declares; nothing is fetched or written."""
    loaded = load(family)
    print_plan(spec.load(resource(loaded.data.declaration)), loaded.build / "data/pairs")


def run(family: Family, declaration: MixtureSpec, *, only: list[str] | None = None, overlap: str = "report") -> Path:
    """Make the pairs of all configs (or `only` some) under the family's build folder; returns the manifest's path.

    Args:
        overlap: What to do about pairs whose query or document repeats a text that the family is evaluated on: `report` how many
            there are, `drop` them, or `ignore` the matter.

    Raises:
        ReleaseError: A source or an evaluation set is missing or wrong. Configs that were finished before stay; nothing else is
            left behind.
    """
    names = list(declaration.configs)
    for name in only or []:
        if name not in declaration.configs:
            raise ReleaseError(
                f"unknown config {name!r}", where=str(declaration.path), hint=f"one of {', '.join(names)}"
            )
    folder = family.build / "data"
    held = cache(lambda: hold(family)) if overlap != "ignore" else None
    with exclusive_lock(folder):
        manifests = {}
        # Docstrings first: the evaluation sets that all others are compared with are made with them.
        for name in sorted(only or names, key=lambda name: declaration.configs[name].source.kind != "docstrings"):
            config = declaration.configs[name]
            make = docstrings_config if config.source.kind == "docstrings" else stream_config
            manifests[name] = make(config, declaration, folder, held, drop=overlap == "drop")
        manifest = {
            "name": declaration.name,
            "title": declaration.title,
            "seed": declaration.seed,
            "declaration": declaration.path.name,
            "declaration_sha256": hashlib.sha256(declaration.path.read_bytes()).hexdigest(),
            "overlap": overlap,
            "configs": {name: manifests[name] for name in only or names},
        }
        path = write_json(folder / "pairs" / "manifest.json", manifest)
    print_overlap(manifests)
    rows = sum(sum(shard["rows"] for shard in entry["shards"]) for entry in manifests.values())
    print(f"mix: {rows:,} pairs in {len(manifests)} config{'s' * (len(manifests) > 1)} -> {folder / 'pairs'}")
    return path


# --- One config -------------------------------------------------------------------------------------------------------


def stream_config(
    config: ConfigSpec, declaration: MixtureSpec, folder: Path, held: Callable[[], Held] | None, drop: bool
) -> dict[str, Any]:
    """Make one config from its source; returns its manifest."""
    opened = base.open_source(config)
    key = _key(config, declaration, [opened.revision, held().revision if held else "", drop])
    if done := _finished(folder / "pairs" / config.name, key):
        return done
    return _make(config, declaration, folder / "pairs", opened, held, drop, key)


def docstrings_config(
    config: ConfigSpec, declaration: MixtureSpec, folder: Path, held: Callable[[], Held] | None, drop: bool
) -> dict[str, Any]:
    """The embedded default: training pairs, evaluation collection and NanoSpec set from installed packages' docstrings."""
    from release.data import demo_sets, docstrings

    assert config.candidates is not None  # the checker sees to it
    installed = {package: demo_sets.version_of(package) for package in docstrings.PACKAGES}
    found = {package: version for package, version in installed.items() if version}
    revision = ", ".join(f"{package} {version}" for package, version in found.items())
    key = _key(config, declaration, [revision, demo_sets.code_hash(), held is not None, drop])
    if (done := _finished(folder / "pairs" / config.name, key)) and demo_sets.present(folder, done["evaluation_files"]):
        return done
    objects = demo_sets.divide(docstrings.pairs(), config.candidates, declaration.evaluation, declaration.seed)
    held_out = config.held_out.rows if config.held_out else 0
    table = shards.tables(demo_sets.training_rows(objects.training, config.candidates, held_out, declaration.seed))
    files = {}
    if plan := declaration.evaluation:
        files |= demo_sets.write_files(
            folder,
            demo_sets.collection_files(objects.collection, plan.collection),
            f"collections/{plan.collection.name}",
        )
        files |= demo_sets.write_files(folder, demo_sets.nano_files(objects.nano, plan.nano), "nano")
    opened = base.Opened(table.num_rows, table.num_rows, {}, revision, lambda: iter([table]))
    more = {"evaluation_files": files, "packages": found}
    return _make(config, declaration, folder / "pairs", opened, held, drop, key, more)


def _make(
    config: ConfigSpec,
    declaration: MixtureSpec,
    pairs: Path,
    opened: Opened,
    held: Callable[[], Held] | None,
    drop: bool,
    key: str,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Stream a source through the evaluation sets, cap and held-out split into its shards; returns the config's manifest."""
    overlap = Overlap(held()) if held else None
    if overlap and drop:
        opened = without_overlap(opened, overlap, config.name)
    cap = config.cap.rows if config.cap else opened.kept
    if cap > opened.kept:
        raise ReleaseError(
            f"the cap of {cap:,} rows is larger than the {opened.kept:,} that the source gives",
            where=f"{declaration.path} config {config.name}, key cap.rows",
            hint=f"lower it to {opened.kept} or remove it",
        )
    stream = _capped(opened.tables(), opened.kept, cap, config, declaration.seed)
    if overlap and not drop:
        stream = _watched(stream, overlap)
    facts = {
        "rows_in": opened.rows,
        "dropped": opened.dropped | ({"cap": opened.kept - cap} if cap < opened.kept else {}),
        "revision": opened.revision,
        **(more or {}),
    }
    return _write_config(config, declaration, pairs, stream, cap, facts, key, overlap)


def without_overlap(opened: Opened, overlap: Overlap, name: str) -> Opened:
    """The source without the pairs that repeat an evaluation text. It is read once more for it; a bit per row is remembered."""
    repeated = []
    with console.Bar(f"mix: {name}, overlap", opened.kept) as bar:
        for table in opened.tables():
            repeated.append(np.packbits(overlap.repeated(table)))
            bar.advance(table.num_rows)
    count = sum(int(np.bitwise_count(bits).sum()) for bits in repeated)

    def stream() -> Iterator[pa.Table]:
        for table, bits in zip(opened.tables(), repeated, strict=True):
            keep = np.unpackbits(bits, count=table.num_rows) == 0
            if keep.any():
                yield table.filter(pa.array(keep))

    dropped = opened.dropped | ({"overlap": count} if count else {})
    return Opened(opened.rows, opened.kept - count, dropped, opened.revision, stream)


def _watched(tables: Iterator[pa.Table], overlap: Overlap) -> Iterator[pa.Table]:
    """The same tables, counted as they pass."""
    for table in tables:
        overlap.repeated(table)
        yield table


def _capped(tables: Iterator[pa.Table], total: int, cap: int, config: ConfigSpec, seed: int) -> Iterator[pa.Table]:
    """Exactly `cap` of the `total` rows of a stream, uniformly at random or the first ones, in constant memory."""
    if cap == total:
        yield from tables
        return
    name = int.from_bytes(hashlib.sha256(config.name.encode()).digest()[:8], "big")
    draw = np.random.default_rng([seed, name])
    first = config.cap is not None and config.cap.draw == "first"
    for table in tables:
        rows = table.num_rows
        if first:
            keep = np.arange(min(cap, rows))
        else:  # how many of the remaining picks fall into this table, then which rows they are
            hits = int(draw.hypergeometric(rows, total - rows, cap)) if total > rows else cap
            keep = np.sort(draw.choice(rows, hits, replace=False))
        total, cap = total - rows, cap - len(keep)
        if len(keep):
            yield table.take(pa.array(keep))
        if not cap:
            return


def _write_config(
    config: ConfigSpec,
    declaration: MixtureSpec,
    pairs: Path,
    stream: Iterator[pa.Table],
    rows: int,
    facts: dict[str, Any],
    key: str,
    overlap: Overlap | None,
) -> dict[str, Any]:
    """Write the stream as shards into a folder of its own, which takes the config's place when it is whole."""
    held = config.held_out.rows if config.held_out else 0
    if held >= rows:
        raise ReleaseError(
            f"{held} rows are held out of {rows}", where=f"config {config.name}, key held_out.rows", hint="lower it"
        )
    final, making = pairs / config.name, pairs / f".{config.name}.making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    schema = base.schema(config)
    writers = {"train": shards.SplitWriter(making, "train", schema, declaration.shard_rows)}
    if config.held_out:
        writers[config.held_out.split] = shards.SplitWriter(
            making, config.held_out.split, schema, declaration.shard_rows
        )
    seen = 0
    try:
        with console.Bar(f"mix: {config.name}", rows) as bar:
            for table in ahead(stream):
                before = max(min(rows - held - seen, table.num_rows), 0)
                if before:
                    writers["train"].write(table.slice(0, before))
                if before < table.num_rows and config.held_out:
                    writers[config.held_out.split].write(table.slice(before))
                seen += table.num_rows
                bar.advance(table.num_rows)
        found = [shard.as_dict() for writer in writers.values() for shard in writer.close()]
        if seen != rows:
            raise ReleaseError(
                f"{seen:,} rows came where {rows:,} were counted", where=f"config {config.name}", hint="run it again"
            )
        report = overlap.report() if overlap else None
        manifest = {"key": key, **describe(config), **facts, "overlap": report, "shards": found}
        write_json(making / "manifest.json", manifest)
        shutil.rmtree(final, ignore_errors=True)
        making.rename(final)
    except (OSError, pa.ArrowInvalid) as error:
        raise ReleaseError(
            f"cannot read or write ({str(error).splitlines()[0][:200]})",
            where=f"config {config.name}",
            hint="free some space or fix the source",
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return manifest


def ahead(tables: Iterator[pa.Table], steps: int = 4) -> Iterator[pa.Table]:
    """The same tables, a few steps ahead in a thread: the next ones are read and filtered while one is written."""
    with ThreadPoolExecutor(1) as reader:
        waiting = deque(reader.submit(next, tables, None) for _ in range(steps))
        while (table := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, tables, None))
            yield table


def describe(config: ConfigSpec) -> dict[str, Any]:
    """What the declaration says of a config, for manifests and cards."""
    return {
        "source": {key: value for key, value in asdict(config.source).items() if value is not None},
        "license": config.license,
        "license_link": config.license_link,
        "license_note": config.license_note,
        "labels": config.labels,
        "cap": asdict(config.cap) if config.cap else None,
        "candidates": asdict(config.candidates) if config.candidates else None,
        "sampling": asdict(config.sampling) | {"band": list(config.sampling.band)} if config.sampling else None,
        "held_out": asdict(config.held_out) if config.held_out else None,
        "overlaps_declared": list(config.overlaps) if config.overlaps is not None else None,
    }


def _key(config: ConfigSpec, declaration: MixtureSpec, found: list[Any]) -> str:
    """Names all that decides a config's rows and manifest; a finished config with the same key is not made again."""
    parts = [asdict(replace(config, rows=None)), declaration.seed, declaration.shard_rows, found]
    if config.source.kind == "docstrings" and declaration.evaluation:
        parts.append(asdict(declaration.evaluation))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _finished(folder: Path, key: str) -> dict[str, Any] | None:
    """The manifest of a config that was made with this key and whose shards all stand there with their sizes."""
    manifest = read_manifest(folder)
    return manifest if manifest and manifest.get("key") == key else None


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished config, or None where there is none, or a shard is not there with its size."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        whole = all((folder / shard["name"]).stat().st_size == shard["bytes"] for shard in manifest["shards"])
    except (OSError, ValueError, KeyError):
        return None
    return manifest if whole else None


def print_overlap(manifests: dict[str, dict[str, Any]]) -> None:
    """Print which configs repeat texts of which evaluation sets, if any do."""
    rows = [
        [name, task, f"{found['query_share']:.4%}", f"{found['document_share']:.4%}"]
        for name, entry in manifests.items()
        for task, found in (entry["overlap"] or {}).items()
        if found["queries"] or found["documents"]
    ]
    if rows:
        console.table(
            "Pairs that repeat an evaluation text", ["config", "set", "by the query", "by the document"], rows
        )


# --- The plan ---------------------------------------------------------------------------------------------------------


def print_plan(declaration: MixtureSpec, pairs: Path) -> None:
    """Print each config's rows, bytes, licence and overlaps: what is declared, what the pairs under `pairs` tell, or neither.

    One line per config, however long, under the source that it comes from, so that it can be searched and cut.
    """
    print(f"{declaration.title}: {len(declaration.configs)} configs, declared in {declaration.path}")
    cells = {name: _plan_cells(config, pairs) for name, config in declaration.configs.items()}
    heads = ("config", "rows", "bytes", "licence", "same origin as")
    widths = [max(len(row[place]) for row in [heads, *cells.values()]) for place in range(len(heads))]
    source = None
    for name, row in cells.items():
        spec_source = declaration.configs[name].source
        if source != (source := spec_source.origin):
            print(f"\nfrom {source}")
            print("  " + "  ".join(map(str.ljust, heads, widths)).rstrip())
        print("  " + "  ".join(map(str.ljust, row, widths)).rstrip())


def _plan_cells(config: ConfigSpec, pairs: Path) -> tuple[str, ...]:
    """What the plan says of one config."""
    shards = (read_manifest(pairs / config.name) or {}).get("shards")
    rows = f"{sum(shard['rows'] for shard in shards):,}" if shards else f"{config.rows:,}" if config.rows else UNKNOWN
    rows = f"{config.cap.rows:,} (cap)" if config.cap and not shards else rows
    size = f"{sum(shard['bytes'] for shard in shards):,}" if shards else UNKNOWN
    licence = UNKNOWN if config.license == "unknown" else config.license
    overlaps = UNKNOWN if config.overlaps is None else ", ".join(config.overlaps) or "none declared"
    return config.name, rows, size, licence, overlaps
