"""A family, a mixture of two configs and an evaluation set in NanoBEIR's form, small enough to train on in a second."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch

from recipes import distill

WORDS = ["paris", "france", "capital", "egg", "calories", "berlin", "germany", "mars", "planet", "fox", "dog", "river"]
FAMILY = """
sizes.{size} = {{ encoder = "{encoder}", learning_rate = 2e-3, global_batch_size = 8 }}
teacher = {{ model = "overlap", kind = "cross-encoder", license = "apache-2.0", max_length = 64 }}
data = {{ declaration = "data.yaml", repository = "tiny-data", license = "apache-2.0", validation = "words" }}
speed = {{ device = "CPU", pairs = "words", max_length = 64, first_batch = 8, passes = 3 }}
[family]
name = "tiny"
title = "Tiny"
version = "v1"
organization = "local"
license = "apache-2.0"
language = "en"
collection = "Tiny"
summary = "Tiny."
[evaluation]
nano = "{nano}"
nano_sets = ["NanoWords"]
tasks = []
collections = ["words"]
embedders = ["bm25"]
top_k = 10
compared = []
[training]
loss = "mse"
epochs = 1
warmup = 0.03
precision = "fp32"
max_length = 64
evaluations = 3
checkpoints = 5
seed = 12
"""


def rows(count: int, seed: int) -> pl.DataFrame:
    """Pairs of words whose label is their overlap."""
    generator = torch.Generator().manual_seed(seed)

    def some(size: int) -> list[str]:
        return [WORDS[i] for i in torch.randperm(len(WORDS), generator=generator)[:size]]

    pairs = [(some(3), some(2 + i % 9)) for i in range(count)]
    return pl.DataFrame(
        {
            "query": [" ".join(query) for query, _ in pairs],
            "document": [" ".join(document) for _, document in pairs],
            "label": pl.Series([4.0 * len({*query} & {*document}) + 9 for query, document in pairs], dtype=pl.Float32),
        }
    )


def write_nano(folder: Path) -> None:
    """Three queries over twenty documents in NanoBEIR's form; of the second one the answer is no candidate: both figures differ."""
    folder.mkdir()
    texts = rows(20, 5)
    keys = [f"d{i}" for i in range(20)]
    tables = {
        "corpus": {"_id": keys, "text": texts["document"]},
        "queries": {"_id": ["q0", "q1", "q2"], "text": texts["query"][:3]},
        "qrels": {"query-id": ["q0", "q1", "q2"], "corpus-id": ["d0", "d1", "d2"]},
        "bm25": {"query-id": ["q0", "q1", "q2"], "corpus-ids": [keys, [*keys[:1], *keys[2:]], keys]},
    }
    head = ["---", "configs:"]
    for name, columns in tables.items():
        pl.DataFrame(columns).write_parquet(folder / f"{name}.parquet")
        head += [f"- config_name: {name}", "  data_files:", f"  - {{split: NanoWords, path: {name}.parquet}}"]
    (folder / "README.md").write_text("\n".join([*head, "---", ""]))


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """The folder that the recipe runs in."""
    work = tmp_path_factory.mktemp("recipe")
    for seed, (config, count) in enumerate([("words", 56), ("more", 40)]):
        folder = work / "build/tiny/data/mixture" / config
        folder.mkdir(parents=True)
        rows(count, seed).write_parquet(folder / "train-00000-of-00001.parquet")
    rows(16, 9).write_parquet(work / "build/tiny/data/mixture/words/validation-00000-of-00001.parquet")
    write_nano(work / "nano")
    (work / "family.toml").write_text(FAMILY.format(size="mini", encoder=encoder, nano=work / "nano"))
    return work


@pytest.fixture
def recipe(work: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the recipe's main in `work`, in this process."""
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # the run sets its own, which ends with the test

    def run(*words: str, family: str = "family.toml", size: str = "mini") -> None:
        monkeypatch.setattr(sys, "argv", ["distill.py", "--family", family, "--size", size, *words])
        distill.main()

    return run


@pytest.fixture(scope="package")
def trained(work: Path) -> Path:
    """The folder of one undisturbed run, for tests that only look at what came out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        patch.setattr(sys, "excepthook", sys.excepthook)
        patch.setattr(sys, "argv", ["distill.py", "--family", "family.toml", "--size", "mini", "--output", "trained"])
        distill.main()
    return work / "trained"
