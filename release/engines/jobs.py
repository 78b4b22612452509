"""Each snippet in a process of its own, in a folder where the repository's id leads to the exported files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.export.pairs import Pair
from release.files import PACKAGE, list_files, write_atomic

WORKER = Path(__file__).with_name("worker.py")
COMMIT = "0" * 40
WORKPLACE = "run-"  # how the name of a working folder begins
TRAINED = "trained/model"  # what the trained model is called in the folder
DOWNLOADED = "reranker"  # what a snippet calls the folder that it downloads to
SECONDS = (
    1_800  # for one engine, and once more per half a gigabyte; a thread that waits for ever must not stop a release
)
QUIET = {  # no network, no telemetry, no progress
    **{"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"},
    **{"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"},
    **{"HAYSTACK_TELEMETRY_ENABLED": "False", "ANONYMIZED_TELEMETRY": "False", "INFINITY_ANONYMOUS_USAGE_STATS": "0"},
}


@dataclass(frozen=True)
class EngineJob:
    """What one process does.

    Attributes:
        snippet: With MODEL_ID and PAIRS as in engines.toml.
        pairs: To score; `timed` once more, to measure.
        alone: How many of `pairs`, from the first, are in a process of their own each.
        versions: Packages whose version is written down.
        program: The interpreter with its arguments; this project's own if empty.
    """

    snippet: str
    pairs: Sequence[Pair]
    versions: Sequence[str] = ()
    timed: Sequence[Pair] = ()
    program: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    alone: int = 0


@dataclass(frozen=True)
class Outcome:
    """What came of a job: its scores, or the line that it stopped with."""

    scores: list[float] | None
    versions: dict[str, str]
    pairs_per_second: float | None = None
    error: str | None = None


@contextmanager
def workplace(model_id: str, export: Path, model: Path, inside: Path | None = None) -> Generator[Path]:
    """A working folder in which `model_id` is `export` by its path and in the Hub's cache, and TRAINED is `model`.

    Args:
        inside: Where it is made, best on the disk of `export`: gigabytes are then linked and not copied.

    The cache is as the Hub's client makes it, a link for each file: not every engine follows one from weights beside a graph.
    """
    with tempfile.TemporaryDirectory(prefix=WORKPLACE, dir=inside) as temporary:
        root = Path(temporary).resolve()
        for name, target in ((model_id, export), (TRAINED, model), (DOWNLOADED, export)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target.resolve())
        cache = root / "home/hub" / f"models--{model_id.replace('/', '--')}"
        (cache / "refs").mkdir(parents=True)
        write_atomic(cache / "refs/main", COMMIT)
        (cache / "blobs").mkdir()
        for number, name in enumerate(list_files(export)):
            blob, pointer = cache / "blobs" / str(number), cache / "snapshots" / COMMIT / name
            link(str(export / name), str(blob))
            pointer.parent.mkdir(parents=True, exist_ok=True)
            pointer.symlink_to(os.path.relpath(blob, pointer.parent))
        yield root


def link(source: str, target: str) -> None:
    """The same file under a second name: a hard link, or a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def run(root: Path, model_id: str, job: EngineJob, threads: int | None = None) -> Outcome:
    """Run a job in a process of its own, with `threads` threads or as many as it takes by itself; each pair `alone` in one more."""
    scores: list[float] = []
    for pair in job.pairs[: job.alone]:
        outcome = _run(root, model_id, replace(job, pairs=[pair], timed=()), threads)
        if outcome.scores is None:
            return outcome
        scores += outcome.scores
    outcome = _run(root, model_id, replace(job, pairs=job.pairs[job.alone :]), threads)
    return outcome if outcome.scores is None else replace(outcome, scores=scores + outcome.scores)


def _run(root: Path, model_id: str, job: EngineJob, threads: int | None) -> Outcome:
    with tempfile.TemporaryDirectory(dir=root, prefix="job-") as folder:
        content = {key: getattr(job, key) for key in ("pairs", "versions", "timed")}
        content["snippet"] = job.snippet.replace("MODEL_ID", model_id)
        write_atomic(Path(folder) / "job.json", json.dumps(content))
        program = job.program or [sys.executable, str(WORKER)]
        environment = os.environ | QUIET | {"HF_HOME": str(root / "home")} | job.environment
        if not job.program:
            environment["PYTHONPATH"] = str(PACKAGE.parent)
        if threads:
            environment["OMP_NUM_THREADS"] = str(threads)
        weights = sum(file.stat().st_size for file in (root / model_id).glob("model*.safetensors"))
        seconds = SECONDS * (1 + weights / 5e8)
        try:
            done = subprocess.run(
                [*program, folder],
                cwd=root,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return Outcome(None, {}, error=f"no answer in {seconds:.0f} seconds")
        path = Path(folder) / "result.json"
        if done.returncode or not path.is_file():
            return Outcome(None, {}, error=_error_line(done.stderr, root))
        return _outcome(json.loads(path.read_text(encoding="utf-8")), len(job.pairs))


def _outcome(result: dict[str, Any], count: int) -> Outcome:
    scores = [float("nan") if score is None else float(score) for score in result["scores"]]
    if len(scores) != count:
        return Outcome(None, result["versions"], error=f"{len(scores)} scores of {count} pairs")
    return Outcome(scores, result["versions"], result.get("pairs_per_second"))


def _error_line(text: str, root: Path) -> str:
    """What a process stopped with, for a record: one line, without the paths of this machine."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    line = next((line for line in reversed(lines) if "Error" in line), lines[-1])
    return line.replace(f"{root}/", "").replace(str(Path.home()), "~")[:300]


def scores_of(outcome: Outcome, what: str) -> list[float]:
    """The scores of a job without which nothing can be said.

    Raises:
        ReleaseError: It stopped.
    """
    if outcome.scores is None:
        raise ReleaseError(f"{what} cannot be run ({outcome.error})", hint="make setup, then again")
    return outcome.scores
