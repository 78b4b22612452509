"""What a training run will need, before any weights are here: `python -m release plan-train --size 1b --world 32`.

Nothing is downloaded, nothing trained.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from release import data_manifest, options, spec
from release.console import print_json, table
from release.errors import ReleaseError
from release.family import Family, load
from release.files import resource
from release.shapes import BACKWARD, BYTES_OF_STATE, count, shape


def command(
    size: options.Size,
    family: options.Family = options.ETTIN,
    world: Annotated[int, typer.Option(min=1, help="Devices.")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="Assumed mean tokens of a pair.")] = 256,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Pairs; by default the manifest's, else the published number.")
    ] = None,
    pairs_per_second: Annotated[
        float | None, typer.Option(min=1e-3, max=1e9, help="Of one device in training: gives the hours.")
    ] = None,
) -> None:
    """Print the plan as a table and as one JSON line."""
    budget = plan(load(family), size, world=world, tokens=tokens, rows=rows, pairs_per_second=pairs_per_second)
    shown = {key: f"{value:,.2f}" if isinstance(value, float) else value for key, value in budget.items()}
    shown = {key: f"{value:,}" if isinstance(value, int) else value for key, value in shown.items()}
    cells = [[key.replace("_", " "), value] for key, value in shown.items() if key != "size"]
    table(f"Training {size}", ["", "planned"], cells)
    print(f"assumed: {tokens} tokens per pair, replicas with fp32 weights and AdamW,")
    print("  bf16 activations, nothing recomputed")
    print_json(budget)


def plan(
    family: Family,
    name: str,
    *,
    world: int = 1,
    tokens: int = 256,
    rows: int | None = None,
    pairs_per_second: float | None = None,
) -> dict[str, Any]:
    """All figures of training the size `name` on `world` devices.

    Raises:
        ReleaseError: The global batch does not divide, or nothing says how many rows there are.
    """
    size = family.size(name)
    if size.global_batch_size % world:
        what = f"the global batch of {size.global_batch_size} does not divide by {world} devices"
        raise ReleaseError(what, where=f"{family.path} [sizes.{name}]", hint="take a WORLD that divides it")
    if not rows and (here := data_manifest.find(family.mixture_folder)):
        rows = sum(map(data_manifest.rows, here["configs"].values()))
    if not rows and (declared := spec.load(resource(family.data.declaration)).published):
        rows = declared.rows
    if not rows:
        where = str(family.mixture_folder / data_manifest.NAME)
        raise ReleaseError("nothing says how many rows there are", where=where, hint="make score, or pass --rows")
    counted = count(shape(size.encoder))
    parameters, batch = counted["encoder"] + counted["head"], size.global_batch_size // world
    steps = math.ceil(rows / size.global_batch_size) * family.training.epochs
    budget = {
        "size": name,
        "world": world,
        "parameters": parameters,
        "encoder_parameters": counted["encoder"],
        "rows": rows,
        "global_batch": size.global_batch_size,
        "per_device_batch": batch,
        "steps": steps,
        "tokens": rows * tokens * family.training.epochs,
        "state_gb_per_device": parameters * BYTES_OF_STATE / 1e9,
        "activation_gb_per_device": counted["kept_per_token"] * BACKWARD * tokens * batch / 1e9,
    }
    if pairs_per_second:
        budget["hours"] = rows * family.training.epochs / (pairs_per_second * world) / 3600
    return budget
