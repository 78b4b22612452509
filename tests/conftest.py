"""What every test shares: no network, no Hub but a loopback one, and two tiny real models made once per run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Read at import by huggingface_hub, datasets and transformers: they must stand before any of them.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-home-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("HF_TOKEN", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core for each of the two; torch would take both twice

import pytest

from tests.tiny import tiny_encoder, tiny_reranker

LONGEST = ("training/", "finetuning/", "localhub/test_features", "hub/", "localhub/", "data/test_score", "evaluation/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first, so that two workers end together."""

    def rank(item: pytest.Item) -> int:
        name = item.nodeid.removeprefix("tests/")
        return next((place for place, beginning in enumerate(LONGEST) if name.startswith(beginning)), len(LONGEST))

    items.sort(key=rank)  # keeps the order within a file


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ModernBERT encoder with its tokenizer."""
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """The recipe's modular CrossEncoder on the tiny encoder."""
    return tiny_reranker(tmp_path_factory.mktemp("reranker"), encoder)
