"""NanoBEIR on a model that is loaded: Sentence Transformers' own evaluator on the family's sets, by both of its rules."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import with_config
from sentence_transformers.cross_encoder.evaluation import nano_beir as library

from release import records
from release.errors import ReleaseError
from release.evaluation.family_rows import declared_overlaps
from release.evaluation.nano_evaluator import NanoBEIR
from release.evaluation.rerankers import Reranker, predict_sorted
from release.family import Family
from release.files import sha256_folder, short_hash, write_json
from release.results.evaluation import NanoMeans, NanoResult

RERANKED = 100  # candidates per query at most, from the set's own BM25 ranking


@with_config(records.STRICT)
@dataclass(frozen=True)
class CachedNano:
    """Figures on the disk with all that they depend on."""

    key: dict[str, Any]
    result: NanoResult


def nano(reranker: Reranker, family: Family, cache_dir: Path) -> NanoResult:
    """NDCG@10 on each of the family's nano sets and their mean: both figures that are published under that name.

    `base` is over all positives, so a gain over it is one of `all_positives` only.

    Args:
        cache_dir: Folder of this reranker's figures; they are made again when anything that they depend on differs.

    Raises:
        ReleaseError: The sets are not here and cannot be fetched.
    """
    evaluator = _evaluator(family)
    key = {
        **reranker.identity,
        "sets": list(family.evaluation.nano_sets),
        "revision": _revision(evaluator),
        "reranked": RERANKED,
        "always_rerank_positives": family.evaluation.always_rerank_positives,
        "sentence-transformers": metadata.version("sentence-transformers"),
    }
    path = cache_dir / f"nano-{short_hash(json.dumps(key, sort_keys=True))}.json"
    try:
        known = records.parse(CachedNano, path.read_bytes())
    except (OSError, ValueError):
        known = None
    if known is None or known.key != key:
        known = CachedNano(key, _measure(evaluator, reranker, family, key["revision"]))
        write_json(path, asdict(known))
    return replace(known.result, in_domain=_in_domain(family))


def _in_domain(family: Family) -> tuple[str, ...] | None:
    """The nano sets whose text has the same origin as a part of the training mixture; None where its manifest says nothing."""
    overlaps = declared_overlaps(family)
    return None if overlaps is None else tuple(name for name in family.evaluation.nano_sets if name in overlaps)


def _revision(evaluator: Any) -> str:
    """A hash of all that is evaluated: queries, candidates in their order, and which of them are right."""
    digest = hashlib.sha256()
    for one in evaluator.evaluators:
        for sample in one.samples:
            # The evaluator keeps the right ones as a set.
            parts = [one.name, sample["query"], sorted(sample["positive"]), sample["documents"]]
            digest.update(json.dumps(parts).encode())
    return digest.hexdigest()[:40]


def _measure(evaluator: NanoBEIR, reranker: Reranker, family: Family, revision: str) -> NanoResult:
    depth = max(len(sample["documents"]) for one in evaluator.evaluators for sample in one.samples)
    evaluator(_EvaluatedModel(reranker))  # ty: ignore[invalid-argument-type]
    every, retrieved = (_means(evaluator.both[with_all], family) for with_all in (True, False))
    chosen = every if family.evaluation.always_rerank_positives else retrieved
    over = "all positives" if chosen is every else "the positives among them; not comparable with base"
    return NanoResult(
        dataset=family.evaluation.nano,
        revision=revision,
        sets=chosen.sets,
        mean=chosen.mean,
        base=float(evaluator.both[True][f"NanoBEIR_R{RERANKED}_mean_base_ndcg@10"]),
        protocol=f"{depth} candidates; NDCG@10 over {over}",
        always_rerank_positives=family.evaluation.always_rerank_positives,
        all_positives=every,
        retrieved_positives=retrieved,
        dtype=reranker.dtype,
    )


def _means(metrics: dict[str, float], family: Family) -> NanoMeans:
    key = f"R{RERANKED}"
    sets = {name: float(metrics[f"{name}_{key}_ndcg@10"]) for name in family.evaluation.nano_sets}
    return NanoMeans(float(metrics[f"NanoBEIR_{key}_mean_ndcg@10"]), sets)


def _evaluator(family: Family) -> NanoBEIR:
    """The family's sets, loaded once in a process."""
    how, source = family.evaluation, Path(family.evaluation.nano)
    contents = sha256_folder(source) if source.is_dir() else None
    return _loaded(how.nano, contents, how.nano_sets, how.always_rerank_positives)


@lru_cache(maxsize=1)
def _loaded(source: str, contents: str | None, sets: tuple[str, ...], always_rerank_positives: bool) -> NanoBEIR:
    """As `_evaluator`; `contents` names those of a folder."""
    names = [name.removeprefix("Nano") for name in sets]
    for name in names:  # the evaluator refuses the sets of other collections by name, though it reads them well
        library.DATASET_NAME_TO_HUMAN_READABLE.setdefault(name.lower(), name)
    try:
        return NanoBEIR(
            [name.lower() for name in names],
            dataset_id=source,
            rerank_k=RERANKED,
            always_rerank_positives=always_rerank_positives,
            write_csv=False,
        )
    except Exception as error:  # datasets, the Hub and the network each raise their own
        raise ReleaseError(
            f"the nano sets are not here and cannot be fetched ({type(error).__name__})",
            where=source,
            hint=f"make score, or where the Hub can be reached `hf download --repo-type dataset {source}`",
        ) from error


class _EvaluatedModel:
    """A reranker with the two attributes that the evaluator uses: predict, and a model card that it writes metrics to."""

    def __init__(self, reranker: Reranker) -> None:
        self.reranker = reranker
        self.model_card_data = self

    def set_evaluation_metrics(self, *_: Any) -> None:
        """The record is where metrics go, no card is written here."""

    def predict(self, pairs: list[list[str]], **_: Any) -> Any:
        """Raw logits of shape (pairs,)."""
        return predict_sorted(self.reranker, [(query, document) for query, document in pairs])
