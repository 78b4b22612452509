"""The record `finetune`: a released model before and after it learnt from somebody's own data. NDCG@10 is a share, 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, with_config

from release.results.ranges import STRICT, Amount, Change, Count, Positive, Sha256, Share, Word

Ratio = Annotated[str, Field(pattern=r"^(0|1|0\.\d+)$")]  # a share of the fine-tuned weights, in a name
FEWEST_MEASURED = 10  # queries: of four that get better by chance alone, every resample is a gain


@dataclass(frozen=True)
class PairedComparison:
    """A model against its base on the same queries, paired.

    Attributes:
        score, baseline: Mean NDCG@10 of the model and of its base; `first_stage` that of the first stage's own order.
        delta: `score` - `baseline`, with its 95 % interval from `ci_low` to `ci_high`, by a bootstrap over queries.
        queries: How many there are.
    """

    score: Share
    baseline: Share
    first_stage: Share
    delta: Change
    ci_low: Change
    ci_high: Change
    queries: Count

    @property
    def verdict(self) -> Literal["WIN", "MARGINAL", "REGRESSION"]:
        """WIN only where the whole interval lies above zero, over enough queries; REGRESSION where the mean is lower."""
        if self.ci_low > 0 and self.queries >= FEWEST_MEASURED:
            return "WIN"
        return "REGRESSION" if self.delta < 0 else "MARGINAL"

    @property
    def below_first_stage(self) -> bool:
        """Whether the first stage's own order is better: then a gain over the base does not yet make the model useful."""
        return self.score < self.first_stage

    @property
    def line(self) -> str:
        """The last line of a fine-tuning, for programs and for people in a hurry."""
        return (
            f"VERDICT: {self.verdict} | score={self.score:.4f} | baseline={self.baseline:.4f} | delta={self.delta:+.4f} "
            f"| ci={self.ci_low:+.4f}..{self.ci_high:+.4f}"
        )


@dataclass(frozen=True)
class MergeCandidate:
    """The fine-tuned model (ratio 1), or a merge with this share of it: mean NDCG@10 on `dev` and on the guard set.

    It forgets where it is worse on the guard set than the base, with the whole 95 % interval below zero.
    """

    ratio: Share
    dev: Share
    guard: Share
    forgets: bool


@dataclass(frozen=True)
class ScoredSet:
    """NDCG@10 of every query of one set, each of shape (queries,) and in the same order; of the user's data nothing else.

    Attributes:
        sha256: Of the set: its queries, their candidates, the judgements and the texts.
        first_stage: In the first stage's own order.
        models: By the share of the fine-tuned weights: "0" is the base, "1" the fine-tuned model.
    """

    sha256: Sha256
    first_stage: tuple[Share, ...]
    models: dict[Ratio, tuple[Share, ...]]


@with_config(STRICT)
@dataclass(frozen=True)
class FinetuneScores:
    """What every figure of a fine-tuning is over: records/queries.json. On `test` only the base and what could be released."""

    test: ScoredSet
    dev: ScoredSet
    guard: ScoredSet


@dataclass(frozen=True)
class FinetuneResult:
    """A finished fine-tuning.

    Attributes:
        test: The released candidate on the test queries, looked at once.
        guard: The same on the guard set: what was forgotten.
        tuned: The fine-tuned model without a merge, on the test queries.
        candidates: All that could be released, and the base (ratio 0).
        ratio: That of the released one.
        best_step, steps: The step of the best checkpoint, and the last one that was made.
        dev_history: (step, NDCG@10 on `dev`) of every evaluation, the base's at step 0.
        examples: Rows of the table that was trained on.
        seconds: Of the training with its evaluations.
        parameters: Counted.
        queries_sha256: Of the scores of all queries, which are beside the record as queries.json.
    """

    test: PairedComparison
    guard: PairedComparison
    tuned: PairedComparison
    candidates: tuple[MergeCandidate, ...]
    ratio: Share
    best_step: Count
    steps: Count
    dev_history: tuple[tuple[Count, Share], ...]
    examples: Count
    seconds: Amount
    parameters: Count
    queries_sha256: Sha256


@dataclass(frozen=True)
class FinetuneSubject:
    """What a fine-tuning depends on.

    Attributes:
        base: Hub id or folder of the released model; `base_revision` its commit, None for a folder.
        base_sha256: Over its weights, configuration and tokenizer.
        base_license: What its card names, None where it names none.
        data: The name of the user's file or folder; `data_sha256` is over the training rows.
        labels: What kind they are.
        train, dev, test: Rows to train on, and held-out queries; `test_given` says whether the test set is the user's own.
        left_out: Training rows that repeated a query of the evaluation.
        loss: Its name.
        lora: The rank of LoRA's matrices, None where every weight was trained.
        learning_rate: Of this training; `family_learning_rate` is the base's own, None where nothing names it.
        batch_size: Rows of a step; `epochs` is the most that could be made before an early stop.
        max_length: Tokens of a pair that are read.
        first_stage: What found the candidates of each query ("bm25", or an embedder); of the guard set it is always BM25.
        top_k: Candidates of each query.
        guard: The name of the guard set.
        precision: "bf16" or "fp32", as it was used.
        seed: Of the order of rows.
        smoke: A test of the path, whose numbers mean nothing.
        language: Of the texts, for BM25's stopwords and stemmer: an ISO 639 code.
    """

    base: Word
    base_revision: str | None
    base_sha256: Sha256
    base_license: str | None
    data: str
    data_sha256: Sha256
    labels: Literal["judgements", "scores"]
    train: Count
    dev: Count
    test: Count
    test_given: bool
    left_out: Count
    loss: Literal["margin-mse", "mse", "info-nce", "bce"]
    lora: Positive | None
    learning_rate: Amount
    family_learning_rate: Amount | None
    batch_size: Positive
    epochs: Positive
    max_length: Positive
    first_stage: str
    top_k: Positive
    guard: str
    precision: Literal["bf16", "fp32"]
    seed: Count
    smoke: bool
    language: Word = "en"
