"""From pairs to a labelled mixture: `python -m release score --family recipes/demo.toml`.

Every shard of build/<family>/data/pairs gets the teacher's raw logits as `label` and is written whole. Finished shards are
the checkpoint: after a kill the same command goes on with the next one. Shards of another teacher, revision, template,
dtype or length are refused, never mixed in; shards whose pairs have changed are made again. A row that no teacher can read is set
aside with its reason. With --workers several processes share the shards, here or on a cluster (release/workers.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

from release import data_manifest, options, records, results
from release.console import Bar, say
from release.data import fetch, labelled
from release.data.score_shard import Scorer, ShardJob, score_shard
from release.data_manifest import asks_teacher
from release.errors import ReleaseError
from release.family import Family, load
from release.files import exclusive_lock, write_json
from release.results.data import ConfigLabels, DataResult, DataSubject, LabelRange
from release.teachers.base import Teacher
from release.teachers.load import load_teacher
from release.workers import Executor


def command(
    family: options.Family,
    workers: options.Workers = 1,
    executor: options.Executor = "local",
    option: options.ExecutorOptions = None,
) -> None:
    """Label the pairs with the teacher's logits; finished shards are kept, so the same command continues."""
    run(load(family, evaluated=False), executor=Executor.parse(executor, workers, option, "score"))


def run(
    family: Family,
    teacher: Teacher | None = None,
    *,
    executor: Executor | None = None,
) -> Path | None:
    """Label all pairs of the family and write the mixture, its manifest and the record `data`.

    Args:
        teacher: Instead of the family's own; with several workers it is copied to each of them.
        executor: Who works; this process if left out.

    Returns:
        The manifest, or None where a cluster has taken the work and is still at it.

    Raises:
        ReleaseError: No pairs, no teacher, labels that are no numbers, or a mixture that another teacher began.
    """
    if family.data.mixture:
        return _fetch(family)
    executor = executor or Executor()
    pairs, mixture = family.pairs_folder, family.mixture_folder
    mixed = data_manifest.read(pairs, stage="mix")
    needs_teacher = any(asks_teacher(entry) for entry in mixed["configs"].values())
    with exclusive_lock(family.build / "data"):
        make = partial(load_teacher, family, pairs.resolve()) if teacher is None else partial(_given, teacher)
        teacher = (teacher or make()) if needs_teacher else None
        identity = teacher.identity if teacher else {}  # labels that came with the sources depend on no teacher
        _claim(mixture, identity)
        jobs = jobs_of(mixed, pairs, mixture, identity)
        waiting = [job for job in jobs if not job.finished]
        _clear(mixture, jobs, waiting)
        started = time.monotonic()
        with Bar("score: pairs", sum(job.rows for job in waiting)) as bar:
            if teacher is None or not executor.shares:  # without a teacher shards are copied
                for job in waiting:
                    score_shard(teacher, job, bar.advance)
            else:
                executor.run(waiting, Scorer(make, identity), bar.advance, family.build / "data/logs")
        seconds = time.monotonic() - started
        if left := [job for job in waiting if not job.finished]:
            say(f"score: {len(left)} shards are with {executor.kind}; run the same command again when it has ended")
            return None
        made = sum(job.rows for job in waiting)
        path = _finish(family, mixed, identity, made, seconds)
    entries = mixed["configs"].values()  # as `_finish` completed them
    rows = sum(map(data_manifest.rows, entries))
    aside = sum(entry["quarantined"] for entry in entries)
    say(f"score: {rows:,} labelled pairs, {aside:,} set aside ({made:,} read now) -> {mixture}")
    return path


def jobs_of(mixed: dict[str, Any], pairs: Path, mixture: Path, identity: dict[str, Any]) -> list[ShardJob]:
    """Every shard of the pairs' manifest as a job; the stamp names who gives its labels."""
    teacher = json.dumps(identity, sort_keys=True)
    givers = {name: teacher if asks_teacher(entry) else "the source" for name, entry in mixed["configs"].items()}
    return [
        ShardJob(
            source=(pairs / name / shard["name"]).resolve(),
            target=(mixture / name / shard["name"]).resolve(),
            rows=shard["rows"],
            stamp=hashlib.sha256(f"{givers[name]} {shard['sha256']}".encode()).hexdigest(),
        )
        for name, entry in mixed["configs"].items()
        for shard in entry["shards"]
    ]


def _given(teacher: Teacher) -> Teacher:
    """A loaded teacher where a worker is to load one."""
    return teacher


def _claim(mixture: Path, identity: dict[str, Any]) -> None:
    """Say whose labels the folder holds; what another teacher began is not continued.

    The stand-in's document frequencies follow from the pairs: when only they differ, the pairs have changed, not the teacher.
    """
    path = mixture / "teacher.json"
    if identity and path.is_file() and any(mixture.glob("*/*.parquet")):
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            hint = f"remove {mixture} and run again"
            raise ReleaseError("nothing says which teacher began the mixture", where=str(path), hint=hint) from error
        keys = sorted({*before, *identity} - {"statistics_sha256"} if before else ())
        if differs := [key for key in keys if before.get(key) != identity.get(key)]:
            what = f"the mixture was begun with another {', '.join(differs)}"
            raise ReleaseError(
                what, where=str(mixture), hint=f"remove {mixture} and run again, or name that teacher in [teacher]"
            )
    write_json(path, identity)


def _clear(mixture: Path, jobs: list[ShardJob], waiting: list[ShardJob]) -> None:
    """Take away what is of no use any more, so that nobody reads a half-made mixture: old shards and the old manifest."""
    if waiting:
        (mixture / data_manifest.NAME).unlink(missing_ok=True)
    current = {path for job in jobs for path in (job.target, job.quarantine)}
    stale = {path for job in waiting for path in (job.target, job.quarantine)}
    for path in [*mixture.glob("*/*.parquet"), *mixture.glob("*/*.quarantine.jsonl"), *mixture.glob("*/.*.tmp")]:
        if path.resolve() not in current or path.resolve() in stale:
            path.unlink()


def _finish(family: Family, mixed: dict[str, Any], identity: dict[str, Any], made: int, seconds: float) -> Path:
    """Write the mixture's manifest and the record `data`; the manifest holds no time, so equal data has an equal manifest."""
    mixture = family.mixture_folder
    for name, entry in mixed["configs"].items():
        mixed["configs"][name] = entry | labelled.described(
            mixture / name, [shard["name"] for shard in entry["shards"]]
        )
    mixed |= {"teacher": identity, "in_domain": _in_domain(mixed, family)}
    configs = {
        name: ConfigLabels(
            rows=data_manifest.rows(entry),
            label=LabelRange(**entry["label"]),
            quarantined=entry["quarantined"],
        )
        for name, entry in mixed["configs"].items()
    }
    measured = DataResult(
        rows=sum(config.rows for config in configs.values()),
        rows_scored_now=made,
        seconds=round(seconds, 1),
        pairs_per_second=round(made / seconds, 1) if made else None,
        configs=configs,
    )
    subject = DataSubject(identity, mixed.get("declaration_sha256"))
    path = write_json(mixture / data_manifest.NAME, mixed)
    folder = family.build / "records"
    if made or not _recorded(folder, subject):  # a run that scored nothing keeps the record of the one that did
        record = records.new(results.DATA, family=family.about.name, measured=measured, subject=subject)
        records.write(record, folder)
    return path


def _fetch(family: Family) -> Path:
    """Take the mixture from the Hub, at the commit that `make mix` settled, instead of labelling pairs."""
    mixture = family.mixture_folder
    settled = data_manifest.read(family.pairs_folder, stage="mix")
    if settled.get("mixture") != family.data.mixture:
        what = f"nothing says at which commit {family.data.mixture} is taken"
        raise ReleaseError(what, where=str(family.pairs_folder), hint="make mix")
    with exclusive_lock(family.build / "data"):
        started = time.monotonic()
        (mixture / data_manifest.NAME).unlink(missing_ok=True)
        mixed = fetch.fetch(family, settled["revision"])
        configs = mixed["configs"].items()
        current = {mixture / name / shard["name"] for name, entry in configs for shard in entry["shards"]}
        former = {*mixture.glob("*/*.parquet"), *mixture.glob("*/*.quarantine.jsonl"), *mixture.glob("teacher.json")}
        for path in former - current:
            path.unlink()
        path = _finish(family, mixed, {}, 0, time.monotonic() - started)
    say(f"score: nothing to label, {family.data.mixture} at {settled['revision']} -> {mixture}")
    return path


def _recorded(folder: Path, subject: DataSubject) -> bool:
    try:
        return records.read(folder, results.DATA).subject == subject
    except ReleaseError:
        return False


def _in_domain(mixed: dict[str, Any], family: Family) -> list[str]:
    """The family's tasks that a config declares to be of the same origin."""
    tasks = {*family.evaluation.tasks, *family.evaluation.collections}
    declared = {task for entry in mixed["configs"].values() for task in entry.get("overlaps_declared") or []}
    return sorted(tasks & declared)
