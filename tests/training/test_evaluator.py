"""The evaluation during training gives both published figures from one prediction."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator, nano_beir

from release.evaluation.nano_evaluator import ALL, RETRIEVED, NanoBEIR
from tests.training.conftest import write_nano
from tests.training.helpers import record

MEAN = "NanoBEIR_R100_mean_ndcg@10"


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Nano sets with positives that are not among the candidates, one query without any among them."""
    folder = tmp_path / f"nano-{uuid4().hex}"  # `datasets` tells one local folder from another by its name
    write_nano(folder)
    judged = {"query-id": ["q0", "q0", "q1", "q1", "q2"], "corpus-id": ["d0", "d15", "d1", "d2", "d19"]}
    keys = [f"d{i}" for i in range(12)]
    candidates = {"query-id": ["q0", "q1", "q2"], "corpus-ids": [keys, keys[::-1], keys]}
    pl.DataFrame(judged).write_parquet(folder / "qrels.parquet")
    pl.DataFrame(candidates).write_parquet(folder / "bm25.parquet")
    monkeypatch.setitem(nano_beir.DATASET_NAME_TO_HUMAN_READABLE, "words", "Words")
    return str(folder)


@pytest.mark.parametrize("chosen", [True, False], ids=["all positives", "retrieved positives"])
def test_both_figures_are_those_of_sentence_transformers(chosen: bool, sets: str, reranker: Path) -> None:
    model = CrossEncoder(str(reranker), device="cpu")
    expected = {
        every: CrossEncoderNanoBEIREvaluator(["words"], sets, always_rerank_positives=every, write_csv=False)(model)
        for every in (True, False)
    }
    evaluator = NanoBEIR(["words"], sets, always_rerank_positives=chosen, write_csv=False)
    for _ in range(2):  # nothing of the first evaluation is left in the second
        metrics = evaluator(model)
        assert metrics[ALL] == pytest.approx(expected[True][MEAN])
        assert metrics[RETRIEVED] == pytest.approx(expected[False][MEAN])
        assert metrics[ALL] != pytest.approx(metrics[RETRIEVED])
        assert {key: metrics[key] for key in expected[chosen]} == pytest.approx(expected[chosen])


def test_every_pair_is_scored_once(sets: str, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, scored = CrossEncoder(str(reranker), device="cpu"), []
    predict = model.predict

    def counted(pairs: list[list[str]], **kwargs: object) -> object:
        scored.extend(map(tuple, pairs))
        return predict(pairs, **kwargs)  # ty: ignore

    monkeypatch.setattr(model, "predict", counted)
    NanoBEIR(["words"], sets, always_rerank_positives=False, write_csv=False)(model)
    assert scored and len(set(scored)) == len(scored)


def test_a_run_records_both_figures_of_every_evaluation(trained: Path) -> None:
    measured, subject = record(trained).measured, record(trained).subject
    assert [each.step for each in measured.nano] == [0, 4, 8, 12]
    assert [each.retrieved_positives for each in measured.nano[1:]] == [each.score for each in measured.checkpoints]
    assert measured.nano[0].retrieved_positives == measured.baseline
    assert any(each.all_positives != each.retrieved_positives for each in measured.nano[1:])
    assert (subject.always_rerank_positives, subject.optimizer) == (False, "adamw_torch")
