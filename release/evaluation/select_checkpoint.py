"""Which checkpoint is released: the best one by the evaluation during training or the last one, by the family's benchmark.

The published family was chosen so by hand (the last checkpoint won for one size of six). The recipe leaves the best one
in `model/` and, where that is another, the last one in `last/`; here both rerank what the card will show, and the better
one becomes `model/`. Its rows are cached, so the evaluation that follows measures nothing twice.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

from release import options, records, results
from release.console import print_json, quiet, table
from release.errors import ReleaseError
from release.family import Family, load
from release.files import exclusive_lock
from release.records import Record
from release.results.training import (
    Candidate,
    Candidates,
    CheckpointChoice,
    CheckpointName,
    ChoiceSubject,
    RunSubject,
    TrainingRun,
)

NAMES: tuple[CheckpointName, ...] = get_args(CheckpointName)


def command(size: options.Size, family_file: options.Family = options.ETTIN) -> None:
    """Rerank the family's tasks with both checkpoints and keep the better one as model/."""
    family = load(family_file)
    with quiet():
        choice = choose(family, size).measured
    both = {name: choice.candidate(name) for name in NAMES}
    rows = [
        [name, candidate.step, candidate.score, candidate.reranked_ndcg, name == choice.released]
        for name, candidate in both.items()
    ]
    title = f"{family.model_id(size)}: the {choice.released} checkpoint is released"
    table(title, ["checkpoint", "step", "nano NDCG@10", "mean NDCG@10", "released"], rows)
    print_json(asdict(choice))


def choose(family: Family, size: str) -> Record[CheckpointChoice, ChoiceSubject]:
    """Compare the checkpoints of one size, move the better one to model/, and write the record `choice`.

    Returns:
        The record; its hash is that of the released model.

    Raises:
        ReleaseError: No trained model, or a task or an embedder cannot be fetched here.
    """
    folder = family.folder(size)
    run = records.read(folder / "records", results.RUN, model_sha256=records.model_hash(folder / "model"))
    released: CheckpointName = run.measured.released
    other: CheckpointName = "last" if released == "best" else "best"
    two = run.measured.best.step != run.measured.last.step
    if two and not (folder / other).is_dir():
        what = f"no {other} checkpoint (step {run.measured.checkpoint(other).step}) beside the model"
        raise ReleaseError(what, where=str(folder / other), hint=f"remove {folder}/records/run.json, then make train")
    folders = {released: folder / "model", other: folder / other}
    ndcg: dict[CheckpointName, float | None] = dict.fromkeys(NAMES)
    dtype = None
    with exclusive_lock(folder / "evaluation"):
        if two:
            for name in NAMES:
                ndcg[name], dtype = _mean(family, size, folders[name])
            # Where both rank alike the best one stays: that is the recipe's own rule.
            winner = max(NAMES, key=lambda name: (ndcg[name], name == "best"))
            if winner != released:
                run = _promote(folder, run, winner)
    best, last = (Candidate(**asdict(run.measured.checkpoint(name)), reranked_ndcg=ndcg[name]) for name in NAMES)
    about: dict[str, Any] = {"family": family.about.name, "size": size, "model_sha256": run.model_sha256}
    record = records.new(
        results.CHOICE,
        measured=CheckpointChoice(Candidates(best, last), run.measured.released),
        subject=ChoiceSubject(dtype, family.evaluation.top_k, family.evaluation.embedders),
        **about,
    )
    records.write(record, folder / "records")
    return record


def _mean(family: Family, size: str, model: Path) -> tuple[float, str]:
    """Mean NDCG@10 of a model folder over the family's tasks over every first stage, and the dtype it ran in."""
    from release.evaluation import family_rows, rerankers, two_stage  # late: mteb takes seconds to import

    reranker = rerankers.load_size(family, size, dtype=family.evaluation.dtype, folder=model)
    rows = family_rows.all_rows(reranker, family, cache_dir=family.folder(size) / "evaluation")
    return two_stage.mean_result(rows).reranked_ndcg, reranker.dtype


def _promote(
    folder: Path, run: Record[TrainingRun, RunSubject], winner: CheckpointName
) -> Record[TrainingRun, RunSubject]:
    """Swap model/ and the winner's folder, and say so in the run's record.

    Stopped in between, no model with a record of its own is there: the recipe makes both folders again from its checkpoints.
    """
    aside = folder / run.measured.released
    shutil.rmtree(aside, ignore_errors=True)
    (folder / "model").rename(aside)
    (folder / winner).rename(folder / "model")
    measured = replace(run.measured, released=winner, score=run.measured.checkpoint(winner).score)
    run = replace(run, measured=measured, model_sha256=records.model_hash(folder / "model"))
    records.write(run, folder / "records")
    return run
