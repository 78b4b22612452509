"""First stages: run once per task through mteb, written as run files, and shared by all rerankers."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mteb
from huggingface_hub import HfApi

from release import bm25, hub_access
from release.console import say
from release.errors import ReleaseError
from release.evaluation import embedders
from release.evaluation.metrics import Ranking, ranking
from release.evaluation.retrievers import Bm25Retriever, PackagedMiniLM, packaged_revision
from release.evaluation.tasks import Task
from release.family import BM25, DEPTH, MINILM, Family, ModelConfig
from release.files import sha256_file, sha256_folder, short_hash, write_atomic, write_json
from release.revisions import cached_commit, only_cached_commit


@dataclass(frozen=True)
class FirstStage:
    """A retriever: its name, what its scores depend on, and how to load it as a model that mteb evaluates.

    `load` takes the folder of its runs, where it may write what another process can use.
    """

    name: str
    revision: str
    load: Callable[[Path], Any]

    @property
    def slug(self) -> str:
        """A folder name for this retriever at this revision."""
        return f"{re.sub(r'[^A-Za-z0-9.]+', '-', self.name)}-{short_hash(self.revision)[:8]}"


@dataclass(frozen=True)
class FirstStageRun:
    """A first stage's ranking on a task: at most `DEPTH` documents per query.

    `folder` holds the run in mteb's form, `sha256` is that file's, `seconds` is what retrieval took when it was made.
    """

    stage: FirstStage
    folder: Path
    sha256: str
    ranking: Ranking
    seconds: float


def first_stages(family: Family) -> list[FirstStage]:
    """The retrievers that a family names, in their order, each run as the family says."""
    packaged, language = family.evaluation.packaged_embedders, family.about.language
    return [
        packaged_minilm() if name in packaged else first_stage(name, language, family.model(name))
        for name in family.evaluation.embedders
    ]


def packaged_minilm() -> FirstStage:
    """all-MiniLM-L6-v2 from the package that the extra `demo` installs, on the CPU and in the CPU's faster dtype.

    Raises:
        ReleaseError: The package is not installed.
    """
    revision = packaged_revision()
    if revision is None:
        hint = "pip install 'ettin-release[demo]', or leave packaged_embedders out of the family file"
        raise ReleaseError(f"no package holds {MINILM} here", hint=hint)
    return FirstStage(MINILM, revision, PackagedMiniLM)


def first_stage(name: str, language: str = "en", how: ModelConfig | None = None) -> FirstStage:
    """The retriever called `name`: "bm25", a Hub id, or the folder of a SentenceTransformer.

    Nothing is loaded yet, so a run that exists costs no model.

    Args:
        language: Of folders in BEIR's form, for BM25's stopwords and stemmer; mteb's tasks name their own.
        how: How the family runs this embedder, where that is not as mteb's registry or the repository says.
    """
    if name == BM25:
        versions = f"bm25s {metadata.version('bm25s')} lucene, PyStemmer {metadata.version('PyStemmer')}"
        revision = f"{versions}, k1 {bm25.K1}, b {bm25.B}, {bm25.RULE} ({language} where a task names none)"
        return FirstStage(BM25, revision, lambda _: Bm25Retriever(language))
    if Path(name).is_dir():
        folder = Path(name)
        contents = sha256_folder(folder)
        return FirstStage(folder.resolve().name, contents, lambda _: embedders.load_folder(folder, contents))
    how = how or ModelConfig()
    commit = embedders.pinned(name, how) or cached_commit(name) or _hub_commit(name)
    return FirstStage(name, embedders.described(name, commit, how), lambda _: embedders.load(name, commit, how))


def retrieve(stage: FirstStage, task: Task, folder: Path) -> FirstStageRun:
    """The stage's run on `task`, from `folder` (shared by all rerankers) or made now through mteb.

    Raises:
        ReleaseError: The embedder cannot be loaded here.
    """
    run_folder = folder / stage.slug / f"{task.name}-{short_hash(task.revision)[:8]}"
    about_file, run_file = run_folder / "about.json", run_folder / f"{task.name}_predictions.json"
    key: dict[str, Any] = {
        "first_stage": stage.name,
        "first_stage_revision": stage.revision,
        "task": task.name,
        "task_revision": task.revision,
        "depth": DEPTH,
        "mteb": metadata.version("mteb"),
    }
    about = _read_about(about_file, run_file, key)
    if about is None:
        started = time.perf_counter()
        write_atomic(run_file, _run_file(stage, task, run_folder))
        about = key | {"sha256": sha256_file(run_file), "seconds": round(time.perf_counter() - started, 2)}
        write_json(about_file, about)  # written last: a run without it was cut short and is made again
    scores = json.loads(run_file.read_text(encoding="utf-8"))
    (subset,) = (scores[name] for name in task.loaded.dataset)
    (split,) = subset.values()
    ranking = {query: list(documents) for query, documents in split.items()}
    _warn_of_nothing(stage, task, ranking)
    return FirstStageRun(stage, run_folder, str(about["sha256"]), ranking, float(about["seconds"]))


def _warn_of_nothing(stage: FirstStage, task: Task, ranking: Ranking) -> None:
    """Say so, every time, where most queries get no candidate: every figure over such a first stage is near 0."""
    empty = sum(not ranking.get(query) for query in task.judgements)
    if 2 * empty > len(task.judgements):
        what = f"{stage.name} finds no document for {empty:,} of {len(task.judgements):,} queries of {task.name}"
        say(f"warning: {what}; are queries and documents in one language?", sys.stderr)


def _read_about(about_file: Path, run_file: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """What is written beside a run, if the run is whole and was made under this key."""
    try:
        about = json.loads(about_file.read_text(encoding="utf-8"))
        whole = about["sha256"] == sha256_file(run_file) and about["seconds"] >= 0
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return about if whole and {name: about.get(name) for name in key} == key else None


def _run_file(stage: FirstStage, task: Task, run_folder: Path) -> str:
    """Run the stage through mteb: its run as JSON in mteb's form, documents in rank order, ties by id."""
    model = stage.load(run_folder.parent)
    run_folder.mkdir(parents=True, exist_ok=True)
    evaluated: Any = task.fresh(few=True)  # only its ranking is kept
    raw: dict[str, dict[str, dict[str, dict[str, float]]]] = {}

    def keep(scores: dict[str, dict[str, float]], *_: Any, hf_subset: str, hf_split: str, **__: Any) -> None:
        raw.setdefault(hf_subset, {})[hf_split] = {query: dict(documents) for query, documents in scores.items()}

    evaluated._save_task_predictions = keep  # mteb writes a million scores for seconds; they are written below
    with TemporaryDirectory(dir=run_folder) as folder:
        mteb.evaluate(
            model,
            evaluated,
            cache=None,
            prediction_folder=folder,
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": 64, "show_progress_bar": False},
        )
    ordered = {
        subset: {split: _ordered(scores) for split, scores in raw[subset].items()} for subset in task.loaded.dataset
    }
    # Its keys are not sorted: the order of the documents is their rank.
    return json.dumps({"mteb_model_meta": {"model_name": stage.name, "revision": stage.revision}, **ordered}) + "\n"


def _ordered(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {query: {name: scores[query][name] for name in names} for query, names in ranking(scores, DEPTH).items()}


def _hub_commit(name: str) -> str:
    try:
        commit = HfApi().model_info(name, timeout=20).sha
    except Exception as error:  # no network, offline mode, no such repository: httpx and the Hub raise their own
        if commit := only_cached_commit(name):
            return commit
        raise embedders.missing(name, why=hub_access.reason(error, name)) from error
    if commit is None:
        raise embedders.missing(name)
    return commit
