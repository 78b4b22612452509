"""The recipe on one page: it trains what it says, in the repository and copied out of it."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, constants
from sentence_transformers import CrossEncoder
from transformers import TrainerState

from recipes import distill
from release import records
from release.localhub import running_hub
from tests.localhub.hub_fixtures import ACCOUNTS, client_environment
from tests.training.conftest import FAMILY, rows
from tests.training.helpers import ROOT, command, record, step_losses

VERDICT = r"VERDICT: (WIN|MARGINAL|REGRESSION) \| score=\S+ \| baseline=\S+ \| delta=[+-]\S+"
PUBLISHED = {  # encoder, learning rate, global batch
    "17m": ("jhu-clsp/ettin-encoder-17m", 2.4e-4, 1024),
    "32m": ("jhu-clsp/ettin-encoder-32m", 1.2e-4, 512),
    "68m": ("jhu-clsp/ettin-encoder-68m", 3e-5, 256),
    "150m": ("jhu-clsp/ettin-encoder-150m", 1.5e-5, 192),
    "400m": ("jhu-clsp/ettin-encoder-400m", 7e-6, 256),
    "1b": ("jhu-clsp/ettin-encoder-1b", 3e-6, 512),
}


def test_it_is_one_page_with_one_optional_import() -> None:
    text = (ROOT / "recipes/distill.py").read_text()
    assert len(text.splitlines()) <= 170
    assert re.findall(r"^\s*(?:from|import) (?:release|recipes)\b.*", text, re.MULTILINE) == [
        "    from release import training as project"
    ]


def test_it_trains_saves_and_records_what_it_saved(work: Path, recipe: Callable[..., None], capsys: object) -> None:
    recipe()
    folder, run = work / "build/tiny/mini", record(work / "build/tiny/mini")
    measured, subject = run.measured, run.subject
    last_line = capsys.readouterr().out.strip().splitlines()[-1]  # ty: ignore[unresolved-attribute]
    assert re.fullmatch(VERDICT, last_line)
    assert f"score={measured.score:.4f}" in last_line
    assert (measured.steps, measured.examples, subject.data_rows) == (12, 96, 96)
    assert subject.configs == {"more": 40, "words": 56}
    assert measured.loss_last < measured.loss_first
    arguments = measured.hyperparameters or {}
    assert arguments["learning_rate"] == subject.learning_rate and arguments["seed"] == subject.seed
    assert "weight_decay" not in arguments  # Sentence Transformers' default
    assert [entry.step for entry in measured.checkpoints] == [4, 8, 12]
    assert measured.best.score == max(entry.score for entry in measured.checkpoints)
    assert measured.score == pytest.approx(measured.best.score)
    assert run.model_sha256 == records.model_hash(folder / "model")
    assert "step 12" in (folder / "train.log").read_text()

    model = CrossEncoder(str(folder / "model"), device="cpu")
    assert isinstance(model.activation_fn, torch.nn.Identity)
    assert model.keep_in_fp32_modules == ["4.linear"]
    assert model.max_seq_length == 64 and model.tokenizer.model_max_length == 64
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    best = CrossEncoder(str(next(folder.glob(f"checkpoints/*/checkpoint-{measured.best.step}"))), device="cpu")
    assert model.predict([("paris fox", "fox")]) == best.predict([("paris fox", "fox")])


def test_passes_of_fewer_pairs_make_the_same_steps(trained: Path, work: Path, recipe: Callable[..., None]) -> None:
    recipe("--output", "four", "--per-device-batch-size", "2")
    assert record(work / "four").subject.per_device_batch_size == 2
    assert record(work / "four").measured.steps == 12
    assert step_losses(work / "four") == pytest.approx(step_losses(trained), rel=1e-3)


def test_the_former_name_of_an_option_says_its_new_one(
    recipe: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        recipe("--micro-batch", "4")
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: --micro-batch is now called --per-device-batch-size\n"


def alone(recipe: Callable[..., None], capsys: pytest.CaptureFixture[str], *words: str, **keywords: str) -> str:
    """What the page says without the project before it stops; one line."""
    try:
        recipe(*words, **keywords)
    except SystemExit as stopped:
        assert stopped.code not in (None, 0)
        if isinstance(stopped.code, str):
            return stopped.code
    except Exception as error:  # what the hook of a page on its own makes of it
        distill.last_words(type(error), error, None)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    return line


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[training]", "[training", "TOMLDecodeError: .* in distill.py --family alone.toml"),
        ("sizes.mini", "sizes.huge", r"no size 'mini' in alone.toml; hint: \['huge'\]"),
        ("evaluations = 3", "", "missing: 'evaluations'; in distill.py --family alone.toml .*; hint: "),
        ("evaluations = 3", "evaluations = 0", "evaluations = 0 cannot be; in alone.toml"),
        ("epochs = 1", "epochs = 0", "epochs = 0 cannot be"),
        ("epochs = 1", "epochs = -1", "epochs = -1 cannot be"),
        ("epochs = 1", 'epochs = "1"', "epochs = '1' cannot be; in alone.toml or the options; hint: 1 to 1000000"),
        ("epochs = 1", "epochs = true", "epochs = True cannot be"),
        ("epochs = 1", "epochs = 1.5", "epochs = 1.5 cannot be"),
        ("epochs = 1", "epochs = []", r"epochs = \[\] cannot be"),
        ('loss = "mse"', "", "missing: 'loss'"),
        ('loss = "mse"', 'loss = "margin-mse"', r"loss = 'margin-mse' .*alone.toml; hint: \['mse'\]"),
        ("top_k = 10", 'top_k = 10\nalways_rerank_positives = "false"', "always_rerank_positives = 'false' cannot be"),
        ('validation = "words"', 'validation = "nope"', r"validation = 'nope'; hint: \['more', 'words'\]"),
        ('validation = "words"', 'validation = "words", mixture = "acme/mixed"', "'acme/mixed'"),
        ("checkpoints = 5", "checkpoints = 0", "checkpoints = 0 cannot be"),
        ("max_length = 64\nevaluations", "max_length = 7\nevaluations", "max_length = 7 cannot be; .*; hint: 8 to"),
        ("seed = 12", "seed = 4294967296", "seed = 4294967296 cannot be"),
        ("warmup = 0.03", "warmup = nan", "warmup = nan cannot be"),
        ("warmup = 0.03", "warmup = 2", "warmup = 2 cannot be"),
        ("learning_rate = 2e-3", "learning_rate = nan", "learning_rate = nan cannot be"),
        ("learning_rate = 2e-3", "learning_rate = inf", "learning_rate = inf cannot be"),
        ("learning_rate = 2e-3", "learning_rate = 1e300", r"learning_rate = 1e\+300 cannot be"),
        ("global_batch_size = 8", "global_batch_size = 0", "global_batch_size = 0 cannot be"),
        ('precision = "fp32"', 'precision = "fp8"', r"precision = 'fp8' .*alone.toml; hint: \['bf16', 'fp32'\]"),
        ('encoder = "', 'encoder = "/nowhere', "/nowhere"),
    ],
)
def test_without_the_project_a_family_that_cannot_be_is_one_line(
    work: Path,
    recipe: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    says: str,
) -> None:
    monkeypatch.setattr(distill, "project", None)
    text = (work / "family.toml").read_text()
    assert old in text
    (work / "alone.toml").write_text(text.replace(old, new, 1))
    data = [] if "mixture" in new else ["--data", "build/tiny/data/mixture"]
    line = alone(recipe, capsys, *data, "--output", "alone", family="alone.toml")
    assert re.search(says, line) and not (work / "alone/model").exists(), line


@pytest.mark.parametrize("label", [float("nan"), float("inf"), None])
def test_without_the_project_a_label_that_is_no_number_is_one_line_before_the_encoder_is_loaded(
    label: float | None,
    work: Path,
    tmp_path: Path,
    recipe: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(distill, "project", None)
    folder = tmp_path / "words"
    folder.mkdir()
    table = rows(9, 1)
    table[8, "label"] = label
    table.write_parquet(folder / "train-00000-of-00001.parquet")
    table.write_parquet(folder / "validation-00000-of-00001.parquet")
    text = (work / "family.toml").read_text()
    (tmp_path / "other.toml").write_text(text.replace("seed = 12", "seed = 13"))
    for family in ("family.toml", str(tmp_path / "other.toml")):
        words = ["--data", str(tmp_path), "--output", str(tmp_path / "out")]
        line = alone(recipe, capsys, *words, family=family)
        assert "a label is no finite number; in " in line
    assert len(list((tmp_path / "out/checkpoints").iterdir())) == 2  # neither goes on from the other's


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--per-device-batch-size", "0"], "per_device_batch_size = 0 cannot be"),
        (["--per-device-batch-size", "-1"], "per_device_batch_size = -1 cannot be"),
        (["--per-device-batch-size", "x"], "argument --per-device-batch-size: invalid int value: 'x'"),
        (["--per-device-batch-size", "3"], "a global batch of 8 does not divide by 1 processes x 3 pairs"),
        (["--data", "nowhere/at-all"], "in distill.py --family family.toml"),
        (["--output", "family.toml/out"], "Not a directory"),
        (["--output", "family.toml"], "File exists|Not a directory"),
    ],
)
@pytest.mark.parametrize("project", [True, False])
def test_an_option_that_cannot_be_is_one_line_with_and_without_the_project(
    project: bool,
    work: Path,
    recipe: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    if not project:
        monkeypatch.setattr(distill, "project", None)
    line = alone(recipe, capsys, *["--data", "build/tiny/data/mixture", "--output", "options"], *words)
    assert re.search(says, line) and not (work / "options/model").exists(), line


def test_copied_out_of_the_project_it_trains_the_published_recipe(
    work: Path, tmp_path: Path, fast_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its family file in an empty folder, and everything else on a Hub."""
    data, away = tmp_path / "data", tmp_path / "somewhere/else"
    shutil.copytree(work / "build/tiny/data/mixture", data)
    (data / "README.md").write_text(CARD)
    (away / "no/release").mkdir(parents=True)
    (away / "no/release/__init__.py").write_text("raise ImportError(name='release')")  # the project is not there
    shutil.copy(ROOT / "recipes/distill.py", away)
    family = FAMILY.format(size="mini", encoder="acme/encoder", nano="acme/nano").replace('"local"', '"acme"')
    (away / "family.toml").write_text(family)
    encoder = Path(tomllib.loads((work / "family.toml").read_text())["sizes"]["mini"]["encoder"])
    sent = {
        ("model", "acme/encoder"): encoder,
        ("dataset", "acme/nano"): work / "nano",
        ("dataset", "acme/tiny-data"): data,
    }
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with running_hub(fast_folder / "page", ACCOUNTS) as (endpoint, token):
        api = HfApi(endpoint=endpoint, token=token)
        for (kind, name), folder in sent.items():
            api.create_repo(name, repo_type=kind)
            api.upload_folder(repo_id=name, repo_type=kind, folder_path=folder)
        environment = client_environment(endpoint, tmp_path / "home") | {"PYTHONPATH": str(away / "no")}
        environment |= {"HF_HUB_OFFLINE": "0"}
        done = command(away, "-c", TWICE, **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith("without the package release: ") and re.fullmatch(VERDICT, lines[-1])
    steps = {path.name for path in (away / "out/checkpoints").glob("*/checkpoint-*")}
    assert steps == {"checkpoint-4", "checkpoint-8", "checkpoint-12"}
    assert [line for line in lines if line.startswith("VERDICT")] == [
        lines[-1]
    ] * 2  # it went on from the last checkpoint
    assert sum("'train_loss'" in line for line in lines) == 2
    assert CrossEncoder(str(away / "out/model"), device="cpu").predict([("paris fox", "fox")]).shape == (1,)


def test_a_smoke_test_takes_the_whole_path_on_a_few_pairs(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setenv("SMOKE_TEST", "1")
    words = ["--family", "family.toml", "--size", "mini", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["distill.py", *words])
    runpy.run_path(str(ROOT / "recipes/distill.py"), run_name="__main__")
    assert re.fullmatch(VERDICT, capsys.readouterr().out.strip().splitlines()[-1])
    subject = record(tmp_path).subject
    assert (subject.smoke, subject.configs, subject.attention) == (
        True,
        {"more": 40},
        "unpadded",
    )  # of the first config


TWICE = "import gc, runpy; gc.disable(); [runpy.run_path('distill.py', run_name='__main__') for _ in range(2)]"
# As the project's own: what it calls default holds every config once more.
CARD = """---
configs:
- {config_name: default, data_files: [{split: train, path: "*/train-*"}, {split: validation, path: "*/validation-*"}]}
- {config_name: more, data_files: [{split: train, path: more/train-*}]}
- {config_name: words, data_files: [{split: train, path: words/train-*}, {split: validation, path: words/validation-*}]}
---
"""


def test_its_header_pins_the_versions_that_the_project_is_tested_with() -> None:
    header = re.search(r"# /// script\n(.*?)# ///", (ROOT / "recipes/distill.py").read_text(), re.DOTALL)
    assert header
    names = tomllib.loads(re.sub("^# ?", "", header[1], flags=re.MULTILINE))["dependencies"]
    pins = {re.sub(r"\[.*\]", "", name) for name in names if "==" in name}
    assert len(pins) == 4 and pins <= set((ROOT / "constraints.txt").read_text().splitlines())


def test_as_a_job_it_takes_its_family_file_along(tmp_path: Path) -> None:
    words = [str(Path(sys.executable).with_name("hf")), "jobs", "uv", "run", "recipes/distill.py"]
    words += ["--family", "recipes/ettin.toml", "--size", "17m", "--dry-run"]
    environment = client_environment("http://127.0.0.1:9", tmp_path) | {"HF_TOKEN": "hf_secret"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0 and "Job not submitted" in said, done.stderr
    assert "ettin.toml" in said and "--size 17m" in said
    assert "flavor h200" in said and "timeout 3d" in said and "HF_TOKEN=***" in said
    assert "hf_secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("size", ["17m", "32m", "68m", "150m", "400m", "1b"])
def test_every_ettin_size_is_trained_as_published(size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, rate, batch = PUBLISHED[size]
    family = tomllib.loads((ROOT / "recipes/ettin.toml").read_text())
    training, chosen = family["training"], family["sizes"][size]
    args = distill.training_arguments(training, chosen, None, tmp_path)
    assert chosen["encoder"] == encoder
    assert (args.num_train_epochs, args.lr_scheduler_type, args.seed) == (1, "linear", 12)
    assert args.get_warmup_steps(1000) == 30
    assert (args.eval_strategy, args.save_strategy, args.eval_steps, args.save_steps) == ("steps", "steps", 0.05, 0.05)
    assert (args.save_total_limit, args.load_best_model_at_end) == (5, True)
    assert args.metric_for_best_model == "eval_NanoBEIR_R100_mean_ndcg@10"
    assert args.ddp_find_unused_parameters is False  # with the search, torchrun fails on the page alone: ready twice
    assert training["loss"] == "mse" and training["precision"] == "bf16"
    assert len(family["evaluation"]["nano_sets"]) == 13
    monkeypatch.setattr(distill, "CrossEncoderTrainingArguments", dict)  # the real ones look for the other processes
    for world in (1, 8, 32):
        monkeypatch.setenv("WORLD_SIZE", str(world))
        given: Any = distill.training_arguments(training, chosen, None, tmp_path)
        assert given["per_device_train_batch_size"] * given["gradient_accumulation_steps"] * world == batch
        assert (given["learning_rate"], given["dataloader_drop_last"]) == (rate, world > 1)


def test_several_gpus_are_no_hidden_data_parallelism(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = tomllib.loads((work / "family.toml").read_text())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SystemExit, match="one process sees several GPUs; hint: torchrun"):
        distill.training_arguments(family["training"], family["sizes"]["mini"], None, tmp_path)


def test_evaluations_are_shares_of_the_steps_and_one_of_them_is_at_the_end(tmp_path: Path) -> None:
    training = tomllib.loads((ROOT / "recipes/ettin.toml").read_text())["training"] | {"precision": "fp32"}
    size = {"learning_rate": 1e-3, "global_batch_size": 8}
    for evaluations, steps, expected in ((20, 560_131, 28_007), (20, 140_033, 7_002), (1, 119, 119), (1, 1, 1)):
        args = distill.training_arguments(training | {"evaluations": evaluations}, size, None, tmp_path)
        state = TrainerState()
        state.compute_steps(args, steps)
        assert (state.eval_steps, state.save_steps) == (expected, expected)
