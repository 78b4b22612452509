"""Run one snippet in a process of its own and write down its `scores`; only the standard library, for any engine's Python.

`python worker.py JOB` reads JOB/job.json (snippet, pairs, versions, timed) and writes JOB/result.json (scores, versions, and
pairs per second where `timed` names more pairs, which take longer than loading varies). Whatever the snippet prints or warns of
goes to the error stream.
"""

import atexit
import contextlib
import gc
import json
import sys
import time
from importlib import metadata
from pathlib import Path


def run(snippet, pairs):
    """`scores` of the snippet, with its line `pairs = ...` reading `pairs`."""
    space = {"__name__": "__main__", "PAIRS": pairs}
    with contextlib.redirect_stdout(sys.stderr):
        exec(compile(snippet, "snippet.py", "exec"), space)
    return [float(score) for score in space["scores"]]


def main(folder):
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    pairs = [tuple(pair) for pair in job["pairs"]]
    if not job["timed"]:  # what is timed runs as anybody's program does
        gc.disable()  # a third of the time in which an engine is imported
    result = {"scores": run(job["snippet"], pairs)}
    result["versions"] = {name: metadata.version(name) for name in job["versions"]}
    if timed := [tuple(pair) for pair in job["timed"]]:
        few, many = timed[: len(timed) // 8], timed
        taken = {len(few): [], len(many): []}
        for some in (few, many, few, many):  # loading the model takes the same time in all, but for noise
            started = time.perf_counter()
            run(job["snippet"], some)
            taken[len(some)].append(time.perf_counter() - started)
        short, long = taken.values()
        if min(long) > max(short):  # else the noise is larger than what is measured
            result["pairs_per_second"] = (len(many) - len(few)) / (min(long) - min(short))
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    atexit.register(gc.freeze)  # the last collection would go through all modules of the engine
    main(Path(sys.argv[1]))
