"""Any reranker on somebody's own queries and candidates, beside its first stage and, if one is named, another model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from release import bm25
from release.evaluation import judged_pairs, rerankers
from release.evaluation.judged_pairs import JudgedPairs
from release.evaluation.paired import compare
from release.finetuning import model as models
from release.finetuning import prepare
from release.results.finetuning import PairedComparison


@dataclass(frozen=True)
class Evaluated:
    """A model on somebody's queries.

    Attributes:
        gain: The model against its first stage.
        comparison: The model against the baseline model, None where none was named.
        description: What was measured on.
    """

    gain: PairedComparison
    comparison: PairedComparison | None
    description: str


def evaluate(
    model: str,
    data: Path,
    runs: Path,
    *,
    baseline: str | None = None,
    retriever: str = judged_pairs.BM25,
    run: Path | None = None,
    top_k: int = judged_pairs.TOP_K,
    max_length: int | None = None,
    queries: int | None = None,
    language: str | None = None,
) -> Evaluated:
    """Measure `model`, and `baseline` on the same pairs.

    Args:
        model: A CrossEncoder, a folder or a Hub id; so is `baseline`.
        data: A prepared folder, of which the test queries are taken, or a folder in BEIR's form.
        runs: Where the retriever's ranking is kept.
        run: The user's own candidates, in TREC's form, instead of the retriever's.
        max_length: Tokens of a pair that both read; as in each model's training by default.
        queries: Only the first so many.
        language: Of the texts, for BM25: an ISO 639 code; that of the prepared folder, or English, by
            default, which texts that look like another language are not taken for.

    Raises:
        ReleaseError: Data, run or a model cannot be read, or do not fit together.
    """
    prepared = prepare.load(data) if (data / "prepared.json").is_file() else None
    folder = data / "test" if prepared else data
    named = language or (prepared.language if prepared else None)
    judged = judged_pairs.from_folder(
        folder, runs, top_k=top_k, queries=queries, retriever=retriever, run=run, language=named or "en"
    )
    if named is None and run is None and retriever == judged_pairs.BM25:
        bm25.check_english((text for pair in judged.pairs for text in pair), str(data))
    first, ours = judged.first_stage_ndcg(), _ndcg(model, judged, max_length)
    comparison = compare(ours, _ndcg(baseline, judged, max_length), first) if baseline is not None else None
    return Evaluated(compare(ours, first, first), comparison, judged.description)


def _ndcg(model: str, judged: JudgedPairs, max_length: int | None) -> np.ndarray:
    reranker = rerankers.load(model, max_length=max_length or models.trained_length(model))
    return judged.ndcg(rerankers.predict_sorted(reranker, judged.pairs))
