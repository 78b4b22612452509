"""One training run of the recipe: what it needs, its folder, its log, and the record of what came out.

`Run` is what recipes/distill.py uses. A run is named by the facts that its weights depend on, so that another encoder,
other data or another learning rate never continues from its checkpoints.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch
from datasets import Dataset
from huggingface_hub import HfApi, try_to_load_from_cache
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from transformers import TrainerCallback
from transformers.integrations import is_codecarbon_available
from transformers.training_args import OptimizerNames

from release import data_manifest, hub_access, records, spec
from release.console import say
from release.data import published
from release.errors import ReleaseError
from release.evaluation.nano_evaluator import ALL, RETRIEVED
from release.family import load
from release.files import resource, sha256_file
from release.results import RUN
from release.results.training import Checkpoint, NanoFigures, Parameters, RunSubject, TrainingRun
from release.revisions import cached_commit, model_revision
from release.runtime.unpadded import NAME as UNPADDED
from release.runtime.unpadded import unpad
from release.start_up import keep
from release.teachers.cross_encoder import incomplete
from release.training.energy import Starts, energy
from release.training.log import LogFile, end_in_one_line, log, start_log
from release.training.rows import check_files, check_rows


@final
class Run:
    """One run: created before anything is loaded, asked before training whether it is finished, told when it is.

    Attributes:
        encoder: Folder or Hub id of the encoder.
        data: Folder or Hub id of the mixture; `data_revision` is its commit on the Hub, None for a folder.
        callbacks: For the trainer: what it reports goes into `<output>/train.log` too.
    """

    def __init__(self, options: argparse.Namespace, *, smoke: bool) -> None:
        """Check everything that can be checked without loading a weight, and start the log.

        Args:
            options: `family`, `size`, `data`, `output` of the recipe's command line.

        Raises:
            ReleaseError: The family file, the size, the encoder, the mixture or an evaluation set is missing or wrong.
        """
        end_in_one_line()
        keep()
        self.family = load(options.family)
        options.family = resource(options.family)  # the page reads it too
        self.size = self.family.size(options.size)
        self.encoder = str(resource(self.size.encoder))
        self.name, self.smoke = options.size, smoke
        self.output = options.output or self.family.folder(options.size)
        start_log(self.output / "train.log")
        mixture = self.family.mixture_folder
        self.data = options.data or (str(mixture) if mixture.is_dir() else self.family.data_id)
        self.data_revision: str | None = None
        if Path(self.data).is_dir():
            check_files(Path(self.data), self.family.data.validation)
        else:
            taken = self.data if self.data == self.family.data.mixture else None
            pinned = taken and (
                self.family.data.mixture_revision or data_manifest.settled(self.family.pairs_folder, taken)
            )
            hint = "make score, or pass --data"
            self.data_revision = _commit("dataset", self.data, "no training data", hint, pinned)
        if not Path(self.encoder).is_dir() and cached_commit(self.encoder) is None:
            hint = f"connect to the Hub; {options.family} names it"
            _commit("model", self.encoder, f"cannot load the encoder {self.encoder!r}", hint)
        if not Path(self.family.evaluation.nano).is_dir():
            _commit("dataset", self.family.evaluation.nano, "no evaluation sets", "make mix, or connect to the Hub")
        self.callbacks: list[TrainerCallback] = [LogFile(), Starts()]

    def begin(
        self,
        model: CrossEncoder,
        args: CrossEncoderTrainingArguments,
        train: Dataset,
        held_out: Dataset | None,
        configs: dict[str, Any],
    ) -> bool:
        """Check the rows and give the run its folder (`args.output_dir`).

        Args:
            train: The training rows, all configs one after the other; `configs` has their splits by name.

        Returns:
            Whether there is something to do: False where the record of this very run is there already.

        Raises:
            ReleaseError: Weights of the encoder are missing, or a row cannot be learnt from; config, row and value are named.
        """
        if what := incomplete(model):
            raise ReleaseError(f"the encoder is not whole: {what}", where=self.encoder, hint="fetch or save it again")
        counts = {name: len(splits["train"]) for name, splits in configs.items()}
        check_rows(train, counts)
        if held_out is not None:
            check_rows(held_out, {self.family.data.validation: len(held_out)}, "validation")
        self._check_published(counts)
        self.rows, self.args = len(train), args
        self.subject = self._subject(model, args, counts)
        folder = Path(str(args.output_dir), _key(self.subject))
        args.output_dir = str(folder)
        args.report_to = ["codecarbon"] if is_codecarbon_available() else []
        args.dataloader_pin_memory = torch.cuda.is_available()
        _remove_cut_off(folder)
        self.resumed_at = max((_step(path) for path in folder.glob("checkpoint-*")), default=0)
        record = self._finished_record()
        if args.world_size > 1:  # the record is read with the model beside it, which the first process removes below
            torch.distributed.barrier()
        if args.process_index > 0:
            return record is None
        if record is not None:
            say(f"finished already, at {record.created}: {self.output / 'records/run.json'}")
            print(verdict(record.measured.score, record.measured.baseline), flush=True)
            return False
        for former in ("model", "best", "last"):  # of another run, or of one that was stopped while it saved
            shutil.rmtree(self.output / former, ignore_errors=True)
        attention, precision = self.subject.attention, self.subject.precision
        log.info("%s pairs, %s, %s, %d process(es)", f"{len(train):,}", precision, attention, args.world_size)
        log.info("continues from step %d", self.resumed_at)
        return True

    def _check_published(self, counts: dict[str, int]) -> None:
        """Stop where a mixture from the Hub has other rows than its declaration knows, as `make score` does."""
        declaration = resource(self.family.data.declaration)
        if self.smoke or self.data != self.family.data.mixture or not declaration.is_file():
            return
        made = {name: {"shards": [{"split": "train", "rows": count}]} for name, count in counts.items()}
        published.check(spec.load(declaration), made)

    def _subject(self, model: CrossEncoder, args: CrossEncoderTrainingArguments, configs: dict[str, int]) -> RunSubject:
        training, evaluation = self.family.training, self.family.evaluation
        encoder: Any = model[0]
        revision, sha256 = loaded_encoder(self.encoder)
        return RunSubject(
            data=self.data,
            data_revision=self.data_revision or _folder_revision(Path(self.data)),
            data_rows=self.rows,
            configs=configs,
            encoder=self.size.encoder,
            encoder_revision=revision,
            encoder_sha256=sha256,
            learning_rate=self.size.learning_rate,
            global_batch_size=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            loss=training.loss,
            epochs=training.epochs,
            warmup=training.warmup,
            evaluations=training.evaluations,
            seed=training.seed,
            nano=evaluation.nano,
            nano_sets=evaluation.nano_sets[: 1 if self.smoke else None],
            always_rerank_positives=evaluation.always_rerank_positives,
            optimizer=OptimizerNames(args.optim).value,
            max_length=encoder.max_seq_length,
            attention=encoder.model.config._attn_implementation,
            precision="bf16" if args.bf16 else "fp32",
            processes=args.world_size,
            per_device_batch_size=args.per_device_train_batch_size,
            smoke=self.smoke,
            teacher=self.family.teacher.model,
            keep_in_fp32_modules=training.keep_in_fp32_modules,
        )

    def _finished_record(self) -> records.Record[TrainingRun, RunSubject] | None:
        """The record of this very run, where the model that it speaks of is beside it."""
        with suppress(ReleaseError):
            record = records.read(self.output / "records", RUN, model_sha256=records.model_hash(self.output / "model"))
            if _key(record.subject) == _key(self.subject):
                return record
        return None

    def record(self, trainer: CrossEncoderTrainer, evaluator: Any) -> None:
        """Measure the saved models once more and write `<output>/records/run.json`."""
        history: list[dict[str, Any]] = list(trainer.state.log_history)
        metric = str(trainer.args.metric_for_best_model)
        baseline, *scores = [
            Checkpoint(entry["step"], entry[metric], entry.get("eval_loss")) for entry in history if metric in entry
        ]
        best = max(scores, key=lambda checkpoint: checkpoint.score)
        last = scores[-1]  # the trainer evaluates after its last step too
        losses = [entry["loss"] for entry in history if "loss" in entry]
        seconds = next(entry["train_runtime"] for entry in reversed(history) if "train_runtime" in entry)
        steps, batch = trainer.state.max_steps, self.subject.global_batch_size
        model: Any = trainer.model
        counts = [sum(weight.numel() for weight in module.parameters()) for module in model]
        measured = TrainingRun(
            steps=steps,
            examples=_examples(trainer),
            seconds=round(seconds, 1),
            resumed_at=self.resumed_at,
            pairs_per_second=_rate((steps - self.resumed_at) * batch, seconds),
            loss_first=losses[0],
            loss_last=losses[-1],
            eval_loss=last.eval_loss,
            baseline=baseline.score,
            checkpoints=tuple(scores),
            best=best,
            last=last,
            nano=tuple(
                NanoFigures(entry["step"], entry[f"eval_{ALL}"], entry[f"eval_{RETRIEVED}"])
                for entry in history
                if metric in entry
            ),
            score=self._measure(self.output / "model", evaluator),
            released="best",
            log_history=tuple(_finite(entry) for entry in history),
            energy=energy(Path(str(self.args.output_dir))),
            parameters=Parameters(encoder=counts[0], head=sum(counts[1:])),
            hyperparameters=_hyperparameters(model),
        )
        records.write(
            records.new(
                RUN,
                family=self.family.about.name,
                size=self.name,
                model_sha256=records.model_hash(self.output / "model"),
                measured=measured,
                subject=self.subject,
                device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            ),
            self.output / "records",
        )

    def _measure(self, folder: Path, evaluator: Any) -> float:
        """The evaluator's score of a saved model, in the precision of the training."""
        model = CrossEncoder(str(folder), device=str(self.args.device))
        if self.subject.attention == UNPADDED:
            unpad(model)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.args.bf16):
            return float(evaluator(model)[evaluator.primary_metric])


def loaded_encoder(encoder: str) -> tuple[str | None, str | None]:
    """The commit of an encoder that has just been loaded (None for a folder), and the sha256 of its weights in one file.

    Asked after the loading: whoever has the Hub loads its newest commit, whatever lay in the cache before.
    """
    folder, commit = Path(encoder), None
    if not folder.is_dir():
        commit = model_revision(encoder)
        folder = Path(str(try_to_load_from_cache(encoder, "config.json", revision=commit))).parent
    weights = folder / "model.safetensors"
    return commit, sha256_file(weights) if weights.is_file() else None


def verdict(score: float, baseline: float) -> str:
    """The recipe's last line."""
    delta = score - baseline
    word = "WIN" if delta >= 0.01 else "MARGINAL" if delta >= 0 else "REGRESSION"
    return f"VERDICT: {word} | score={score:.4f} | baseline={baseline:.4f} | delta={delta:+.4f}"


def _examples(trainer: CrossEncoderTrainer) -> int:
    """Pairs of the whole run. With several processes the trainer drops the last pairs, which not all of them could fill."""
    args, rows, loader = trainer.args, trainer.train_dataset, trainer.callback_handler.train_dataloader
    assert isinstance(rows, Dataset) and loader is not None
    filled = len(loader) * args.per_device_train_batch_size * args.world_size
    return min(len(rows), filled) * int(args.num_train_epochs)


def _hyperparameters(model: Any) -> dict[str, int | float | str | bool | None]:
    """What Sentence Transformers found to differ from its defaults when the training began."""
    changed = model.model_card_data.non_default_hyperparameters
    plain = (int, float, str, bool, type(None))
    return {
        name: value if isinstance(value, plain) else getattr(value, "__name__", type(value).__name__)
        for name, value in sorted(changed.items())
    }


def _finite(entry: dict[str, Any]) -> dict[str, Any]:
    """The numbers of an entry of the trainer's log, with None for NaN and infinity, as a gradient's norm may be."""
    numbers = {key: value for key, value in entry.items() if isinstance(value, int | float)}
    return {key: value if math.isfinite(value) else None for key, value in numbers.items()}


def _rate(pairs: int, seconds: float) -> float | None:
    return round(pairs / seconds, 1) if pairs > 0 else None


def _key(subject: RunSubject) -> str:
    """Twelve digits that name a run, from all facts but how the work was divided."""
    divided = ("processes", "per_device_batch_size", "smoke", "teacher")
    values = {name: value for name, value in asdict(subject).items() if name not in divided}
    if subject.keep_in_fp32_modules == RunSubject.keep_in_fp32_modules:
        del values["keep_in_fp32_modules"]  # as before there was a choice
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _folder_revision(data: Path) -> str:
    """The sha256 of a mixture's manifest or, without one, of its files' names and sizes."""
    if (manifest := data / "manifest.json").is_file():
        return sha256_file(manifest)
    lines = "\n".join(f"{file.relative_to(data)} {file.stat().st_size}" for file in sorted(data.glob("*/*.parquet")))
    return hashlib.sha256(lines.encode()).hexdigest()


def _commit(kind: str, name: str, what: str, hint: str, revision: str | None = None) -> str:
    """The commit of a repository on the Hub at `revision`, or its newest one."""
    try:
        commit = HfApi().repo_info(name, repo_type=kind, revision=revision, timeout=20).sha
    except Exception as error:  # no network, offline mode, no such repository, no access: each has its own type
        reason = " ".join(str(error).split())[:200]
        otherwise = ReleaseError(f"{what} ({type(error).__name__}: {reason})", where=name, hint=hint)
        raise hub_access.refusal(error, name) or otherwise from error
    if commit is None:
        raise ReleaseError(f"{what} (the Hub names no commit)", where=name, hint=hint)
    return commit


def _remove_cut_off(folder: Path) -> None:
    """Remove checkpoints that a crash left half written; the trainer writes their state last."""
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])
