"""The training itself: a tenth of the family's learning rate, the best checkpoint by the user's held-out queries, early stop."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from transformers import EarlyStoppingCallback

from release.finetuning import lora, losses
from release.finetuning.measure import DevEvaluator
from release.finetuning.merge import Weights
from release.runtime.precision import has_fast_bf16

METRIC = "eval_dev_ndcg@10"
WORK = ".training-"
MOST_EVALUATIONS = 4  # in an epoch
SMOKE_ROWS, SMOKE_STEPS, SMOKE_QUERIES = 64, 2, 200


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        learning_rate: The highest one, after the warm-up.
        epochs: The most that are made; one without progress on `dev` is the last.
        batch_size: Rows of a step.
        lora: The rank of the matrices that are trained instead of the encoder, None to train all of it.
        smoke: A few steps on a few rows, to test the path.
    """

    loss: losses.LossName
    learning_rate: float
    epochs: int
    batch_size: int
    seed: int = 12
    lora: int | None = None
    smoke: bool = False


@dataclass(frozen=True)
class Trained:
    """What a training made; `weights` are the best checkpoint's, on `dev`."""

    weights: Weights
    best_step: int
    steps: int
    dev_history: tuple[tuple[int, float], ...]
    examples: int
    seconds: float


class EarlyStop(EarlyStoppingCallback):
    """The library's, without its warning: the best weights are kept by the evaluator, not on the disk by the trainer."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Nothing to warn of."""


def train(model: CrossEncoder, rows: Path, work: Path, dev: DevEvaluator, options: TrainingOptions) -> Trained:
    """Train `model` in place; what counts is the best checkpoint's weights, by `dev`.

    Args:
        rows: The prepared train.parquet.
        work: Where the rows lie, in another form, as long as they are used.

    Raises:
        ReleaseError: The rows do not fit the loss.
    """
    if options.lora:
        lora.add(model, options.lora, options.seed)
    for left in work.glob(f"{WORK}*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=WORK, dir=work) as folder:
        table = Dataset.from_parquet(str(rows), cache_dir=folder)
        assert isinstance(table, Dataset)
        table = few_rows(table) if options.smoke else table
        loss, table, sampler = losses.build(options.loss, model, table, options.seed, Path(folder))
        often = evaluations(len(table) * losses.pairs_of_a_row(table), len(dev.dev.judged.pairs))
        trainer = CrossEncoderTrainer(
            model,
            _arguments(options, folder, sampler, 1 if options.smoke else share_of_steps(options.epochs * often)),
            train_dataset=table,
            loss=loss,
            evaluator=dev,
            callbacks=[EarlyStop(often)],
        )
        started = time.monotonic()
        trainer.train()
    seconds = round(time.monotonic() - started, 1)
    return Trained(dev.best, dev.best_step, trainer.state.global_step, tuple(dev.history), len(table), seconds)


def few_rows(table: Dataset) -> Dataset:
    """Rows of a few queries, of ones with different labels where there are such: wherever in the table they are."""
    column = table.data.column("query")
    some = pc.is_in(column, value_set=column.slice(0, 5 * SMOKE_QUERIES).unique().slice(0, SMOKE_QUERIES))
    rows = np.flatnonzero(some.to_numpy())
    labelled = table.select(rows).to_pandas()
    assert isinstance(labelled, pd.DataFrame)
    alike = labelled.groupby("query")["label"].transform("nunique") == 1
    order = labelled.assign(alike=alike).reset_index().sort_values(["alike", "query", "index"])["index"].to_numpy()
    return table.select(rows[order[:SMOKE_ROWS]])


def evaluations(train_pairs: int, dev_pairs: int) -> int:
    """How often an epoch is evaluated: for a third of the training's work, as scoring a pair takes a third of it."""
    return min(MOST_EVALUATIONS, max(1, train_pairs // dev_pairs))


def share_of_steps(evaluations: int) -> float:
    """After which share of all steps there is an evaluation; transformers takes 1 for each single step, not for all of them."""
    return 1 / evaluations if evaluations > 1 else 1 - 1e-9


def _arguments(options: TrainingOptions, folder: str, sampler: object, every: float) -> CrossEncoderTrainingArguments:
    return CrossEncoderTrainingArguments(
        output_dir=folder,
        num_train_epochs=options.epochs,
        max_steps=SMOKE_STEPS if options.smoke else -1,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=0.1,  # a share of the steps; then linear decay
        bf16=has_fast_bf16(),
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        batch_sampler=sampler,  # ty: ignore[invalid-argument-type]
        eval_strategy="steps",
        save_strategy="no",
        eval_steps=every,
        metric_for_best_model=METRIC,
        greater_is_better=True,
        logging_steps=0.05,
        report_to=[],
        disable_tqdm=True,
        seed=options.seed,
    )
