"""Lies about a fine-tuned model: in its records, sealed anew, in its staged folder, and on a Hub; part of `make lies`.

What passes is what is tied to nothing: the name of the data, a base that nobody else can see, and scores of queries that nobody
measured, with every figure and the card computed from them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from benchmarks import hub_lies
from release import records, results
from release.card.finetuned import FinetunedRelease
from release.errors import ReleaseError
from release.evaluation import paired, queries
from release.export.pairs import sample_pairs, write_pairs
from release.family import Family
from release.finetuning import release_model
from release.hub import finetuned, plan, publish, state
from release.results.finetuning import FinetuneResult, FinetuneScores, FinetuneSubject, ScoredSet
from release.truth import manifest

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
    "fewer parameters": _at("parameters", to=1_000_000),
    "year 2031": lambda value: value.update(created="2031-01-01T00:00:00+00:00"),
    "no commit": lambda value: value.update(commit="unknown"),
}
EXPORT: dict[str, Change] = {
    "a difference above its tolerance": _at("forms", 2, "max_score_difference", to=1.0),
    "a wider tolerance": _at("forms", 2, "tolerance", to=1.0),
    "a form that was not compared": lambda value: value["measured"].update(forms=value["measured"]["forms"][:1]),
    "a longer context": _at("max_length", to=8192),
    "more layers": _at("architecture", "layers", to=99),
    "fewer bytes to download": _at("forms", 0, "bytes", to=1_000),
    "before the training": lambda value: value.update(created="2025-06-01T00:00:00+00:00"),
}
STAGED: dict[str, tuple[str, str, str]] = {
    "VERDICT on the card": ("README.md", "WIN", "A GREAT WIN"),
    "a base model on the card": ("README.md", "base_model:", "base_model: org/better #"),
    "data on the card": ("README.md", "fine-tuned on", "fine-tuned on much more than"),
    "a merge on the card": ("README.md", "(released)", "(left out)"),
    "a config": ("config.json", "{", '{"max_position": 1,'),
}


def _scored(first: float, **models: float) -> Callable[[int], ScoredSet]:
    """NDCG@10 of so many queries, each model's around its mean; the models are called `share_` and their share in per cent."""

    def spread(mean: float, queries: int) -> tuple[float, ...]:
        return tuple(mean + 0.01 * ((7 * index) % 5 - 2) * mean for index in range(queries))

    def make(queries: int) -> ScoredSet:
        by_share = {paired.share(int(name[6:]) / 100): spread(mean, queries) for name, mean in models.items()}
        return ScoredSet("e" * 64, spread(first, queries), by_share)

    return make


def made_up_scores() -> FinetuneScores:
    """A fine-tuned model that is a WIN on 15 queries and forgets nothing, and a merge that is worse."""
    test = _scored(0.25, share_0=0.5, share_100=0.625)(15)
    dev = _scored(0.3, share_0=0.5, share_25=0.55, share_100=0.6)(12)
    guard = _scored(0.4, share_0=0.71, share_25=0.711, share_100=0.712)(40)
    return FinetuneScores(test, dev, guard)


def release_of(
    family: Family, size: str, output: Path, base: tuple[str, str, str] = ("local/base-reranker", "c" * 40, "b" * 64)
) -> FinetunedRelease:
    """The family's model as if it had been fine-tuned, with figures that fit each other.

    Args:
        base: The base model's id, its commit and its sha256.
    """
    shutil.copytree(family.folder(size) / "model", output / "model")
    write_pairs(output / release_model.PAIRS_FILE, sample_pairs(family)[:16])
    scores = made_up_scores()
    test, guard = paired.of_share(scores.test, 1.0), paired.of_share(scores.guard, 1.0)
    rows = paired.candidates(scores.dev, scores.guard)
    parameters = records.read(family.folder(size) / "records", results.RUN).measured.parameters.total
    history = ((0, rows[0].dev), (10, 0.58), (20, rows[-1].dev), (30, 0.59))
    named = queries.write(output / "records", scores)
    result = FinetuneResult(test, guard, test, rows, 1.0, 20, 30, history, 160, 12.5, parameters, named)
    subject = FinetuneSubject(
        **{"base": base[0], "base_revision": base[1], "base_sha256": base[2], "labels": "judgements"},
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
    caught["fine-tuned: other scores of queries"] = _with_scores(release, named=False)
    caught["fine-tuned: other scores of queries, named"] = _with_scores(release, named=True)
    for name, (file, old, new) in STAGED.items():
        path = release.folder / file
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


def _with_scores(release: FinetunedRelease, *, named: bool) -> str | None:
    """Stage with the scores of one query changed, and perhaps the record that names them."""
    folder = release.output / "records"
    before = {path: path.read_bytes() for path in (folder / "finetune.json", folder / queries.FILE)}
    record = records.read(folder, results.FINETUNE)
    scores = queries.read_scores(folder, FinetuneScores, record.measured.queries_sha256, "finetune")
    better = dict(scores.test.models) | {"1": (0.99, *scores.test.models["1"][1:])}
    sha256 = queries.write(folder, dataclasses.replace(scores, test=dataclasses.replace(scores.test, models=better)))
    if named:
        records.write(
            dataclasses.replace(record, measured=dataclasses.replace(record.measured, queries_sha256=sha256)), folder
        )
    caught = _stage(release)
    for path, content in before.items():
        path.write_bytes(content)
    return caught


# --- On a Hub ---------------------------------------------------------------------------------------------------------

FINETUNE_RECORD, QUERIES = "records/finetune.json", f"records/{queries.FILE}"


def _from(**other: str | None) -> hub_lies.Lie:
    """release.json that says something else of what the model was made of."""
    return hub_lies.manifest_lie(lambda value: value["finetuned"].update(other))


def _measured(*keys: str | int, to: Any) -> hub_lies.Lie:
    return hub_lies.record_lie(FINETUNE_RECORD, _at(*keys, to=to))


def _one_model_more(folder: Path) -> hub_lies.Files:
    """Scores of a model on `test` that was not released, named by the record."""
    scores = json.loads((folder / QUERIES).read_bytes())
    scores["test"]["models"]["0.5"] = scores["test"]["models"]["1"]
    content = json.dumps(scores).encode()
    named = _measured("queries_sha256", to=hashlib.sha256(content).hexdigest())
    return {QUERIES: content} | named(folder)


EDITED: dict[str, hub_lies.Lie] = {
    "a VERDICT": hub_lies.text_lie("README.md", "WIN", "GREAT WIN"),
    "a figure of model-index": hub_lies.text_lie("README.md", "value: 0.", "value: 0.9"),
    "a licence": hub_lies.text_lie("README.md", "license: apache-2.0", "license: mit"),
    "a file beside release.json": hub_lies.MORE,
    "a file gone": lambda folder: {"onnx/model.onnx": None},
    "no release.json": lambda folder: {manifest.FILE: None},
    "a hash in release.json": hub_lies.manifest_lie(lambda value: value["files"]["README.md"].update(sha256="0" * 64)),
    "another base in release.json": _from(base="org/better"),
    "other data in release.json": _from(data_sha256="0" * 64),
    "a version in release.json": hub_lies.manifest_lie(lambda value: value.update(version="v2")),
    "a config": hub_lies.text_lie("config.json", "{", '{"auto_map": {"AutoModel": "x--y.Z"},'),
    "a bit of the weights": hub_lies.bit_lie("model.safetensors"),
    "a bit of the graph": hub_lies.bit_lie("onnx/model.onnx"),
    "a record": _measured("test", "score", to=0.99),
    "scores of queries": hub_lies.text_lie(QUERIES, "0.", "1."),
}
THOROUGH: dict[str, hub_lies.Lie] = {  # with release.json and the message of the commit
    "a VERDICT": hub_lies.text_lie("README.md", "WIN", "GREAT WIN"),
    "a figure of model-index": hub_lies.text_lie("README.md", "value: 0.", "value: 0.9"),
    "a licence on the card": hub_lies.text_lie("README.md", "license: apache-2.0", "license: mit"),
    "a base model on the card": hub_lies.text_lie("README.md", "base_model: ", "base_model: better-"),
    "a file more": hub_lies.MORE,
    "a record more": lambda folder: {"records/notes.json": b"{}"},
    "a file gone": lambda folder: {"onnx/model.onnx": None},
    "a config": hub_lies.text_lie("config.json", "{", '{"max_position": 1,'),
    "a bit of the weights": hub_lies.bit_lie("model.safetensors"),
    "a config, and the record of its export": hub_lies.with_export(
        hub_lies.text_lie("config.json", "{", '{"max_position": 1,')
    ),
    "a config without a key, and the record of its export": hub_lies.with_export(
        hub_lies.text_lie("config.json", "vocab_size", "words")
    ),
    "a bit of the graph": hub_lies.bit_lie("onnx/model.onnx"),
    "a pickle, and the record of its export": hub_lies.with_export(lambda folder: {"pytorch_model.bin": b"\x80\x04."}),
    "another head of the modules, and the record of its export": hub_lies.with_export(
        hub_lies.other_tensor("4_Dense/model.safetensors", "linear.weight")
    ),
    "a better score": _measured("test", "score", to=0.99),
    "a narrower interval": _measured("test", "ci_low", to=0.124),
    "a worse first stage": _measured("test", "first_stage", to=0.1),
    "a guard that gained": _measured("guard", "delta", to=0.1),
    "a merge that was left out": hub_lies.record_lie(
        FINETUNE_RECORD, lambda value: value["measured"]["candidates"].pop(1)
    ),
    "fewer queries": hub_lies.record_lie(FINETUNE_RECORD, lambda value: value["subject"].update(test=10)),
    "another base": hub_lies.record_lie(FINETUNE_RECORD, lambda value: value["subject"].update(base="org/better")),
    "other data": hub_lies.record_lie(FINETUNE_RECORD, lambda value: value["subject"].update(data_sha256="0" * 64)),
    "another model's record": hub_lies.record_lie(FINETUNE_RECORD, lambda value: value.update(model_sha256="0" * 64)),
    "no scores of queries": lambda folder: {QUERIES: None},
    "scores of queries": hub_lies.text_lie(QUERIES, "0.", "1."),
    "scores of one model more": _one_model_more,
    "another licence of the base": hub_lies.record_lie(
        FINETUNE_RECORD, lambda value: value["subject"].update(base_license="mit")
    ),
}
OTHER_PARENTS = {  # in release.json alone
    "another base": _from(base="org/better"),
    "another commit of the base": _from(base_revision="0" * 40),
    "other data": _from(data_sha256="0" * 64),
    "other test queries": _from(test_sha256="0" * 64),
    "a licence": _from(license="mit"),
    "a licence that is none": _from(license="free"),
    "a family": hub_lies.manifest_lie(lambda value: value.update(family="ettin", size="68m")),
    "nothing that it was made of": hub_lies.manifest_lie(lambda value: value.pop("finetuned")),
}


THOROUGH |= {f"{name} in release.json": lie for name, lie in OTHER_PARENTS.items()}


def tell_on_hub(api: HfApi, family: Family, size: str, only: set[str] | None = None) -> dict[str, str | None]:
    """Release a fine-tuned model of the family's released one, without loading it, and tell every lie there, or those in `only`."""
    model = next(repo for repo in state.desired_repos(family, size) if repo.type == "model")
    base = (model.id, state.remote_repo(api, model).commit or "", records.model_hash(model.folder))
    release = release_of(family, size, Path("finetuned"), base)
    release_model.stage(release)
    repo = finetuned.repository(release)
    for _ in range(2):  # what is pushed, and what is left after it
        push, public, tags = plan.repo_steps([repo], api, release_model.WAYS)
        publish.carry_out(api, push or [*tags, *public])
    caught = hub_lies.tell(
        api, release.id, release.folder.resolve(), only, (EDITED, THOROUGH), "fine-tuned, on the Hub"
    )
    first = api.list_repo_commits(model.id)[-1].commit_id
    for name, other in (("another commit of the base", first), ("a commit that the base does not have", "0" * 40)):
        if (name := f"fine-tuned, on the Hub: {name}, card and all") in (only or {name}):
            caught[name] = _of_another_base(api, release, other)
    return caught


def _of_another_base(api: HfApi, release: FinetunedRelease, revision: str) -> str | None:
    """All of it true to itself, and fine-tuned from another commit of the base: staged and pushed as a branch."""
    path = release.output / FINETUNE_RECORD
    before = path.read_bytes()
    value = json.loads(before)
    value["subject"]["base_revision"] = revision
    path.write_text(json.dumps(records.sealed(value)), encoding="utf-8")
    release_model.stage(release)
    path.write_bytes(before)
    files: hub_lies.Files = {
        name: (release.folder / name).read_bytes() for name in ("README.md", manifest.FILE, FINETUNE_RECORD)
    }
    branch = f"base-{revision[:8]}"
    api.create_branch(release.id, branch=branch, revision="v1")
    return hub_lies.verified(api, release.id, hub_lies.commit(api, release.id, branch, files, whole=True))
