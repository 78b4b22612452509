"""Work for a cluster, small and offline: a family with a teacher, its pairs and its mixture; and processes to kill at it."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa

from release.data import shards
from release.files import write_json
from release.rehearsal import benchmarks, models
from release.rehearsal.text import passages

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path("build/docstring-reranker")
SHARDS, ROWS = 8, 500  # of pairs to score
PAIRS, BATCH, EVALUATIONS = 256, 16, 4  # of the mixture to train on
SECONDS = 900  # for anything that is waited for


@dataclass(frozen=True)
class Work:
    """A folder to work in, and the environment for everything that runs there."""

    folder: Path
    environment: dict[str, str]

    @property
    def mixture(self) -> Path:
        return self.folder / BUILD / "data/mixture"

    def finished(self) -> int:
        """Labelled shards that are whole."""
        return len(list(self.mixture.glob("*/train-*.parquet")))

    def start(self, *command: str, log: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command here, in a session of its own; what it prints goes to the file `log`."""
        with (self.folder / log).open("ab") as stream:
            environment = self.environment | environment
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )

    def run(self, *command: str, log: str, **environment: str) -> None:
        """Run a command here to its end.

        Raises:
            RuntimeError: It failed; the end of its log is in the error.
        """
        process = self.start(*command, log=log, **environment)
        if process.wait(SECONDS):
            raise RuntimeError(f"{' '.join(command[1:4])} failed: {self.tail(log)}")

    def tail(self, log: str) -> str:
        """The end of a log, in one line."""
        return " | ".join((self.folder / log).read_text(errors="replace").strip().splitlines()[-5:])


def prepare(folder: Path, teacher: Path) -> Work:
    """A folder with the demo's family, labelled by `teacher`, and pairs to score."""
    folder.mkdir()
    text = (ROOT / "recipes/demo.toml").read_text(encoding="utf-8")
    text = text.replace('"bm25-minilm-hybrid"', f'"{teacher}"').replace('"stand-in"', '"cross-encoder"')
    text = re.sub(r"global_batch_size = \d+", f"global_batch_size = {BATCH}", text)
    text = re.sub(r"evaluations = \d+", f"evaluations = {EVALUATIONS}", text)
    (folder / "family.toml").write_text(text, encoding="utf-8")
    described = []
    for number in range(SHARDS):
        rows = [(each.question, each.text) for each in passages(f"pairs {number}", ROWS, sentences=4)]
        path = folder / BUILD / "data/pairs/docstrings" / f"train-{number:05d}-of-{SHARDS:05d}.parquet"
        described.append(shards.describe(shards.write_table(path, shards.tables(rows))).as_dict())
    entry = {"key": "cluster-check", "shards": described, "overlaps_declared": None}
    write_json(folder / BUILD / "data/pairs/manifest.json", {"name": "cluster-check", "configs": {"docstrings": entry}})
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RAY"))}
    path = f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"  # where tasks find Python and datatrove
    return Work(
        folder, environment | {"PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    )


def write_teacher(folder: Path) -> Path:
    """A cross-encoder with random weights."""
    models.bert_reranker(folder)
    return folder


def write_training_data(work: Work) -> None:
    """A mixture to train on, four documents to a query, and the evaluation set of the family."""
    documents = passages("mixture", PAIRS)
    rows = {
        "query": [documents[number - number % 4].question for number in range(PAIRS)],
        "document": [each.text for each in documents],
        "label": [8.0 - 4 * (number % 4) for number in range(PAIRS)],
    }
    table = pa.table(rows, schema=shards.ROWS)
    folder = work.mixture / "docstrings"
    shards.write_table(folder / "train-00000-of-00001.parquet", table)
    shards.write_table(folder / "validation-00000-of-00001.parquet", table.slice(0, 32))
    benchmarks.nano(work.folder / BUILD / "data/nano", ("NanoDocstrings",))


def digests(folder: Path, pattern: str) -> dict[str, str]:
    """Every file that matches, by its sha256."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
    }


def wait_until(done: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Look ten times a second.

    Raises:
        RuntimeError: It did not happen in time.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def kill_tree(process: psutil.Process) -> None:
    """Kill a process and everything below it at once, as when a machine goes down."""
    below = process.children(recursive=True)
    for each in (process, *below):
        with suppress(psutil.NoSuchProcess):
            each.kill()


def processes(command: str, folder: str) -> list[psutil.Process]:
    """Python processes that run `command` with `folder` among their arguments."""
    matching = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if len(arguments) > 2 and arguments[1].endswith(command) and any(folder in word for word in arguments[2:]):
            matching.append(process)
    return matching
