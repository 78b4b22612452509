"""A reranker of MiniLM's size for benchmarks: all-MiniLM-L6-v2 distilled for some CPU minutes on the demo's mixture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.bench_quality import ENCODERS, VARIANTS, Pool, train
from release.files import atomic_directory, write_json
from release.teachers.minilm import minilm_folder

MIXTURE = Path("build/docstring-reranker/data/mixture/docstrings")
MINUTES = 10  # CPU minutes of one thread: MiniLM is slow on a CPU


def make(folder: Path, minutes: float = MINUTES, mixture: Path = MIXTURE) -> Path:
    """The released form of the reranker in `folder`, with a record of its training; made once."""
    if not (folder / "records/run.json").is_file():
        torch.set_num_threads(1)  # CPU seconds of one thread are the budget
        start = ENCODERS["minilm"]
        model, about = train(pool(mixture), VARIANTS["margin-mse"], str(minilm_folder()), start, minutes)
        with atomic_directory(folder) as made:
            model.save_pretrained(str(made), create_model_card=False)
            subject = {"learning_rate": start.rate, "max_length": start.tokens}
            write_json(made / "records/run.json", {"subject": subject, "measured": about})
    return folder


def pool(mixture: Path) -> Pool:
    """The mixture's queries with their eight candidates and the teacher's logits."""
    table = pq.read_table(sorted(mixture.glob("train-*.parquet")))
    groups: dict[str, list[tuple[str, float]]] = {}
    for query, document, label in zip(
        *(table[name].to_pylist() for name in ("query", "document", "label")), strict=True
    ):
        groups.setdefault(query, []).append((document, label))
    whole = {query: rows for query, rows in groups.items() if len(rows) == 8}
    candidates = np.arange(8 * len(whole)).reshape(-1, 8)
    logits = np.array([[label for _, label in rows] for rows in whole.values()], np.float32)
    return Pool(list(whole), [text for rows in whole.values() for text, _ in rows], candidates, logits)


def parameters(folder: Path) -> dict[str, float]:
    """What the record says of the training: pairs, loss, CPU minutes."""
    return json.loads((folder / "records/run.json").read_text(encoding="utf-8"))["measured"]
