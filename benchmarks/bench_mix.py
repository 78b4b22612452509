"""Mixing at 1 and 4 million rows: the project's own way against the plain pipeline of the library `datasets`.

Both drop marked rows and duplicates, draw a seeded cap, write parquet shards and name their sha256. The plain side runs on the
smallest size only, because it would need most of an hour for the largest; the ratio is of rows per second there. Every run has
a process of its own, whose peak memory (resident, without imports of its parent) is read from the kernel.

The sources have the columns of the published ones (query, document, similarity, drop, duplicate) in parquet files of a million
rows. How many rows upstream marks is not known: here 3 % are marked, and 10 % repeat an earlier row. Queries have 8 words on
average and documents 60, log-normally spread, of a vocabulary in which few words are frequent: questions with short answers, where
titles with abstracts are longer. 16 million rows (`--millions 1 4 16`) are about 4 GB, and 2.2 GB of shards.

Two further sides are both with the comparison with evaluation sets, which the first two leave out: 6,000 documents, half of them
rows of the source, and as many queries. The plain one finds equal and nearly equal texts by the same rule (words, runs of five,
Jaccard of 0.7) with Python's sets, in one more `map`. A fifth side reads and writes the same rows and does nothing else. At the
smallest size every side also has one core only, and CPU seconds there are what is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import Cost, SideTimings, cost, positive
from release.console import print_json, table

ROOT = Path(__file__).resolve().parent.parent
FILE_ROWS, GROUP_ROWS = 1_000_000, 100_000
HELD = 6_000  # queries and documents each of the evaluation set
CAP = 0.6  # of the rows of a source, as the largest published configs are capped
SEED = 12
GOAL_RATIO, GOAL_GROWTH, GOAL_MB = 10, 1.3, 2000  # the ratio with and without the comparison


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=positive, nargs="+", default=[1, 4], help="sizes, in millions of rows")
    parser.add_argument("--rounds", type=positive, default=1, help="of all sides at the smallest size (default: 1)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)  # what a process of its own is told
    parser.add_argument("--cores", type=positive, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.side:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])  # before polars counts them
        SIDES[options.side](options.millions[0])
        return
    Path("build").mkdir(exist_ok=True)
    if shutil.disk_usage("build").free < (needed := max(options.millions) * 6e8 + 2e9):
        sys.exit(f"error: {needed / 1e9:.0f} GB of free space are needed under build/; hint: smaller --millions")
    with TemporaryDirectory(dir="build", prefix="bench-mix-") as folder, contextlib.chdir(folder):
        began = time.monotonic()
        for number in range(max(options.millions)):
            write_source(Path(f"source/{number:03d}.parquet"), number)
        print(f"{max(options.millions)} million rows written in {time.monotonic() - began:.0f} s", file=sys.stderr)
        load = os.getloadavg()[0]
        report(compare(sorted(options.millions), options.rounds), load)


def write_source(path: Path, number: int, rows: int = FILE_ROWS) -> None:
    """File `number` of the sources."""
    draw = np.random.default_rng([SEED, number])
    letters = np.array(list("etaoinshrdlucmfwygpbvk"))
    sizes = np.random.default_rng(SEED).integers(2, 10, 50_000)
    spelt = np.random.default_rng(SEED).choice(letters, (50_000, 9))
    vocabulary = pa.array(["".join(word[:size]) + " " for word, size in zip(spelt, sizes, strict=True)])
    columns = {name: texts(draw, vocabulary, rows, mean) for name, mean in (("query", 8), ("document", 60))}
    indices = np.arange(rows)
    repeats = (draw.random(rows) < 0.1) & (indices > 0)
    original = np.where(repeats, (draw.random(rows) * indices).astype(np.int64), indices)
    columns = {name: column.take(pa.array(original)) for name, column in columns.items()}
    columns["similarity"] = pa.array(draw.normal(3, 5, rows))
    columns["drop"] = pa.array(draw.random(rows) < 0.03)
    columns["duplicate"] = pa.array(number * FILE_ROWS + original, mask=~repeats)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=1, row_group_size=GROUP_ROWS)


def texts(draw: np.random.Generator, vocabulary: pa.Array, rows: int, mean: int) -> pa.Array:
    """Texts of about `mean` words: one long row of words, cut anew at other places."""
    counts = np.maximum(draw.lognormal(np.log(mean) - 0.18, 0.6, rows), 1).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(counts)])
    chosen = (draw.random(ends[-1], np.float32) ** 3 * len(vocabulary)).astype(np.int32)
    chosen[chosen == len(vocabulary)] = 0
    _, offsets, letters = vocabulary.take(pa.array(chosen)).buffers()
    cuts = np.frombuffer(offsets, np.int32)[ends]
    return pa.StringArray.from_buffers(rows, pa.py_buffer(cuts), letters)


# --- The sides, each in a process of its own ----------------------------------------------------------------------


def ours(millions: int, overlap: str = "ignore") -> None:
    """The real code, from the declaration to the manifest."""
    from release import family, spec
    from release.data import mix
    from release.data.sources import base

    config = {"source": {"kind": "files", "path": f"source-{millions}"}, "labels": "source", "rows": None}
    config |= {"license": "unknown", "license_link": None, "overlaps": None, "columns": {"label": "similarity"}}
    config |= {"filters": {"drop": "drop", "duplicate": "duplicate"}, "cap": cap(millions)}
    declared = {"name": "bench", "title": "bench", "seed": SEED, "shard_rows": FILE_ROWS, "configs": {"bench": config}}
    Path("bench.yaml").write_text(json.dumps(declared), encoding="utf-8")
    link(millions)
    demo = family.load(ROOT / "recipes/demo.toml")
    demo = replace(demo, evaluation=replace(demo.evaluation, collections=("held",), nano_sets=(), tasks=()))
    if overlap != "ignore":
        write_collection(demo.build / "data/collections/held")
    declaration = spec.load(Path("bench.yaml"))

    def work() -> list[dict[str, Any]]:
        path = mix.run(demo, declaration, overlap=overlap)
        return json.loads(path.read_text(encoding="utf-8"))["configs"]["bench"]["shards"]

    assert base  # imported before the clock starts
    measured(work)


def compared(millions: int) -> None:
    """Ours, and every row compared with an evaluation set."""
    ours(millions, overlap="report")


def write_collection(folder: Path) -> None:
    """A collection in BEIR's form: half of its texts stand in the source, the other half do not."""
    write_source(Path("held.parquet"), 999, HELD // 2)
    seen = next(pq.ParquetFile("source/000.parquet").iter_batches(HELD // 2, columns=["query", "document"]))
    folder.mkdir(parents=True)
    for name, column in (("queries", "query"), ("corpus", "document")):
        rows = [*seen[column].to_pylist(), *pq.read_table("held.parquet")[column].to_pylist()]
        lines = [json.dumps({"_id": str(number), "text": text}) for number, text in enumerate(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "qrels.tsv").write_text("0\t0\t1\n", encoding="utf-8")
    Path("held.parquet").unlink()


def plain(millions: int, overlap: bool = False) -> None:
    """As one would write it with `datasets`, with a process per core; its cache is empty at the start."""
    from datasets import Features, Value, load_dataset

    link(millions)
    collection = Path("held")
    if overlap:
        write_collection(collection)
    cores = len(os.sched_getaffinity(0))
    features = Features({"query": Value("string"), "document": Value("string"), "label": Value("float32")})

    def work() -> list[dict[str, Any]]:
        data = load_dataset("parquet", data_files=f"source-{millions}/*.parquet", split="train", cache_dir="cache")
        data = data.filter(
            lambda drop, duplicate: not drop and duplicate is None,
            input_columns=["drop", "duplicate"],
            num_proc=cores,
        )
        chosen = np.random.default_rng(SEED).choice(len(data), cap(millions)["rows"], replace=False)
        data = data.select(np.sort(chosen))
        data = data.map(
            lambda row: {"query": row["query"], "document": row["document"], "label": row["similarity"]},
            remove_columns=data.column_names,
            features=features,
            num_proc=cores,
        )
        if overlap:
            data = data.map(plain_comparison(collection), features=features, num_proc=cores)
        shards = []
        total = -(-len(data) // FILE_ROWS)
        for number in range(total):
            shard, path = data.shard(total, number, contiguous=True), Path(f"plain-{number}.parquet")
            shard.to_parquet(path)
            shards.append({"rows": len(shard), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
        Path("plain.json").write_text(json.dumps(shards), encoding="utf-8")
        return shards

    measured(work)


def plain_compared(millions: int) -> None:
    """The plain side, and every row compared with an evaluation set."""
    plain(millions, overlap=True)


def plain_comparison(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """For `map`: the row as it is, and how often its query or document repeats one of the collection's texts is counted."""
    indexes = {}
    for column, name in (("query", "queries"), ("document", "corpus")):
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        texts = [runs(json.loads(line)["text"]) for line in lines]
        owners: dict[tuple[str, ...], list[int]] = {}
        for number, text in enumerate(texts):
            for run in text:
                owners.setdefault(run, []).append(number)
        indexes[column] = texts, owners
    repeats = dict.fromkeys(indexes, 0)

    def compare(row: dict[str, Any]) -> dict[str, Any]:
        for column, (texts, owners) in indexes.items():
            mine = runs(row[column])
            near = {owner for run in mine for owner in owners.get(run, ())}
            repeats[column] += any(len(mine & texts[one]) >= 0.7 * len(mine | texts[one]) for one in near)
        return row

    return compare


def runs(text: str) -> set[tuple[str, ...]]:
    """All runs of five words; the whole of a text that has fewer."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[at : at + 5]) for at in range(max(len(words) - 4, min(len(words), 1)))}


def bare(millions: int) -> None:
    """What no way can do without: the three columns are read, and as many rows are written and hashed."""
    from release.data import shards

    link(millions)

    def work() -> list[dict[str, Any]]:
        writer = shards.SplitWriter(Path("bare"), "train", shards.ROWS, FILE_ROWS)
        Path("bare").mkdir()
        for path in sorted(Path(f"source-{millions}").iterdir()):
            for part in pq.ParquetFile(path).iter_batches(GROUP_ROWS, columns=["query", "document", "similarity"]):
                rows = part.slice(0, int(CAP * len(part)))
                label = rows["similarity"].cast(pa.float32())
                writer.write(pa.table([rows["query"], rows["document"], label], schema=shards.ROWS))
        return [shard.as_dict() for shard in writer.close()]

    measured(work)


SIDES = {"plain": plain, "ours": ours, "plain compared": plain_compared, "compared": compared, "bare": bare}


def cap(millions: int) -> dict[str, Any]:
    """The cap of a source of that size."""
    return {"rows": int(CAP * millions * FILE_ROWS), "draw": "seeded"}


def link(millions: int) -> None:
    """A folder with the first files of the sources."""
    folder = Path(f"source-{millions}")
    folder.mkdir(exist_ok=True)
    for number in range(millions):
        if not (name := folder / f"{number:03d}.parquet").exists():
            name.hardlink_to(f"source/{number:03d}.parquet")


def measured(work: Callable[[], list[dict[str, Any]]]) -> None:
    """Run, and print seconds, rows written and this process's peak memory as the last line."""
    shards: list[dict[str, Any]] = []
    spent = cost(lambda: shards.extend(work()))
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
    print_json(
        {
            "wall": spent.wall,
            "cpu": spent.cpu,
            "peak_mb": round(peak),
            "written": sum(shard["rows"] for shard in shards),
        }
    )


# --- The comparison ---------------------------------------------------------------------------------------------------


def compare(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """Every side in turns at the smallest size, on one core and on all, and ours at every size; what each run printed."""
    results = []
    for cores in sorted({1, len(os.sched_getaffinity(0))}):
        for _ in range(rounds):
            results += [elsewhere(side, sizes[0], cores) for side in SIDES]
    return results + [elsewhere("ours", size, cores) for size in sizes[1:]]


def elsewhere(side: str, millions: int, cores: int) -> dict[str, Any]:
    """One run in a new process on so many cores; what it wrote is removed."""
    command = [sys.executable, "-m", "benchmarks.bench_mix", "--side", side]
    command += ["--millions", str(millions), "--cores", str(cores)]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: the side {side!r} failed at {millions} million rows: {done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    if result["written"] != cap(millions)["rows"]:
        sys.exit(f"error: the side {side!r} wrote {result['written']:,} rows, not {cap(millions)['rows']:,}")
    for path in Path().iterdir():
        if path.name.startswith(("build", "cache", "plain", "bare", "source-", "bench", "held")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return result | {"side": side, "millions": millions, "cores": cores}


def report(runs: list[dict[str, Any]], load_before: float) -> None:
    """The tables, and the line for programs."""
    least, most = min(run["millions"] for run in runs), max(run["cores"] for run in runs)
    taken: dict[int, dict[str, list[Cost]]] = {cores: {side: [] for side in SIDES} for cores in {1: 0, most: 0}}
    for run in runs:
        if run["millions"] == least:
            taken[run["cores"]][run["side"]].append(Cost(run["wall"], run["cpu"]))
    sides = SideTimings(taken, load_before)
    sides.show(f"Mixing {least} million rows; threads: cores", least * FILE_ROWS, "rows")
    large = [run for run in runs if run["side"] == "ours" and run["cores"] == most]
    peaks = {
        run["millions"]: max(each["peak_mb"] for each in large if each["millions"] == run["millions"]) for run in large
    }
    rates = {run["millions"]: round(run["millions"] * FILE_ROWS / run["wall"]) for run in large}
    rows = [[millions, f"{rates[millions]:,}", peaks[millions]] for millions in peaks]
    table(f"Ours on {most} cores", ["million rows", "rows/s", "peak MB"], rows)
    line = sides.as_json("ours", least * FILE_ROWS, "rows")
    growth = peaks[max(peaks)] / peaks[least]
    ratios = [sides.times("ours"), sides.times("compared")]
    reached = min(ratios) >= GOAL_RATIO and growth <= GOAL_GROWTH and max(peaks.values()) < GOAL_MB
    line |= {
        "ratio_compared": round(sides.times("compared", against="plain compared"), 2),
        "ratio_compared_against_plain": round(sides.times("compared"), 2),
        "share": round(sides.times("ours") / sides.times("bare"), 3),
        "share_of": "reading the columns and writing as many rows with pyarrow, nothing else",
        "rows_per_second": rates[max(rates)],
        "rows_per_second_by_rows": {str(millions * FILE_ROWS): rate for millions, rate in rates.items()},
        "peak_mb_by_rows": {str(millions * FILE_ROWS): peak for millions, peak in peaks.items()},
        "plain_peak_mb": max(run["peak_mb"] for run in runs if run["side"] == "plain"),
        "growth": round(growth, 3),
    }
    print_json(line | {"goal": [GOAL_RATIO, GOAL_GROWTH, GOAL_MB], "reached": reached})


if __name__ == "__main__":
    main()
