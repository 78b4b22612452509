"""A released model learns from somebody's data: measured before and after, nothing forgotten in silence, the best one kept."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from huggingface_hub import CommitOperationAdd, HfApi, constants
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from transformers import TrainerState

from release import records, results
from release.data import demo_sets
from release.data.docstrings import DocstringPair
from release.errors import ReleaseError
from release.evaluation import embedders, judged_pairs, paired, queries
from release.family import ModelConfig
from release.finetuning import finetune as module
from release.finetuning import guard, lora, losses, measure, merge, model
from release.finetuning import train as train_module
from release.finetuning.finetune import Finetuned, FinetuneOptions, finetune
from release.finetuning.prepare import load
from release.finetuning.train import evaluations
from release.localhub import Account, running_hub
from release.results.finetuning import FinetuneScores, MergeCandidate, PairedComparison, ScoredSet
from release.spec import NanoSpec
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
    scores = queries.read_scores(folder / "records", FinetuneScores, result.queries_sha256, "finetune")
    assert paired.of_share(scores.test, result.ratio) == result.test
    assert paired.candidates(scores.dev, scores.guard) == result.candidates
    assert scores.test.models.keys() == {"0", "1", paired.share(result.ratio)}, (
        "no other was looked at on the test queries"
    )
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
    ndcg = measure.QueryNdcg(judged_pairs.from_folder(work / "labelled/test", folder / "runs"))
    loaded = model.load(folder / "model")
    loaded[0].max_seq_length = record.subject.max_length
    assert float(ndcg(loaded).mean()) == pytest.approx(record.measured.test.score, abs=1e-6)
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
def test_every_loss_trains_and_its_record_is_there_before_the_model(
    work: Path, reranker: Path, options: FinetuneOptions, data: str, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, replace, moved = work / f"{data}-{loss}", Path.replace, []

    def move(path: Path, target: Path) -> Path:
        if (
            target == output / "model"
        ):  # where a run is killed after it, the next one must not take the model for the user's
            moved.append((output / "records/finetune.json").is_file())
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", move)
    record = finetune(str(reranker), work / data, output, dataclasses.replace(options, loss=loss, smoke=True))
    assert record.measured.steps == 2 and record.subject.smoke and record.measured.test.queries == 10
    assert moved == [True]
    assert (
        records.read(output / "records", results.FINETUNE, model_sha256=records.model_hash(output / "model")) == record
    )


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


def test_rows_without_two_documents_that_differ_are_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHECKED_ROWS", 3)
    rows = tmp_path / "train.parquet"

    def write(*rows_of: tuple[str, float]) -> None:
        queries, labels = zip(*rows_of, strict=True)
        pq.write_table(pa.table({"query": queries, "label": pa.array(labels, pa.float32())}), rows)

    write(("a", 1.0), ("b", 0.0), ("c", 1.0), ("d", 0.5), ("d", 0.5))
    with pytest.raises(
        ReleaseError, match=r"no query has two documents with different labels, which info-nce.*--loss bce"
    ):
        losses.check_rows("info-nce", rows)
    with pytest.raises(ReleaseError, match="with their scores, or take --loss mse"):
        losses.check_rows("margin-mse", rows)
    losses.check_rows("bce", rows)
    write(("a", 1.0), ("b", 0.0), ("c", 1.0), ("d", 0.5), ("a", 0.5))
    losses.check_rows("info-nce", rows)


def test_a_relevant_document_stands_against_others_of_less_relevance_to_its_query(tmp_path: Path) -> None:
    grades = {"a": [1.0, *[0.0] * 3], "b": [0.0, 2.0, 1.0], "c": [1.0, 1.0], "d": [0.0] * 9}
    rows = [
        {"query": query, "document": f"{query}{number}", "label": label}
        for query, labels in grades.items()
        for number, label in enumerate(labels)
    ]
    random.Random(3).shuffle(rows)
    table = losses.contrasts(Dataset.from_list(rows), 12, tmp_path)
    assert losses.pairs_of_a_row(table) == 4 and losses.pairs_of_a_row(Dataset.from_list(rows)) == 1
    found = {row.pop("positive"): (row.pop("query"), *sorted(row.values())) for row in table.to_list()}
    assert found["a0"] == ("a", "a1", "a2", "a3")
    assert (
        found.keys() == {"a0", "b1", "b2"} and set(found["b1"]) == {"b", "b0", "b2"} and set(found["b2"]) == {"b", "b0"}
    )
    grades["a"] += [0.0] * 9
    many = [{"query": "a", "document": f"a{number}", "label": label} for number, label in enumerate(grades["a"])]
    (tmp_path / "many").mkdir()
    (row,) = losses.contrasts(Dataset.from_list(many), 12, tmp_path / "many").to_list()
    assert len(set(row.values())) == 2 + losses.NEGATIVES


def test_a_test_of_the_path_finds_queries_with_negatives_wherever_they_are() -> None:
    """Negatives that were found lie after all other rows."""
    rows = [{"query": f"q{row}", "label": 1.0} for row in range(2_000)]
    rows += [{"query": f"q{row}", "label": 0.0} for row in range(100, 2_000) for _ in range(3)]
    few = train_module.few_rows(Dataset.from_list(rows)).to_pandas()
    assert len(few) == train_module.SMOKE_ROWS and set(few.groupby("query").size()) == {4}
    assert len(train_module.few_rows(Dataset.from_list(rows[:10]))) == 10


def test_grades_above_one_are_out_of_range_for_bce(work: Path) -> None:
    graded = dataclasses.replace(load(work / "labelled"), highest=2.0)
    with pytest.raises(ReleaseError, match="takes labels from 0 to 1, and these go from 0 to 2"):
        losses.check("bce", graded)


def test_a_repository_of_another_kind_is_refused_before_its_weights_are_fetched(
    fast_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "hf_" + "loopback" * 4
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", token)
    with running_hub(fast_folder / "kinds", [Account("maker", token, ("acme",))]) as (endpoint, _):
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        of_hub = endpoint + template[template.index("/{repo_id}") :]
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", of_hub)
        api = HfApi(endpoint)
        api.create_repo("acme/classifier")
        contents = {
            "config.json": b'{"architectures": ["BertForSequenceClassification"]}',
            "model.safetensors": b"weights",
        }
        files = [CommitOperationAdd(name, content) for name, content in contents.items()]
        commit = api.create_commit("acme/classifier", files, commit_message="a reranker of another kind").oid
        with pytest.raises(ReleaseError, match=r"not a modular reranker.*in acme/classifier"):
            model.find("acme/classifier")
        with pytest.raises(
            ReleaseError, match=r"a reranker, whose one score of a text finds nothing; in acme/classifier"
        ):
            embedders.load("acme/classifier", commit, ModelConfig())
        with pytest.raises(ReleaseError, match=r"acme/classifier is not on .*, or it is private"):
            guard.load("acme/classifier", tmp_path, top_k=4)
    names = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert "config.json" in names and "model.safetensors" not in names


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
    for subject in ({"learning_rate": "fast"}, {"learning_rate": 1e-4, "max_length": -3}):
        (base / "records/run.json").write_text(json.dumps({"subject": subject}))
        with pytest.raises(ReleaseError, match=r"which are none; in .*run\.json"):
            model.find(str(base))
    shutil.rmtree(base / "records")
    for card in (b"---\nlicense: [mit, apache-2.0]\n---\n", b"---\nlicense: [mit\n---\n", b"---\nlicense: \xe9\n---\n"):
        (base / "README.md").write_bytes(card)
        assert model.find(str(base)).license is None, "one that names no single licence, or is damaged"
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
    with pytest.raises(ReleaseError, match="pass through Sigmoid, instead of being raw logits"):
        model.find(str(base))
    edit(base / "modules.json", lambda modules: modules.pop())
    with pytest.raises(ReleaseError, match="not the family's reranker: Transformer -> Pooling"):
        model.find(str(base))
    (base / "modules.json").unlink()
    with pytest.raises(ReleaseError, match="its head would be a new one with random weights"):
        model.find(str(base))
    with pytest.raises(ReleaseError, match="no model 'some/model' here"):
        model.find("some/model")


def test_a_base_that_reads_less_than_its_training_did_or_than_is_asked_for_is_one_line() -> None:
    base = model.BaseModel("base", Path(), None, 1e-4, 256, None)
    assert module.read_length(FinetuneOptions(), base, 512) == 256
    assert module.read_length(FinetuneOptions(max_length=512), base, 512) == 512
    unknown = dataclasses.replace(base, max_length=None)
    assert [module.read_length(FinetuneOptions(), unknown, length) for length in (300, 7_999)] == [300, 512]
    with pytest.raises(ReleaseError, match="it reads 16 tokens of a pair at most, and its training read 256"):
        module.read_length(FinetuneOptions(), base, 16)
    with pytest.raises(ReleaseError, match="it reads 512 tokens of a pair at most, and --max-length says 600"):
        module.read_length(FinetuneOptions(max_length=600), base, 512)


def damage(folder: Path, how: str) -> None:
    """One fault of a base model's folder."""
    weights = folder / "model.safetensors"
    if how == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    elif how == "no weights":
        weights.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif how == "no head":
        (folder / "4_Dense/model.safetensors").unlink()
    elif how == "no configuration":
        (folder / "config.json").write_text("{")
    elif how == "another architecture":
        edit(folder / "config.json", lambda config: config.update(model_type="bert", architectures=["BertModel"]))
    else:
        tensors = load_file(weights)
        save_file({name: tensor * float("nan") for name, tensor in tensors.items()}, weights, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "how",
    [
        "no tokenizer",
        "no weights",
        "cut weights",
        "no head",
        "no configuration",
        "another architecture",
        "weights that are no numbers",
    ],
)
def test_a_base_with_a_damaged_file_is_one_line_and_leaves_nothing(
    tmp_path: Path, work: Path, reranker: Path, options: FinetuneOptions, how: str
) -> None:
    base = Path(shutil.copytree(reranker, tmp_path / "base"))
    damage(base, how)
    with pytest.raises(
        ReleaseError, match=r"cannot be loaded|not all finite|weights of its encoder are not in its files"
    ) as caught:
        finetune(str(base), work / "labelled", tmp_path / "out", options)
    assert "\n" not in str(caught.value) and "in " + str(base) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["other rows", "cut rows", "no rows"])
def test_rows_that_are_not_those_that_were_prepared_are_refused(tmp_path: Path, work: Path, change: str) -> None:
    data = Path(shutil.copytree(work / "labelled", tmp_path / "prepared"))
    rows = data / "train.parquet"
    if change == "other rows":
        pq.write_table(pq.read_table(rows).slice(0, 8), rows)
    elif change == "cut rows":
        rows.write_bytes(rows.read_bytes()[:500])
    else:
        rows.unlink()
    with pytest.raises(ReleaseError, match="not those that were prepared"):
        load(data)


@pytest.mark.parametrize("rate", [0.0, -1e-5, float("nan"), float("inf"), 1.0])
def test_a_learning_rate_that_trains_nothing_is_refused(work: Path, reranker: Path, rate: float) -> None:
    with pytest.raises(ReleaseError, match="trains nothing"):
        module.training_options(FinetuneOptions(learning_rate=rate), model.find(str(reranker)), load(work / "labelled"))


def test_a_merge_is_linear(reranker: Path) -> None:
    base = lora.folded(model.load(reranker))
    tuned = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in base.items()}
    half = merge.blend(base, tuned, 0.5)
    assert all(torch.allclose(half[name], base[name] + 0.5) for name in base if base[name].is_floating_point())
    assert all(torch.equal(tensor, base[name]) for name, tensor in merge.blend(base, tuned, 0.0).items())


def test_the_best_on_dev_is_released_of_those_that_do_not_forget() -> None:
    def chosen(*rows: tuple[float, float, bool]) -> float:
        """By (dev, guard, forgets) of the shares 0.25, 0.5, ... and the fine-tuned model."""
        ratios = (*(0.25, 0.5, 0.75)[: len(rows) - 1], 1.0)
        candidates = [MergeCandidate(ratio, *row) for ratio, row in zip(ratios, rows, strict=True)]
        return paired.choose([MergeCandidate(0.0, 0.9, 0.9, False), *candidates])

    assert chosen((0.69, 0.9, False), (0.7, 0.6, False)) == 1.0
    assert chosen((0.6, 0.9, False), (0.69, 0.8, False), (0.7, 0.6, True)) == 0.5
    assert chosen((0.71, 0.8, False), (0.7, 0.7, False)) == 0.25
    assert chosen((0.7, 0.7, False), (0.7, 0.6, False)) == 0.25
    assert chosen((0.7, 0.6, False), (0.7, 0.6, False)) == 1.0
    assert chosen((0.8, 0.3, True), (0.7, 0.2, True)) == 1.0


def test_it_forgets_where_the_whole_interval_of_the_guard_set_lies_below_the_base() -> None:
    noise = np.linspace(-0.2, 0.2, 50)
    models = {"0": noise * 0 + 0.5, "0.5": 0.49 + noise, "1": 0.3 + noise}
    guard = ScoredSet("0" * 64, (0.0,) * 50, {name: tuple(ndcg.tolist()) for name, ndcg in models.items()})
    assert [one.forgets for one in paired.candidates(guard, guard)] == [False, False, True]
    with pytest.raises(ReleaseError, match="other candidates were measured on `dev`"):
        paired.candidates(dataclasses.replace(guard, models={"0": guard.first_stage}), guard)


def test_an_epoch_is_evaluated_as_often_as_it_costs_little(tmp_path: Path) -> None:
    assert [evaluations(pairs, 2_400) for pairs in (40, 3_000, 5_000, 100_000)] == [1, 1, 2, 4]
    steps = []
    for made in (1, 2, 12):  # in all epochs
        chosen = train_module.TrainingOptions("bce", learning_rate=1e-5, epochs=1, batch_size=8)
        arguments = train_module._arguments(chosen, str(tmp_path), None, train_module.share_of_steps(made))
        state = TrainerState()
        state.compute_steps(arguments, 71)
        steps.append(state.eval_steps)
    assert steps == [71, 36, 6]


def test_a_win_needs_the_whole_interval_above_zero() -> None:
    zeros = np.zeros(100)
    sure = paired.compare(zeros + 0.5, zeros + 0.25, zeros)
    assert sure.verdict == "WIN"
    assert sure.line == "VERDICT: WIN | score=0.5000 | baseline=0.2500 | delta=+0.2500 | ci=+0.2500..+0.2500"
    noisy = np.array([1.0, -0.9] * 50)
    assert paired.compare(noisy, zeros, zeros).verdict == "MARGINAL"
    assert paired.compare(-noisy, zeros, zeros).verdict == "REGRESSION"
    assert PairedComparison(0.5, 0.5, 0.4, 0.0, 0.0, 0.0, 9).verdict == "MARGINAL"
    with pytest.raises(ReleaseError, match="other queries"):
        paired.compare(zeros, zeros[:50], zeros)


def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, work: Path, reranker: Path, options: FinetuneOptions
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReleaseError, match="cannot write"):
        finetune(str(reranker), work / "labelled", tmp_path / "file/out", options)
    with pytest.raises(ReleaseError, match="not a prepared folder"):
        finetune(str(reranker), tmp_path, tmp_path / "out", options)


def test_a_model_of_the_users_is_never_replaced(
    tmp_path: Path, work: Path, reranker: Path, options: FinetuneOptions
) -> None:
    shutil.copytree(reranker, tmp_path / "own/model")
    with pytest.raises(ReleaseError, match="a model that no fine-tuning made"):
        finetune(str(reranker), work / "labelled", tmp_path / "own", options)
    assert records.model_hash(tmp_path / "own/model") == records.model_hash(reranker)


def test_lora_trains_a_few_weights_and_is_folded_into_a_model_of_the_usual_form(
    work: Path, reranker: Path, options: FinetuneOptions
) -> None:
    pytest.importorskip("peft")
    chosen = dataclasses.replace(options, lora=4, smoke=True)
    record = finetune(str(reranker), work / "labelled", work / "lora", chosen)
    assert record.subject.lora == 4
    before, after = lora.folded(model.load(reranker)), lora.folded(model.load(work / "lora/model"))
    assert before.keys() == after.keys()
    assert record.measured.parameters == sum(weight.numel() for weight in before.values())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("Wqkv" in name for name in changed) and not any("embeddings" in name for name in changed)
    with pytest.raises(ReleaseError, match=r"rank 33 are larger than those of an encoder 64 wide.*up to 32"):
        finetune(str(reranker), work / "labelled", work / "wide", dataclasses.replace(chosen, lora=33))
    assert not (work / "wide").exists()


def test_folding_gives_the_scores_that_lora_gives(reranker: Path) -> None:
    pytest.importorskip("peft")
    one, two = model.load(reranker), model.load(reranker)
    lora.add(one, 4, seed=12)
    encoder: Any = one[0]
    with torch.no_grad():
        for name, weight in encoder.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    assert not any(weight.requires_grad for name, weight in encoder.model.named_parameters() if "lora_" not in name)
    two.load_state_dict(lora.folded(one))
    assert np.abs(model.scores(one, PAIRS) - model.scores(two, PAIRS)).max() < 1e-4
    assert np.abs(model.scores(model.load(reranker), PAIRS) - model.scores(two, PAIRS)).max() > 1e-2


def test_a_base_has_a_rate_for_lora_of_its_own(reranker: Path, work: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(reranker, tmp_path / "base"))
    (base / "records").mkdir()
    (base / "records/run.json").write_text(json.dumps({"subject": {"learning_rate": 4e-4, "max_length": 256}}))
    chosen = module.training_options(FinetuneOptions(lora=8), model.find(str(base)), load(work / "labelled"))
    assert chosen.learning_rate == 4e-4 and chosen.lora == 8


def test_sets_of_nanobeirs_form_guard_over_their_own_rankings(tmp_path: Path) -> None:
    objects = [
        DocstringPair(f"m.f{row}", "m", f"the {row} summary", f"a body of some words about {row}", "train")
        for row in range(30)
    ]
    files = demo_sets.nano_files(objects, NanoSpec(name="NanoGuard", queries=6, documents=30, candidates=5))
    demo_sets.write_files(tmp_path, files, "nano-of-the-guard")
    judged = guard.load(str(tmp_path / "nano-of-the-guard"), tmp_path, top_k=4)
    assert len(judged.first) == len(judged.first_stage_ndcg()) == 6 and len(judged.pairs) == 24
    assert all(judged.judgements.values()) and judged.pairs[0][0].endswith("summary")
    with pytest.raises(ReleaseError, match="no sets of NanoBEIR's form here"):
        guard.load(str(tmp_path / "absent"), tmp_path, top_k=4)
    with pytest.raises(ReleaseError, match="'' is neither a folder nor the id of a data set"):
        guard.load("", tmp_path, top_k=4)
    with pytest.raises(ReleaseError, match=r"the client is offline .*in acme/absent"):
        guard.load("acme/absent", tmp_path, top_k=4)
