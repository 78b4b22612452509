"""Which checkpoint is released: the best one by the evaluation during training or the last one, by the family's benchmark.

The published family was chosen so by hand (the last checkpoint won for one size of six). The recipe leaves the best one
in `model/` and, where that is another, the last one in `last/`; here both rerank what the card will show, and the better
one becomes `model/`. Its rows are kept, so the evaluation that follows measures nothing twice.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from release import options, records
from release.console import print_json, table
from release.errors import ReleaseError
from release.family import Family, load
from release.files import exclusive_lock
from release.records import Record


def command(size: options.Size, family: options.Family = options.ETTIN) -> None:
    """Rerank the family's tasks with both checkpoints and keep the better one as model/."""
    facts = load(family)
    measured = choose(facts, size).measured
    rows = [
        [name, found["step"], found["nano"], found["ndcg@10"], name == measured["released"]]
        for name, found in measured["candidates"].items()
    ]
    title = f"{facts.model_id(size)}: the {measured['released']} checkpoint is released"
    table(title, ["checkpoint", "step", "nano NDCG@10", "mean NDCG@10", "released"], rows)
    print_json(measured)


def choose(family: Family, size: str) -> Record:
    """Compare the checkpoints of one size, move the better one to model/, and write the record `choice`.

    Returns:
        The record: `candidates` (best, last) with step, nano score and mean NDCG@10 over all tasks and first stages,
        the last two None where both are one checkpoint; `released`; its hash is that of the released model.

    Raises:
        ReleaseError: No trained model, or a task or an embedder cannot be had here.
    """
    folder = family.folder(size)
    run = records.read(folder / "records", "run", model_sha256=records.model_hash(folder / "model"))
    released = run.measured["released"]
    other = "last" if released == "best" else "best"
    steps = {name: run.measured[name]["step"] for name in ("best", "last")}
    if steps["best"] != steps["last"] and not (folder / other).is_dir():
        what = f"no {other} checkpoint (step {steps[other]}) beside the model"
        raise ReleaseError(what, where=str(folder / other), hint=f"remove {folder}/records/run.json, then make train")
    places = {released: folder / "model", other: folder / other}
    quality: dict[str, float | None] = {"best": None, "last": None}
    dtype = None
    with exclusive_lock(folder / "evaluation"):
        if steps["best"] != steps["last"]:
            for name in quality:
                quality[name], dtype = _mean(family, size, places[name])
            # Where both rank alike the best one stays: that is the recipe's own rule.
            winner = max(quality, key=lambda name: (quality[name], name == "best"))
            if winner != released:
                run = _promote(folder, run, winner)
    candidates = {
        name: {**run.measured[name], "nano": run.measured[name]["score"], "ndcg@10": quality[name]} for name in quality
    }
    measured = {"candidates": candidates, "released": run.measured["released"]}
    subject = {"dtype": dtype, "top_k": family.evaluation.top_k, "first_stages": list(family.evaluation.embedders)}
    about: dict[str, Any] = {"family": family.about.name, "size": size, "model_sha256": run.model_sha256}
    record = records.new("choice", measured=measured, subject=subject, **about)
    records.write(record, folder / "records")
    return record


def _mean(family: Family, size: str, model: Path) -> tuple[float, str]:
    """Mean NDCG@10 of a model folder over the family's tasks behind every first stage, and the dtype it ran in."""
    from release.evaluation import evaluate, rerankers, two_stage

    reranker = rerankers.load(str(model), name=family.model_id(size), max_length=family.training.max_length)
    rows = evaluate.all_rows(reranker, family, kept=family.folder(size) / "evaluation")
    mean = two_stage.means(rows)
    assert mean is not None  # a family has tasks, which its reader checks
    return mean["reranked"], reranker.dtype


def _promote(folder: Path, run: Record, winner: str) -> Record:
    """Swap model/ and the winner's folder, and say so in the run's record.

    Stopped in between, no model with a record of its own lies there: the recipe makes both folders again from its checkpoints.
    """
    former = run.measured["released"]
    aside = folder / former
    shutil.rmtree(aside, ignore_errors=True)
    (folder / "model").rename(aside)
    (folder / winner).rename(folder / "model")
    measured = run.measured | {"released": winner, "score": run.measured[winner]["score"]}
    run = replace(run, measured=measured, model_sha256=records.model_hash(folder / "model"))
    records.write(run, folder / "records")
    return run
