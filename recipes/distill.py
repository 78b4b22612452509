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
"""Distil a reranker from a teacher's scores: pointwise MSE on raw logits, one page for every size of a family.

    python recipes/distill.py --family recipes/ettin.toml --size 17m
    torchrun --nproc_per_node=8 recipes/distill.py --size 17m
    SMOKE_TEST=1 python recipes/distill.py --family recipes/demo.toml --size mini

Only encoder, learning rate and batch differ between the sizes of a family; the family file holds them all. Run again
after a stop, and training goes on from the last checkpoint. Copied elsewhere it needs its family file, nothing else;
`unpadded.py` beside it lets machines without flash-attn train without padding too. Last line: `VERDICT: ...`.
"""

from __future__ import annotations

import argparse
import csv
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from datasets import Dataset, Value, concatenate_datasets, get_dataset_config_names, load_dataset
from huggingface_hub import HfApi
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.cross_encoder import CrossEncoderModelCardData, CrossEncoderTrainer
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments as TrainingArguments
from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator, nano_beir
from sentence_transformers.cross_encoder.losses import MSELoss
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from sentence_transformers.util.distributed import distributed_evaluation
from transformers import TrainerCallback, set_seed
from transformers.integrations import is_codecarbon_available
from transformers.utils import is_flash_attn_2_available

COLUMNS = ["query", "document", "label"]  # their order has a meaning
METRIC = "NanoBEIR_R100_mean_ndcg@10"
log = logging.getLogger("distill")


def main() -> None:
    options = arguments()

    # 1. The facts: family file, size, where things are and where they go
    family = read_family(options.family, options.size)
    training, size, evaluation = family["training"], family["sizes"][options.size], family["evaluation"]
    world, first = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0") == "0"
    smoke = os.environ.get("SMOKE_TEST") == "1"
    if smoke:  # the same path on a handful of pairs
        size["global_batch_size"], training["evaluations"] = 8 * world, 1
        del evaluation["nano_sets"][1:]
    batch = size["global_batch_size"]
    micro = options.micro_batch or max(1, batch // world)
    if batch % (world * micro):
        parts = f"{world} processes" + (f" x {micro} pairs" if options.micro_batch else "")
        stop(f"the global batch of {batch} does not divide by {parts}", options.family, "use a divisor of it")
    build = Path("build") / family["family"]["name"]
    output = options.output or build / options.size
    start_logs(output, first)

    # 2. The data: every config of the mixture, and a held-out split for the evaluation loss
    local = build / "data/mixture"
    published = f"{family['family']['organization']}/{family['data']['repository']}"
    data = options.data or (str(local) if local.is_dir() else published)
    train, held_out, facts = load_mixture(data, family["data"]["validation"], smoke)
    steps = training["epochs"] * (len(train) // batch if world > 1 else math.ceil(len(train) / batch))
    if not steps:
        stop(f"{len(train)} rows are fewer than one global batch of {batch}", data, "more data, or fewer processes")

    # 3. The model: the encoder in single precision, with the head that scores
    set_seed(training["seed"])
    encoder = find_encoder(options.encoder or size["encoder"], options.family)
    model = build_model(encoder, training["max_length"])
    attention, precision = without_padding(model), training["precision"] if half_precision_is_fast() else "fp32"
    evaluator = NanoBEIR(evaluation["nano"], evaluation["nano_sets"], precision)

    # 4. The run: what all sizes share, and the three facts of this size
    facts |= encoder_facts(encoder, model) | {"attention": attention, "precision": precision}
    facts |= {"learning_rate": size["learning_rate"], "global_batch_size": batch, "max_length": model.max_seq_length}
    facts |= {key: training[key] for key in ("loss", "epochs", "warmup", "evaluations", "seed")}
    facts |= {key: evaluation[key] for key in ("nano", "nano_sets")}
    run = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    checkpoints = output / "checkpoints" / run  # another encoder, other data or another rate is another run
    trainer = CrossEncoderTrainer(
        model=model,
        args=training_arguments(training, size, world, micro, steps, precision, checkpoints),
        train_dataset=train,
        eval_dataset=held_out,
        loss=MSELoss(model),
        evaluator=evaluator,
        callbacks=[LogFile()],
    )

    # 5. The baseline, before any step; then training, from the last whole checkpoint if there is one
    resume, kept = last_whole_checkpoint(checkpoints), checkpoints / "baseline.json"
    log.info("%d steps of %d pairs on %d process(es), %s, %s", steps, batch, world, precision, attention)
    if resume and kept.is_file():
        log.info("going on from %s", resume)
        baseline = json.loads(kept.read_text(encoding="utf-8"))
    else:
        # Not trainer.evaluate(): before train() it leaves the model unwrapped, and processes would not share gradients.
        with distributed_evaluation(model) as mine:
            baseline = evaluator(model)[METRIC] if mine else 0.0
        if first:
            checkpoints.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(baseline), encoding="utf-8")
    begin = time.perf_counter()
    trainer.train(resume_from_checkpoint=resume)
    seconds = time.perf_counter() - begin
    if not first:
        return

    # 6. The models: the best checkpoint as people will load it, and the last one beside it where that is another
    history = trainer.state.log_history
    scores = [
        {"step": entry["step"], "score": entry[f"eval_{METRIC}"], "eval_loss": entry.get("eval_loss")}
        for entry in history
        if f"eval_{METRIC}" in entry
    ]
    best, last = max(scores, key=lambda entry: entry["score"]), scores[-1]
    save_whole(model, output / "model")
    for former in ("best", "last"):
        shutil.rmtree(output / former, ignore_errors=True)
    if last["step"] != best["step"]:
        save_whole(CrossEncoder(str(checkpoints / f"checkpoint-{last['step']}"), device="cpu"), output / "last")
    saved = CrossEncoder(str(output / "model"), device=str(model.device))
    without_padding(saved)
    score = evaluator(saved)[METRIC]

    # 7. The record, and one line for programs and for people in a hurry
    losses = [entry["loss"] for entry in history if "loss" in entry]
    resumed_at = int(resume.rsplit("-", 1)[1]) if resume else 0
    measured = {
        "steps": steps,
        "examples": min(len(train) * training["epochs"], steps * batch),
        "seconds": round(seconds, 1),  # of this process, evaluations included
        "pairs_per_second": round((steps - resumed_at) * batch / seconds, 1) if steps > resumed_at else None,
        "resumed_at": resumed_at,
        "energy": energy(checkpoints / "emissions.csv"),
        "loss_first": losses[0],
        "loss_last": losses[-1],
        "eval_loss": last["eval_loss"],
        "baseline": baseline,
        "best": best,
        "last": last,
        "released": "best",
        "score": score,
        "checkpoints": scores,
        "log_history": history,
        "parameters": {
            "encoder": sum(weight.numel() for weight in model[0].parameters()),
            "head": sum(weight.numel() for module in list(model)[1:] for weight in module.parameters()),
        },
    }
    facts |= {"processes": world, "micro_batch": micro, "smoke": smoke, "teacher": family["teacher"]["model"]}
    write_record(output, family["family"]["name"], options.size, measured, facts)
    delta = score - baseline
    word = "REGRESSION" if delta < 0 else "MARGINAL" if delta < 0.01 else "WIN"
    verdict = f"VERDICT: {word} | score={score:.4f} | baseline={baseline:.4f} | delta={delta:+.4f}"
    log.debug(verdict)
    print(verdict, flush=True)


# --- The recipe -------------------------------------------------------------------------------------------------------


def build_model(encoder: str, max_length: int) -> CrossEncoder:
    """Encoder, CLS pooling, dense with GELU, norm, and a score without activation, in single precision."""
    kwargs: dict[str, Any] = {"dtype": torch.float32}  # an encoder stored in half precision trains in single too
    if torch.cuda.is_available() and is_flash_attn_2_available():
        kwargs["attn_implementation"] = "flash_attention_2"
    try:
        transformer = Transformer(encoder, model_kwargs=kwargs, processor_kwargs={"model_max_length": max_length})
    except (OSError, ValueError) as error:
        what = f"cannot load the encoder {encoder!r} ({str(error).strip().splitlines()[0]})"
        stop(what, "[sizes]", "connect to the Hub, or pass --encoder FOLDER")
    transformer.max_seq_length = min(max_length, transformer.model.config.max_position_embeddings)
    width = transformer.get_embedding_dimension()
    modules = [
        transformer,
        Pooling(width, pooling_mode="cls"),
        Dense(width, width, bias=False, activation_function=torch.nn.GELU()),
        LayerNorm(width),
        Dense(width, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    return CrossEncoder(
        modules=modules,
        activation_fn=torch.nn.Identity(),  # one label would get a sigmoid
        keep_in_fp32_modules=["4.linear"],  # half-precision scores tie
        model_card_data=CrossEncoderModelCardData(local_files_only=True, generate_widget_examples=False),
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
        batch_sampler=ShuffledBatches,
        dataloader_drop_last=world > 1,
        dataloader_pin_memory=cuda,
        eval_strategy="steps",
        eval_steps=interval,
        save_strategy="steps",
        save_steps=interval,
        save_total_limit=training["checkpoints"],
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{METRIC}",
        greater_is_better=True,
        logging_steps=max(1, steps // 100),
        logging_first_step=True,
        seed=training["seed"],
        report_to="codecarbon" if is_codecarbon_available() else "none",
    )


class ShuffledBatches(DefaultBatchSampler):
    """Rows in a seeded random order, four bytes each (torch's RandomSampler makes a Python list of them)."""

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(len(self.sampler), dtype=np.uint32)  # ty: ignore[invalid-argument-type]
        np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        end = len(order) - (len(order) % self.batch_size if self.drop_last else 0)
        for first in range(0, end, self.batch_size):
            yield order[first : first + self.batch_size].tolist()


class NanoBEIR(CrossEncoderNanoBEIREvaluator):
    """NanoBEIR over the sets of a family, its own ones included, in the precision of the training."""

    def __init__(self, dataset_id: str, sets: list[str], precision: str) -> None:
        if Path(dataset_id).parts[0] == "build" and not Path(dataset_id).is_dir():
            stop("no evaluation collection", dataset_id, "make data")
        self.precision = precision
        names = [name.removeprefix("Nano") for name in sets]
        for name in names:  # the evaluator knows its sets by name: tell it about others
            nano_beir.DATASET_NAME_TO_HUMAN_READABLE.setdefault(name.lower(), name)
        super().__init__([name.lower() for name in names], dataset_id, always_rerank_positives=False, batch_size=64)

    def __call__(self, model: CrossEncoder, *args: Any, **kwargs: Any) -> dict[str, float]:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return {name: float(value) for name, value in super().__call__(model, *args, **kwargs).items()}


def without_padding(model: CrossEncoder) -> str:
    """Switch padding off where flash-attn does not do so already; the name of the attention that is used."""
    transformer: Any = model[0]
    if not transformer.can_flatten_inputs:
        sys.path.append(str(Path(__file__).resolve().parent.parent))
        for name in ("release.unpadded", "unpadded"):
            try:
                importlib.import_module(name).unpad(model)
                break
            except ImportError:
                continue
        else:
            log.warning("neither flash-attn nor unpadded.py is here: training with padding, which is slower")
    return transformer.model.config._attn_implementation


def half_precision_is_fast() -> bool:
    """Whether this machine multiplies bfloat16 matrices in hardware."""
    found = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or bool(found.get("amx_bf16") or found.get("avx512_bf16"))


# --- What it reads ----------------------------------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", type=Path, default=Path(__file__).with_name("ettin.toml"), help="its TOML file")
    parser.add_argument("--size", required=True, help="one of the family's sizes")
    parser.add_argument("--data", help="a dataset on the Hub, or a folder CONFIG/{train,validation}-*.parquet")
    parser.add_argument("--output", type=Path, help="default: build/FAMILY/SIZE")
    parser.add_argument("--encoder", help="another encoder than the family's: a Hub id or a folder")
    parser.add_argument("--micro-batch", type=int, help="pairs per device and pass; more passes make up one step")
    return parser.parse_args()


def read_family(path: Path, size: str) -> dict[str, Any]:
    """The family file, which must hold what this page reads (the project's own reader checks all of it)."""
    needed = {
        "family": ["name", "organization"],
        "data": ["repository", "validation"],
        "teacher": ["model"],
        "sizes": [],
    }
    needed |= {"training": ["epochs", "precision", "seed"], "evaluation": ["nano", "nano_sets"]}
    if not path.is_file():
        stop("no family file", path, "pass --family recipes/ettin.toml, or another TOML file of that form")
    try:
        family = tomllib.loads(path.read_text(encoding="utf-8"))
        for table, keys in needed.items():
            [family[table][key] for key in keys]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        stop(f"not a family file ({error})", path, "compare it with recipes/ettin.toml")
    if size not in family["sizes"]:
        stop(f"unknown size {size!r}", path, f"--size is one of {', '.join(family['sizes'])}")
    return family


def load_mixture(data: str, validation: str, smoke: bool) -> tuple[Dataset, Dataset | None, dict[str, Any]]:
    """Every config of a local folder or of a dataset on the Hub as one table, memory-mapped.

    Args:
        smoke: A handful of pairs of the first config, and nothing held out.

    Returns:
        training pairs, pairs for the evaluation loss (None where there are none), and the facts for the record
    """
    folder = Path(data) if Path(data).is_dir() else None
    try:
        configs = sorted({file.parent.name for file in folder.glob("*/train-*.parquet")}) if folder else []
        revision = local_revision(folder) if folder else HfApi().dataset_info(data).sha
        configs = configs if folder else get_dataset_config_names(data, revision=revision)
    except Exception as error:  # every way in which a Hub can be out of reach
        stop(f"no training data ({type(error).__name__})", data, "make data, or pass --data FOLDER_OR_HUB_ID")
    if not configs:
        stop("no training data (no CONFIG/train-*.parquet)", data, "make data, or pass --data FOLDER_OR_HUB_ID")

    def table(config: str, split: str) -> Dataset:
        if folder:
            files = [str(file) for file in sorted((folder / config).glob(f"{split}-*.parquet"))]
            found = load_dataset("parquet", data_files={split: files}, split=split)
        else:
            found = load_dataset(data, config, split=split, revision=revision)
        if missing := set(COLUMNS) - set(found.column_names):
            stop(f"no column {', '.join(sorted(missing))}", f"{data}, {config}", f"its columns must be {COLUMNS}")
        return found.select_columns(COLUMNS).cast_column("label", Value("float32"))

    tables = {config: table(config, "train") for config in (configs[:1] if smoke else configs)}
    train = concatenate_datasets(list(tables.values()))
    has_validation = not folder or any((folder / validation).glob("validation-*.parquet"))
    held_out = table(validation, "validation") if has_validation and not smoke else None
    rows = {config: len(rows) for config, rows in tables.items()}
    train = train.select(range(min(len(train), 64))) if smoke else train
    return train, held_out, {"data": data, "data_revision": revision, "data_rows": len(train), "configs": rows}


def local_revision(folder: Path) -> str:
    """What names the data of a folder: the hash of its manifest, else of its files' names and sizes."""
    if (manifest := folder / "manifest.json").is_file():
        return hashlib.sha256(manifest.read_bytes()).hexdigest()
    files = [f"{file.relative_to(folder)} {file.stat().st_size}" for file in sorted(folder.glob("*/*.parquet"))]
    return hashlib.sha256("\n".join(files).encode()).hexdigest()


def find_encoder(name: str, family_file: Path) -> str:
    """A folder as such, or next to the family file when the recipe was copied; else an id on the Hub."""
    beside = family_file.parent / Path(name).name
    return str(beside) if not Path(name).is_dir() and (beside / "config.json").is_file() else name


def encoder_facts(encoder: str, model: CrossEncoder) -> dict[str, Any]:
    """Which encoder this is: its name, its commit on the Hub, and the hash of its weights where they lie in a folder."""
    transformer: Any = model[0]
    weights = Path(encoder) / "model.safetensors"
    return {
        "encoder": encoder,
        "encoder_revision": getattr(transformer.model.config, "_commit_hash", None),
        "encoder_sha256": hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else None,
    }


# --- What it writes ---------------------------------------------------------------------------------------------------


def start_logs(folder: Path, first: bool) -> None:
    """Our own words to the terminal and, with everything the trainer reports, to `train.log`; libraries stay quiet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("httpx", "filelock", "fsspec", "urllib3", "huggingface_hub", "codecarbon"):
        logging.getLogger(name).setLevel(logging.ERROR)
    log.setLevel(logging.DEBUG if first else logging.ERROR)
    log.handlers = [logging.StreamHandler(), logging.FileHandler(folder / "train.log")]
    log.handlers[0].setLevel(logging.INFO)
    log.handlers[1].setFormatter(logging.Formatter("%(asctime)s %(message)s"))


class LogFile(TrainerCallback):
    """What the trainer reports goes into the log file too."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            log.debug("step %d %s", state.global_step, logs)


def last_whole_checkpoint(folder: Path) -> str | None:
    """The last checkpoint that was written to its end; one cut off by a crash is removed. Its state comes last."""
    whole = None
    for checkpoint in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            whole = str(checkpoint)
        except (OSError, ValueError):
            shutil.rmtree(checkpoint, ignore_errors=True)
    return whole


def save_whole(model: CrossEncoder, folder: Path) -> None:
    """Write the model beside `folder`, then move it there, so that nobody ever sees half a model."""
    new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    model.save_pretrained(str(new))
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def energy(path: Path) -> dict[str, float] | None:
    """kWh and kg of CO2 that CodeCarbon measured, over all legs of a run that was stopped; None where it is not installed."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as stream:
        legs = list(csv.DictReader(stream))
    return {
        "kwh": sum(float(leg["energy_consumed"]) for leg in legs),
        "co2_kg": sum(float(leg["emissions"]) for leg in legs),
    }


def write_record(folder: Path, family: str, size: str, measured: dict[str, Any], subject: dict[str, Any]) -> None:
    """`records/run.json` beside the model: through release.records where it is here, else the same keys by hand."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    try:
        records = importlib.import_module("release.records")
    except ImportError:
        record = {"kind": "run", "family": family, "size": size, "model_sha256": "", "measured": measured}
        record |= {"subject": subject, "machine": {"device": device}, "versions": {"torch": torch.__version__}}
        record |= {"commit": "", "command": " ".join(sys.argv), "created": time.strftime("%FT%TZ", time.gmtime())}
        (folder / "records").mkdir(exist_ok=True)
        (folder / "records/run.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return
    kwargs = {"family": family, "size": size, "model_sha256": records.model_hash(folder / "model"), "device": device}
    records.write(records.new("run", measured=measured, subject=subject, **kwargs), folder / "records")


def stop(what: str, where: str | Path, mend: str) -> NoReturn:
    """End with one line for people and exit status 1."""
    raise SystemExit(f"{what}; in {where}; to mend it: {mend}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("stopped by hand; to mend it: the same command continues from the last checkpoint") from None
    except Exception as error:  # safetensors and torch hide the errno of a full disk
        if "No space left on device" not in str(error):
            raise
        raise SystemExit("the disk is full; to mend it: free some space, then the same command continues") from None
