"""What every test shares: no network, no Hub but a loopback one, and two tiny real models made once per run."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

# Read at import by huggingface_hub, datasets and transformers: they must stand before any of them.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-home-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("HF_TOKEN", None)
os.environ.pop("COLUMNS", None)  # as in a log: pytest gives it to its workers, and lines would break at 80
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch would take every core in each worker

import pytest

from tests.tiny import tiny_encoder, tiny_reranker

MEMORY, NEEDED = Path("/dev/shm"), 2 << 30

gc.disable()  # while every test file imports what it needs, of which nothing is garbage
LONGEST = (  # seconds of all cores, or of waiting
    *(
        "hub/test_publish",
        "hub/test_verify",
        "finetuning/",
        "training/",
        "hub/",
        "truth/",
        "test_makefile",
        "localhub/",
    ),
    *(
        "export/",
        "preflight/",
        "rehearsal/",
        "card/test_compare",
        "evaluation/",
        "data/test_score",
        "benchmarks/",
        "speed/",
    ),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first, so that the workers end together."""

    def rank(item: pytest.Item) -> int:
        name = item.nodeid.removeprefix("tests/")
        return next((index for index, beginning in enumerate(LONGEST) if name.startswith(beginning)), len(LONGEST))

    items.sort(key=rank)  # keeps the order within a file


def pytest_collection_finish() -> None:
    """From here on there is garbage."""
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def libraries_are_no_garbage() -> None:
    """What is loaded by now stays: every later collection would go through millions of objects of the libraries again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ModernBERT encoder with its tokenizer."""
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """The recipe's modular CrossEncoder on the tiny encoder."""
    return tiny_reranker(tmp_path_factory.mktemp("reranker"), encoder)


@pytest.fixture(scope="session")
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """A folder in memory where the machine has enough of it.

    The Hub flushes every change to the disk. These tests end processes, not the power supply, and would mostly wait.
    """
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < NEEDED:
        yield tmp_path_factory.mktemp("fast")
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="tests-") as folder:
        yield Path(folder)
