"""From a declaration to the pairs of a training mixture: `python -m release mix --family recipes/demo.toml`.

Each config of the declaration becomes a folder of parquet shards under build/<family>/data/pairs, with a manifest of what was read,
left out and why. A finished config is not made again while its declaration and source stay the same. The embedded default's
evaluation sets are made here too, from objects that no training pair contains.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from huggingface_hub import HfApi

from release import console, data_manifest, mode, options, spec
from release.console import Bar, say
from release.data import demo_sets, docstrings, plan, published, shards
from release.data.contamination import EvalIndex, OverlapCounter, build_eval_index
from release.data.repeats import distinct
from release.data.sources import base
from release.data.sources.base import Source, unreadable
from release.data.sources.registry import open_source
from release.data.streams import capped, counted, prefetch, usable, without_overlap
from release.errors import ReleaseError
from release.family import Family, load
from release.files import atomic_directory, exclusive_lock, resource, sha256_yaml, write_json
from release.spec import BeirSource, ConfigSpec, FileSource, HubRetrievalSource, HubSource, MixtureSpec, RetrievalSource

RULES = "each pair once, positives kept"  # what is done to every config: other words make all of them anew
REHEARSED = 64  # rows to train on that a rehearsal takes of files on this machine
KNOWN_ONLY = ("rows", "queries")  # of a declared config: what the plan shows, which decides no row


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
        return plan.command(family)
    loaded = load(family, evaluated=False)
    if loaded.data.mixture:
        if config or drop_overlap:
            what = f"the mixture is {loaded.data.mixture}, as it is"
            raise ReleaseError(
                what, where=f"{family}, key data.mixture", hint="remove that key to mix the sources anew"
            )
        say(f"mix: nothing to mix, {resolve(loaded)}")
        return
    overlap = "drop" if drop_overlap else "ignore" if no_overlap else "report"
    run(loaded, spec.load(resource(loaded.data.declaration)), only=config, overlap=overlap)


def resolve(family: Family) -> str:
    """Settle at which commit a family's mixture is taken from the Hub, and keep it in the manifest of pairs; returns both.

    Raises:
        ReleaseError: The Hub, the dataset or the revision cannot be fetched.
    """
    name, revision = str(family.data.mixture), family.data.mixture_revision
    commit = data_manifest.settled(family.pairs_folder, name)
    if commit is None or revision not in (None, commit):
        try:
            commit = str(HfApi().dataset_info(name, revision=revision, timeout=20).sha)
        except Exception as error:  # no network, no such dataset, no access: each has its own type
            what = f"the mixture cannot be fetched ({type(error).__name__})"
            hint = "connect to the Hub, or remove `mixture` to mix the sources anew"
            raise ReleaseError(what, where=f"{name}@{revision or 'newest'}", hint=hint) from error
    write_json(family.pairs_folder / data_manifest.NAME, {"mixture": name, "revision": commit, "configs": {}})
    return f"{name} at {commit}"


def run(family: Family, mixture: MixtureSpec, *, only: list[str] | None = None, overlap: str = "report") -> Path:
    """Make the pairs of all configs (or `only` some) under the family's build folder; returns the manifest's path.

    Args:
        overlap: What to do about pairs whose query or document repeats a text that the family is evaluated on: `report` how many
            there are, `drop` them, or `ignore` the matter.

    Raises:
        ReleaseError: A source or an evaluation set is missing or wrong, or the pairs are not as many as were published. Configs
            that were finished before stay; nothing else is left.
    """
    names = list(mixture.configs)
    for name in only or []:
        if name not in mixture.configs:
            raise ReleaseError(f"unknown config {name!r}", where=str(mixture.path), hint=f"one of {', '.join(names)}")
    folder = family.build / "data"
    index = cache(lambda: build_eval_index(family)) if overlap != "ignore" else None
    with exclusive_lock(folder):
        manifests = {}
        # Docstrings first: the evaluation sets that all others are compared with are made with them.
        for name in sorted(only or names, key=lambda name: mixture.configs[name].source.kind != "docstrings"):
            config = mixture.configs[name]
            make = docstrings_config if config.source.kind == "docstrings" else stream_config
            manifests[name] = make(config, mixture, folder, index, drop=overlap == "drop")
        if not only:
            published.check(mixture, manifests)
        about = {
            "name": mixture.name,
            "title": mixture.title,
            "seed": mixture.seed,
            "declaration": mixture.path.name,
            "declaration_sha256": sha256_yaml(mixture.path),
            "overlap": overlap,
            **published.described(mixture),
            "configs": {name: manifests[name] for name in only or names},
        }
        path = write_json(folder / "pairs" / data_manifest.NAME, about)
    print_overlap(manifests)
    rows = sum(map(data_manifest.rows, manifests.values()))
    say(f"mix: {rows:,} pairs in {len(manifests)} config{'s' * (len(manifests) > 1)} -> {folder / 'pairs'}")
    return path


# --- One config -------------------------------------------------------------------------------------------------------

LazyIndex = Callable[[], EvalIndex]  # built when the first config needs it


def stream_config(
    config: ConfigSpec, mixture: MixtureSpec, folder: Path, index: LazyIndex | None, drop: bool
) -> dict[str, Any]:
    """Make one config from its source; returns its manifest."""
    source = open_source(config)
    key = _key(config, mixture, [source.revision, index().revision if index else "", drop])
    if done := _finished(folder / "pairs" / config.name, key):
        return done
    return _make(config, mixture, folder / "pairs", source, index, drop, key)


def docstrings_config(
    config: ConfigSpec, mixture: MixtureSpec, folder: Path, index: LazyIndex | None, drop: bool
) -> dict[str, Any]:
    """The embedded default: training pairs, evaluation collection and Nano set from installed packages' docstrings."""
    assert config.candidates is not None  # the declaration was checked
    installed = {package: demo_sets.version_of(package) for package in docstrings.PACKAGES}
    packages = {package: version for package, version in installed.items() if version}
    revision = ", ".join(f"{package} {version}" for package, version in packages.items())
    key = _key(config, mixture, [revision, demo_sets.code_hash(), index is not None, drop])
    done = _finished(folder / "pairs" / config.name, key)
    if (
        done
        and demo_sets.present(folder, done["evaluation_files"])  # before the index, which is over these sets too
        and (not index or done.get("evaluation_revision") == index().revision)
    ):
        return done
    objects = demo_sets.divide(docstrings.pairs(), config.candidates, mixture.evaluation, mixture.seed)
    held_out = config.held_out.rows if config.held_out else 0
    table = shards.tables(demo_sets.training_rows(objects.training, config.candidates, held_out, mixture.seed))
    files = {}
    if sets := mixture.evaluation:
        collection = demo_sets.collection_files(objects.collection, sets.collection)
        files |= demo_sets.write_files(folder, collection, f"collections/{sets.collection.name}")
        files |= demo_sets.write_files(folder, demo_sets.nano_files(objects.nano, sets.nano), "nano")
    source = Source(table.num_rows, table.num_rows, {}, revision, lambda: iter([table]))
    more = {"evaluation_files": files, "packages": packages, "evaluation_revision": index().revision if index else None}
    return _make(config, mixture, folder / "pairs", source, index, drop, key, more)


def _make(
    config: ConfigSpec,
    mixture: MixtureSpec,
    pairs: Path,
    source: Source,
    index: LazyIndex | None,
    drop: bool,
    key: str,
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Stream a source past the evaluation sets, cap and held-out split into its shards; returns the config's manifest."""
    counter = OverlapCounter(index()) if index else None
    rejected: Counter[str] = Counter()
    if counter and drop:
        source = without_overlap(source, counter, config.name)
    rows = _rows_wanted(config, mixture, source)
    stream = usable(capped(source.tables(), source.remaining, rows, config, mixture.seed), rejected)
    stream = distinct(stream, rows, rejected)
    if counter and not drop:
        stream = counted(stream, counter)
    with atomic_directory(pairs / config.name) as making:
        try:
            described = _write_shards(making, config, mixture, stream, rows, rejected)
        except base.FAILURES as error:
            raise unreadable(config, error) from error
        made = {
            "key": key,
            **describe(config, source.license),
            "rows_in": source.rows,
            "dropped": source.dropped
            | ({"cap": source.remaining - rows} if rows < source.remaining else {})
            | dict(rejected),
            "revision": source.revision,
            **(more or {}),
            "overlap": counter.report() if counter else None,
            "shards": described,
        }
        write_json(making / data_manifest.NAME, made)
    if left_out := source.dropped | dict(rejected):
        say(f"mix: {config.name}: left out {_listed(left_out)}", sys.stderr)
    return made


def _rows_wanted(config: ConfigSpec, mixture: MixtureSpec, source: Source) -> int:
    """How many rows the cap leaves.

    Raises:
        ReleaseError: The source gives no row, fewer than the cap, or no more than are held out.
    """
    where = f"{mixture.path}, key configs.{config.name}"
    if not source.remaining:
        why = f" (left out: {_listed(source.dropped)})" if source.dropped else ""
        what = f"the source gives no row{why}"
        raise ReleaseError(what, where=f"{where}.source", hint="correct the source, its columns or its filters")
    rows = config.cap.rows if config.cap else source.remaining
    if isinstance(config.source, FileSource | BeirSource | RetrievalSource):  # which has no stand-in
        held_out = config.held_out.rows if config.held_out else 0
        rows = mode.amount(rows, min(rows, REHEARSED + held_out))
    if rows > source.remaining:
        what = f"the cap of {rows:,} rows is larger than the {source.remaining:,} that the source gives"
        raise ReleaseError(what, where=f"{where}.cap.rows", hint=f"lower it to {source.remaining} or remove it")
    _check_held_out(config, rows, where)
    return rows


def _check_held_out(config: ConfigSpec, rows: int, where: str) -> None:
    if config.held_out and config.held_out.rows >= rows:
        what = f"{config.held_out.rows:,} rows are held out of {rows:,}"
        raise ReleaseError(what, where=f"{where}.held_out.rows", hint="lower it, so that rows to train on are left")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def _write_shards(
    folder: Path,
    config: ConfigSpec,
    mixture: MixtureSpec,
    stream: Iterator[pa.Table],
    rows: int,
    rejected: Counter[str],
) -> list[dict[str, Any]]:
    """Write the stream as shards, the last rows to the held-out split; returns the shards for the manifest.

    Raises:
        ReleaseError: Other than `rows` rows came, or what is left cannot be held out of.
    """
    train = shards.SplitWriter(folder, "train", base.schema(config), mixture.shard_rows)
    held_out, last = [], deque[pa.Table]()  # the last tables, which hold the rows to be held out
    size = config.held_out.rows if config.held_out else 0
    with Bar(f"mix: {config.name}", rows) as bar:
        for table in prefetch(stream):
            last.append(table)
            while last and sum(part.num_rows for part in last) - last[0].num_rows >= size:
                train.write(last.popleft())
            bar.advance(table.num_rows)
    tail = pa.concat_tables(last) if last else base.schema(config).empty_table()
    written = train.rows + tail.num_rows
    if written + rejected.total() != rows:
        what = f"{written + rejected.total():,} rows came where {rows:,} were counted"
        raise ReleaseError(what, where=f"config {config.name}", hint="run it again; the source has changed meanwhile")
    if not written:
        what = f"no row is left (left out: {_listed(rejected)})"
        raise ReleaseError(what, where=f"config {config.name}", hint="correct the source")
    _check_held_out(config, written, f"{mixture.path}, key configs.{config.name}")
    if tail.num_rows > size:
        train.write(tail.slice(0, tail.num_rows - size))
    if config.held_out:
        writer = shards.SplitWriter(folder, config.held_out.split, base.schema(config), mixture.shard_rows)
        writer.write(tail.slice(tail.num_rows - size))
        held_out = writer.close()
    return [shard.as_dict() for shard in [*train.close(), *held_out]]


def describe(config: ConfigSpec, license: str | None = None) -> dict[str, Any]:
    """What the declaration says of a config, for manifests and cards.

    Args:
        license: What the source's card says: it stands where the declaration knows no licence.
    """
    fetched = config.license == "unknown" and isinstance(config.source, HubSource | HubRetrievalSource)
    note = ("by the card of its source" if license else "the card of its source names none") if fetched else None
    return {
        "source": {key: value for key, value in asdict(config.source).items() if value is not None},
        "license": license or config.license if fetched else config.license,
        "license_link": config.license_link,
        "license_note": config.license_note or note,
        "labels": config.labels,
        "cap": asdict(config.cap) if config.cap else None,
        "candidates": asdict(config.candidates) if config.candidates else None,
        "sampling": asdict(config.sampling) | {"band": list(config.sampling.band)} if config.sampling else None,
        "held_out": asdict(config.held_out) if config.held_out else None,
        "overlaps_declared": list(config.overlaps) if config.overlaps is not None else None,
    }


def _key(config: ConfigSpec, mixture: MixtureSpec, inputs: list[Any]) -> str:
    """Names all that decides a config's rows and manifest; a finished config with the same key is not made again."""
    described = {key: value for key, value in asdict(config).items() if key not in KNOWN_ONLY}
    parts = [RULES, described, mixture.seed, mixture.shard_rows, inputs]
    if config.source.kind == "docstrings" and mixture.evaluation:
        parts.append(asdict(mixture.evaluation))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _finished(folder: Path, key: str) -> dict[str, Any] | None:
    """The manifest of a config that was made with this key and whose shards all stand there with their sizes."""
    config = data_manifest.find_config(folder)
    return config if config and config.get("key") == key else None


def print_overlap(manifests: dict[str, dict[str, Any]]) -> None:
    """Print which configs repeat texts of which evaluation sets, if any do."""
    rows = [
        [name, task, f"{overlap['query_share']:.4%}", f"{overlap['document_share']:.4%}"]
        for name, entry in manifests.items()
        for task, overlap in (entry["overlap"] or {}).items()
        if overlap["queries"] or overlap["documents"]
    ]
    if rows:
        console.table(
            "Pairs that repeat an evaluation text", ["config", "set", "by the query", "by the document"], rows
        )
