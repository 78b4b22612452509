"""The order of the rows: seeded, whole, and by query where the loss needs it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import MSELoss
from torch.utils.data import RandomSampler

from recipes.distill import build_model
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


def test_rows_come_in_the_order_of_the_trainers_own_sampler(encoder: Path, tmp_path: Path) -> None:
    model = build_model(str(encoder), 64, device="cpu")
    rows = Dataset.from_dict({"query": [str(row) for row in range(103)], "document": ["a"] * 103, "label": [0.0] * 103})

    def orders(sampler: Any) -> list[list[str]]:
        args = CrossEncoderTrainingArguments(
            str(tmp_path), per_device_train_batch_size=10, seed=12, use_cpu=True, batch_sampler=sampler
        )
        loader: Any = CrossEncoderTrainer(model, args, rows, loss=MSELoss(model)).get_train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.set_epoch(epoch)
            epochs.append([query for batch in loader for query in batch["query"]])
        return epochs

    ours = orders(ShuffledBatches)
    assert ours == orders("batch_sampler") and ours[0] != ours[1]
    sampler = RandomSampler(range(103), generator=torch.Generator().manual_seed(12))
    assert ours[0] == [str(row) for row in sampler]


def test_the_order_of_many_rows_takes_four_bytes_for_each() -> None:
    batches = ShuffledBatches(range(1_000_000), batch_size=10, drop_last=False, seed=12)  # ty: ignore
    order = batches.order()
    assert order.nbytes == 4_000_000
    assert order.tolist() == list(RandomSampler(range(1_000_000), generator=torch.Generator().manual_seed(12)))


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
