# /// script
# requires-python = ">=3.11"
# dependencies = ["sentence-transformers[train]==6.2.0", "transformers==5.23.0", "datasets==5.2.0", "torch==2.13.0"]
# [tool.hf-jobs]
# flavor = "h200"
# timeout = "3d"
# secrets = ["HF_TOKEN"]
# ///
"""Distil a reranker from a teacher's scores: MSE on raw logits. It resumes.

[python | torchrun --nproc_per_node=8] recipes/distill.py --size 17m
hf jobs uv run recipes/distill.py --family recipes/ettin.toml --size 17m"""

import os
import signal
import sys
import tomllib
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any


def last_words(kind: type[BaseException], error: BaseException, *_: object) -> None:
    what = f"{'missing' if kind is KeyError else kind.__name__}: {' '.join(str(error).split())[:300]}"
    print(f"error: {what}; in {' '.join(sys.argv)}; hint: the same command goes on once that is right", file=sys.stderr)


if __name__ == "__main__" and not sys.flags.dev_mode:  # one line, no traceback, also while the libraries load
    sys.excepthook, os.environ["HF_HUB_VERBOSITY"] = last_words, "error"  # retries of a Hub that is away are silent
    signal.signal(signal.SIGINT, lambda *_: (last_words(KeyboardInterrupt, Exception("stopped")), os._exit(130)))
import torch
from datasets import Dataset, concatenate_datasets, config, fingerprint, get_dataset_config_names, load_dataset
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator, nano_beir
from sentence_transformers.cross_encoder.losses import MSELoss
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Pooling, Transformer
from transformers import set_seed, utils

try:
    from release import training as project
except ImportError as error:  # copied out of the repository, or a package of it is missing
    project = None if error.name == "release" else sys.exit(f"error: {error}; hint: pip install 'ettin-release[train]'")
    print("without the package release: no MarginMSE, low-memory shuffle, CPU training without padding, checks, record")
RANGES = {"warmup": (0, 0.99), "learning_rate": (1e-12, 1), "max_length": (8, 10**6), "seed": (0, 2**32 - 1)}
RANGES |= {"always_rerank_positives": (False, True)}  # all others: from 1
METRIC = "NanoBEIR_R100_mean_ndcg@10"
SMOKE = os.environ.get("SMOKE_TEST") == "1"


def main() -> None:
    parser = ArgumentParser(usage=SUPPRESS, description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--family", type=Path, default=Path(__file__).with_name("ettin.toml"), help="a TOML file")
    parser.add_argument("--size", required=True, help="one of the family's (SMOKE_TEST=1: on 64 pairs)")
    parser.add_argument("--data", help="dataset on the Hub, or folder CONFIG/{train,validation}-*.parquet")
    parser.add_argument("--output", type=Path, help="default: build/FAMILY/SIZE")
    parser.add_argument("--per-device-batch-size", type=int, help="pairs per pass and device; fewer need less memory")
    new_name = "error: --micro-batch is now called --per-device-batch-size\n"
    parser.add_argument("--micro-batch", type=lambda _: parser.exit(2, new_name), help=SUPPRESS)
    options = parser.parse_args()
    run = project.Run(options, smoke=SMOKE) if project else None
    family = tomllib.loads(options.family.read_text(encoding="utf-8-sig"))
    about, given, training, evaluation, sizes = map(family.pop, ("family", "data", "training", "evaluation", "sizes"))
    size = sizes.get(options.size) or parser.error(f"no size {options.size!r} in {options.family}; hint: {[*sizes]}")
    values = {"always_rerank_positives": False} | vars(options) | evaluation | training | size
    for key in ("epochs", "evaluations", "checkpoints", "global_batch_size", "per_device_batch_size", *RANGES):
        value, (least, most) = values[key], RANGES.get(key, (1, 10**6))  # None is an option left out; nan in no range
        if value is not None and not (type(value) in (type(least), type(most)) and least <= value <= most):
            parser.error(f"{key} = {value!r} cannot be; in {options.family} or the options; hint: {least} to {most}")
    for name, known in (("loss", ["mse"]), ("precision", ["bf16", "fp32"])) if not project else ():
        if training[name] not in known:  # another loss needs the package release
            parser.error(f"{name} = {training[name]!r} cannot be on the page alone; in {options.family}; hint: {known}")
    output = options.output or Path("build", about["name"], options.size)
    key = fingerprint.Hasher.hash([SMOKE, options.data, given, training, evaluation, size])
    folder = output / "checkpoints" / ("" if run else key)  # no run goes on from another's checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    args = training_arguments(training, size, options.per_device_batch_size, folder)
    set_seed(training["seed"])
    # 1. (query, document, label) of every config of the mixture, and a held-out split for the evaluation loss
    data = run.data if run else options.data or given.get("mixture", f"{about['organization']}/{given['repository']}")
    commit = run.data_revision if run else None if options.data else given.get("mixture_revision")
    train, held_out, configs = load_mixture(data, commit, given["validation"])
    for batch in () if run else train.with_format("torch", columns=["label"]).iter(10**6):
        if not batch["label"].isfinite().all():
            parser.error(f"a label is no finite number; in {data}; hint: remove that row, or make score")
    # 2. The encoder with a new scoring head
    fp32 = training.get("keep_in_fp32_modules", ["4.linear"])  # [] is the published behaviour
    model = build_model(run.encoder if run else size["encoder"], training["max_length"], fp32)
    # 3. The loss: the student's logit against the teacher's
    loss, sampler = project.loss_and_sampler(training["loss"], model) if project else (MSELoss(model), "batch_sampler")
    # 4. What picks the checkpoint: mean NDCG@10 on NanoBEIR
    names = {name[4:].lower(): name[4:] for name in evaluation["nano_sets"][: 1 if SMOKE else None]}  # NanoNQ -> NQ
    nano_beir.DATASET_NAME_TO_HUMAN_READABLE |= names  # the evaluator knows its own thirteen only
    if not project and Path(evaluation["nano"]).is_dir():  # which the cache of `datasets` would know by its name alone
        config.HF_DATASETS_CACHE /= str(sum(file.stat().st_mtime_ns for file in Path(evaluation["nano"]).rglob("*")))
    kwargs: Any = {"always_rerank_positives": evaluation.get("always_rerank_positives", False), "batch_size": 64}
    evaluator = (project.NanoBEIR if project else CrossEncoderNanoBEIREvaluator)([*names], evaluation["nano"], **kwargs)
    # 5. Train, from the last checkpoint if there is one
    if run and not run.begin(model, args, train, held_out, configs):  # checks every row, sets args.output_dir
        return  # this very run is finished
    whole = Path(str(args.output_dir)).glob("checkpoint-*/trainer_state.json")  # this file is written last
    resume = max((str(file.parent) for file in whole), key=lambda name: int(name.rpartition("-")[2]), default=None)
    if len(train) < (args.train_batch_size * args.world_size if args.dataloader_drop_last else 1):
        parser.error(f"{len(train)} pairs are less than a step; in {data}; hint: more of them, or a smaller batch")
    args.batch_sampler, args.eval_on_start = sampler, resume is None  # the baseline
    trainer = CrossEncoderTrainer(model, args, train, held_out, loss, evaluator, callbacks=run and run.callbacks)
    trainer.train(resume_from_checkpoint=resume)
    if not trainer.is_world_process_zero():
        return
    # 6. Save the best checkpoint and, where that is another, the last one (MTEB decides which is released); one verdict
    model.save_pretrained(str(output / "model"))
    if (last := trainer.state.global_step) != trainer.state.best_global_step:
        CrossEncoder(f"{args.output_dir}/checkpoint-{last}", device="cpu").save_pretrained(str(output / "last"))
    if run:
        run.record(trainer, evaluator)
    baseline, *scores = [entry[f"eval_{METRIC}"] for entry in trainer.state.log_history if f"eval_{METRIC}" in entry]
    delta = max(scores) - baseline
    word = "WIN" if delta >= 0.01 else "MARGINAL" if delta >= 0 else "REGRESSION"
    print(f"VERDICT: {word} | score={max(scores):.4f} | baseline={baseline:.4f} | delta={delta:+.4f}", flush=True)


def load_mixture(data: str, revision: str | None, validation: str) -> tuple[Dataset, Dataset | None, dict]:
    """Every config of a folder CONFIG/{train,validation}-*.parquet or of a dataset on the Hub ("default" repeats them)."""
    folders = {file.parent.name for file in Path(data).glob("*/train-*.parquet")}
    names = sorted((folders or {*get_dataset_config_names(data, revision=revision)}) - {"default"}) or ["default"]
    paths: Any = {name: [f"{data}/{name}"] if folders else [data, name] for name in names[: 1 if SMOKE else None]}
    columns = ["query", "document", "label"]  # their order has a meaning
    configs = {name: load_dataset(*path, revision=revision).select_columns(columns) for name, path in paths.items()}
    train = concatenate_datasets([splits["train"] for splits in configs.values()])
    train = train.sort("query").select(range(min(len(train), 64))) if SMOKE else train  # of few queries
    own: Any = SMOKE or configs.get(validation) or sys.exit(f"error: validation = {validation!r}; hint: {[*configs]}")
    return train, None if SMOKE else own.get("validation"), configs


def build_model(encoder: str, max_length: int, fp32: Any = ("4.linear",), device: str | None = None) -> CrossEncoder:
    """Encoder and head in fp32 (bf16 is autocast's work); a sigmoid, or bf16 in the last layer, would make scores tie."""
    flash = torch.cuda.is_available() and (utils.is_flash_attn_2_available() or utils.is_kernels_available())
    kwargs = {"dtype": torch.float32, "attn_implementation": "flash_attention_2" if flash else "sdpa"}
    transformer = Transformer(encoder, model_kwargs=kwargs)
    transformer.max_seq_length = min(max_length, transformer.model.config.max_position_embeddings)
    hidden = transformer.get_embedding_dimension()
    head: list[Any] = [Dense(hidden, hidden, bias=False, activation_function=torch.nn.GELU()), LayerNorm(hidden)]
    head += [Dense(hidden, 1, activation_function=torch.nn.Identity(), module_output_name="scores")]
    parts = [transformer, Pooling(hidden, pooling_mode="cls"), *head]
    model = CrossEncoder(modules=parts, activation_fn=torch.nn.Identity(), keep_in_fp32_modules=[*fp32], device=device)
    return project.unpad(model) if project and not flash else model


def training_arguments(recipe: dict, size: dict, per_device: int | None, folder: Path) -> CrossEncoderTrainingArguments:
    """The published hyperparameters. The global batch is divided by the processes, then into passes of `per_device`."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    batch = 8 * world_size if SMOKE else size["global_batch_size"]
    per_device = per_device or max(1, batch // world_size)
    if batch % (per_device * world_size):
        raise SystemExit(f"a global batch of {batch} does not divide by {world_size} processes x {per_device} pairs")
    if world_size == 1 and torch.cuda.device_count() > 1:
        raise SystemExit("one process sees several GPUs; hint: torchrun --nproc_per_node=N, or CUDA_VISIBLE_DEVICES=0")
    every = min(1 / (1 if SMOKE else recipe["evaluations"]), 1 - 1e-9)  # of all steps; 1 itself would be each step
    return CrossEncoderTrainingArguments(
        output_dir=str(folder), seed=recipe["seed"], use_cpu=not torch.cuda.is_available(), optim="adamw_torch", logging_steps=0.01,
        num_train_epochs=recipe["epochs"], learning_rate=size["learning_rate"], warmup_steps=recipe["warmup"],
        per_device_train_batch_size=per_device, gradient_accumulation_steps=batch // (per_device * world_size),
        bf16={"bf16": project.has_fast_bf16() if project else torch.cuda.is_available(), "fp32": False}[recipe["precision"]],
        per_device_eval_batch_size=min(per_device, 64), logging_first_step=True, dataloader_drop_last=world_size > 1,
        eval_strategy="steps", eval_steps=every, save_steps=every, metric_for_best_model=f"eval_{METRIC}",
        load_best_model_at_end=True, save_total_limit=max(2, recipe["checkpoints"]), ddp_find_unused_parameters=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
