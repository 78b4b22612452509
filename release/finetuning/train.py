"""The training itself: a tenth of the family's learning rate, the best checkpoint by the user's held-out queries, early stop."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from transformers import EarlyStoppingCallback

from release.finetuning import losses
from release.finetuning.measure import DevEvaluator
from release.runtime.precision import has_fast_bf16

METRIC = "eval_dev_ndcg@10"
PATIENCE = 3  # evaluations without a better one
SMOKE_ROWS, SMOKE_STEPS = 64, 2


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        learning_rate: The highest one, after the warm-up.
        epochs: The most that are made; evaluations without progress stop earlier.
        evaluations: In each epoch.
        batch_size: Rows of a step.
        smoke: A few steps on a few rows, to test the path.
    """

    loss: losses.LossName
    learning_rate: float
    epochs: int
    batch_size: int
    evaluations: int = 4
    seed: int = 12
    smoke: bool = False


@dataclass(frozen=True)
class Trained:
    """What a training made: the model itself holds the best checkpoint's weights."""

    best_step: int
    steps: int
    dev_history: tuple[tuple[int, float], ...]
    examples: int
    seconds: float


def train(model: CrossEncoder, rows: Path, dev: DevEvaluator, options: TrainingOptions, folder: Path) -> Trained:
    """Train `model` in place; it ends with the weights of the best checkpoint, by `dev`.

    Args:
        rows: The prepared train.parquet.
        folder: Where checkpoints lie meanwhile; it is removed in the end.

    Raises:
        ReleaseError: The rows do not fit the loss.
    """
    table = Dataset.from_parquet(str(rows))
    assert isinstance(table, Dataset)
    if options.smoke:
        table = table.sort("query").select(range(min(len(table), SMOKE_ROWS)))  # of few queries
    loss, table, sampler = losses.build(options.loss, model, table, options.seed)
    trainer = CrossEncoderTrainer(
        model,
        _arguments(options, folder, sampler),
        train_dataset=table,
        loss=loss,
        evaluator=dev,
        callbacks=[EarlyStoppingCallback(PATIENCE)],
    )
    started = time.monotonic()
    try:
        trainer.train()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    history = tuple(
        (int(entry["step"]), float(entry[METRIC])) for entry in trainer.state.log_history if METRIC in entry
    )
    best = max(history[1:], key=lambda one: one[1])[0]  # the first of equal ones, as the trainer chooses
    return Trained(best, trainer.state.global_step, history, len(table), round(time.monotonic() - started, 1))


def _arguments(options: TrainingOptions, folder: Path, sampler: object) -> CrossEncoderTrainingArguments:
    evaluations = options.epochs * options.evaluations
    every = 1 if options.smoke else 1 / evaluations
    return CrossEncoderTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=options.epochs,
        max_steps=SMOKE_STEPS if options.smoke else -1,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=0.1,  # a share of the steps; then linear decay
        bf16=has_fast_bf16(),
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        batch_sampler=sampler,  # ty: ignore[invalid-argument-type]
        eval_on_start=True,
        eval_strategy="steps",
        save_strategy="steps",
        eval_steps=every,
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=METRIC,
        greater_is_better=True,
        logging_steps=0.05,
        report_to=[],
        disable_tqdm=True,
        seed=options.seed,
    )
