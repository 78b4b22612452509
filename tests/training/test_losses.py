"""MarginMSE learns the differences between a query's documents, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch

from recipes import distill
from release.errors import ReleaseError
from release.training.losses import MarginMSE, loss_and_sampler
from tests.training.conftest import WORDS, rows
from tests.training.helpers import record, step_losses


def test_margin_mse_is_the_error_of_the_differences_within_a_query(encoder: Path) -> None:
    model = distill.build_model(str(encoder), 64, device="cpu").eval()
    queries, documents = ["fox", "egg", "fox", "fox", "dog"], ["fox dog", "egg", "river", "mars egg", "dog"]
    labels = torch.tensor([4.0, 1.0, -2.0, 0.5, 3.0])
    errors = torch.from_numpy(model.predict(list(zip(queries, documents, strict=True)))) - labels
    expected = [  # of a row: the mean over its query's rows
        sum((errors[row] - errors[other]) ** 2 for other in same) / len(same)
        for row, query in enumerate(queries)
        for same in [[other for other in range(5) if queries[other] == query]]
    ]
    loss = MarginMSE(model)([queries, documents], labels)
    assert loss.item() == pytest.approx(float(sum(expected)) / 5, rel=1e-4)


def test_an_unknown_loss_is_refused(encoder: Path) -> None:
    with pytest.raises(ReleaseError, match=r"unknown loss 'mae'.*one of mse, margin-mse"):
        loss_and_sampler("mae", distill.build_model(str(encoder), 64, device="cpu"))


def test_a_family_can_ask_for_margin_mse_which_leaves_the_level_of_a_query_free(
    work: Path, recipe: Callable[..., None]
) -> None:
    (work / "margin.toml").write_text((work / "family.toml").read_text().replace('"mse"', '"margin-mse"'))
    pairs = rows(32, 3).with_columns(pl.Series("query", [WORDS[row % 8] for row in range(32)]))
    levels = pl.Series("label", [float(row % 8) for row in range(32)], dtype=pl.Float32)
    for name, labels in (("as-scored", pairs["label"]), ("moved", pairs["label"] + levels)):
        (work / name / "words").mkdir(parents=True)
        pairs.with_columns(labels).write_parquet(work / name / "words/train-0.parquet")
        recipe("--data", name, "--output", f"margin-{name}", family="margin.toml")
    assert record(work / "margin-as-scored").subject.loss == "margin-mse"
    assert min(step_losses(work / "margin-as-scored")) > 0
    assert step_losses(work / "margin-moved") == pytest.approx(step_losses(work / "margin-as-scored"), rel=1e-3)


def test_a_smoke_test_of_margin_mse_has_queries_with_several_documents(
    work: Path, recipe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distill, "SMOKE", True)
    (work / "smoke.toml").write_text((work / "family.toml").read_text().replace('"mse"', '"margin-mse"'))
    (work / "many/words").mkdir(parents=True)  # no two documents of a query among the first rows
    pairs = rows(32, 3).with_columns(pl.Series("query", [WORDS[row % 8] for row in range(32)]))
    many = pl.concat([pairs.with_columns(pl.col("query") + f" {turn}") for turn in range(40)]).sort("document")
    many.write_parquet(work / "many/words/train-0.parquet")
    recipe("--data", "many", "--output", "margin-smoke", family="smoke.toml")
    assert record(work / "margin-smoke").subject.data_rows == 64
    assert min(step_losses(work / "margin-smoke")) > 0
