"""Fine-tuning on human judgements: NDCG@10 on SciFact's test claims, and on Cranfield what was forgotten.

Optional: both collections are in one folder (--collections: `scifact` with its train claims, and `cranfield`); without them
the benchmark skips with one line. One training gives every row: the base, the fine-tuned model, and its merges with the base; the
released one is what finetune.py would choose, by held-out train claims and with Cranfield as guard set. The last line is JSON.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from release.console import print_json, table
from release.evaluation import judged_pairs
from release.finetuning import lora, merge, prepare, report
from release.finetuning import model as models
from release.finetuning.finetune import RATIOS, FinetuneOptions, choose, training_options
from release.finetuning.measure import DevEvaluator, compare, measure
from release.finetuning.train import train
from release.results.finetuning import MergeCandidate

COLLECTIONS = Path("../shared/data/collections")
BASE = Path("build/docstring-reranker/mini/repo")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collections", type=Path, default=COLLECTIONS)
    parser.add_argument("--base", type=Path, default=BASE, help="a released model")
    parser.add_argument("--negatives", type=int, default=7, help="that BM25 finds for each train claim")
    parser.add_argument("--top-k", type=int, default=judged_pairs.TOP_K)
    parser.add_argument("--epochs", type=int, default=FinetuneOptions.epochs)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--loss", default=None, choices=["info-nce", "bce"])
    parser.add_argument("--lora", type=int)
    parser.add_argument("--minilm", action="store_true", help="measure after MiniLM too")
    options = parser.parse_args(argv)
    folders = {name: options.collections / name for name in ("scifact", "cranfield")}
    if absent := [str(folder) for folder in folders.values() if not folder.is_dir()]:
        print(f"skipped: no collection {absent[0]}")
        return
    if not (options.base / "modules.json").is_file():
        parser.exit(1, f"error: no model; in {options.base}; hint: make demo, or --base FOLDER\n")
    started = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        print_json(run(options, folders, work) | {"cpu_minutes": round((time.process_time() - started) / 60, 1)})


def run(options: argparse.Namespace, folders: dict[str, Path], work: Path) -> dict[str, object]:
    """Train once and measure every share of the result; what the last line holds."""
    about = prepare.prepare(folders["scifact"], work / "data", negatives=options.negatives, drop_leaks=True)
    chosen = FinetuneOptions(
        loss=options.loss, learning_rate=options.learning_rate, lora=options.lora, epochs=options.epochs
    )
    known = models.find(str(options.base))
    training = training_options(chosen, known, about)
    sets = {
        "SciFact, BM25": judged_pairs.from_folder(folders["scifact"], work / "runs", top_k=options.top_k),
        "Cranfield, BM25": judged_pairs.from_folder(folders["cranfield"], work / "runs", top_k=options.top_k),
    }
    if options.minilm:
        sets["SciFact, MiniLM"] = judged_pairs.from_folder(
            folders["scifact"], work / "runs", top_k=options.top_k, retriever=MINILM
        )
    dev = judged_pairs.from_folder(work / "data/dev", work / "runs", top_k=options.top_k)
    model, scorer = models.load(known.folder), models.load(known.folder)
    model[0].max_seq_length = scorer[0].max_seq_length = known.max_length  # ty: ignore[invalid-assignment]
    base_weights = lora.folded(scorer)
    before = {name: measure(scorer, judged) for name, judged in sets.items()}
    made = train(model, work / "data/train.parquet", DevEvaluator(dev, scorer), training)
    rows, by_share, candidates = [], {}, []
    for share in (*RATIOS, 1.0):
        scorer.load_state_dict(merge.blend(base_weights, made.weights, share))
        after = {name: measure(scorer, judged) for name, judged in sets.items()}
        candidates.append(
            MergeCandidate(share, float(measure(scorer, dev).mean()), float(after["Cranfield, BM25"].mean()))
        )
        by_share[share] = {
            name: compare(after[name], before[name], judged.first_stage_ndcg()) for name, judged in sets.items()
        }
    released = choose([MergeCandidate(0.0, 0.0, 0.0), *candidates])
    for share, comparisons in by_share.items():
        for name, one in comparisons.items():
            rows.append([f"{share:g}{' (released)' if share == released else ''}", *report.row(name, one)])
    table("NDCG@10 by the share of the fine-tuned weights", ["share", *report.COLUMNS], rows)
    return {
        "base": str(options.base),
        "train": about.train,
        "dev": about.dev,
        "left_out": about.left_out,
        "loss": training.loss,
        "learning_rate": training.learning_rate,
        "lora": training.lora,
        "best_step": made.best_step,
        "steps": made.steps,
        "training_seconds": made.seconds,
        "released": released,
        "shares": {
            str(share): {name: asdict(one) | {"verdict": one.verdict} for name, one in comparisons.items()}
            for share, comparisons in by_share.items()
        },
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
