"""The recipe: trains what it says, resumes bit by bit, is the same on two processes, and says what is missing."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder

from recipes import distill
from release import records
from release.localhub import running_hub
from tests.localhub.hub_fixtures import ACCOUNTS, client_environment

ROOT = Path(__file__).resolve().parents[2]
WORDS_FOR_IT = ["--family", "family.toml", "--size", "mini"]
METRIC = f"eval_{distill.METRIC}"
WORDS = ["paris", "france", "capital", "egg", "calories", "berlin", "germany", "mars", "planet", "fox", "dog", "river"]

PUBLISHED = {  # encoder, learning rate, global batch
    "17m": ("jhu-clsp/ettin-encoder-17m", 2.4e-4, 1024),
    "32m": ("jhu-clsp/ettin-encoder-32m", 1.2e-4, 512),
    "68m": ("jhu-clsp/ettin-encoder-68m", 3e-5, 256),
    "150m": ("jhu-clsp/ettin-encoder-150m", 1.5e-5, 192),
    "400m": ("jhu-clsp/ettin-encoder-400m", 7e-6, 256),
    "1b": ("jhu-clsp/ettin-encoder-1b", 3e-6, 512),
}
FAMILY = """
sizes.{size} = {{ encoder = "{encoder}", learning_rate = 2e-3, global_batch_size = 8 }}
family = {{ name = "tiny", title = "Tiny", version = "v1", organization = "local" }}
teacher = {{ model = "overlap" }}
data = {{ repository = "tiny-data", validation = "words" }}
evaluation = {{ nano = "{nano}", nano_sets = ["NanoWords"] }}
[training]
loss = "mse"
epochs = 1
warmup = 0.03
precision = "fp32"
max_length = 64
evaluations = 3
checkpoints = 5
seed = 12
"""


def rows(count: int, seed: int) -> pl.DataFrame:
    """Pairs of words whose label is their overlap."""
    generator = torch.Generator().manual_seed(seed)

    def some(size: int) -> list[str]:
        return [WORDS[i] for i in torch.randperm(len(WORDS), generator=generator)[:size]]

    pairs = [(some(3), some(2 + i % 9)) for i in range(count)]
    return pl.DataFrame(
        {
            "query": [" ".join(query) for query, _ in pairs],
            "document": [" ".join(document) for _, document in pairs],
            "label": pl.Series([4.0 * len({*query} & {*document}) + 9 for query, document in pairs], dtype=pl.Float32),
        }
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A folder with a family file, a mixture of two configs, and a collection in NanoBEIR's form."""
    place = tmp_path_factory.mktemp("recipe")
    for seed, (config, count) in enumerate([("words", 56), ("more", 40)]):
        folder = place / "build/tiny/data/mixture" / config
        folder.mkdir(parents=True)
        rows(count, seed).write_parquet(folder / "train-00000-of-00001.parquet")
    rows(16, 9).write_parquet(place / "build/tiny/data/mixture/words/validation-00000-of-00001.parquet")
    nano = place / "nano"
    nano.mkdir()
    texts = rows(20, 5)
    keys = [f"d{i}" for i in range(20)]
    tables = {
        "corpus": {"_id": keys, "text": texts["document"]},
        "queries": {"_id": ["q0", "q1", "q2"], "text": texts["query"][:3]},
        "qrels": {"query-id": ["q0", "q1", "q2"], "corpus-id": ["d0", "d1", "d2"]},
        "bm25": {"query-id": ["q0", "q1", "q2"], "corpus-ids": [keys, keys, keys]},
    }
    head = ["---", "configs:"]
    for name, columns in tables.items():
        pl.DataFrame(columns).write_parquet(nano / f"{name}.parquet")
        head += [f"- config_name: {name}", "  data_files:", f"  - {{split: NanoWords, path: {name}.parquet}}"]
    (nano / "README.md").write_text("\n".join([*head, "---", ""]))
    (place / "family.toml").write_text(FAMILY.format(size="mini", encoder=encoder, nano=nano))
    return place


@pytest.fixture
def recipe(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run the recipe's main in `place`, in this process."""
    monkeypatch.chdir(place)

    def run(*words: str, family: str = "family.toml", size: str = "mini") -> None:
        monkeypatch.setattr(sys, "argv", ["distill.py", "--family", family, "--size", size, *words])
        distill.main()

    return run


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "records/run.json").read_text())


def weights(folder: Path, step: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of the model in `folder`, or of the checkpoint called `step` somewhere below it."""
    if step:
        (folder,) = folder.rglob(step)
    files = sorted(folder.glob("**/model.safetensors"))
    return {f"{file.relative_to(folder)}/{name}": tensor for file in files for name, tensor in load_file(file).items()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert expected and expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def step_losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in record(folder)["measured"]["log_history"] if "loss" in entry]


def test_it_trains_saves_and_records_what_it_saved(place: Path, recipe: Callable[..., None], capsys: Any) -> None:
    recipe()
    folder, run = place / "build/tiny/mini", record(place / "build/tiny/mini")
    measured, subject = run["measured"], run["subject"]
    print_json = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r"VERDICT: (WIN|MARGINAL|REGRESSION) \| score=\S+ \| baseline=\S+ \| delta=\S+", print_json)
    assert f"score={measured['score']:.4f}" in print_json
    assert (measured["steps"], measured["examples"], subject["data_rows"]) == (12, 96, 96)
    assert subject["configs"] == {"more": 40, "words": 56}
    assert measured["loss_last"] < measured["loss_first"]
    assert [entry["step"] for entry in measured["checkpoints"]] == [4, 8, 12]
    assert measured["best"]["score"] == max(entry["score"] for entry in measured["checkpoints"])
    assert measured["score"] == pytest.approx(measured["best"]["score"])
    assert run["model_sha256"] == records.model_hash(folder / "model")
    assert "step 12" in (folder / "train.log").read_text()

    model = CrossEncoder(str(folder / "model"), device="cpu")
    assert isinstance(model.activation_fn, torch.nn.Identity)
    assert model.keep_in_fp32_modules == ["4.linear"]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    best = CrossEncoder(str(next(folder.glob(f"checkpoints/*/checkpoint-{measured['best']['step']}"))), device="cpu")
    assert model.predict([("paris fox", "fox")]) == best.predict([("paris fox", "fox")])


def test_cut_off_and_run_again_gives_the_same_weights(place: Path, recipe: Callable[..., None]) -> None:
    whole, again = place / "whole", place / "again"
    recipe("--output", str(whole))
    shutil.copytree(whole / "checkpoints", again / "checkpoints")
    run = next((again / "checkpoints").iterdir())
    shutil.rmtree(run / "checkpoint-12")
    (run / "checkpoint-8/trainer_state.json").write_text('{"half a')  # as a crash while writing leaves it
    recipe("--output", str(again))
    assert record(again)["measured"]["resumed_at"] == 4
    assert step_losses(again) == step_losses(whole)
    assert_equal(weights(again / "model"), weights(whole / "model"))
    assert_equal(weights(again / "checkpoints", "checkpoint-12"), weights(whole / "checkpoints", "checkpoint-12"))


def test_killed_at_work_and_run_again_gives_the_same_weights(place: Path, recipe: Callable[..., None]) -> None:
    recipe("--output", str(place / "undisturbed"))
    threads = str(torch.get_num_threads())  # another number of threads adds in another order
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "recipes/distill.py"), *WORDS_FOR_IT, "--output", "killed"],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": threads},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    told = place / "killed/train.log"  # of step 5 only when the checkpoint of step 4 is whole
    while not (told.is_file() and "step 5" in told.read_text()) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (place / "killed/records/run.json").exists()
    recipe("--output", str(place / "killed"))
    assert record(place / "killed")["measured"]["resumed_at"] in (4, 8)
    assert_equal(weights(place / "killed/model"), weights(place / "undisturbed/model"))
    assert_equal(
        weights(place / "killed/checkpoints", "checkpoint-12"),
        weights(place / "undisturbed/checkpoints", "checkpoint-12"),
    )


def test_the_last_checkpoint_lies_beside_the_best_one(place: Path, recipe: Callable[..., None]) -> None:
    recipe("--output", str(place / "both"))
    (folder,) = (place / "both/checkpoints").iterdir()
    state = json.loads((folder / "checkpoint-12/trainer_state.json").read_text())
    next(entry for entry in state["log_history"] if entry["step"] == 4 and METRIC in entry)[METRIC] = 1.5
    state |= {"best_metric": 1.5, "best_global_step": 4, "best_model_checkpoint": str(folder / "checkpoint-4")}
    (folder / "checkpoint-12/trainer_state.json").write_text(
        json.dumps(state)
    )  # as if the fourth step had been the best
    recipe("--output", str(place / "both"))
    measured = record(place / "both")["measured"]
    assert (measured["best"]["step"], measured["last"]["step"], measured["released"]) == (4, 12, "best")
    for name, step in (("model", 4), ("last", 12)):
        assert_equal(weights(place / "both" / name), weights(folder, f"checkpoint-{step}"))


def test_the_energy_of_all_legs_is_added(tmp_path: Path) -> None:
    assert distill.energy(tmp_path / "emissions.csv") is None
    lines = ["timestamp,emissions,energy_consumed", "2026-11-24T10:00:00,0.25,0.5", "2026-11-24T11:00:00,0.5,1.5"]
    (tmp_path / "emissions.csv").write_text("\n".join(lines) + "\n")
    assert distill.energy(tmp_path / "emissions.csv") == {"kwh": 2.0, "co2_kg": 0.75}


def test_a_finished_run_does_nothing_twice_and_other_data_is_another_run(
    place: Path, recipe: Callable[..., None], tmp_path: Path
) -> None:
    recipe("--output", str(tmp_path))
    before = weights(tmp_path / "model")
    recipe("--output", str(tmp_path))
    assert record(tmp_path)["measured"]["resumed_at"] == 12
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(tmp_path / "model").items())
    fewer = tmp_path / "fewer"
    shutil.copytree(place / "build/tiny/data/mixture/words", fewer / "words")
    recipe("--output", str(tmp_path), "--data", str(fewer))
    assert (record(tmp_path)["measured"]["resumed_at"], record(tmp_path)["measured"]["steps"]) == (0, 7)


def test_small_passes_make_the_same_steps(place: Path, recipe: Callable[..., None]) -> None:
    recipe("--output", str(place / "one"))
    recipe("--output", str(place / "four"), "--micro-batch", "2")
    assert step_losses(place / "four") == pytest.approx(step_losses(place / "one"), rel=1e-3)


def command(
    place: Path, *launch: str, family: str = "family.toml", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the recipe in a process of its own."""
    words = [sys.executable, *launch, "--family", family, "--size", "mini", "--output", "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "", **environment}
    return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)


def test_two_processes_give_the_losses_of_one_and_go_on_where_they_stopped(
    place: Path, recipe: Callable[..., None]
) -> None:
    recipe("--output", str(place / "alone"))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / "recipes/distill.py")]
    done = command(place, *launch)
    assert done.returncode == 0, done.stderr[-3000:]
    run = record(place / "out")
    assert (run["subject"]["processes"], run["subject"]["micro_batch"]) == (2, 4)
    losses = step_losses(place / "out")
    assert losses == pytest.approx(step_losses(place / "alone"), rel=1e-3)
    shutil.rmtree(next((place / "out/checkpoints").glob("*/checkpoint-12")))
    assert command(place, *launch).returncode == 0
    assert record(place / "out")["measured"]["resumed_at"] == 8
    assert step_losses(place / "out") == pytest.approx(losses, rel=1e-5)  # the same rows in the same order


def test_copied_out_of_the_project_it_runs_with_its_family_file(place: Path, tmp_path: Path) -> None:
    away = tmp_path / "somewhere/else"
    shutil.copytree(place / "build/tiny/data", away / "build/tiny/data")
    shutil.copy(place / "family.toml", away)
    shutil.copy(ROOT / "recipes/distill.py", away)
    done = command(away, "distill.py", SMOKE_TEST="1")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1].startswith("VERDICT: ")
    # without padding where the project is installed all the same
    assert record(away / "out")["subject"]["attention"] in ("sdpa", "unpadded")
    assert record(away / "out").keys() == {field.name for field in fields(records.Record)}


UPLOAD = """
import sys
from huggingface_hub import HfApi
for kind, name, folder in zip(*[iter(sys.argv[1:])] * 3):
    HfApi().create_repo(name, repo_type=kind)
    HfApi().upload_folder(repo_id=name, repo_type=kind, folder_path=folder)
"""
CARD = """---
configs:
- {config_name: default, data_files: [{split: train, path: "*/train-*"}, {split: validation, path: "*/validation-*"}]}
- {config_name: more, data_files: [{split: train, path: more/train-*}]}
- {config_name: words, data_files: [{split: train, path: words/train-*}, {split: validation, path: words/validation-*}]}
---
"""


def test_sent_away_alone_it_finds_everything_on_the_hub(place: Path, encoder: Path, tmp_path: Path) -> None:
    data, away = tmp_path / "data", tmp_path / "away"
    shutil.copytree(place / "build/tiny/data/mixture", data)
    family = FAMILY.format(size="mini", encoder="acme/encoder", nano="acme/nano").replace('"local"', '"acme"')
    (data / "family.toml").write_text(family)
    (data / "README.md").write_text(CARD)  # as the project's own: what it calls default holds every config once more
    (away / "no/release").mkdir(parents=True)
    (away / "no/release/__init__.py").write_text("raise ImportError")  # the project is not there
    shutil.copy(ROOT / "recipes/distill.py", away)
    with running_hub(tmp_path / "hub", ACCOUNTS) as (endpoint, _):
        environment = client_environment(endpoint, tmp_path / "home")
        sent = [
            "model",
            "acme/encoder",
            encoder,
            "dataset",
            "acme/nano",
            place / "nano",
            "dataset",
            "acme/tiny-data",
            data,
        ]
        subprocess.run(
            [sys.executable, "-c", UPLOAD, *map(str, sent)], env=environment, check=True, capture_output=True
        )
        environment |= {"HF_HUB_OFFLINE": "0", "PYTHONPATH": str(away / "no")}
        done = command(away, "distill.py", family="hf://datasets/acme/tiny-data@main/family.toml", **environment)
    assert done.returncode == 0, done.stderr[-3000:]
    run = record(away / "out")
    subject = run["subject"]
    assert (subject["data"], subject["configs"]) == ("acme/tiny-data", {"more": 40, "words": 56})
    assert re.fullmatch("[0-9a-f]{40} [0-9a-f]{40}", f"{subject['data_revision']} {subject['encoder_revision']}")
    assert subject["attention"] == "sdpa" and run["measured"]["eval_loss"] > 0
    assert run.keys() == {field.name for field in fields(records.Record)}


def test_its_header_pins_the_versions_that_the_project_is_tested_with() -> None:
    header = re.search(r"# /// script\n(.*?)# ///", (ROOT / "recipes/distill.py").read_text(), re.DOTALL)
    wanted = tomllib.loads(re.sub("^# ?", "", header[1], flags=re.MULTILINE))["dependencies"]
    pins = {re.sub(r"\[.*\]", "", name) for name in wanted if "==" in name}
    assert len(pins) == 4 and pins <= set((ROOT / "constraints.txt").read_text().splitlines())


def test_as_a_job_it_asks_for_what_its_header_says(tmp_path: Path) -> None:
    words = [str(Path(sys.executable).with_name("hf")), "jobs", "uv", "run", "--dry-run"]
    environment = client_environment("http://127.0.0.1:9", tmp_path) | {"HF_TOKEN": "hf_secret"}
    done = subprocess.run(
        [*words, str(ROOT / "recipes/distill.py"), "--size", "17m"], env=environment, capture_output=True, text=True
    )
    said = " ".join(done.stdout.split())
    assert done.returncode == 0 and "Job not submitted" in said, done.stderr
    assert "--size 17m" in said and "flavor h200" in said and "timeout 3d" in said and "HF_TOKEN=***" in said
    assert "hf_secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("size", ["17m", "32m", "68m", "150m", "400m", "1b"])
def test_every_ettin_size_is_trained_as_published(size: str, tmp_path: Path) -> None:
    encoder, rate, batch = PUBLISHED[size]
    family = distill.read_family(ROOT / "recipes/ettin.toml", size)
    training, chosen = family["training"], family["sizes"][size]
    for world in (1, 8, 32):
        args = distill.training_arguments(training, chosen, world, batch // world, 140_033, "bf16", tmp_path)
        assert args.per_device_train_batch_size * args.gradient_accumulation_steps * world == batch
        assert args.learning_rate == rate
    assert chosen["encoder"] == encoder
    assert (args.num_train_epochs, args.lr_scheduler_type, args.seed) == (1, "linear", 12)
    assert args.get_warmup_steps(1000) == 30
    assert (args.eval_steps, args.save_steps) == (7002, 7002)  # every 5 %
    assert (args.save_total_limit, args.load_best_model_at_end, args.bf16) == (5, True, True)
    assert args.metric_for_best_model == "eval_NanoBEIR_R100_mean_ndcg@10"
    assert (family["training"]["max_length"], family["training"]["loss"]) == (8192, "mse")
    assert len(family["evaluation"]["nano_sets"]) == 13


def test_batches_are_a_seeded_shuffle_of_every_row() -> None:
    def order(seed: int, drop: bool = False, epoch: int = 0) -> list[list[int]]:
        batches = distill.ShuffledBatches(range(103), batch_size=10, drop_last=drop, seed=seed)  # ty: ignore
        batches.set_epoch(epoch)
        assert len(list(batches)) == len(batches)
        return list(batches)

    assert sorted(row for batch in order(1) for row in batch) == list(range(103))
    assert order(1) == order(1) != order(2)
    assert order(1, epoch=1) != order(1)
    assert order(1, drop=True) == order(1)[:-1]


def test_margin_mse_keeps_the_rows_of_a_query_together() -> None:
    queries = [f"query {row % 13}" for row in range(60)]
    data = Dataset.from_dict({"query": queries, "document": queries, "label": [0.0] * 60})

    def order(seed: int, epoch: int = 0) -> list[int]:
        batches = distill.QueriesTogether(data, batch_size=8, drop_last=False, seed=seed)
        batches.set_epoch(epoch)
        return [row for batch in batches for row in batch]

    assert sorted(order(1)) == list(range(60))
    assert len(list(itertools.groupby(order(1), key=lambda row: queries[row]))) == 13
    assert order(1) == order(1) != order(2)
    assert order(1, epoch=1) != order(1)


def test_margin_mse_is_the_error_of_the_differences_within_a_query(encoder: Path) -> None:
    model = distill.build_model(str(encoder), 64, device="cpu").eval()
    queries, documents = ["fox", "egg", "fox", "fox", "dog"], ["fox dog", "egg", "river", "mars egg", "dog"]
    labels = torch.tensor([4.0, 1.0, -2.0, 0.5, 3.0])
    errors = torch.from_numpy(model.predict(list(zip(queries, documents, strict=True)))) - labels
    wanted = [  # of a row: the mean over its query's rows
        sum((errors[row] - errors[other]) ** 2 for other in same) / len(same)
        for row, query in enumerate(queries)
        for same in [[other for other in range(5) if queries[other] == query]]
    ]
    loss = distill.MarginMSE(model)([queries, documents], labels)
    assert loss.item() == pytest.approx(float(sum(wanted)) / 5, rel=1e-4)


def test_a_family_can_ask_for_margin_mse_which_leaves_the_level_of_a_query_free(
    place: Path, recipe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "margin.toml").write_text((place / "family.toml").read_text().replace('"mse"', '"margin-mse"'))
    pairs = rows(32, 3).with_columns(pl.Series("query", [WORDS[row % 8] for row in range(32)]))
    levels = pl.Series("label", [float(row % 8) for row in range(32)], dtype=pl.Float32)
    for name, labels in (("asked", pairs["label"]), ("moved", pairs["label"] + levels)):
        (place / name / "words").mkdir(parents=True)
        pairs.with_columns(labels).write_parquet(place / name / "words/train-0.parquet")
        recipe("--data", name, "--output", str(place / f"margin-{name}"), family="margin.toml")
    assert record(place / "margin-asked")["subject"]["loss"] == "margin-mse"
    assert min(step_losses(place / "margin-asked")) > 0
    assert step_losses(place / "margin-moved") == pytest.approx(step_losses(place / "margin-asked"), rel=1e-3)
    monkeypatch.setenv("SMOKE_TEST", "1")
    (place / "many/words").mkdir(parents=True)  # no two documents of a query among the first rows
    many = pl.concat([pairs.with_columns(pl.col("query") + f" {turn}") for turn in range(40)]).sort("document")
    many.write_parquet(place / "many/words/train-0.parquet")
    recipe("--data", "many", "--output", str(place / "margin-smoke"), family="margin.toml")
    assert record(place / "margin-smoke")["subject"]["data_rows"] == 64
    assert min(step_losses(place / "margin-smoke")) > 0


@pytest.mark.parametrize(
    ("words", "keywords", "message"),
    [
        ([], {"size": "huge"}, "unknown size 'huge'"),
        ([], {"family": "no.toml"}, "no family file"),
        ([], {"family": "broken.toml"}, "not a family file"),
        (["--data", "empty"], {}, "no training data"),
        (["--data", "nobody/nothing"], {}, "no training data"),
        (["--data", "columns"], {}, "no column label"),
        ([], {"family": "nobody.toml"}, "cannot load the encoder 'nobody/nothing'"),
        (["--micro-batch", "3"], {}, "does not divide"),
        ([], {"family": "loss.toml"}, "unknown loss 'mae'"),
        (["--data", "single"], {"family": "margin.toml"}, "no query has two documents"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_missing_is_said_in_one_line(
    place: Path, recipe: Callable[..., None], words: list[str], keywords: dict[str, str], message: str
) -> None:
    (place / "empty").mkdir(exist_ok=True)
    (place / "broken.toml").write_text("[family\n")
    (place / "loss.toml").write_text((place / "family.toml").read_text().replace('"mse"', '"mae"'))
    (place / "nobody.toml").write_text(FAMILY.format(size="mini", encoder="nobody/nothing", nano=place / "nano"))
    (place / "margin.toml").write_text((place / "family.toml").read_text().replace('"mse"', '"margin-mse"'))
    for name in ("columns", "single"):
        (place / name / "words").mkdir(parents=True, exist_ok=True)
    rows(8, 1).with_columns(pl.Series("query", WORDS[:8])).write_parquet(place / "single/words/train-0.parquet")
    rows(8, 1).drop("label").write_parquet(place / "columns/words/train-0.parquet")
    with pytest.raises(SystemExit) as stopped:
        recipe("--output", str(place / "bad"), *words, **keywords)
    said = str(stopped.value)
    assert message in said
    assert "; hint: " in said and "\n" not in said
    assert not (place / "bad/model").exists()
