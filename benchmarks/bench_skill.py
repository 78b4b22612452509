"""The skill's finetune.py against a plain script of Sentence Transformers, on the same prepared data and the same test pairs.

    python -m benchmarks.bench_skill PREPARED... [--base FOLDER]      (`make agent-rehearsal` leaves two such folders)

The plain side is what its documentation leads to: the released model, binary cross-entropy on every labelled pair, one epoch of
batches of 16 at 2e-5 with a tenth of warm-up, the last checkpoint, padded, in float32. What a side measured is kept under
--output, so the same command goes on where it was stopped. The last line is JSON.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from sentence_transformers import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from benchmarks.bench_finetune import BASE, Kept
from release.console import print_json, table
from release.evaluation import judged_pairs
from release.evaluation.paired import compare
from release.finetuning import guard, report
from release.finetuning import model as models
from release.finetuning.finetune import FinetuneOptions, finetune
from release.finetuning.measure import QueryNdcg
from release.results.finetuning import PairedComparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", nargs="+", type=Path, help="folders that prepare.py wrote, of judgements")
    parser.add_argument("--base", default=BASE, help="a released model")
    parser.add_argument("--output", type=Path, default=Path("build/bench-skill"))
    options = parser.parse_args()
    rows, shown = {}, []
    for prepared in options.prepared:
        name = prepared.resolve().parent.name
        cache = Kept(options.output / name)
        for side, run in (("skill", skill), ("plain", plain)):
            row = cache.value(side, partial(run, options.base, prepared, cache.folder))
            rows[f"{name}, {side}"] = row
            for what in ("test", "guard"):
                shown.append(
                    [side, f"{row['cpu_minutes']:.1f}", *report.row(f"{name}: {what}", PairedComparison(**row[what]))]
                )
    table("NDCG@10 of the base and of what was made of it", ["side", "CPU minutes", *report.COLUMNS], shown)
    print_json({"base": options.base, "found": rows, "threads": torch.get_num_threads(), "load": os.getloadavg()[0]})


def skill(base: str, prepared: Path, work: Path) -> dict[str, Any]:
    """finetune.py with its defaults: training, choice and every measurement."""
    started = time.process_time()
    measured = finetune(base, prepared, work / "tuned", FinetuneOptions()).measured
    minutes = (time.process_time() - started) / 60
    return {"cpu_minutes": minutes, "ratio": measured.ratio, "test": vars(measured.test), "guard": vars(measured.guard)}


def plain(base: str, prepared: Path, work: Path) -> dict[str, Any]:
    """The library alone; its minutes are those of the training, without any measurement."""
    started = time.process_time()
    model = CrossEncoder(base, device="cpu", local_files_only=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = CrossEncoderTrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=16,
            learning_rate=2e-5,
            warmup_steps=0.1,
            save_strategy="no",
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        )
        rows = Dataset(pq.read_table(prepared / "train.parquet"))
        CrossEncoderTrainer(model, arguments, train_dataset=rows, loss=BinaryCrossEntropyLoss(model)).train()
        minutes = (time.process_time() - started) / 60
        model.save_pretrained(f"{folder}/model", create_model_card=False)
        known = models.find(base)
        before, after = models.load(known.folder), models.load(Path(folder, "model"))
    before[0].max_seq_length = after[0].max_seq_length = known.max_length  # ty: ignore[invalid-assignment]
    sets = {
        "test": judged_pairs.from_folder(prepared / "test", work / "runs"),
        "guard": guard.load(None, work, top_k=20),
    }
    row: dict[str, Any] = {"cpu_minutes": minutes}
    for name, judged in sets.items():
        ndcg = QueryNdcg(judged)
        row[name] = vars(compare(ndcg(after), ndcg(before), judged.first_stage_ndcg()))
    return row


if __name__ == "__main__":
    main()
