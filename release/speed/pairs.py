"""The text that speed is measured on: natural (query, document) pairs, drawn the same way every time."""

from __future__ import annotations

from typing import Any

import numpy as np

from release import beir, hub_access
from release.errors import ReleaseError
from release.family import Family
from release.local_datasets import named_by_contents
from release.results.speed import LengthBin, TokenLengths

SEED = 12
BIN = 64  # tokens
MOST, REHEARSED = 65_536, 16  # pairs, and in a rehearsal, whose figures nobody reads


def draw(family: Family, count: int) -> list[tuple[str, str]]:
    """At most `count` pairs of a query with its relevant document; a smaller draw is the beginning of a larger one.

    `[speed] pairs` names a collection of the family, or a Hub dataset whose first two columns are the pair.

    Raises:
        ReleaseError: Neither is here.
    """
    source = family.speed.pairs
    folder = family.build / "data" / "collections" / source
    pairs = _from_collection(family) if folder.is_dir() or "/" not in source else _from_hub(source)
    order = np.random.default_rng(SEED).permutation(len(pairs))
    return [pairs[index] for index in order[:count]]


def _from_collection(family: Family) -> list[tuple[str, str]]:
    documents, queries, judgements = beir.judged(family.build / "data" / "collections" / family.speed.pairs)
    return [
        (queries[query], beir.document_text(*documents[name]))
        for query, levels in judgements.items()
        for name, level in levels.items()
        if level > 0 and name in documents
    ]


def _from_hub(source: str) -> list[tuple[str, str]]:
    from datasets import load_dataset

    try:
        with named_by_contents(source) as folder:
            rows = load_dataset(folder, split="train[:200000]")
    except Exception as error:  # datasets, the Hub and the network each raise their own
        raise hub_access.refusal(error, source) or ReleaseError(
            f"the pairs to time are not here and cannot be fetched ({type(error).__name__})",
            where=source,
            hint=f"run where the Hub can be reached, or first `hf download --repo-type dataset {source}`",
        ) from error
    first, second = rows.column_names[:2]
    return list(zip(rows[first], rows[second], strict=True))


def lengths(model: Any, pairs: list[tuple[str, str]], max_length: int) -> TokenLengths:
    """Tokens per pair before anything is cut; `truncated` are those of more than `max_length`."""
    tokens = model.tokenizer([query for query, _ in pairs], [document for _, document in pairs], truncation=False)
    counts = np.array([len(ids) for ids in tokens["input_ids"]])
    return TokenLengths(
        mean=float(counts.mean()),
        median=float(np.median(counts)),
        p95=float(np.quantile(counts, 0.95)),
        max=int(counts.max()),
        truncated=float((counts > max_length).mean()),
        histogram=tuple(
            LengthBin(first=bin * BIN, last=(bin + 1) * BIN - 1, pairs=int(inside))
            for bin, inside in enumerate(np.bincount(counts // BIN))
            if inside
        ),
    )
