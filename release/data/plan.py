"""`make plan-data`: what a mixture declares, beside what is here and what was published. Nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from release import console, data_manifest, options, spec
from release.data import published
from release.data.published import UNKNOWN
from release.family import Family, load
from release.files import resource
from release.spec import ConfigSpec, MixtureSpec


def command(family: options.Family = options.ETTIN) -> None:
    """Print rows, bytes, licences and overlaps of what the family declares, beside what was published; nothing is fetched.

    Raises:
        ReleaseError: All pairs are made, and are not as many as were published (as `make mix` does).
    """
    loaded = load(family, evaluated=False)
    mixture, pairs = spec.load(resource(loaded.data.declaration)), loaded.pairs_folder
    show(mixture, pairs)
    made = {name: config for name in mixture.configs if (config := data_manifest.find_config(pairs / name))}
    if taken := loaded.data.mixture:
        console.say(
            f"taken as it is from {taken} at {loaded.data.mixture_revision or 'the commit that make mix settles'}"
        )
        made = _fetched(loaded)
    published.show(mixture, made)
    if len(made) == len(mixture.configs):
        published.check(mixture, made)


def _fetched(family: Family) -> dict[str, dict[str, Any]]:
    """The configs of a mixture that was taken from the Hub, by its manifest; none where it is not here yet."""
    here = data_manifest.find(family.mixture_folder)
    return here["configs"] if here and here.get("mixture") == family.data.mixture else {}


def show(mixture: MixtureSpec, pairs: Path) -> None:
    """Print each config's rows, bytes, licence and overlaps: what is declared, what the pairs under `pairs` say, or neither."""
    console.say(f"{mixture.title}: {len(mixture.configs)} configs\ndeclared in {mixture.path}")
    console.say(f"{UNKNOWN}: unknown until fetched\n")
    for origin in dict.fromkeys(config.source.origin for config in mixture.configs.values()):
        configs = [config for config in mixture.configs.values() if config.source.origin == origin]
        columns = ["config", "rows", "bytes", "licence", "overlaps"]
        console.table(f"from {origin}", columns, [_cells(config, pairs) for config in configs])
    tasks = dict.fromkeys(task for config in mixture.configs.values() for task in config.overlaps or ())
    if tasks:
        print("Overlaps: configs whose text has the same origin as an evaluation task")
    for task in tasks:
        names = [config.name for config in mixture.configs.values() if task in (config.overlaps or ())]
        print(*console.wrapped(f"{task}: {', '.join(names)}", indent="  "), sep="\n")


def _cells(config: ConfigSpec, pairs: Path) -> list[str]:
    """What the plan says of one config."""
    made = data_manifest.find_config(pairs / config.name) or {}
    shards = made.get("shards")
    rows = f"{data_manifest.rows(made):,}" if shards else f"{config.rows:,}" if config.rows else UNKNOWN
    rows = f"{config.cap.rows:,} (cap)" if config.cap and not shards else rows
    size = f"{sum(shard['bytes'] for shard in shards):,}" if shards else UNKNOWN
    licence = made.get("license") or (UNKNOWN if config.license == "unknown" else config.license)
    overlaps = UNKNOWN if config.overlaps is None else str(len(config.overlaps)) if config.overlaps else "none"
    return [config.name, rows, size, licence, overlaps]
