"""A released model learns from somebody's data: measured before and after, nothing forgotten in silence, the best one kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from release import records, results
from release.errors import ReleaseError
from release.evaluation import judged_pairs
from release.finetuning import finetune as module
from release.finetuning import lora, losses, measure, merge, model
from release.finetuning.finetune import Finetuned, FinetuneOptions, choose, finetune
from release.finetuning.prepare import load
from release.results.finetuning import Comparison, MergeCandidate
from tests.built import edit
from tests.tiny import PAIRS


def test_the_record_holds_baseline_history_candidates_and_an_interval(tuned: tuple[Path, Finetuned]) -> None:
    folder, record = tuned
    result = record.measured
    assert (
        records.read(folder / "records", results.FINETUNE, model_sha256=records.model_hash(folder / "model")) == record
    )
    assert result.dev_history[0][0] == 0 and result.best_step in [step for step, _ in result.dev_history[1:]]
    assert [one.ratio for one in result.candidates] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert result.dev_history[0][1] == pytest.approx(result.candidates[0].dev)
    assert result.test.ci_low <= result.test.delta <= result.test.ci_high
    assert result.test.delta == pytest.approx(result.test.score - result.test.baseline)
    assert result.guard.baseline == pytest.approx(result.candidates[0].guard)
    (folder / "records/finetune.json").rename(folder / "records/aside.json")
    with pytest.raises(ReleaseError, match="run finetune again"):
        records.read(folder / "records", results.FINETUNE)
    (folder / "records/aside.json").rename(folder / "records/finetune.json")
    assert result.test.queries == 15 and record.subject.loss == "info-nce"


def test_the_saved_model_is_the_best_checkpoint_evaluated_again(tuned: tuple[Path, Finetuned]) -> None:
    _, record = tuned
    result = record.measured
    best = max(score for _, score in result.dev_history[1:])
    assert result.candidates[-1].dev == pytest.approx(best, abs=1e-6)
    assert dict(result.dev_history)[result.best_step] == best


def test_the_saved_model_scores_as_it_was_measured(tuned: tuple[Path, Finetuned], work: Path) -> None:
    folder, record = tuned
    judged = judged_pairs.from_folder(work / "labelled/test", folder / "runs")
    loaded = model.load(folder / "model")
    loaded[0].max_seq_length = record.subject.max_length
    assert float(measure.measure(loaded, judged).mean()) == pytest.approx(record.measured.test.score, abs=1e-6)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "model", "pairs.json", "records", "runs"]


def test_the_released_model_keeps_its_head_logits_and_length(tuned: tuple[Path, Finetuned], reranker: Path) -> None:
    folder, _ = tuned
    before, after = CrossEncoder(str(reranker), device="cpu"), CrossEncoder(str(folder / "model"), device="cpu")
    assert type(after.activation_fn).__name__ == "Identity" and after.keep_in_fp32_modules == ["4.linear"]
    assert before.max_length == after.max_length == 512
    assert not torch.equal(before[4].linear.weight, after[4].linear.weight)
    assert np.isfinite(after.predict(PAIRS[:3])).all()


def test_loading_changes_no_score(reranker: Path) -> None:
    plain = CrossEncoder(str(reranker), device="cpu").predict(PAIRS, show_progress_bar=False)
    assert np.abs(model.scores(model.load(reranker), PAIRS) - plain).max() < 1e-5


@pytest.mark.parametrize(("data", "loss"), [("labelled", "bce"), ("scored", "margin-mse"), ("scored", "mse")])
def test_every_loss_trains(work: Path, reranker: Path, options: FinetuneOptions, data: str, loss: Any) -> None:
    chosen = dataclasses.replace(options, loss=loss, smoke=True)
    record = finetune(str(reranker), work / data, work / f"{data}-{loss}", chosen)
    assert record.measured.steps == 2 and record.subject.smoke and record.measured.test.queries == 10


@pytest.mark.parametrize(
    ("data", "loss", "says"),
    [
        ("labelled", "margin-mse", "margin-mse learns from scores, and the labels are judgements"),
        ("labelled", "mse", "take one of info-nce, bce"),
        ("scored", "bce", "bce learns from judgements"),
    ],
)
def test_labels_of_another_kind_are_refused_before_anything_is_loaded(
    work: Path, reranker: Path, options: FinetuneOptions, data: str, loss: Any, says: str
) -> None:
    with pytest.raises(ReleaseError, match=says):
        finetune(str(reranker), work / data, work / "refused", dataclasses.replace(options, loss=loss))
    assert not (work / "refused").exists()


def test_grades_above_one_are_out_of_range_for_bce(work: Path) -> None:
    graded = dataclasses.replace(load(work / "labelled"), highest=2.0)
    with pytest.raises(ReleaseError, match="takes labels from 0 to 1, and these go from 0 to 2"):
        losses.check("bce", graded)


def test_a_tenth_of_the_rate_in_the_records_or_of_the_ettin_size_is_taken(
    tmp_path: Path, work: Path, reranker: Path
) -> None:
    base = Path(shutil.copytree(reranker, tmp_path / "base"))
    with pytest.raises(ReleaseError, match=r"nothing says how the model was trained.*--learning-rate"):
        finetune(str(base), work / "labelled", tmp_path / "out", FinetuneOptions(guard=str(work / "other")))
    (base / "records").mkdir()
    (base / "records/run.json").write_text(json.dumps({"subject": {"learning_rate": 4e-4, "max_length": 256}}))
    known = model.find(str(base))
    assert (known.learning_rate, known.max_length) == (4e-4, 256)
    assert module.training_options(FinetuneOptions(), known, load(work / "labelled")).learning_rate == pytest.approx(
        4e-5
    )
    shutil.rmtree(base / "records")
    edit(
        base / "config.json", lambda config: config.update(hidden_size=256, num_hidden_layers=7, intermediate_size=384)
    )
    assert model.find(str(base)).learning_rate == 2.4e-4


def test_a_base_that_is_not_modular_has_a_sigmoid_or_is_not_here_is_one_line(tmp_path: Path, reranker: Path) -> None:
    base = Path(shutil.copytree(reranker, tmp_path / "base"))
    edit(
        base / "config_sentence_transformers.json",
        lambda c: c.update(activation_fn="torch.nn.modules.activation.Sigmoid"),
    )
    with pytest.raises(ReleaseError, match="pass through Sigmoid instead of being raw logits"):
        model.find(str(base))
    edit(base / "modules.json", lambda modules: modules.pop())
    with pytest.raises(ReleaseError, match="not the family's reranker: Transformer -> Pooling"):
        model.find(str(base))
    (base / "modules.json").unlink()
    with pytest.raises(ReleaseError, match="its head would be a new one with random weights"):
        model.find(str(base))
    with pytest.raises(ReleaseError, match="no model 'some/model' here"):
        model.find("some/model")


def test_a_merge_is_linear_and_chosen_only_where_it_is_better_on_both(reranker: Path) -> None:
    base = lora.folded(model.load(reranker))
    tuned = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in base.items()}
    half = merge.blend(base, tuned, 0.5)
    assert all(torch.allclose(half[name], base[name] + 0.5) for name in base if base[name].is_floating_point())
    assert all(torch.equal(tensor, base[name]) for name, tensor in merge.blend(base, tuned, 0.0).items())
    start, end = MergeCandidate(0.0, 0.5, 0.9), MergeCandidate(1.0, 0.7, 0.6)
    assert choose([start, MergeCandidate(0.5, 0.69, 0.9), end]) == 1.0
    assert choose([start, MergeCandidate(0.25, 0.7, 0.8), MergeCandidate(0.5, 0.71, 0.7), end]) == 0.5
    assert choose([start, MergeCandidate(0.5, 0.7, 0.6), end]) == 1.0


def test_a_win_needs_the_whole_interval_above_zero() -> None:
    zeros = np.zeros(100)
    sure = measure.compare(zeros + 0.5, zeros + 0.25, zeros)
    assert sure.verdict == "WIN"
    assert sure.line == "VERDICT: WIN | score=0.5000 | baseline=0.2500 | delta=+0.2500 | ci=+0.2500..+0.2500"
    noisy = np.array([1.0, -0.9] * 50)
    assert measure.compare(noisy, zeros, zeros).verdict == "MARGINAL"
    assert measure.compare(-noisy, zeros, zeros).verdict == "REGRESSION"
    assert Comparison(0.5, 0.5, 0.4, 0.0, 0.0, 0.0, 9).verdict == "MARGINAL"
    with pytest.raises(ReleaseError, match="other queries"):
        measure.compare(zeros, zeros[:50], zeros)


def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, work: Path, reranker: Path, options: FinetuneOptions
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReleaseError, match="cannot write"):
        finetune(str(reranker), work / "labelled", tmp_path / "file/out", options)
    with pytest.raises(ReleaseError, match="not a prepared folder"):
        finetune(str(reranker), tmp_path, tmp_path / "out", options)
