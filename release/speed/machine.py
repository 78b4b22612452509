"""What can be read from the machine while a model runs: energy, where a counter can be read, and the driver."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")  # Linux shows the counters of Intel's and AMD's processors (RAPL) here
SMI = "nvidia-smi"
EVERY_MS = 100  # between two readings of a GPU's power
UNREADABLE = "not readable here"


@dataclass(frozen=True)
class EnergyReading:
    """Joules that a piece of work took, None where nothing can be read; `source` says what was read, or why not."""

    joules: float | None
    source: str


def driver() -> str | None:
    """The version of the NVIDIA driver, None without one."""
    return _smi("driver_version")


def energy(work: Callable[[], Any], device: str, *, powercap: Path = POWERCAP) -> EnergyReading:
    """Run `work` once and read what it took.

    Args:
        device: "CPU", or a GPU's name: its power is read instead (by nvidia-smi).

    Returns:
        What was read; `work` is run only if there is something to read. All that the counter covers is counted, what
        others do meanwhile too.
    """
    return _gpu_energy(work) if device != "CPU" else _cpu_energy(work, powercap)


def _cpu_energy(work: Callable[[], Any], powercap: Path) -> EnergyReading:
    """Over all packages; a package's zones (intel-rapl:0:0 and so on) are parts of it."""
    packages = sorted(folder for folder in powercap.glob("*-rapl:*") if folder.name.count(":") == 1)
    try:
        before = [_number(folder / "energy_uj") for folder in packages]
        if not before:
            return EnergyReading(None, f"{UNREADABLE}: no energy counter")
        work()
        spent = 0
        for folder, start in zip(packages, before, strict=True):
            end = _number(folder / "energy_uj")
            spent += end - start if end >= start else end - start + _number(folder / "max_energy_range_uj")
    except (OSError, ValueError) as error:
        return EnergyReading(None, f"{UNREADABLE}: the energy counter ({type(error).__name__})")
    return EnergyReading(spent / 1e6, f"RAPL, {len(packages)} package(s)")


def _gpu_energy(work: Callable[[], Any]) -> EnergyReading:
    """Mean power times seconds."""
    if _smi("power.draw") is None:
        return EnergyReading(None, f"{UNREADABLE}: {SMI} gives no power")
    query = [SMI, "--id=0", "--query-gpu=power.draw", "--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"]
    with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as readings:
        try:
            started = time.perf_counter()
            work()
            seconds = time.perf_counter() - started
        finally:
            readings.terminate()
        watts = [float(line) for line in (readings.stdout or ()) if line.strip()[:1].isdigit()]
    if not watts:
        return EnergyReading(None, f"{UNREADABLE}: {SMI} gave no power in {seconds:.1f} s")
    return EnergyReading(sum(watts) / len(watts) * seconds, f"{SMI}, power every {EVERY_MS} ms")


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _smi(what: str) -> str | None:
    if not shutil.which(SMI):
        return None
    query = [SMI, "--id=0", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    value = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    return value if value[:1].isdigit() else None
