"""The whole of a fine-tuning in its order: baseline, training, the best checkpoint again, guard, merges, test, record.

The test queries are looked at twice, by the base and by the candidate that `dev` and the guard set chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder

from release import records, results
from release.errors import ReleaseError
from release.evaluation import judged_pairs, paired, queries
from release.export.pairs import PAIRS_FILE, write_pairs
from release.files import atomic_directory, exclusive_lock
from release.finetuning import candidates, guard, lora, losses, merge, prepare
from release.finetuning import model as models
from release.finetuning.candidates import MergeNdcg
from release.finetuning.measure import DevEvaluator, QueryNdcg
from release.finetuning.model import BaseModel
from release.finetuning.train import TrainingOptions, train
from release.records import Record
from release.results.finetuning import FinetuneResult, FinetuneScores, FinetuneSubject
from release.runtime.precision import has_fast_bf16

SMOKE_QUERIES = 10
DEFAULT_EPOCHS = 3
Finetuned = Record[FinetuneResult, FinetuneSubject]


@dataclass(frozen=True)
class FinetuneOptions:
    """What a user may choose; None takes what the base model and the data suggest.

    Attributes:
        loss: One of `losses.LOSSES`.
        learning_rate: A tenth of the base's own by default; with LoRA the base's own.
        lora: The rank of LoRA's matrices; None trains every weight.
        epochs: The most that are made.
        batch_size: Rows of a step; what the loss takes by default.
        max_length: Tokens of a pair that are read, as in the base's training by default.
        retriever: What finds the candidates of each held-out query: "bm25", or an embedder's folder or Hub id.
        top_k: Candidates of each query.
        guard: A folder in BEIR's form, or sets of NanoBEIR's form; the embedded set by default.
        seed: Of the order of rows.
        smoke: A test of the path in a minute, whose numbers mean nothing.
    """

    loss: losses.LossName | None = None
    learning_rate: float | None = None
    lora: int | None = None
    epochs: int = DEFAULT_EPOCHS
    batch_size: int | None = None
    max_length: int | None = None
    retriever: str = judged_pairs.BM25
    top_k: int = judged_pairs.TOP_K
    guard: str | None = None
    seed: int = 12
    smoke: bool = False


def finetune(base: str, data: Path, output: Path, options: FinetuneOptions) -> Finetuned:
    """Fine-tune the released model `base` on a prepared folder; `output` gets model/ and records/finetune.json.

    Raises:
        ReleaseError: The base, the data and the options do not fit together, or the training fails; nothing is half written.
    """
    known, prepared = models.find(base), prepare.load(data)
    training = training_options(options, known, prepared)
    if (output / "model").exists() and not (output / "records/finetune.json").is_file():
        what = "it holds a model that no fine-tuning made"
        raise ReleaseError(what, where=str(output), hint="name another folder: that model would be lost")
    losses.check_rows(training.loss, data / "train.parquet")
    model, scorer = models.load(known.folder), models.load(known.folder)  # one to train, one to measure in float32
    if options.lora:
        lora.check(model, options.lora)
    encoder: Any = scorer[0]
    length = read_length(options, known, encoder.max_seq_length)
    try:
        with exclusive_lock(output):
            return _finetune(known, model, scorer, prepared, data, output, options, training, length)
    except OSError as error:
        what = f"cannot write ({error.strerror or error})"
        raise ReleaseError(what, where=str(output), hint="choose another --output, or free some space") from error


def training_options(options: FinetuneOptions, base: BaseModel, prepared: prepare.Prepared) -> TrainingOptions:
    """What is trained with: the user's choices, and for the others what base and data suggest.

    Raises:
        ReleaseError: The loss cannot learn from the labels, or nothing says which learning rate fits.
    """
    loss = options.loss or losses.default_loss(prepared)
    losses.check(loss, prepared)
    gentler = 1 if options.lora else models.GENTLER
    suggested = base.learning_rate / gentler if base.learning_rate else None
    rate = suggested if options.learning_rate is None else options.learning_rate
    if rate is None:
        hint = "pass --learning-rate, a tenth of the one that the model was trained with (2.4e-5 at 17m parameters)"
        raise ReleaseError("nothing says how the model was trained", where=base.name, hint=hint)
    if not 0 < rate < 1:
        raise ReleaseError(
            f"a learning rate of {rate:g} trains nothing", hint="leave --learning-rate out, or take 1e-5"
        )
    return TrainingOptions(
        loss,
        rate,
        options.epochs,
        options.batch_size or losses.LOSSES[loss].rows,
        seed=options.seed,
        lora=options.lora,
        smoke=options.smoke or prepared.smoke,
    )


def _finetune(
    known: BaseModel,
    model: CrossEncoder,
    scorer: CrossEncoder,
    prepared: prepare.Prepared,
    data: Path,
    output: Path,
    options: FinetuneOptions,
    training: TrainingOptions,
    length: int,
) -> Finetuned:
    sets = JudgedSets(data, output, options, SMOKE_QUERIES if training.smoke else None, prepared.language)
    trained: Any = model[0]
    encoder: Any = scorer[0]
    released_length = encoder.max_seq_length
    trained.max_seq_length = encoder.max_seq_length = length
    base, base_test, base_weights = sets.candidate(scorer), sets.test(scorer), lora.folded(scorer)
    made = train(model, data / "train.parquet", output, DevEvaluator(sets.dev, scorer, base.dev), training)
    measured = candidates.measure(scorer, base_weights, made.weights, sets.dev, sets.guard)
    test = {0.0: base_test, 1.0: sets.test(scorer)}
    dev = paired.scored(sets.dev.judged, {one.ratio: one.dev for one in (base, *measured)})
    guarded = paired.scored(sets.guard.judged, {one.ratio: one.guard for one in (base, *measured)})
    rows = paired.candidates(dev, guarded)
    ratio = paired.choose(rows)
    scorer.load_state_dict(merge.blend(base_weights, made.weights, ratio))
    if ratio not in test:
        test[ratio] = sets.test(scorer)
    scores = FinetuneScores(paired.scored(sets.test.judged, test), dev, guarded)
    encoder.max_seq_length = released_length  # the release reads as much as its base
    with atomic_directory(output / "model") as folder:
        scorer.save_pretrained(str(folder), create_model_card=False)
        write_pairs(output / PAIRS_FILE, sets.test.judged.pairs)
        result = FinetuneResult(
            test=paired.of_share(scores.test, ratio),
            guard=paired.of_share(guarded, ratio),
            tuned=paired.of_share(scores.test, 1.0),
            candidates=rows,
            ratio=ratio,
            best_step=made.best_step,
            steps=made.steps,
            dev_history=made.dev_history,
            examples=made.examples,
            seconds=made.seconds,
            parameters=sum(weight.numel() for weight in scorer.parameters()),
            queries_sha256=queries.write(output / "records", scores),
        )
        record = records.new(
            results.FINETUNE,
            family="",
            model_sha256=records.model_hash(folder),
            measured=result,
            subject=_subject(known, prepared, options, training, sets, length),
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        )
        # Before the model is in its place: a run that is killed in between must not find a model without a record.
        records.write(record, output / "records")
    return record


def read_length(options: FinetuneOptions, base: BaseModel, released: int) -> int:
    """Tokens of a pair that are read in training and measuring; `released` are those that the base reads at most.

    Raises:
        ReleaseError: The base reads fewer than it is told to, or than it was trained with.
    """
    if (requested := options.max_length or base.max_length) and requested > released:
        whose = "--max-length says" if options.max_length else "its training read"
        what = f"it reads {released:,} tokens of a pair at most, and {whose} {requested:,}"
        hint = f"pass a --max-length up to {released:,}, or correct max_seq_length in its sentence_bert_config.json"
        raise ReleaseError(what, where=base.name, hint=hint)
    return requested or min(models.MAX_LENGTH, released)


class JudgedSets:
    """The user's held-out queries, and the guard set."""

    def __init__(
        self, data: Path, output: Path, options: FinetuneOptions, queries: int | None, language: str = "en"
    ) -> None:
        runs, top_k = output / "runs", options.top_k
        self.dev, self.test = (
            QueryNdcg(
                judged_pairs.from_folder(
                    data / name, runs, top_k=top_k, queries=queries, retriever=options.retriever, language=language
                )
            )
            for name in ("dev", "test")
        )
        self.guard = QueryNdcg(guard.load(options.guard, output, top_k=top_k, queries=queries))

    def candidate(self, model: CrossEncoder) -> MergeNdcg:
        """The base, on what the choice rests on: the test queries are left alone."""
        return MergeNdcg(0.0, self.dev(model), self.guard(model))


def _subject(
    base: BaseModel,
    prepared: prepare.Prepared,
    options: FinetuneOptions,
    training: TrainingOptions,
    sets: JudgedSets,
    max_length: int,
) -> FinetuneSubject:
    return FinetuneSubject(
        base=base.name,
        base_revision=base.revision,
        base_sha256=records.model_hash(base.folder),
        base_license=base.license,
        data=prepared.source,
        data_sha256=prepared.sha256,
        labels=prepared.labels,
        train=prepared.train,
        dev=prepared.dev,
        test=prepared.test,
        test_given=prepared.test_given,
        left_out=prepared.left_out,
        loss=training.loss,
        lora=training.lora,
        learning_rate=training.learning_rate,
        family_learning_rate=base.learning_rate,
        batch_size=training.batch_size,
        epochs=training.epochs,
        max_length=max_length,
        first_stage=options.retriever,
        top_k=options.top_k,
        guard=sets.guard.judged.name,
        precision="bf16" if has_fast_bf16() else "fp32",
        seed=training.seed,
        smoke=training.smoke,
        language=prepared.language,
    )
