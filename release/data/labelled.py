"""What the manifest of a mixture says of its labelled shards, from these alone: when they are made, and for whoever checks them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from release.data import shards
from release.errors import ReleaseError

SAMPLE = 300  # characters of a text that the cards show
ROUNDED = 4  # decimals of a label in a manifest
MEMORY = 0.05  # by which two versions of pyarrow may differ in how much a table takes


@dataclass(frozen=True)
class LabelledShards:
    """The shards of one config: rows and bytes in memory of each, least, mean and greatest label, the first row.

    Attributes:
        on_bf16_grid: Whether bf16 knows every label, as where the last layer of the teacher was in bf16.
        memory, sample: 0 and None where the texts were not read.
    """

    rows: tuple[int, ...]
    memory: tuple[int, ...]
    label: dict[str, float]
    on_bf16_grid: bool
    sample: dict[str, Any] | None


def read(folder: Path, names: list[str], *, texts: bool) -> LabelledShards:
    """Read every label of one config, and the texts too if asked: those are nearly all of its bytes.

    Raises:
        ReleaseError: A shard is damaged, or no row is left.
    """
    sample, counts, memories = None, [], []
    total, least, most, coarse = 0.0, float("inf"), float("-inf"), True
    for name in names:
        count = memory = 0
        with pq.ParquetFile(folder / name) as file:
            for group in range(file.num_row_groups):
                table = _group(file, group, folder / name, None if texts else ["label"])
                if table.num_rows:
                    if texts:
                        memory += table.nbytes
                        sample = sample or _sample(table)
                    label = table["label"].to_numpy()
                    count, total = count + len(label), total + float(label.sum(dtype=np.float64))
                    least, most = min(least, float(label.min())), max(most, float(label.max()))
                    coarse = coarse and not bool((label.view(np.uint32) & 0xFFFF).any())
        counts.append(count)
        memories.append(memory)
    if not sum(counts):
        raise ReleaseError("every row was set aside", where=str(folder), hint="look into its quarantine files")
    label = {"min": least, "mean": total / sum(counts), "max": most}
    return LabelledShards(tuple(counts), tuple(memories), label, coarse, sample)


def described(folder: Path, names: list[str]) -> dict[str, Any]:
    """What the manifest says of one config's labelled shards: files, range of the labels, rows set aside."""
    contents = read(folder, names, texts=True)
    files = zip(names, contents.memory, strict=True)
    aside = [folder / f"{Path(name).stem}.quarantine.jsonl" for name in names]  # none of a mixture that was fetched
    return {
        "shards": [shards.describe(folder / name).as_dict() | {"bytes_in_memory": memory} for name, memory in files],
        "label": {key: round(value, ROUNDED) for key, value in contents.label.items()},
        "labels_on_bf16_grid": contents.on_bf16_grid,
        "quarantined": sum(path.read_bytes().count(b"\n") for path in aside if path.is_file()),
        "sample": contents.sample,
    }


def problems(folder: Path, manifest: dict[str, Any], *, texts: bool) -> Iterator[str]:
    """Every figure of a manifest that the shards in `folder`, which it names, do not give; each line begins with the config."""
    for name, entry in manifest["configs"].items():
        contents = read(folder / name, [shard["name"] for shard in entry["shards"]], texts=texts)
        for index, shard in enumerate(entry["shards"]):
            path = folder / name / shard["name"]
            given = {"rows": contents.rows[index], "bytes": path.stat().st_size, "split": path.name.partition("-")[0]}
            for key, value in given.items():
                if shard[key] != value:
                    yield f"{name}: {key} of {shard['name']}: {shard[key]!r}, and the file gives {value!r}"
            memory, stated = contents.memory[index], shard["bytes_in_memory"]
            if texts and not abs(stated - memory) <= MEMORY * memory:
                yield f"{name}: bytes_in_memory of {shard['name']}: {stated:,}, and the file gives {memory:,}"
        for key, value in contents.label.items():
            if not abs(entry["label"][key] - value) <= 0.51 * 10**-ROUNDED:
                yield f"{name}: label.{key}: {entry['label'][key]:.6g}, and the files give {value:.6g}"
        if entry.get("labels_on_bf16_grid", contents.on_bf16_grid) != contents.on_bf16_grid:
            yield f"{name}: labels_on_bf16_grid: {not contents.on_bf16_grid}, and the files give {contents.on_bf16_grid}"
        if texts and entry.get("sample") != contents.sample:
            yield f"{name}: sample: not the first row of the files"


def _group(file: pq.ParquetFile, group: int, path: Path, columns: list[str] | None) -> pa.Table:
    try:
        return file.read_row_group(group, columns=columns)
    except (OSError, pa.ArrowException) as error:
        what = f"the labelled pairs are damaged ({' '.join(str(error).split())[:200]})"
        raise ReleaseError(
            what, where=str(path), hint="remove that file and run again: it alone is made anew"
        ) from error


def _sample(table: Any) -> dict[str, Any]:
    """The first row, its texts cut, for the cards."""
    row = table.select(["query", "document", "label"]).slice(0, 1).to_pylist()[0]
    return {name: value[:SAMPLE] if isinstance(value, str) else round(value, ROUNDED) for name, value in row.items()}
