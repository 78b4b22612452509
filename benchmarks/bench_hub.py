"""A large safetensors file up to the embedded Hub and down again with the `hf` command: the server's peak memory.

Both transfers are measured, Xet and LFS.

`make bench-hub` (or `python -m benchmarks.bench_hub --mb 2048`). Needs three times the size on the disk under build/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import save_file

from release.console import print_json, table
from release.files import sha256_file
from release.localhub import fsck, running_hub

GOAL_MB = 300  # the server's memory, whatever the size of the file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=2048, help="size of the file (default: 2048)")
    megabytes = parser.parse_args().mb
    Path("build").mkdir(exist_ok=True)
    if shutil.disk_usage("build").free < 3.5 * megabytes * 2**20:
        sys.exit(f"error: {3.5 * megabytes / 1024:.1f} GB of free space are needed under build/; hint: a smaller --mb")
    with TemporaryDirectory(dir="build") as folder:
        file = make_file(Path(folder) / "model.safetensors", megabytes)
        rows = [measure(Path(folder), file, xet=xet) for xet in (True, False)]
    columns = ["transfer", "MB", "up s", "down s", "server's peak MB"]
    table("The embedded Hub and one large file", columns, [list(row.values())[:5] for row in rows])
    print_json({"runs": rows, "goal_mb": GOAL_MB, "reached": all(row["server_peak_mb"] < GOAL_MB for row in rows)})


def make_file(path: Path, megabytes: int) -> Path:
    """Random bytes, so that nothing can be compressed or found twice, in tensors of 64 MB."""
    draw = np.random.default_rng(12)
    count = max(megabytes // 64, 1)
    save_file({f"w{i}": draw.integers(0, 256, (megabytes // count) << 20, dtype=np.uint8) for i in range(count)}, path)
    return path


def measure(folder: Path, file: Path, *, xet: bool) -> dict[str, object]:
    """Up and down with the real client in processes of their own; the content must come back."""
    name = "xet" if xet else "lfs"
    root, home, back = folder / name, folder / f"{name}-home", folder / f"{name}-back"
    with running_hub(root) as (endpoint, token):
        (server,) = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
        client = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        client |= {} if xet else {"HF_HUB_DISABLE_XET": "1"}
        up = hf(["upload", "local/large", str(file), file.name, "--private"], client)
        down = hf(["download", "local/large", "--local-dir", str(back)], client)
        status = Path(f"/proc/{server}/status").read_text()
    if sha256_file(back / file.name) != sha256_file(file):
        sys.exit(f"error: another content came back over {name}")
    if problems := fsck(root).problems:
        sys.exit(f"error: the store is damaged: {problems}")
    for path in (root, home, back):
        shutil.rmtree(path, ignore_errors=True)
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
    return {
        "transfer": name,
        "mb": file.stat().st_size >> 20,
        "up_seconds": up,
        "down_seconds": down,
        "server_peak_mb": round(peak),
    }


def hf(arguments: list[str], client: dict[str, str]) -> float:
    """Run the `hf` command; returns its seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hf")), *arguments], env=os.environ | client, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"error: hf {arguments[0]} failed: {json.dumps((done.stdout + done.stderr)[-2000:])}")
    return round(time.monotonic() - started, 1)


if __name__ == "__main__":
    main()
