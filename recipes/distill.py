# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "sentence-transformers[train]==6.2.0", "transformers==5.23.0", "datasets==5.2.0", "torch==2.13.0", "numpy",
# ]
#
# [tool.hf-jobs]
# flavor = "h200"
# timeout = "3d"
# secrets = ["HF_TOKEN"]
# ///
"""Distil a reranker from a teacher's scores: MSE on raw logits, one page for every size of a family.

    python recipes/distill.py --family recipes/ettin.toml --size 17m
    torchrun --nproc_per_node=8 recipes/distill.py --size 17m
    SMOKE_TEST=1 python recipes/distill.py --family recipes/demo.toml --size mini

`main`, `build_model` and `training_arguments` are the recipe, 150 lines; what follows them finds data, resumes, records.
Only encoder, learning rate and batch differ between the sizes of a family; the family file holds them all. `loss = "mse"`
is the published recipe, "margin-mse" learns the differences between a query's documents instead of each score. Run again
after a stop, and training goes on from the last checkpoint. Copied elsewhere it needs its family file, nothing else;
`unpadded.py` beside it lets machines without flash-attn train without padding too. Last line: `VERDICT: ...`.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import logging
import math
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.append(str(Path(__file__).resolve().parent.parent))  # the project, for as long as this page lies in it

import fsspec
import numpy as np
import pandas as pd
import torch
from datasets import Dataset, concatenate_datasets, get_dataset_config_names, load_dataset
from huggingface_hub import HfApi, try_to_load_from_cache
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.cross_encoder import CrossEncoderModelCardData, CrossEncoderTrainer
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments as TrainingArguments
from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator, nano_beir
from sentence_transformers.cross_encoder.losses import MSELoss
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from sentence_transformers.util import batch_to_device
from transformers import TrainerCallback, set_seed
from transformers.integrations import is_codecarbon_available
from transformers.utils import is_flash_attn_2_available

METRIC = "NanoBEIR_R100_mean_ndcg@10"
log = logging.getLogger("distill")


def main() -> None:
    # 1. The facts: family file, size, and what each process takes of a batch
    options = arguments()
    family = read_family(options.family, options.size)
    size, training, evaluation = family["sizes"][options.size], family["training"], family["evaluation"]
    if training["loss"] not in LOSSES:
        stop(f"unknown loss {training['loss']!r}", options.family, f"[training] loss is one of {', '.join(LOSSES)}")
    world, first = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0") == "0"
    if smoke := os.environ.get("SMOKE_TEST") == "1":  # the same path on a handful of pairs
        size["global_batch_size"], training["evaluations"] = 8 * world, 1
        del evaluation["nano_sets"][1:]
    batch = size["global_batch_size"]
    micro = options.micro_batch or max(1, batch // world)
    if batch % (world * micro):
        what = f"the global batch of {batch} does not divide by {world} processes x {micro} pairs"
        stop(what, options.family, "use a divisor of it")
    build = Path("build", family["family"]["name"])
    output = options.output or build / options.size
    output.mkdir(parents=True, exist_ok=True)
    start_logs(output / "train.log", first)

    # 2. The data: every config of the mixture, and a held-out split for the evaluation loss
    published = f"{family['family']['organization']}/{family['data']['repository']}"
    data = options.data or (str(build / "data/mixture") if (build / "data/mixture").is_dir() else published)
    train, held_out, subject = load_mixture(data, family["data"]["validation"], smoke)
    steps = training["epochs"] * (len(train) // batch if world > 1 else math.ceil(len(train) / batch))

    # 3. The model: the encoder in single precision with the head that scores; and what judges it
    set_seed(training["seed"])
    flash = torch.cuda.is_available() and is_flash_attn_2_available()
    with needed(f"cannot load the encoder {size['encoder']!r}", options.family, "connect to the Hub, or name a folder"):
        model = build_model(size["encoder"], training["max_length"], "flash_attention_2" if flash else "sdpa")
    attention, precision = without_padding(model), training["precision"] if has_fast_bf16() else "fp32"
    with needed("cannot load the evaluation sets", evaluation["nano"], "make score, or connect to the Hub"):
        evaluator = NanoBEIR(evaluation["nano"], evaluation["nano_sets"], precision)

    # 4. The run: its facts name it, so that another encoder, other data or another rate is another run
    local = Path(size["encoder"], "config.json")  # or what the Hub's cache has held since step 3
    encoder = local if local.is_file() else Path(str(try_to_load_from_cache(size["encoder"], "config.json")))
    weights = encoder.with_name("model.safetensors")
    subject |= size | {key: training[key] for key in ("loss", "epochs", "warmup", "evaluations", "seed")}
    subject |= {"nano": evaluation["nano"], "nano_sets": evaluation["nano_sets"], "max_length": model.max_seq_length}
    subject |= {"attention": attention, "precision": precision}
    subject["encoder_revision"] = None if encoder == local else encoder.parent.name
    subject["encoder_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None
    name = hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()[:12]
    checkpoints = output / "checkpoints" / name

    # 5. Training: the baseline before any step, or on from the last whole checkpoint
    resume = last_whole_checkpoint(checkpoints)
    args = training_arguments(training, size, world, micro, steps, precision, checkpoints)
    args.eval_on_start = resume is None
    loss = LOSSES[training["loss"]][0](model)
    kwargs: dict[str, Any] = {"loss": loss, "evaluator": evaluator, "callbacks": [LogFile()]}
    trainer = CrossEncoderTrainer(model, args, train, held_out, **kwargs)
    log.info("%d steps of %d pairs on %d process(es), %s, %s", steps, batch, world, precision, attention)
    log.info("going on from %s", resume or "the baseline")
    seconds = trainer.train(resume_from_checkpoint=resume).metrics["train_runtime"]
    if not first:
        return

    # 6. The models: the best checkpoint as people will load it, and the last one beside it where that is another
    history = trainer.state.log_history
    baseline, *scores = [
        {"step": entry["step"], "score": entry[f"eval_{METRIC}"], "eval_loss": entry.get("eval_loss")}
        for entry in history
        if f"eval_{METRIC}" in entry
    ]
    best, last = max(scores, key=lambda entry: entry["score"]), scores[-1]
    (output / "records/run.json").unlink(missing_ok=True)  # until this run has written its own, no model counts
    for former in ("model", "best", "last"):
        shutil.rmtree(output / former, ignore_errors=True)
    model.save_pretrained(str(output / "model"))
    if last["step"] != best["step"]:
        other = CrossEncoder(str(checkpoints / f"checkpoint-{last['step']}"), device="cpu")
        other.save_pretrained(str(output / "last"))
    saved = CrossEncoder(str(output / "model"), device=str(model.device))
    without_padding(saved)
    score = evaluator(saved)[METRIC]

    # 7. The record, and one line for programs and for people in a hurry
    losses = [entry["loss"] for entry in history if "loss" in entry]
    resumed_at = int(resume.rsplit("-", 1)[1]) if resume else 0
    counts = [sum(weight.numel() for weight in module.parameters()) for module in model]
    measured: dict[str, Any] = {"steps": steps, "examples": min(len(train) * training["epochs"], steps * batch)}
    measured |= {"seconds": round(seconds, 1), "resumed_at": resumed_at}  # of this process, evaluations included
    measured["pairs_per_second"] = round((steps - resumed_at) * batch / seconds, 1) if steps > resumed_at else None
    measured |= {"loss_first": losses[0], "loss_last": losses[-1], "eval_loss": last["eval_loss"]}
    measured |= {"baseline": baseline["score"], "checkpoints": scores, "best": best, "last": last, "score": score}
    measured |= {"released": "best", "log_history": history, "energy": energy(checkpoints / "emissions.csv")}
    measured["parameters"] = {"encoder": counts[0], "head": sum(counts[1:])}
    subject |= {"processes": world, "micro_batch": micro, "smoke": smoke, "teacher": family["teacher"]["model"]}
    write_record(output, family["family"]["name"], options.size, measured, subject)
    delta = score - float(measured["baseline"])
    word = "REGRESSION" if delta < 0 else "MARGINAL" if delta < 0.01 else "WIN"
    verdict = f"VERDICT: {word} | score={score:.4f} | baseline={baseline['score']:.4f} | delta={delta:+.4f}"
    log.debug(verdict)
    print(verdict, flush=True)


def build_model(encoder: str, max_length: int, attention: str = "sdpa", device: str | None = None) -> CrossEncoder:
    """Encoder, CLS pooling, dense with GELU, norm, and a score without activation, in single precision."""
    transformer = Transformer(
        encoder,
        model_kwargs={"dtype": torch.float32, "attn_implementation": attention},  # whatever it was stored in
        processor_kwargs={"model_max_length": max_length},
    )
    transformer.max_seq_length = min(max_length, transformer.model.config.max_position_embeddings)
    width = transformer.get_embedding_dimension()
    return CrossEncoder(
        modules=[
            transformer,
            Pooling(width, pooling_mode="cls"),
            Dense(width, width, bias=False, activation_function=torch.nn.GELU()),
            LayerNorm(width),
            Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
        ],
        activation_fn=torch.nn.Identity(),  # one label would get a sigmoid
        keep_in_fp32_modules=["4.linear"],  # half-precision scores tie
        model_card_data=CrossEncoderModelCardData(local_files_only=True, generate_widget_examples=False),
        device=device,
    )


def training_arguments(
    training: dict[str, Any], size: dict[str, Any], world: int, micro: int, steps: int, precision: str, folder: Path
) -> TrainingArguments:
    """The published recipe as the trainer reads it; `micro` pairs on each of `world` devices at a time."""
    cuda, interval = torch.cuda.is_available(), math.ceil(steps / training["evaluations"])
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=training["epochs"],
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=size["global_batch_size"] // (world * micro),
        per_device_eval_batch_size=min(micro, 64),
        learning_rate=size["learning_rate"],
        warmup_steps=training["warmup"],  # below one it is a share of the steps
        lr_scheduler_type="linear",
        bf16=precision == "bf16",
        use_cpu=not cuda,
        batch_sampler=LOSSES[training["loss"]][1],
        dataloader_drop_last=world > 1,
        dataloader_pin_memory=cuda,
        eval_strategy="steps",
        eval_steps=interval,
        save_steps=interval,
        save_total_limit=training["checkpoints"],
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{METRIC}",
        logging_steps=max(1, steps // 100),
        logging_first_step=True,
        seed=training["seed"],
        report_to="codecarbon" if is_codecarbon_available() else "none",
    )


class ShuffledBatches(DefaultBatchSampler):
    """Rows in a seeded random order, four bytes each (torch's RandomSampler makes a Python list of them)."""

    def order(self, draw: np.random.Generator) -> np.ndarray:
        order = np.arange(len(self.sampler), dtype=np.uint32)  # ty: ignore[invalid-argument-type]
        draw.shuffle(order)
        return order

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order(np.random.default_rng([self.seed, self.epoch]))
        for first in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[first : first + self.batch_size].tolist()


class QueriesTogether(ShuffledBatches):
    """Queries in a seeded random order, all rows of one behind each other; 24 bytes a row while they are sorted."""

    def order(self, draw: np.random.Generator) -> np.ndarray:
        texts = self.sampler.select_columns("query").with_format("numpy")  # ty: ignore[unresolved-attribute]
        hashes = [pd.util.hash_array(part["query"].astype(object)) for part in texts.iter(100_000)]
        odd = draw.integers(2**63, dtype=np.uint64) * np.uint64(2) + np.uint64(1)  # times it, hashes sort anew
        order = np.argsort(queries := np.concatenate(hashes) * odd, kind="stable").astype(np.uint32)
        if not (np.diff(queries[order]) == 0).any():
            stop("no query has two documents, so margin-mse has nothing to learn", "the data", 'take loss = "mse"')
        return order


class MarginMSE(MSELoss):
    """Squared error of the differences between the scores of a query: what all of them share, their level, is free."""

    def forward(self, inputs: list[list[str]], labels: torch.Tensor, **prompts: Any) -> torch.Tensor:
        pairs = self.model.preprocess(list(zip(*inputs, strict=True)), **prompts)
        scores = self.model(batch_to_device(pairs, labels.device))["scores"]
        errors = scores.view(-1).float() - labels.view(-1).float()
        number = torch.from_numpy(np.unique(inputs[0], return_inverse=True)[1]).to(labels.device)
        same = (number[:, None] == number).float()
        # The mean over all pairs of a query's documents, and over their order, is twice the variance.
        return 2 * (errors - (same * errors).sum(1) / same.sum(1)).square().mean()


LOSSES = {"mse": (MSELoss, ShuffledBatches), "margin-mse": (MarginMSE, QueriesTogether)}


class NanoBEIR(CrossEncoderNanoBEIREvaluator):
    """NanoBEIR over the sets of a family, its own ones included, in the precision of the training."""

    def __init__(self, dataset_id: str, sets: list[str], precision: str) -> None:
        names = {name.removeprefix("Nano").lower(): name.removeprefix("Nano") for name in sets}
        nano_beir.DATASET_NAME_TO_HUMAN_READABLE.update(names)  # the evaluator knows no other sets than these
        self.half = precision == "bf16"
        super().__init__(list(names), dataset_id, always_rerank_positives=False, batch_size=64)

    def __call__(self, model: CrossEncoder, *args: Any, **kwargs: Any) -> dict[str, float]:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.half):
            return super().__call__(model, *args, **kwargs)


class LogFile(TrainerCallback):
    """What the trainer reports goes into the log file too."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        log.debug("step %d %s", state.global_step, logs)


def has_fast_bf16() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware."""
    found = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def without_padding(model: CrossEncoder) -> str:
    """Switch padding off where flash-attn does not do so already; the name of the attention that is used."""
    transformer: Any = model[0]
    if not transformer.can_flatten_inputs and (module := optional("release.runtime.unpadded") or optional("unpadded")):
        module.unpad(model)
    return transformer.model.config._attn_implementation


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = str(Path(__file__).with_name("ettin.toml"))
    parser.add_argument("--family", default=here, help="TOML file: a path, or hf://datasets/ORG/NAME/FILE")
    parser.add_argument("--size", required=True, help="one of the family's sizes")
    parser.add_argument("--data", help="a dataset on the Hub, or a folder CONFIG/{train,validation}-*.parquet")
    parser.add_argument("--output", type=Path, help="default: build/FAMILY/SIZE")
    parser.add_argument("--micro-batch", type=int, help="pairs per device and pass; more passes make up one step")
    return parser.parse_args()


def read_family(place: str | Path, size: str) -> dict[str, Any]:
    """The family file, from a disk or a Hub: the project's own reader checks all of it, this one its tables."""
    with (
        needed("no family file", place, "pass --family with a path, or with hf://datasets/ORG/NAME/FILE"),
        fsspec.open(place, "rt", encoding="utf-8") as stream,
    ):
        text = stream.read()
    with needed("not a family file", place, "compare it with recipes/ettin.toml"):
        family = tomllib.loads(text)
        [family[table] for table in ("family", "teacher", "data", "training", "evaluation", "sizes")]
    if size not in family["sizes"]:
        stop(f"unknown size {size!r}", place, f"--size is one of {', '.join(family['sizes'])}")
    return family


def load_mixture(data: str, validation: str, smoke: bool) -> tuple[Dataset, Dataset | None, dict[str, Any]]:
    """Every config of a local folder or of a dataset on the Hub as one memory-mapped table; for smoke, a few of its pairs.

    Returns: training pairs, pairs for the evaluation loss (None where there are none), and the facts for the record.
    """
    folder, columns = Path(data), ["query", "document", "label"]  # their order has a meaning
    with needed("no training data", data, "make score, or pass --data FOLDER_OR_HUB_ID"):
        if folder.is_dir():
            configs = {file.parent.name: {"path": str(file.parent)} for file in folder.glob("*/train-*.parquet")}
            manifest, files = folder / "manifest.json", sorted(folder.glob("*/*.parquet"))
            listed = "\n".join(f"{file} {file.stat().st_size}" for file in files).encode()
            revision = hashlib.sha256(manifest.read_bytes() if manifest.is_file() else listed).hexdigest()
        else:
            revision = HfApi().dataset_info(data).sha
            names = get_dataset_config_names(data, revision=revision)
            names = [name for name in names if name != "default"] or names  # that is what holds all others once more
            configs = {name: {"path": data, "name": name, "revision": revision} for name in names}
        wanted = sorted(configs)[: 1 if smoke else None]
        tables: dict[str, Any] = {name: load_dataset(**configs[name]) for name in wanted}  # ty: ignore
        for name, splits in tables.items():
            if missing := set(columns) - set(splits["train"].column_names):
                stop(f"no column {', '.join(sorted(missing))}", f"{data}, {name}", f"its columns must be {columns}")
        train = concatenate_datasets([splits["train"].select_columns(columns) for splits in tables.values()])
    if smoke:  # 64 rows of as few queries as can be, for what is learnt within a query
        train = train.select(range(min(len(train), 10_000)))
        train = train.select(np.unique(train["query"], return_inverse=True)[1].argsort(kind="stable")[:64])
    held_out = None if smoke else tables.get(validation, {}).get("validation")
    rows = {name: len(splits["train"]) for name, splits in tables.items()}
    facts = {"data": data, "data_revision": revision, "data_rows": len(train), "configs": rows}
    return train, held_out and held_out.select_columns(columns), facts


def start_logs(file: Path, first: bool) -> None:
    """Our own words to the terminal and, with everything the trainer reports, to a file; libraries stay quiet."""
    for name in ("httpx", "filelock", "fsspec", "urllib3", "huggingface_hub", "codecarbon"):
        logging.getLogger(name).setLevel(logging.ERROR)
    log.handlers = [logging.StreamHandler(), logging.FileHandler(file)]
    log.handlers[0].setLevel(logging.INFO)
    log.setLevel(logging.DEBUG if first else logging.ERROR)


def last_whole_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that was written to its end; one cut off by a crash is removed. Its state comes last."""
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        with suppress(OSError, ValueError):
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            return str(checkpoint)
        shutil.rmtree(checkpoint, ignore_errors=True)
    return None


def energy(path: Path) -> dict[str, float] | None:
    """kWh and kg of CO2 that CodeCarbon measured, over all legs of a run that was stopped; None where it is not installed."""
    legs = pd.read_csv(path)[["energy_consumed", "emissions"]].sum() if path.is_file() else None
    return legs if legs is None else {"kwh": float(legs["energy_consumed"]), "co2_kg": float(legs["emissions"])}


def write_record(folder: Path, family: str, size: str, measured: dict[str, Any], subject: dict[str, Any]) -> None:
    """`records/run.json` beside the model: through release.records where it is here, else the same keys by hand."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    about: dict[str, Any] = {"family": family, "size": size, "measured": measured, "subject": subject}
    if records := optional("release.records"):
        kind, adapter = optional("release.results").RUN, optional("pydantic").TypeAdapter
        parts = {"measured": kind.result, "subject": kind.subject}
        about |= {part: adapter(form).validate_python(about[part]) for part, form in parts.items()}
        record = records.new(kind, **about, model_sha256=records.model_hash(folder / "model"), device=device)
        records.write(record, folder / "records")
        return
    about |= {"kind": "run", "model_sha256": "", "commit": "", "command": " ".join(sys.argv)}
    versions = {name: metadata.version(name) for name in ("sentence-transformers", "transformers", "datasets", "torch")}
    about |= {"machine": {"device": device}, "versions": versions}
    about |= {"created": time.strftime("%FT%TZ", time.gmtime())}
    (folder / "records").mkdir(exist_ok=True)
    (folder / "records/run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def optional(name: str) -> Any:
    """A module that lies in the project or beside this page, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@contextmanager
def needed(what: str, where: str | Path, hint: str) -> Generator[None]:
    """Whatever goes wrong in this block ends the run as `stop` does, with the first line of the reason."""
    try:
        yield
    except Exception as error:  # every way in which a disk, a network or a Hub can fail
        stop(f"{what} ({type(error).__name__}: {' '.join(str(error).split())[:200]})", where, hint)


def stop(what: str, where: str | Path, hint: str) -> NoReturn:
    """End with one line for people and exit status 1."""
    raise SystemExit(f"{what}; in {where}; hint: {hint}")


if __name__ == "__main__":
    main()
