"""A tiny released model, the tiny user's data prepared, and one fine-tuning for the tests that look at what came out."""

from __future__ import annotations

import contextlib
import pickle
import shutil
from pathlib import Path

import pytest

from release.finetuning.finetune import Finetuned, FinetuneOptions, finetune
from release.finetuning.prepare import prepare
from tests.finetuning.data import write_beir, write_jsonl, write_scored
from tests.shared import once


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's data, prepared: `labelled` and `scored`; and a guard set."""
    work = tmp_path_factory.mktemp("finetuning")
    prepare(write_jsonl(work / "data.jsonl"), work / "labelled")
    prepare(write_scored(work / "scores.jsonl"), work / "scored", relevant_from=0)
    write_beir(work / "other", train=True)  # of which 40 queries are judged
    return work


@pytest.fixture(scope="package")
def options(work: Path) -> FinetuneOptions:
    """Enough to learn something in seconds: random weights need a higher rate than a finished model."""
    return FinetuneOptions(learning_rate=2e-3, epochs=2, batch_size=16, guard=str(work / "other"), max_length=64)


@pytest.fixture(scope="package")
def tuned(
    work: Path, reranker: Path, options: FinetuneOptions, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Finetuned]:
    """The output of one fine-tuning on labelled data, and the record that it returned; made once for all workers."""

    def make(folder: Path) -> None:
        with contextlib.chdir(work):
            record = finetune(str(reranker), work / "labelled", folder / "tuned", options)
        (folder / "returned").write_bytes(pickle.dumps(record))

    made = once(tmp_path_factory.getbasetemp(), "finetuned", make)
    shutil.copytree(made / "tuned", work / "tuned")
    return work / "tuned", pickle.loads((made / "returned").read_bytes())
