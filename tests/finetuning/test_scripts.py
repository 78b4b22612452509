"""The skill's scripts as they are called: --help, a test of the path, one last line, one line for what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from release.agents import check
from tests.built import edit
from tests.finetuning.data import write_beir, write_jsonl
from tests.finetuning.desk import Desk

NUMBER = r"[+-]?0\.\d{4}"
VERDICT = (
    rf"VERDICT: (WIN|MARGINAL|REGRESSION) \| score={NUMBER} \| baseline={NUMBER} \| delta={NUMBER} "
    rf"\| ci={NUMBER}\.\.{NUMBER}"
)
TRAINED = '{"subject": {"learning_rate": 2e-2, "max_length": 64}}'


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, reranker: Path) -> Path:
    """A user's folder: the data, a base model with a record of its training, and the skill."""
    folder = tmp_path_factory.mktemp("desk")
    write_jsonl(folder / "data.jsonl")
    write_beir(folder / "judged", train=True)
    shutil.copytree(reranker, folder / "base")
    (folder / "base/records").mkdir()
    (folder / "base/records/run.json").write_text(TRAINED)
    (folder / "base/README.md").write_text("---\nlicense: apache-2.0\n---\n")
    shutil.copytree(check.folder(), folder / ".agents/skills" / check.NAME)
    return folder


@pytest.fixture
def call(desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.delenv("SMOKE_TEST", raising=False)
    return Desk(desk, capsys, monkeypatch)


@pytest.mark.parametrize("name", check.SCRIPTS)
def test_help_and_wrong_options_need_no_model(call: Desk, name: str) -> None:
    status, lines, _ = call(name, "--help")
    assert status == 0 and any("Usage" in line for line in lines)
    status, lines, error = call(name, "--no-such-option")
    assert (
        status == 2 and not lines and "no-such-option" in error and error.endswith(f"hint: python {name}.py --help\n")
    )


def test_the_path_from_data_to_a_verdict_ends_each_step_with_its_line(
    call: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMOKE_TEST", "1")
    status, lines, error = call("prepare", "data.jsonl")
    assert status == 0, error
    assert json.loads(lines[-1])["smoke"] and json.loads(lines[-1])["test"] == 15
    words = ("base", "--guard", "judged", "--batch-size", "16")
    status, lines, error = call("finetune", *words)
    assert status == 0, error
    assert re.fullmatch(VERDICT, lines[-1]) and any("guard: judged" in line for line in lines)
    record = json.loads((call.folder / "tuned/records/finetune.json").read_text())
    assert record["subject"]["smoke"] and record["command"].startswith("python finetune.py base")
    status, lines, error = call("evaluate", "tuned/model", "--baseline", "base", "--max-length", "64")
    assert status == 0 and re.fullmatch(VERDICT, lines[-1]), error


def test_a_base_is_measured_on_any_beir_folder_with_candidates_of_ones_own(call: Desk) -> None:
    run = call.folder / "own.run"
    run.write_text(
        "".join(f"q{row} Q0 d{row} 1 2.5 me\nq{row} Q0 d{(row + 1) % 100} 2 1.5 me\n" for row in range(60, 100))
    )
    status, lines, error = call("evaluate", "base", "--data", "judged", "--run", "own.run", "--top-k", "2")
    assert status == 0, error
    said = json.loads(lines[-1])
    assert said["first_stage"] == 1.0 and said["queries"] == 40 and "own.run's top 2" in said["measured_on"]
    run.write_text("q60 Q0 d1 1 high me\n")
    assert "damaged row" in call("evaluate", "base", "--data", "judged", "--run", "own.run")[2]
    run.write_text("q60 Q0 d1 1 2 me\nq60 Q0 d1 2 1 me\n")
    assert "ranks document 'd1' twice" in call("evaluate", "base", "--data", "judged", "--run", "own.run")[2]
    run.write_text("q60 Q0 nowhere 1 2 me\n")
    assert "not in the corpus, such as 'nowhere'" in call("evaluate", "base", "--data", "judged", "--run", "own.run")[2]
    run.write_text("q1000 Q0 d1 1 2 me\n")
    assert "it ranks no judged query" in call("evaluate", "base", "--data", "judged", "--run", "own.run")[2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("prepare", "absent.jsonl"), "no data at absent.jsonl"),
        (("finetune", "base", "--data", "judged"), "not a prepared folder"),
        (("evaluate", "base", "--data", "absent"), "no collection absent"),
        (("evaluate", "judged", "--data", "judged"), "no CrossEncoder there"),
        (("evaluate", "base", "--data", "judged", "--retriever", "base"), "a reranker, whose one score"),
        (("finetune", "base", "--data", "absent"), "not a prepared folder"),
        (("finetune", "absent", "--data", "absent"), "no model 'absent' here"),
        (("evaluate", "base", "--data", "data.jsonl"), "no collection data.jsonl"),
        (("evaluate", "base", "--data", "judged", "--run", "absent.run"), "cannot be read"),
        (("evaluate", "", "--data", "judged"), "no model is named"),
        (("publish", "me/own", "--output", "absent"), "no fine-tuned model"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(call: Desk, words: tuple[str, ...], says: str) -> None:
    before = sorted(call.folder.iterdir())
    status, lines, error = call(*words)
    assert status == 1 and not lines and says in error and error.count("\n") == 1 and "hint" in error
    assert sorted(call.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("damaged", "measured", "trained"),
    [
        ("cut", "no CrossEncoder there", "the model cannot be loaded"),
        ("two scores", "one score per pair, this model 2", "one score per pair, this model 2"),
        ("endless", "max_seq_length is 'many'", "max_seq_length is 'many'"),
        ("no head", "no CrossEncoder there", "not the family's reranker"),
    ],
)
def test_a_damaged_model_is_one_line_whether_it_is_measured_or_trained(
    call: Desk, reranker: Path, tmp_path: Path, damaged: str, measured: str, trained: str
) -> None:
    base = Path(shutil.copytree(reranker, tmp_path / "base"))
    (base / "records").mkdir()
    (base / "records/run.json").write_text(TRAINED)
    head = base / "4_Dense/model.safetensors"
    match damaged:
        case "cut":
            head.write_bytes(head.read_bytes()[:40])
        case "two scores":
            save_file({name: torch.cat([weight, weight]) for name, weight in load_file(head).items()}, head)
            edit(base / "4_Dense/config.json", lambda config: config.update(out_features=2))
        case "endless":
            edit(base / "sentence_bert_config.json", lambda config: config.update(max_seq_length="many"))
        case "no head":
            edit(base / "modules.json", lambda modules: modules.__delitem__(slice(2, None)))
    if not (call.folder / "own").exists():
        call("prepare", "data.jsonl", "--output", "own")
    for words, says in (
        (("evaluate", str(base), "--data", "judged"), measured),
        (("finetune", str(base), "--data", "own", "--output", "never"), trained),
    ):
        status, lines, error = call(*words)
        assert status == 1 and not lines and error.count("error:") == 1, error
        assert (
            says in error.splitlines()[-1] and "hint" in error
        )  # before it are bars, which a script hides as it starts
    assert not (call.folder / "never").exists()
