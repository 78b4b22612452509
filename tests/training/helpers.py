"""What the tests of a run look at: its record, its losses, its weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from recipes import distill
from release import records
from release.records import Record
from release.results import RUN
from release.results.training import RunSubject, TrainingRun

ROOT = Path(__file__).resolve().parents[2]
METRIC = f"eval_{distill.METRIC}"


def record(folder: Path) -> Record[TrainingRun, RunSubject]:
    """The record of the run whose output is `folder`."""
    return records.read(folder / "records", RUN)


def step_losses(folder: Path) -> list[float]:
    """Every training loss that was logged."""
    return [float(str(entry["loss"])) for entry in record(folder).measured.log_history if "loss" in entry]


def weights(folder: Path, step: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of the model in `folder`, or of the checkpoint called `step` somewhere below it."""
    if step:
        (folder,) = folder.rglob(step)
    files = sorted(folder.glob("**/model.safetensors"))
    return {f"{file.relative_to(folder)}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Two models are the same, bit by bit."""
    assert first and first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def command(
    folder: Path, *launch: str, family: str = "family.toml", output: str = "out", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the recipe in a process of its own."""
    words = [sys.executable, *launch, "--family", family, "--size", "mini", "--output", output]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **environment}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
