"""The records `run` and `choice`: a training run, and which of its checkpoints is released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from release.results.ranges import Amount, Count, LogEntry, Positive, Sha256, Share, Word

CheckpointName = Literal["best", "last"]


@dataclass(frozen=True)
class Checkpoint:
    """One evaluation during training.

    Attributes:
        step: Optimizer steps made.
        score: Mean NDCG@10 over the family's nano sets, 0 to 1, with the recipe's protocol.
        eval_loss: Loss on the held-out pairs, None where the data has none.
    """

    step: Count
    score: Share
    eval_loss: Amount | None


@dataclass(frozen=True)
class NanoFigures:
    """Both means of NDCG@10 over the nano sets that are published under one name; never compare one with the other.

    Attributes:
        step: Optimizer steps made, 0 before training.
        all_positives: Over every relevant document (`always_rerank_positives` on).
        retrieved_positives: Over those among the candidates, so that the best possible ranking of them counts as 1.
    """

    step: Count
    all_positives: Share
    retrieved_positives: Share


@dataclass(frozen=True)
class EnergyUse:
    """What CodeCarbon measured over all legs of a run: kWh, and kg of CO2."""

    kwh: Amount
    co2_kg: Amount


@dataclass(frozen=True)
class Parameters:
    """Trained weights, counted: of the encoder, and of the head that scores."""

    encoder: Count
    head: Count

    @property
    def total(self) -> int:
        """Of the whole model."""
        return self.encoder + self.head


@dataclass(frozen=True)
class TrainingRun:
    """A finished run.

    Attributes:
        steps: Optimizer steps of the whole run.
        examples: Pairs of the whole run.
        seconds: Wall-clock time of this process, evaluations included.
        resumed_at: The step at which this process began, 0 for a run from the start.
        pairs_per_second: Over this process, evaluations included; None where no step was left to make.
        loss_first, loss_last: The first and the last training loss that was logged.
        eval_loss: That of the last evaluation, None without held-out pairs.
        baseline: The score before the first step.
        checkpoints: Every evaluation after a step, in their order.
        best, last: The evaluation with the highest score, and the last one.
        nano: Both figures of every evaluation, that before the first step included; one of them is the `score`.
        score: Of the released model, measured once more after it was saved.
        released: Which of the two is in `model/`.
        log_history: What the trainer logged, under its own keys; None for what was not finite.
        energy: None where CodeCarbon is not installed, or was killed in one of the starts.
        hyperparameters: Training arguments that differ from Sentence Transformers' defaults, under their own names.
    """

    steps: Count
    examples: Count
    seconds: Amount
    resumed_at: Count
    pairs_per_second: Amount | None
    loss_first: Amount
    loss_last: Amount
    eval_loss: Amount | None
    baseline: Share
    checkpoints: tuple[Checkpoint, ...]
    best: Checkpoint
    last: Checkpoint
    nano: tuple[NanoFigures, ...]
    score: Share
    released: CheckpointName
    log_history: tuple[LogEntry, ...]
    energy: EnergyUse | None
    parameters: Parameters
    hyperparameters: dict[str, int | float | str | bool | None] | None = None

    def checkpoint(self, name: CheckpointName) -> Checkpoint:
        """The best or the last one."""
        return self.best if name == "best" else self.last


@dataclass(frozen=True)
class RunSubject:
    """What a run depends on: data, encoder, hyperparameters and precision.

    Attributes:
        data: Folder or Hub id of the mixture; `data_revision` is its manifest's sha256 or its commit.
        data_rows: Training pairs; `configs` has them by config.
        encoder: Folder or Hub id, as the family file names it.
        encoder_revision: Its commit, None for a folder.
        encoder_sha256: Of its weights, None where they are in several files.
        learning_rate, global_batch_size, loss, epochs, warmup, evaluations, seed: As in the family file.
        nano, nano_sets: The sets of the evaluation during training.
        always_rerank_positives: Whether its score is over all positives or the retrieved ones.
        optimizer: transformers' name.
        max_length: Tokens of a pair that are read.
        attention: transformers' name ("flash_attention_2", a kernel's name on the Hub, "sdpa", "eager"), or "unpadded".
        precision: "bf16" or "fp32", as it was really used.
        processes, per_device_batch_size: Processes, and pairs on each of them at a time.
        smoke: A run on a handful of pairs, for tests of the path.
        teacher: The model that labelled the data.
        keep_in_fp32_modules: What autocast leaves in fp32: the last layer, or nothing, as published.
    """

    data: str
    data_revision: str
    data_rows: Count
    configs: dict[str, Count]
    encoder: Word
    encoder_revision: str | None
    encoder_sha256: Sha256 | None
    learning_rate: Amount
    global_batch_size: Positive
    loss: Literal["mse", "margin-mse"]
    epochs: Positive
    warmup: Share
    evaluations: Positive
    seed: Count
    nano: str
    nano_sets: tuple[str, ...]
    always_rerank_positives: bool
    optimizer: Word
    max_length: Positive
    attention: Word
    precision: Literal["bf16", "fp32"]
    processes: Positive
    per_device_batch_size: Positive
    smoke: bool
    teacher: Word
    keep_in_fp32_modules: tuple[str, ...] = ("4.linear",)


@dataclass(frozen=True)
class Candidate(Checkpoint):
    """A checkpoint that could be released.

    Attributes:
        reranked_ndcg: Mean NDCG@10 over the family's tasks and first stages, None where best and last are one checkpoint.
    """

    reranked_ndcg: Share | None


@dataclass(frozen=True)
class Candidates:
    """The best checkpoint by the evaluation during training, and the last one."""

    best: Candidate
    last: Candidate


@dataclass(frozen=True)
class CheckpointChoice:
    """Which checkpoint is released, and what both score on the family's benchmark."""

    candidates: Candidates
    released: CheckpointName

    def candidate(self, name: CheckpointName) -> Candidate:
        """The best or the last one."""
        return self.candidates.best if name == "best" else self.candidates.last


@dataclass(frozen=True)
class ChoiceSubject:
    """How the candidates were compared; `dtype` is None where best and last are one checkpoint."""

    dtype: str | None
    top_k: Positive
    first_stages: tuple[str, ...]
