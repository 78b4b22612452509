"""SIZE=all: one command for each size of a family, one after the other in the family's order; the last line is JSON.

    python -m release.every_size [--make MAKE] [--push] FAMILY GOAL...

What computes or looks goes on after a size that failed, for no size needs another. What writes to a Hub stops there: what failed
(a token, the Hub, the data) would most likely fail for the next size too, and somebody should look before more is public. What
is done stays done, so the same command goes on. No package is needed, as in release/facts.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from release.errors import ReleaseError
from release.facts import read

ALL = "all"
WRITES = {"publish", "verify", "release"}  # with PUSH=1, to a Hub


def run(name: str, sizes: Sequence[str], call: Callable[[str], int], *, stop: bool) -> int:
    """Call `call` with each size; returns 0, or 1 where one of them answered with another status.

    Args:
        stop: Whether the first failure is the last size that is tried.
    """
    seconds: dict[str, float] = {}
    failed: list[str] = []
    for size in sizes:
        print(f"--- {name} {size} ---", flush=True)
        started = time.monotonic()
        status = call(size)
        seconds[size] = round(time.monotonic() - started, 1)
        if status == 130:  # Ctrl-C is meant for all of them
            return status
        if status:
            failed.append(size)
            if stop:
                break
    left = [size for size in sizes if size not in seconds]
    if failed:
        rest = f"; not tried: {', '.join(left)}" if left else ""
        print(f"error: {name} failed for {', '.join(failed)}{rest}; hint: the lines above say why", file=sys.stderr)
    done = [size for size in seconds if size not in failed]
    print(json.dumps({"verb": name, "done": done, "failed": failed, "not_tried": left, "seconds": seconds}), flush=True)
    return 1 if failed else 0


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option among arguments, None where it is not given."""
    for index, word in enumerate(arguments):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def run_verb(arguments: Sequence[str], family: Path, organization: str) -> int:
    """A verb of the command line with `--size all`: once per size, each in a process of its own."""

    def call(size: str) -> int:
        words = [f"--size={size}" if word == f"--size={ALL}" else word for word in arguments]
        if "--size" in words:
            words[words.index("--size") + 1] = size
        return subprocess.call([sys.executable, "-m", "release", *words])

    stop = arguments[0] in WRITES and "--push" in arguments
    return run(arguments[0], list(read(family, organization)["sizes"]), call, stop=stop)


def main() -> int:
    """The goals of make with SIZE=all: once per size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--make", default="make")
    parser.add_argument("--push", action="store_true")
    parser.add_argument("family")
    parser.add_argument("goals", nargs="+")
    args = parser.parse_args()

    def call(size: str) -> int:
        return subprocess.call(
            [args.make, "--no-print-directory", *args.goals, f"FAMILY={args.family}", f"SIZE={size}"]
        )

    try:
        sizes = list(read(Path(args.family))["sizes"])
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return run(" ".join(args.goals), sizes, call, stop=args.push and bool(WRITES & set(args.goals)))


if __name__ == "__main__":
    sys.exit(main())
