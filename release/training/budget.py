"""What a training run will need, before any weights are here: `python -m release plan-train --size 1b --world 32`.

The model is built on torch's meta device, so its parameters and the tensors that its backward pass keeps are counted, not
estimated by a formula. Nothing is downloaded, nothing trained.
"""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn
from transformers import AttentionInterface, ModernBertConfig, ModernBertModel

from release import options
from release.console import print_json, table
from release.errors import ReleaseError
from release.family import Family, load
from release.files import resource

BYTES_OF_STATE = 16  # per parameter: fp32 weight, gradient and AdamW's two moments
SEEN = 2048  # tokens in the counted pass; what is kept grows in proportion to tokens


class Unpadded(torch.autograd.Function):
    """Attention that keeps what flash attention keeps: query, key, value, the result, and one number per head and token."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out


def attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **_: Any) -> tuple[Tensor, None]:
    """`Unpadded` behind transformers' interface: (batch, heads, tokens, width) -> (batch, tokens, heads, width)."""
    return Unpadded.apply(query, key, value).transpose(1, 2), None


def shape(encoder: str) -> ModernBertConfig:
    """The encoder's configuration: from its folder, or from shapes.toml.

    Raises:
        ReleaseError: It is neither a folder nor listed.
    """
    file = resource(encoder) / "config.json"
    if file.is_file():
        return ModernBertConfig(**json.loads(file.read_text(encoding="utf-8")))
    facts = published()
    if encoder not in facts["encoders"]:
        raise ReleaseError(
            f"the shape of {encoder!r} is not known",
            where="recipes/shapes.toml",
            hint="name a local folder, or add its shape",
        )
    return ModernBertConfig(**facts["common"], **facts["encoders"][encoder])


def published() -> dict[str, Any]:
    """shapes.toml."""
    return tomllib.loads(Path(__file__).with_name("shapes.toml").read_text(encoding="utf-8"))


def count(config: ModernBertConfig) -> dict[str, int]:
    """Parameters of encoder and head, and the bytes per token that a bf16 forward pass keeps for the backward one."""
    AttentionInterface.register("counted", attention)
    width = config.hidden_size
    with torch.device("meta"):
        encoder = ModernBertModel(config).to(torch.bfloat16)
        head = nn.Sequential(nn.Linear(width, width, bias=False), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 1))
        ids = torch.zeros((1, SEEN), dtype=torch.long)
    encoder.set_attn_implementation("counted")
    weights = {id(weight) for weight in encoder.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base  # views share the memory of their base
        if id(base) not in weights:
            kept[id(base)] = base  # held on to, so that no other tensor gets its id
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(input_ids=ids)
    size = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
    return {
        "encoder": sum(weight.numel() for weight in encoder.parameters()),
        "head": sum(weight.numel() for weight in head.parameters()),
        "kept_per_token": math.ceil(size / SEEN),
    }


def command(
    size: options.Size,
    family: options.Family = options.ETTIN,
    world: Annotated[int, typer.Option(min=1, help="Devices.")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="Assumed mean tokens of a pair.")] = 256,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Pairs; by default the manifest's, else the published number.")
    ] = None,
    pairs_per_second: Annotated[
        float | None, typer.Option(min=0, help="Of one device in training: gives the hours.")
    ] = None,
) -> None:
    """Print the plan as a table and as one JSON line."""
    found = plan(load(family), size, world=world, tokens=tokens, rows=rows, pairs_per_second=pairs_per_second)
    shown = {key: f"{value:,.2f}" if isinstance(value, float) else value for key, value in found.items()}
    shown = {key: f"{value:,}" if isinstance(value, int) else value for key, value in shown.items()}
    table("Training plan", ["", "planned"], [[key.replace("_", " "), value] for key, value in shown.items()])
    print(
        f"assumed: {tokens} tokens per pair, replicas with fp32 weights and AdamW, bf16 activations, nothing recomputed"
    )
    print_json(found)


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
    manifest = family.build / "data/mixture/manifest.json"
    if not rows and manifest.is_file():
        configs = json.loads(manifest.read_text(encoding="utf-8"))["configs"].values()
        rows = sum(shard["rows"] for entry in configs for shard in entry["shards"])
    rows = rows or published()["rows"].get(family.data_id)
    if not rows:
        raise ReleaseError(
            "nothing says how many rows there are", where=str(manifest), hint="make score, or pass --rows"
        )
    counted = count(shape(size.encoder))
    parameters, batch = counted["encoder"] + counted["head"], size.global_batch_size // world
    steps = math.ceil(rows / size.global_batch_size) * family.training.epochs
    found = {
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
        "activation_gb_per_device": counted["kept_per_token"] * tokens * batch / 1e9,
    }
    if pairs_per_second:
        found["hours"] = rows * family.training.epochs / (pairs_per_second * world) / 3600
    return found
