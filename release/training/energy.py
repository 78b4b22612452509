"""What a training used, from the files that CodeCarbon writes: of all its starts, or nothing."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from release.errors import ReleaseError
from release.results.training import EnergyUse

STARTS = "starts.txt"  # a line for each start of a run, at the step that it names


class Starts(TrainerCallback):
    """Counts the starts of a run: CodeCarbon writes a row where a start ends well, and none where it is killed."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_local_process_zero:  # of each node, as CodeCarbon measures
            file = Path(args.output_dir, STARTS)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(f"{state.global_step}\n")


def energy(folder: Path) -> EnergyUse | None:
    """The sum over all starts of a run; None where CodeCarbon measured none of them, or not each.

    CodeCarbon moves `emissions.csv` aside, as `emissions.csv_N.bak`, where its columns change between two starts.

    Raises:
        ReleaseError: A file that cannot be read, or a figure that is no number from 0 up: a sum without it would be too small.
    """
    rows = [figures for file in sorted(folder.glob("emissions.csv*")) for figures in _rows(file)]
    starts = folder / STARTS
    if not rows or (starts.is_file() and len(rows) != starts.read_text(encoding="utf-8").count("\n")):
        return None
    return EnergyUse(sum(kwh for kwh, _ in rows), sum(kilograms for _, kilograms in rows))


def _rows(file: Path) -> list[tuple[float, float]]:
    """kWh and kg of CO2 of each row."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            rows = [(float(row["energy_consumed"]), float(row["emissions"])) for row in csv.DictReader(stream)]
        if bad := [value for row in rows for value in row if not math.isfinite(value) or value < 0]:
            raise ValueError(f"a figure of {bad[0]}")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ReleaseError(f"no energy figures ({error})", where=str(file), hint="remove it to record none") from error
    return rows
