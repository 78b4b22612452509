"""Lies about a fine-tuned model, told in its records, sealed anew, and in its staged folder; part of `make lies`.

What passes is what is tied to nothing: the name of the base model and of the data, and a baseline that every comparison shares.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from release import records, results
from release.errors import ReleaseError
from release.export.pairs import sample_pairs, write_pairs
from release.family import Family
from release.finetuning import release_model
from release.finetuning.release_model import FinetunedRelease
from release.results.finetuning import FinetuneResult, FinetuneSubject, MergeCandidate, PairedComparison

Change = Callable[[dict[str, Any]], object]


def _at(*keys: str | int, by: float = 0.0, to: Any = None) -> Change:
    def change(value: Any) -> None:
        for key in ("measured", *keys[:-1]):
            value = value[key]
        value[keys[-1]] = value[keys[-1]] + by if by else to

    return change


def _each(*changes: Change) -> Change:
    return lambda value: [change(value) for change in changes]


def _candidate(ratio: float, key: str, to: Any) -> Change:
    def change(value: Any) -> None:
        next(one for one in value["measured"]["candidates"] if one["ratio"] == ratio)[key] = to

    return change


FINETUNE: dict[str, Change] = {
    "a better score": _at("test", "score", by=0.1),
    "a worse baseline": _at("test", "baseline", by=-0.1),
    "a larger delta": _at("test", "delta", by=0.01),
    "a worse baseline with its delta": _each(
        _at("test", "baseline", by=-0.01), _at("test", "delta", by=0.01), _at("test", "ci_high", by=0.1)
    ),
    "a worse first stage": _at("test", "first_stage", by=-0.1),
    "an interval without its delta": _at("test", "ci_low", by=0.9),
    "more test queries": _each(_at("test", "queries", by=100), _at("tuned", "queries", by=100)),
    "a guard that forgot nothing": _each(_at("guard", "score", by=0.05), _at("guard", "delta", by=0.05)),
    "a worse base on the guard set": _each(_at("guard", "baseline", by=-0.05), _at("guard", "delta", by=0.05)),
    "a guard delta": _at("guard", "delta", by=0.05),
    "another merge ratio": _at("ratio", to=0.25),
    "a merge that ranks better": _candidate(0.25, "dev", 0.99),
    "a merge that was left out": lambda value: value["measured"]["candidates"].pop(-1),
    "a base that ranks worse on dev": _candidate(0.0, "dev", 0.1),
    "a released one that forgets": _candidate(1.0, "forgets", True),
    "another best checkpoint": _at("best_step", to=10),
    "more steps": _at("steps", by=1000),
    "fewer steps than were evaluated": _at("steps", to=5),
    "a better history": lambda value: value["measured"]["dev_history"].insert(2, [15, 0.99]),
    "year 2031": lambda value: value.update(created="2031-01-01T00:00:00+00:00"),
    "no commit": lambda value: value.update(commit="unknown"),
}
EXPORT: dict[str, Change] = {
    "a difference above its tolerance": _at("forms", 2, "max_score_difference", to=1.0),
    "a wider tolerance": _at("forms", 2, "tolerance", to=1.0),
    "a form that was not compared": lambda value: value["measured"].update(forms=value["measured"]["forms"][:1]),
    "before the training": lambda value: value.update(created="2025-06-01T00:00:00+00:00"),
}
STAGED: dict[str, tuple[str, str, str]] = {
    "VERDICT on the card": ("README.md", "WIN", "A GREAT WIN"),
    "a base model on the card": ("README.md", "base_model:", "base_model: org/better #"),
    "data on the card": ("README.md", "fine-tuned on", "fine-tuned on much more than"),
    "a merge on the card": ("README.md", "(released)", "(left out)"),
    "a config": ("config.json", "{", '{"max_position": 1,'),
}


def release_of(family: Family, size: str, output: Path) -> FinetunedRelease:
    """The family's model as if it had been fine-tuned, with figures that fit each other."""
    shutil.copytree(family.folder(size) / "model", output / "model")
    write_pairs(output / release_model.PAIRS_FILE, sample_pairs(family)[:16])
    test = PairedComparison(0.625, 0.5, 0.25, 0.125, 0.0625, 0.1875, 15)
    guard = PairedComparison(0.7, 0.71, 0.4, -0.01, -0.02, 0.01, 40)
    rows = (MergeCandidate(0.0, 0.5, 0.71, False), MergeCandidate(0.25, 0.55, 0.71, False))
    rows += (MergeCandidate(1.0, 0.6, 0.7, False),)
    history = ((0, 0.5), (10, 0.58), (20, 0.6), (30, 0.59))
    result = FinetuneResult(test, guard, test, rows, 1.0, 20, 30, history, 160, 12.5, 4_000_000)
    subject = FinetuneSubject(
        **{"base": "local/base-reranker", "base_revision": "c" * 40, "base_sha256": "b" * 64, "labels": "judgements"},
        **{"base_license": "apache-2.0", "data": "data.jsonl", "data_sha256": "d" * 64, "train": 160, "dev": 12},
        **{"test": 15, "test_given": False, "left_out": 0, "loss": "info-nce", "lora": None, "learning_rate": 1e-5},
        **{"family_learning_rate": 1e-4, "batch_size": 16, "epochs": 3, "max_length": 64, "first_stage": "bm25"},
        **{"top_k": 20, "guard": "stdlib-docstrings", "precision": "fp32", "seed": 12, "smoke": False},
    )
    sha256 = records.model_hash(output / "model")
    record = records.new(results.FINETUNE, family="", model_sha256=sha256, measured=result, subject=subject)
    records.write(dataclasses.replace(record, command="python finetune.py"), output / "records")
    return FinetunedRelease(output, "local/own-reranker", "v1", "apache-2.0")


def tell(release: FinetunedRelease) -> dict[str, str | None]:
    """Tell every lie to a staged release, which is left as it was; `stage` is what publishing begins with."""
    release_model.stage(release)
    caught: dict[str, str | None] = {}
    for kind, lies in (("finetune", FINETUNE), ("export", EXPORT)):
        for name, change in lies.items():
            path = release.output / f"records/{kind}.json"
            before = path.read_bytes()
            value = json.loads(before)
            change(value)
            path.write_text(json.dumps(records.sealed(value)), encoding="utf-8")
            caught[f"fine-tuned: {name}"] = _stage(release)
            path.write_bytes(before)
    for name, (file, old, new) in STAGED.items():
        path = release.repo.folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text, (file, old)
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        line = _stage(release)
        again = "stage: written anew from records and export" if path.read_text(encoding="utf-8") == text else None
        caught[f"fine-tuned, staged: {name}"] = line or again
    return caught


def _stage(release: FinetunedRelease) -> str | None:
    try:
        release_model.stage(release)
    except ReleaseError as error:
        return f"stage: {error.what}"
    return None
