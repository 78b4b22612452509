"""Outcomes of engines as they come, in `<size>/engines/`: a run that was stopped goes on where it was.

One file per outcome, with a hash of all that its scores depend on: exported and trained files, pairs, snippet, packages and this
machine. Those of other files are thrown away when a run begins. An engine that stopped is not kept, but tried again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from release import console, mode, records
from release.engines.environments import installed
from release.engines.jobs import WORKPLACE, EngineJob, Outcome
from release.files import exclusive_lock, short_hash, write_atomic


@dataclass(frozen=True)
class Kept:
    """The outcomes in `folder` that are of `subject`: what names the exported and the trained files."""

    folder: Path
    subject: str

    def read(self, work: Mapping[str, EngineJob]) -> dict[str, Outcome]:
        """What is kept of `work`, by the name of each; what is of another subject or job, or damaged, is removed."""
        outcomes = {}
        for file in self.folder.glob("*.json"):
            with suppress(ValueError, TypeError, KeyError):  # damaged by hand: it was written atomically
                value = json.loads(file.read_bytes())
                name, job = value["engine"], work.get(value["engine"])
                if value["subject"] == self.subject and (job is None or value["identity"] == _identity(job)):
                    if job:  # else it is of a run of more engines
                        outcomes[name] = Outcome(**value["outcome"])
                    continue
            file.unlink()
        return outcomes

    def write(self, name: str, job: EngineJob, outcome: Outcome) -> None:
        """Keep an outcome that lacks nothing."""
        if outcome.scores is not None and (outcome.pairs_per_second or not job.timed):
            value = {"engine": name, "subject": self.subject, "identity": _identity(job), "outcome": asdict(outcome)}
            write_atomic(self.folder / f"{short_hash(name)}.json", json.dumps(value))


def _identity(job: EngineJob) -> str:
    """The sha256 over all but the model's files that the outcome of a job depends on."""
    where = [job.environment, installed(tuple(job.program)), asdict(records.machine()), mode.active()]
    what = [job.snippet, job.pairs, job.alone, job.timed, job.versions]
    return hashlib.sha256(json.dumps([where, what], sort_keys=True).encode()).hexdigest()


@contextmanager
def kept(folder: Path, *hashes: str) -> Generator[Kept]:
    """The outcomes in `folder`, which no second run touches meanwhile; Ctrl-C says how many there are.

    Args:
        hashes: Of the exported and of the trained files.

    Raises:
        ReleaseError: Another run is working there, or the folder cannot be written.
    """
    with exclusive_lock(folder):
        for left in folder.glob(f"{WORKPLACE}*"):  # by a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        try:
            yield Kept(folder, " ".join(hashes))
        except KeyboardInterrupt:
            count = len(list(folder.glob("*.json")))
            console.say(f"outcomes kept in {folder}: {count}; the same command runs what is missing", sys.stderr)
            raise
