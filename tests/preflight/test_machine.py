"""Preflight knows what the machine must have: the family's device, memory to train in, one GPU for one process, disk, packages.

No GPU exists where tests run: `nvidia-smi` is a script that prints what the real one prints.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from release import family, mode
from release.preflight import machine
from release.preflight.lack import Lack

ETTIN = family.load(Path("recipes/ettin.toml"))
H100, A100 = "NVIDIA H100 80GB HBM3, 81559", "NVIDIA A100-SXM4-40GB, 40960"


@pytest.fixture
def has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Give the machine these GPUs."""
    monkeypatch.delenv(mode.VARIABLE, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def given(*lines: str) -> None:
        script = tmp_path / "nvidia-smi"
        script.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return given


def lacks(size: str, *stages: str, micro_batch: int | None = None) -> list[Lack]:
    return list(machine.machine(ETTIN, size, set(stages), micro_batch))


def test_a_size_that_does_not_fit_at_the_whole_batch_gets_a_micro_batch(has) -> None:
    has(H100)
    assert lacks("68m", "train", "speed") == []
    (lack,) = lacks("400m", "train", "speed")
    assert lack.what == "training 400m takes about 98 GB for 256 pairs at a time, and NVIDIA H100 80GB HBM3 has 86 GB"
    assert lack.hint.startswith("MICRO_BATCH=128 ") and lack.stage == "train"
    assert lacks("400m", "train", micro_batch=128) == []
    assert [each.hint[:15] for each in lacks("400m", "train", micro_batch=256)] == ["MICRO_BATCH=128"]
    has(A100)
    assert [each.hint for each in lacks("1b", "train")] == ["MICRO_BATCH=32 trains the same in smaller passes"]
    has("NVIDIA T4, 15360")
    assert [each.hint for each in lacks("1b", "train")] == ["train on a larger one"]


def test_the_device_of_the_cards_is_needed_for_speed_alone(has) -> None:
    has(A100)
    assert lacks("17m", "mix", "train", "evaluate") == []
    (lack,) = lacks("17m", "train", "speed")
    assert lack.what == "no H100 (here: NVIDIA A100-SXM4-40GB)" and lack.stage == "speed" and lack.elsewhere
    assert not machine.has_device(ETTIN)
    lower = dataclasses.replace(ETTIN, speed=dataclasses.replace(ETTIN.speed, device="a100"))
    assert machine.has_device(lower)  # as a card compares them


def test_either_package_gives_flash_attention(has, monkeypatch: pytest.MonkeyPatch) -> None:
    has(H100)
    for here, lines in ((("kernels",), 0), (("flash_attn",), 0), ((), 1)):
        monkeypatch.setattr(machine, "find_spec", lambda name, here=here: name in (*here, "codecarbon") or None)
        hints = list(machine.advice(ETTIN, {"train", "speed"}))
        assert len(hints) == lines and all("flash attention is not measured" in what for what, _ in hints)


def test_several_gpus_are_for_torchrun(has, monkeypatch: pytest.MonkeyPatch) -> None:
    has(H100, H100)
    (lack,) = lacks("17m", "train", "speed")
    assert "2 GPUs" in lack.what and "torchrun --nproc_per_node=2 recipes/distill.py --size 17m" in lack.hint
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert lacks("17m", "train", "speed") == []


def test_a_rehearsal_needs_no_device(has, monkeypatch: pytest.MonkeyPatch) -> None:
    has()
    assert [each.stage for each in lacks("17m", "train", "speed")] == ["speed"]
    monkeypatch.setenv(mode.VARIABLE, "1")
    assert lacks("17m", "train", "speed") == []


def test_a_full_disk_is_said_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(machine.disk(ETTIN, {"train"}, {tmp_path / "home": 1e6}, 1e6)) == []
    (lack,) = machine.disk(ETTIN, {"train"}, {tmp_path / "home": 1e18}, 1e17)
    needed = (1e18 + 1e17 * (3 * 6 + 4)) / 1e9
    assert f"at least {needed:,.1f} GB are needed" in lack.what and "build/ettin-reranker" in lack.what
    assert list(machine.disk(ETTIN, {"card"}, {}, 1e17)) == []


def test_a_package_that_a_stage_imports_is_missed_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mode.VARIABLE, "1")
    monkeypatch.setitem(machine.PACKAGES, "export", (("onnx", "no_such_package"), "export"))
    assert lacks("17m", "mix") == []
    (lack,) = lacks("17m", "export")
    assert lack == Lack("no package no_such_package", "pip install 'ettin-release[export]'", "export")
