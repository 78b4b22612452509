"""First stages: BM25 and embedders behind mteb's interface, run once per task, kept as run files for all rerankers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import mteb
import numpy as np
from mteb.models.model_meta import ModelMeta

from release.console import Bar
from release.errors import ReleaseError
from release.evaluation.metrics import Ranking, ranking
from release.evaluation.rerankers import document_text, fingerprint
from release.evaluation.tasks import Task
from release.files import sha256_file, write_json

DEPTH = 1000  # documents kept per query, so that another top_k needs no new run
BM25 = "bm25"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class FirstStage:
    """A retriever: its name, what its scores depend on, and how to load it as a model that mteb evaluates."""

    name: str
    revision: str
    load: Callable[[], Any]

    @property
    def slug(self) -> str:
        """A folder name for this retriever at this revision."""
        return f"{re.sub(r'[^A-Za-z0-9.]+', '-', self.name)}-{fingerprint(self.revision)[:8]}"


@dataclass(frozen=True)
class Run:
    """What a first stage found on a task: at most `DEPTH` documents per query.

    `folder` holds the run in mteb's form, `sha256` is that file's, `seconds` is what retrieval took when it was made.
    """

    stage: FirstStage
    folder: Path
    sha256: str
    found: Ranking
    seconds: float


def first_stage(name: str) -> FirstStage:
    """The retriever called `name`: "bm25", a Hub id, or the folder of a SentenceTransformer.

    Nothing is loaded yet, so a kept run costs no model.
    """
    if name == BM25:
        return FirstStage(BM25, f"bm25s {metadata.version('bm25s')}, lucene, k1 1.5, b 0.75, English stopwords", Bm25)
    if Path(name).is_dir():
        from release.files import sha256_folder

        folder = Path(name)
        revision = sha256_folder(folder)
        return FirstStage(folder.resolve().name, revision, lambda: _embedder(name, folder.resolve().name, revision))
    commit = _cached_commit(name)
    if commit is None and name == MINILM:
        packaged = _packaged_minilm()
        if packaged is not None:
            return packaged
    commit = commit or _hub_commit(name)
    return FirstStage(name, commit, lambda: _embedder(name, name, commit))


def run(stage: FirstStage, task: Task, folder: Path) -> Run:
    """The stage's run on `task`, from `folder` (shared by all rerankers) or made now through mteb.

    Raises:
        ReleaseError: The embedder cannot be loaded here.
    """
    place = folder / stage.slug / f"{task.name}-{fingerprint(task.revision)[:8]}"
    about_file, run_file = place / "about.json", place / f"{task.name}_predictions.json"
    about = {
        "first_stage": stage.name,
        "first_stage_revision": stage.revision,
        "task": task.name,
        "task_revision": task.revision,
        "depth": DEPTH,
        "mteb": metadata.version("mteb"),
    }
    kept = _kept(about_file, run_file, about)
    if kept is None:
        seconds = _retrieve(stage, task, place, about)
        # Written last: a run without it was cut short and is made again.
        write_json(about_file, about | {"sha256": sha256_file(run_file), "seconds": seconds})
        kept = json.loads(about_file.read_text(encoding="utf-8"))
    scores = json.loads(run_file.read_text(encoding="utf-8"))
    (subset,) = (scores[key] for key in task.loaded.dataset)
    (found,) = subset.values()
    return Run(
        stage, place, kept["sha256"], {query: list(documents) for query, documents in found.items()}, kept["seconds"]
    )


def _kept(about_file: Path, run_file: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """The note beside a kept run, if it is whole and was made from the same parts."""
    try:
        found = json.loads(about_file.read_text(encoding="utf-8"))
        whole = found["sha256"] == sha256_file(run_file) and found["seconds"] >= 0
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if whole and {key: found.get(key) for key in about} == about else None


def _retrieve(stage: FirstStage, task: Task, place: Path, about: dict[str, Any]) -> float:
    """Run the stage through mteb and keep its run with documents in rank order, ties by id; returns the seconds."""
    started = time.perf_counter()
    model = stage.load()
    place.mkdir(parents=True, exist_ok=True)
    run_file = place / f"{task.name}_predictions.json"
    run_file.unlink(missing_ok=True)  # mteb would merge into a file that was cut short
    mteb.evaluate(
        model,
        task.fresh(),
        cache=None,
        prediction_folder=place,
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": 64, "show_progress_bar": False},
    )
    raw = json.loads(run_file.read_text(encoding="utf-8"))
    ordered = {
        subset: {split: _ordered(scores) for split, scores in raw[subset].items()} for subset in task.loaded.dataset
    }
    text = json.dumps({"mteb_model_meta": {"model_name": stage.name, "revision": stage.revision}, **ordered})
    _write_run(run_file, text)
    return round(time.perf_counter() - started, 2)


def _ordered(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {query: {name: scores[query][name] for name in names} for query, names in ranking(scores, DEPTH).items()}


def _write_run(path: Path, text: str) -> None:
    # Not write_json: it sorts keys, and here the order of the documents is their rank.
    from release.files import write_atomic

    write_atomic(path, text + "\n")


class Bm25:
    """BM25 through bm25s as an mteb search model: English stopwords, no stemmer, documents without a hit left out."""

    def __init__(self) -> None:
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={"name": "local/bm25", "revision": metadata.version("bm25s"), "model_type": ["sparse"]}
        )

    def index(self, corpus: Any, **_: Any) -> None:
        """Index title and text of every document."""
        import bm25s

        self.names = np.array(corpus["id"], dtype=object)
        tokens = bm25s.tokenize([document_text(row) for row in corpus], stopwords="en", show_progress=False)
        self.retriever = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
        self.retriever.index(tokens, show_progress=False)

    def search(self, queries: Any, *, top_k: int, **_: Any) -> dict[str, dict[str, float]]:
        """The `top_k` best documents of every query, equal scores by falling id."""
        import bm25s

        found = {}
        words = bm25s.tokenize(list(queries["text"]), stopwords="en", show_progress=False, return_ids=False)
        with Bar("bm25: queries", len(words)) as bar:
            for query, tokens in zip(queries["id"], words, strict=True):
                found[query] = self._best([str(word) for word in tokens if word in self.retriever.vocab_dict], top_k)
                bar.advance()
        return found

    def _best(self, tokens: list[str], top_k: int) -> dict[str, float]:
        if not tokens:
            return {}
        scores = self.retriever.get_scores(tokens)
        hits = np.flatnonzero(scores > 0)
        if len(hits) > top_k:  # keep every document that ties with the last one, so that the cut below is by id
            hits = hits[scores[hits] >= np.partition(scores[hits], -top_k)[-top_k]]
        found = {str(self.names[hit]): float(scores[hit]) for hit in hits}
        return {name: found[name] for name in ranking({"": found}, top_k)[""]}


def _embedder(source: str, name: str, revision: str) -> Any:
    """A SentenceTransformer in mteb's wrapper, in float32, named and pinned."""
    from mteb.models import SentenceTransformerEncoderWrapper
    from sentence_transformers import SentenceTransformer

    local = Path(source).is_dir()
    try:
        model = SentenceTransformer(
            source, revision=None if local else revision, model_kwargs={"dtype": "float32"}, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise _missing(source) from error
    wrapped = SentenceTransformerEncoderWrapper(model)
    full = name if "/" in name else f"local/{name}"
    wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(update={"name": full, "revision": revision})
    return wrapped


def _missing(name: str) -> ReleaseError:
    return ReleaseError(
        f"the embedder {name} is not here and cannot be fetched",
        mend=f"run where the Hub can be reached, or first `hf download {name}`",
    )


def _cached_commit(name: str) -> str | None:
    """The commit of a model that lies whole enough in the Hub's cache, without asking the network."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, "modules.json")
    return Path(path).parent.name if isinstance(path, str) else None


def _hub_commit(name: str) -> str:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().model_info(name, timeout=20).sha
    except Exception as error:  # no network, offline mode, no such repository: httpx and the Hub raise their own
        raise _missing(name) from error
    if commit is None:
        raise _missing(name)
    return commit


def _packaged_minilm() -> FirstStage | None:
    """all-MiniLM-L6-v2 from the package of the extra `demo`, if that is installed."""
    try:
        from recipes.standin import MINILM_PACKAGE, MINILM_SHA256
    except ImportError:
        return None
    from importlib.util import find_spec

    if find_spec(MINILM_PACKAGE) is None:
        return None
    model = shared_minilm
    dtype = _minilm_dtype()
    return FirstStage(MINILM, f"weights sha256 {MINILM_SHA256[:16]}, {dtype}", lambda: _PackagedMiniLM(model()))


def _minilm_dtype() -> str:
    import torch

    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


@lru_cache(maxsize=1)
def shared_minilm() -> Any:
    """One MiniLM per process: the first stage and the stand-in teacher then encode each text once between them."""
    from recipes.standin import MiniLM

    return MiniLM(max_length=256, dtype=_minilm_dtype())


class _PackagedMiniLM:
    """recipes.standin's MiniLM as an mteb search model: exact cosine search over the whole corpus."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.mteb_model_meta = ModelMeta.create_empty(overwrites={"name": MINILM, "revision": "package"})

    def index(self, corpus: Any, **_: Any) -> None:
        """Encode every document."""
        texts = [document_text(row) for row in corpus]
        self.names = list(corpus["id"])
        with Bar("MiniLM: documents", len(texts)) as bar:
            self.vectors = self.model.encode(texts, progress=bar.advance)

    def search(self, queries: Any, *, top_k: int, **_: Any) -> dict[str, dict[str, float]]:
        """The `top_k` nearest documents of every query."""
        similarity = self.model.encode(list(queries["text"])) @ self.vectors.T
        depth = min(top_k, len(self.names))
        nearest = np.argpartition(-similarity, depth - 1, axis=1)[:, :depth]
        return {
            query: {self.names[place]: float(row[place]) for place in places}
            for query, row, places in zip(queries["id"], similarity, nearest, strict=True)
        }
