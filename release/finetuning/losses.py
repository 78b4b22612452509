"""The losses that fine-tuning knows, what labels each is for, and the table that each trains on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from release.errors import ReleaseError
from release.finetuning.prepare import Prepared
from release.finetuning.survey import text_hash
from release.training.losses import loss_and_sampler
from release.training.samplers import ShuffledBatches

LossName = Literal["margin-mse", "mse", "info-nce", "bce"]
POINTWISE: tuple[LossName, ...] = ("mse", "bce")
CHECKED_ROWS = 100_000  # at a time
NEGATIVES = 4  # of each relevant document at most


@dataclass(frozen=True)
class Loss:
    """A named loss.

    Attributes:
        labels: The kind of labels that it learns from.
        about: When to take it, and what it does to the scale of the scores.
        scaled: Whether labels must lie between 0 and 1.
        rows: Of a step by default; with InfoNCE a relevant document with its negatives.
    """

    labels: Literal["judgements", "scores"]
    about: str
    scaled: bool = False
    rows: int = 32


LOSSES: dict[LossName, Loss] = {
    "margin-mse": Loss(
        "scores", "a teacher's scores, several documents a query; the scale of differences stays the teacher's"
    ),
    "mse": Loss("scores", "a teacher's scores as the model was trained on them; the scale becomes the teacher's"),
    "info-nce": Loss(
        "judgements",
        "relevant against other documents of the query; the scale is free, the order counts",
        rows=8,
    ),
    "bce": Loss(
        "judgements",
        "each pair on its own, relevant or not; scores move to where a sigmoid says the share",
        scaled=True,
    ),
}


class InfoNce(nn.Module):
    """Cross-entropy of a relevant document among documents of less relevance to the same query, over the raw logits.

    All pairs of a batch are one pass of the model. The library's loss of this kind makes one for each column, adds random
    documents of the batch, and takes a sigmoid of the logits, which leaves no gradient where they have a scale of their own.
    """

    def __init__(self, model: CrossEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, inputs: list[list[str]], labels: Tensor | None, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        """The loss, a scalar, of the columns query, positive, negative_1, ...; there are no labels."""
        queries, *columns = inputs
        pairs = [(query, document) for query, *row in zip(queries, *columns, strict=True) for document in row]
        features = self.model.preprocess(pairs, prompt=prompt, task=task)
        scores = self.model(batch_to_device(features, self.model.device))["scores"].view(len(queries), -1).float()
        return nn.functional.cross_entropy(scores, torch.zeros(len(queries), dtype=torch.long, device=scores.device))


def default_loss(prepared: Prepared) -> LossName:
    """MarginMSE for scores, InfoNCE for judgements: both won over pointwise losses on every backbone of arXiv 2603.03010."""
    return "margin-mse" if prepared.labels == "scores" else "info-nce"


def check(name: LossName, prepared: Prepared) -> None:
    """Refuse labels that a loss cannot learn from.

    Raises:
        ReleaseError: The labels are of the other kind, or out of range.
    """
    loss = LOSSES[name]
    fitting = ", ".join(other for other, each in LOSSES.items() if each.labels == prepared.labels)
    if loss.labels != prepared.labels:
        what = f"{name} learns from {loss.labels}, and the labels are {prepared.labels}"
        raise ReleaseError(what, where=prepared.source, hint=f"take one of {fitting}")
    if loss.scaled and not (prepared.lowest >= 0 and prepared.highest <= 1):
        what = f"{name} takes labels from 0 to 1, and these go from {prepared.lowest:g} to {prepared.highest:g}"
        raise ReleaseError(what, where=prepared.source, hint="take info-nce, or judge with 0 and 1")


def check_rows(name: LossName, rows: Path) -> None:
    """Refuse rows of which no query has two documents with different labels, which all losses but the pointwise ones compare.

    Read until the first such query: mostly a few rows, and twelve bytes of each stay in memory.

    Raises:
        ReleaseError: There is none.
    """
    if name in POINTWISE:
        return
    queries, labels = np.empty(0, np.uint64), np.empty(0, np.float32)
    for batch in pq.ParquetFile(rows).iter_batches(CHECKED_ROWS, columns=["query", "label"]):
        texts = batch["query"].to_pylist()
        queries = np.concatenate([queries, np.fromiter(map(text_hash, texts), np.uint64, len(texts))])
        labels = np.concatenate([labels, batch["label"].to_numpy()])
        order = np.argsort(queries, kind="stable")
        same = np.diff(queries[order]) == 0
        if (np.diff(labels[order])[same] != 0).any():
            return
    what = f"no query has two documents with different labels, which {name} compares"
    hint = "give each query several documents, such as with --negatives 7, or take --loss bce"
    if name == "margin-mse":  # found negatives have no score
        hint = "give each query several documents with their scores, or take --loss mse"
    raise ReleaseError(what, where=str(rows), hint=hint)


def build(
    name: LossName, model: CrossEncoder, rows: Dataset, seed: int, folder: Path
) -> tuple[nn.Module, Dataset, type[DefaultBatchSampler]]:
    """The loss over `model`, the table that it trains on, and how its batches are drawn.

    Args:
        folder: For files that must last as long as the training.

    Raises:
        ReleaseError: No row fits the loss.
    """
    if name == "info-nce":
        return InfoNce(model), contrasts(rows, seed, folder), ShuffledBatches
    if name == "bce":
        return BinaryCrossEntropyLoss(model, activation_fn=nn.Identity()), rows, ShuffledBatches
    loss, sampler = loss_and_sampler(name, model)  # margin-mse keeps the rows of a query together
    return loss, rows, sampler


def contrasts(rows: Dataset, seed: int, folder: Path) -> Dataset:
    """One row for each relevant document: query, positive, negative_1, ... with documents of less relevance to the query.

    As many negatives as the query with most of them has, at most `NEGATIVES`; of fewer some stand there again. Eight
    bytes a row and sixteen a query stay in memory, thirty a row while they are sorted; the table is written to `folder`, which
    must last as long as it is used.

    Raises:
        ReleaseError: No query has a document of less relevance.
    """
    queries, labels = _keys(rows)
    order = np.argsort(queries, kind="stable").astype(np.uint32)
    queries = queries[order]
    starts = np.flatnonzero(np.append(True, queries[1:] != queries[:-1]))
    del queries  # of ten million rows every array counts
    ends = np.append(starts[1:], len(order))
    count = min(NEGATIVES, _most_negatives(labels[order], starts, ends))
    if not count:
        what = "no query has both a relevant document and one of less relevance"
        raise ReleaseError(what, where="the prepared data", hint="prepare again with --negatives 7")
    names = ("query", "positive", *(f"negative_{number}" for number in range(1, count + 1)))
    schema = pa.schema({name: pa.string() for name in names})
    path = folder / "contrasts.parquet"
    with pq.ParquetWriter(path, schema) as writer:
        draws = _draw((order[start:end] for start, end in zip(starts, ends, strict=True)), labels, count, seed)
        while drawn := list(islice(draws, 1000)):
            indices = np.array(drawn)  # of the positive and its negatives, (rows of this table, 1 + count)
            texts = rows.with_format("arrow")[indices.ravel()]
            first = np.arange(len(indices)) * indices.shape[1]
            columns = [texts["document"].take(pa.array(first + index)) for index in range(indices.shape[1])]
            writer.write_table(pa.table([texts["query"].take(pa.array(first)), *columns], schema=schema))
    table = Dataset.from_parquet(str(path), cache_dir=str(folder))
    assert isinstance(table, Dataset)
    return table


def pairs_of_a_row(table: Dataset) -> int:
    """How many pairs of a table that `build` gave are scored for one of its rows."""
    return sum(name not in ("query", "label") for name in table.column_names)


def _most_negatives(labels: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> int:
    """The most documents below the best one of a query that has a relevant one; labels lie query by query."""
    best = np.maximum.reduceat(labels, starts)
    below = np.add.reduceat(labels < np.repeat(best, ends - starts), starts, dtype=np.int64)
    return int(below[best > 0].max(initial=0))


def _keys(rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """A number for the query of each row, and its label."""
    queries, labels = np.empty(len(rows), np.uint64), np.empty(len(rows), np.float32)
    start = 0
    for batch in rows.with_format("arrow").iter(1000):
        texts = batch["query"].to_pylist()
        queries[start : start + len(texts)] = [text_hash(text) for text in texts]
        labels[start : start + len(texts)] = batch["label"].to_numpy()
        start += len(texts)
    return queries, labels


def _draw(groups: Iterable[np.ndarray], labels: np.ndarray, count: int, seed: int) -> Iterator[list[int]]:
    """The rows of each relevant document and of `count` negatives; of fewer all, and some of them again."""
    generator = np.random.default_rng(seed)
    for group in groups:
        for positive in group[labels[group] > 0]:
            others = group[labels[group] < labels[positive]]
            if len(others):
                drawn = generator.choice(others, min(count, len(others)), replace=False)
                yield [int(positive), *np.resize(drawn, count).tolist()]
