"""Speed, memory and correctness of the six published shapes on one GPU, in less than nine minutes: `make bench-gpu`.

Random weights and pairs as long as questions with their Wikipedia passages: neither changes speed or memory, so nothing
is downloaded. First is every unpadded attention compared with torch's sdpa; then come the pairs per second of the best setup at
every size, to hold against the published ones; then training at the recipe's batch, with the plan's estimate of its memory; then
every other setup. Each result is written to OUTPUT/results.jsonl as soon as it is there; what time does not suffice for is named.

torch, transformers, sentence-transformers >= 6.2 and rich are enough, without network. Where there is no virtual environment:
`python3 -m benchmarks.bench_gpu --output FOLDER`. `--tiny` takes the same path on a CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers.utils.versions import require_version

from benchmarks import gpu_jobs, shapes
from benchmarks.gpu_jobs import SETUPS, Setup
from benchmarks.worker import Worker
from release.console import print_json, table

SECONDS = 500.0  # below nine minutes, with what starting takes
PASS_SECONDS, LATER_PASS_SECONDS = 0.4, 0.25  # how long one pass should take; of the setups that come last
FIRST_BATCH, LATER_FIRST_BATCH = 8, 256  # the protocol's, and of the setups that come last
LIMITS = {"machine": 90.0, "check": 60.0, "speed": 45.0, "train": 60.0}  # seconds of one job
LEAST = 6.0  # seconds without which nothing is begun
Row = dict[str, Any]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of all of it (default: {SECONDS:.0f})")
    parser.add_argument(
        "--sizes", nargs="+", choices=[*shapes.PUBLISHED, *shapes.tiny_shapes()], help="(default: all six)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench-gpu"))
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, on a CPU too: does it run at all?")
    options = parser.parse_args(argv)
    if not options.tiny and gpu_jobs.device() == "cpu":
        sys.exit("not measured: no CUDA device here; hint: --tiny runs the same path with tiny shapes on a CPU")
    require_version("sentence-transformers>=6.2", "hint: install its wheel first")
    sizes = options.sizes or list(shapes.tiny_shapes() if options.tiny else shapes.PUBLISHED)
    if not options.seconds > 0:
        parser.error(f"--seconds {options.seconds}: a number above 0 is needed")
    path = options.output / "results.jsonl"
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        if path.exists():  # minutes on a GPU, perhaps of another machine
            path.replace(path.with_name(f"results-{datetime.now(UTC):%Y%m%dT%H%M%S}.jsonl"))
        path.touch()
    except OSError as error:
        sys.exit(f"error: nothing can be written ({error.strerror}); in {options.output}; hint: another --output")
    started = time.time()
    rows: list[Row] = []
    with Worker(gpu_jobs.run) as worker, path.open("w", encoding="utf-8") as file:
        for job in jobs(sizes, rows):
            job["pass_seconds"] = 0.01 if options.tiny else job.get("pass_seconds", PASS_SECONDS)
            row = measure(worker, job, started + options.seconds)
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{time.time() - started:4.0f} s  {line_of(row)}", flush=True)
    show(sizes, rows)
    line = summary(sizes, rows, time.time() - started, path)
    print_json(line)
    if line["correct"] is False:
        sys.exit('error: an attention gives other values than torch\'s sdpa; hint: the rows "check" of the results')


def jobs(sizes: list[str], rows: list[Row]) -> Iterator[Row]:
    """What to measure, the most important first; `rows` are the results so far, which say what this machine can run."""
    yield {"kind": "machine", "size": sizes[0], "created": datetime.now(UTC).isoformat(timespec="seconds")}
    missing = rows[-1].get("unavailable", {})
    setups = [setup for setup in SETUPS if setup.name not in missing]
    first = next(setup for setup in setups if not setup.padded)
    yield {"kind": "check", "size": sizes[0]}
    yield from (speed_job(size, first, FIRST_BATCH) for size in sizes)
    yield from ({"kind": "train", "size": size, "setup": gpu_jobs.as_json(first)} for size in sizes)
    later = [setup for setup in setups if setup != first]
    quick = {"pass_seconds": LATER_PASS_SECONDS}
    yield from (speed_job(size, setup, LATER_FIRST_BATCH) | quick for setup in later for size in sizes)


def speed_job(size: str, setup: Setup, first_batch: int) -> Row:
    about = {"name": setup.name, "setup": gpu_jobs.as_json(setup), "first_batch": first_batch}
    return {"kind": "speed", "size": size, **about}


def measure(worker: Worker, job: Row, deadline: float) -> Row:
    """The job's result, or the job with why there is none under `skipped`."""
    left = deadline - time.time()
    if left < LEAST:
        return job | {"skipped": "no time is left"}
    limit = min(left, LIMITS[job["kind"]])
    result, error = worker.run(job | {"until": time.time() + limit}, 1.5 * limit)
    return result if error is None else job | {"skipped": error}


def line_of(row: Row) -> str:
    """One result in one line."""
    what = " ".join([row["kind"], row["size"], row.get("name", "")]).strip()
    if "skipped" in row:
        return f"{what}: not measured: {row['skipped']}"
    if row["kind"] == "machine":
        reasons = "".join(f"\n        not here: {name}: {why}" for name, why in row["unavailable"].items())
        return f"{row['device']}, {row['versions']}{reasons}"
    if row["kind"] == "check":
        worst = max(row["rows"], key=lambda each: each["values"])
        return f"{what}: {'correct' if row['correct'] else 'WRONG'}, values up to {worst['values']:.1e} apart"
    if row["kind"] == "train":
        return f"{what}: {row['steps_per_second']:.2f} steps/s of {row['batch']} pairs, {row['peak_mb']:,.0f} MB"
    best = row["best"]
    ratio = f", {best['pairs_per_second'] / row['published']:.2f} of the published" if row["published"] else ""
    return f"{what}: {best['pairs_per_second']:,.0f} pairs/s in {best['batch']}s, {best['peak_mb']:,.0f} MB{ratio}"


def done(rows: list[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind and "skipped" not in row]


def show(sizes: list[str], rows: list[Row]) -> None:
    """Three tables for people: ours against the published, every setup, training."""
    speeds, trained = done(rows, "speed"), {row["size"]: row for row in done(rows, "train")}
    cells = []
    for size in sizes:
        if row := fastest(speeds, size):
            best, published = row["best"], row["published"]
            ratio = f"{best['pairs_per_second'] / published:.2f}" if published else "-"
            rate = f"{best['pairs_per_second']:,.0f}"
            cells.append([size, row["name"], rate, published or "-", ratio, best["batch"], f"{best['peak_mb']:,.0f}"])
    table("Pairs per second, ours and published", ["size", "setup", "ours", "published", "ratio", "batch", "MB"], cells)
    rates = {(row["name"], row["size"]): f"{row['best']['pairs_per_second']:,.0f}" for row in speeds}
    names = list(dict.fromkeys(row["name"] for row in speeds))
    table(
        "Every setup",
        ["pairs/s", *sizes],
        [[name, *(rates.get((name, size), "-") for size in sizes)] for name in names],
    )
    columns = ["size", "batch", "in passes of", "steps/s", "pairs/s", "MB", "planned MB"]
    cells = [
        [size, row["batch"], row["micro_batch"], f"{row['steps_per_second']:.2f}"]
        + [f"{row[key]:,.0f}" for key in ("pairs_per_second", "peak_mb", "planned_mb")]
        for size, row in trained.items()
    ]
    table("Training", columns, cells)


def fastest(speeds: list[Row], size: str) -> Row | None:
    of_size = [row for row in speeds if row["size"] == size]
    return max(of_size, key=lambda row: row["best"]["pairs_per_second"], default=None)


def summary(sizes: list[str], rows: list[Row], seconds: float, path: Path) -> Row:
    """The one JSON line for programs; what was not measured is None."""
    about, checks = done(rows, "machine"), done(rows, "check")
    speeds, trained = done(rows, "speed"), {row["size"]: row for row in done(rows, "train")}
    by_size: dict[str, Row] = {}
    for size in sizes:
        speed, training = fastest(speeds, size), trained.get(size, {})
        best = speed["best"] if speed else {}
        rate, published = best.get("pairs_per_second"), shapes.PUBLISHED.get(size)
        by_size[size] = {
            "pairs_per_second": rate,
            "published": published,
            "ratio": rate / published if rate and published else None,
            "setup": speed and speed["name"],
            "peak_mb": best.get("peak_mb"),
            "steps_per_second": training.get("steps_per_second"),
            "train_peak_mb": training.get("peak_mb"),
            "planned_mb": training.get("planned_mb"),
        }
    return {
        "device": about[0]["device"] if about else None,
        "correct": checks[0]["correct"] if checks else None,
        "sizes": by_size,
        "skipped": [line_of(row) for row in rows if "skipped" in row],
        "seconds": round(seconds, 1),
        "results": str(path),
    }


if __name__ == "__main__":
    main()
