"""CPU engines give the trained model's scores, in the caller's order, for pairs of every length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from release.export import parity
from release.runtime import cpu_engines
from tests import built

ENGINES = {"openvino": cpu_engines.openvino, "onnxruntime": cpu_engines.onnxruntime}


@pytest.fixture(scope="module")
def folder(reranker: Path) -> Path:
    """What belongs to one size in a build folder, with an exported model."""
    return built.template(reranker) / built.family().folder(built.SIZE)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    examples = built.docstrings()[:24]
    return [examples[3], ("", ""), ("a", examples[0][1] * 9), *examples]  # short, empty, and far too long


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("threads", [1, 3])
def test_scores_are_those_of_the_trained_model(
    engine: str, threads: int, folder: Path, pairs: list[tuple[str, str]]
) -> None:
    expected = np.array(parity.cross_encoder(str(folder / "model"), pairs))
    model = ENGINES[engine](folder / "export", "fp32", threads)
    scores = model.predict(pairs)
    assert scores.dtype == np.float32 and scores.shape == (len(pairs),)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    np.testing.assert_allclose(model.predict(pairs, token_budget=1), expected, atol=1e-4)  # one by one
    assert model.predict([]).shape == (0,)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
def test_narrower_types_stay_near(dtype: str, folder: Path, pairs: list[tuple[str, str]]) -> None:
    exact = cpu_engines.openvino(folder / "export", "fp32", 2).predict(pairs)
    scores = cpu_engines.openvino(folder / "export", dtype, 2).predict(pairs)
    assert np.abs(scores - exact).max() < 0.1 * np.ptp(exact)
    assert len(set(scores.tolist())) > 0.9 * len(set(exact.tolist()))  # no ties by rounding


def test_batches_are_of_like_length_and_within_the_budget() -> None:
    lengths = np.random.default_rng(3).integers(1, 300, 200)
    all_batches = cpu_engines.batches(lengths, 1024)
    assert sorted(np.concatenate(all_batches).tolist()) == list(range(200))
    for batch in all_batches:
        assert len(batch) * -(-lengths[batch].max() // cpu_engines.STEP) * cpu_engines.STEP <= 1024
    assert len(all_batches) < 1.3 * lengths.sum() / 1024  # and little of it is padding
    assert [len(batch) for batch in cpu_engines.batches(np.array([5000, 4]), 1024)] == [1, 1]  # too long: alone
