"""NanoBEIR, as the training watches it: Sentence Transformers' own evaluator on the family's sets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import with_config

from release import records
from release.errors import ReleaseError
from release.evaluation.rerankers import Reranker, predict_sorted
from release.family import Family
from release.files import short_hash, write_json
from release.results.evaluation import NanoResult

RERANKED = 100  # candidates per query at most, from the set's own BM25 ranking


@with_config(records.STRICT)
@dataclass(frozen=True)
class CachedNano:
    """Figures on the disk with all that they depend on."""

    key: dict[str, Any]
    result: NanoResult


def nano(reranker: Reranker, family: Family, cache_dir: Path) -> NanoResult:
    """NDCG@10 on each of the family's nano sets and their mean, with the recipe's protocol.

    The recipe normalises over the positives among the candidates only, so `base` (over all positives) is no baseline
    for these figures and no gain is given: they compare rerankers on the same candidates, nothing else.

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
        "sentence-transformers": metadata.version("sentence-transformers"),
    }
    path = cache_dir / f"nano-{short_hash(json.dumps(key, sort_keys=True))}.json"
    try:
        known = records.parse(CachedNano, path.read_bytes())
        if known.key == key:
            return known.result
    except (OSError, ValueError):
        pass
    result = _measure(evaluator, reranker, family, key["revision"])
    write_json(path, asdict(CachedNano(key, result)))
    return result


def _revision(evaluator: Any) -> str:
    """A hash of all that is evaluated: queries, candidates in their order, and which of them are right."""
    digest = hashlib.sha256()
    for one in evaluator.evaluators:
        for sample in one.samples:
            # The evaluator keeps the right ones as a set.
            parts = [one.name, sample["query"], sorted(sample["positive"]), sample["documents"]]
            digest.update(json.dumps(parts).encode())
    return digest.hexdigest()[:40]


def _measure(evaluator: Any, reranker: Reranker, family: Family, revision: str) -> NanoResult:
    depth = max(len(sample["documents"]) for one in evaluator.evaluators for sample in one.samples)
    metrics = evaluator(_EvaluatedModel(reranker))
    key = f"R{RERANKED}"
    return NanoResult(
        dataset=family.evaluation.nano,
        revision=revision,
        sets={name: float(metrics[f"{name}_{key}_ndcg@10"]) for name in family.evaluation.nano_sets},
        mean=float(metrics[f"NanoBEIR_{key}_mean_ndcg@10"]),
        base=float(metrics[f"NanoBEIR_{key}_mean_base_ndcg@10"]),
        protocol=f"{depth} candidates; NDCG@10 over the positives among them; not comparable with base",
    )


def _evaluator(family: Family) -> Any:
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator
    from sentence_transformers.cross_encoder.evaluation import nano_beir as library

    names = [name.removeprefix("Nano") for name in family.evaluation.nano_sets]
    for name in names:  # the evaluator refuses the sets of other collections by name, though it reads them well
        library.DATASET_NAME_TO_HUMAN_READABLE.setdefault(name.lower(), name)
    source = family.evaluation.nano
    try:
        return CrossEncoderNanoBEIREvaluator(
            [name.lower() for name in names],
            dataset_id=source,
            rerank_k=RERANKED,
            always_rerank_positives=False,
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
