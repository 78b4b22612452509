"""The order of the rows: seeded, whole, and by query where the loss needs it."""

from __future__ import annotations

import itertools

import pytest
from datasets import Dataset

from release.errors import ReleaseError
from release.training.samplers import QueriesTogether, ShuffledBatches


def test_batches_are_a_seeded_shuffle_of_every_row() -> None:
    def order(seed: int, drop: bool = False, epoch: int = 0) -> list[list[int]]:
        batches = ShuffledBatches(range(103), batch_size=10, drop_last=drop, seed=seed)  # ty: ignore
        batches.set_epoch(epoch)
        assert len(list(batches)) == len(batches)
        return list(batches)

    assert sorted(row for batch in order(1) for row in batch) == list(range(103))
    assert order(1) == order(1) != order(2)
    assert order(1, epoch=1) != order(1)
    assert order(1, drop=True) == order(1)[:-1]


def test_margin_mse_keeps_the_rows_of_a_query_together() -> None:
    queries = [f"query {row % 13}" for row in range(60)]
    data = Dataset.from_dict({"query": queries, "document": queries, "label": [0.0] * 60})

    def order(seed: int, epoch: int = 0) -> list[int]:
        batches = QueriesTogether(data, batch_size=8, drop_last=False, seed=seed)
        batches.set_epoch(epoch)
        return [row for batch in batches for row in batch]

    assert sorted(order(1)) == list(range(60))
    assert len(list(itertools.groupby(order(1), key=lambda row: queries[row]))) == 13
    assert order(1) == order(1) != order(2)
    assert order(1, epoch=1) != order(1)


def test_queries_with_one_document_each_are_refused() -> None:
    data = Dataset.from_dict({"query": ["a", "b"], "document": ["c", "d"], "label": [0.0, 1.0]})
    with pytest.raises(ReleaseError, match="no query has two documents"):
        list(QueriesTogether(data, batch_size=2, drop_last=False))
