"""A run says what is missing before the first step, in one line, and adds up the energy of all its legs."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi, constants
from safetensors.torch import load_file, save_file

from recipes import distill
from release.errors import ReleaseError
from release.files import sha256_file
from release.results.training import EnergyUse
from release.training.energy import Starts, energy
from release.training.log import LogFile, explain
from release.training.run import loaded_encoder
from tests import forked
from tests.training.conftest import FAMILY, WORDS, rows
from tests.training.helpers import ROOT

HEAD = "timestamp,emissions,energy_consumed"


def test_the_encoder_is_named_by_the_commit_that_was_loaded_though_an_older_one_lay_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cache, commits = tmp_path / "models--acme--encoder", ("a" * 40, "b" * 40)
    for commit in commits:
        (cache / "snapshots" / commit).mkdir(parents=True)
        (cache / "snapshots" / commit / "config.json").write_text("{}")
        (cache / "snapshots" / commit / "model.safetensors").write_text(commit)
    (cache / "refs").mkdir()
    for commit in commits:  # loading the newest commit moves the reference
        (cache / "refs/main").write_text(commit)
        weights = cache / "snapshots" / commit / "model.safetensors"
        assert loaded_encoder("acme/encoder") == (commit, sha256_file(weights))


def test_the_energy_of_all_legs_is_added(tmp_path: Path) -> None:
    assert energy(tmp_path) is None
    lines = [HEAD, "2026-11-24T10:00:00,0.25,0.5", "2026-11-24T11:00:00,0.5,1.5"]
    (tmp_path / "emissions.csv").write_text("\n".join(lines) + "\n")
    assert energy(tmp_path) == EnergyUse(kwh=2.0, co2_kg=0.75)


def test_the_energy_of_a_leg_that_was_moved_aside_counts_too(tmp_path: Path) -> None:
    (tmp_path / "emissions.csv").write_text(f"{HEAD}\n2026-11-24T12:00:00,0.5,1.0\n")
    (tmp_path / "emissions.csv_0.bak").write_text("energy_consumed,emissions,other\n5.0,2.0,x\n")
    assert energy(tmp_path) == EnergyUse(kwh=6.0, co2_kg=2.5)
    (tmp_path / "emissions.csv_1.bak").write_text("timestamp\n2026-11-24T09:00:00\n")
    with pytest.raises(ReleaseError, match=r"no energy figures.*emissions\.csv_1\.bak"):
        energy(tmp_path)


def test_a_start_that_was_killed_leaves_no_figure_and_so_none_is_recorded(tmp_path: Path) -> None:
    def start(node: int = 0) -> None:
        state: Any = SimpleNamespace(is_local_process_zero=not node, global_step=4)
        Starts().on_train_begin(SimpleNamespace(output_dir=str(tmp_path)), state, None)

    start()
    start(node=1)
    (tmp_path / "emissions.csv").write_text(f"{HEAD}\n2026-11-24T12:00:00,0.5,1.0\n")
    assert energy(tmp_path) == EnergyUse(kwh=1.0, co2_kg=0.5)
    start()
    assert energy(tmp_path) is None
    with (tmp_path / "emissions.csv").open("a") as stream:
        stream.write("2026-11-24T13:00:00,0.5,1.0\n")
    assert energy(tmp_path) == EnergyUse(kwh=2.0, co2_kg=1.0)


@pytest.mark.parametrize("figure", ["nan", "inf", "-1", "", "x"])
def test_a_figure_of_energy_that_cannot_be_is_refused(tmp_path: Path, figure: str) -> None:
    (tmp_path / "emissions.csv").write_text(f"{HEAD}\n2026-11-24T12:00:00,0.5,{figure}\n")
    with pytest.raises(ReleaseError, match="no energy figures"):
        energy(tmp_path)


@pytest.mark.parametrize(
    ("words", "keywords", "message"),
    [
        ([], {"size": "huge"}, "unknown size 'huge'"),
        ([], {"family": "no.toml"}, "no family file"),
        ([], {"family": "broken.toml"}, "not a TOML file"),
        ([], {"family": "loss.toml"}, "mae"),
        ([], {"family": "validation.toml"}, "no config 'nope', whose held-out pairs are evaluated"),
        (["--data", "empty"], {}, "no training data"),
        (["--data", "nobody/nothing"], {}, "no training data"),
        (["--data", "columns"], {}, "no column label"),
        (["--data", "words"], {}, "the column label holds large_string, not numbers"),
        (["--data", "lists"], {}, "the column label holds large_list"),
        (["--data", "brackets"], {}, "a config cannot be called 'random_10k [2m]'"),
        (["--data", "both"], {}, "a config cannot be called 'default'"),
        (["--data", "nan"], {}, "the label is nan; in config words, row 3 of split train"),
        (["--data", "infinite"], {}, "the label is inf; in config words, row 3 of split train"),
        (["--data", "large"], {}, "the label is 1e+39, beyond 1,000,000,000; in config words, row 3 of split train"),
        (["--data", "bytes"], {}, "the query is no UTF-8; in config words, row 3 of split train"),
        (["--data", "null"], {}, "the label is missing; in config words, row 3 of split train"),
        (["--data", "textless"], {}, "the document is missing; in config words, row 3 of split train"),
        ([], {"family": "nobody.toml"}, "cannot load the encoder 'nobody/nothing'"),
        ([], {"family": "cut.toml"}, "the encoder is not whole: 1 of its weights are in none of its files"),
        (["--data", "single"], {"family": "margin.toml"}, "no query has two documents"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_missing_is_said_in_one_line(
    work: Path, recipe: Callable[..., None], words: list[str], keywords: dict[str, str], message: str
) -> None:
    write_faulty(work)
    with pytest.raises(ReleaseError) as stopped:
        recipe("--output", "bad", *words, **keywords)
    said = explain(stopped.value, Path("train.log"))
    assert message in said
    assert "; hint: " in said and "\n" not in said
    assert not (work / "bad/model").exists()


def write_faulty(work: Path) -> None:
    """Family files and mixtures of which each has one fault."""
    family = (work / "family.toml").read_text()
    (work / "broken.toml").write_text("[family\n")
    (work / "loss.toml").write_text(family.replace('"mse"', '"mae"'))
    (work / "validation.toml").write_text(family.replace('validation = "words"', 'validation = "nope"'))
    (work / "margin.toml").write_text(family.replace('"mse"', '"margin-mse"'))
    encoder = Path(tomllib.loads(family)["sizes"]["mini"]["encoder"])
    shutil.copytree(encoder, work / "cut", dirs_exist_ok=True)
    weights = load_file(encoder / "model.safetensors")
    del weights[max(name for name in weights if "Wqkv" in name)]
    save_file(weights, work / "cut/model.safetensors", metadata={"format": "pt"})
    (work / "cut.toml").write_text(FAMILY.format(size="mini", encoder=work / "cut", nano=work / "nano"))
    (work / "nobody.toml").write_text(FAMILY.format(size="mini", encoder="nobody/nothing", nano=work / "nano"))
    (work / "empty").mkdir(exist_ok=True)
    eight = rows(8, 1).with_columns(pl.Series("query", WORDS[:8]))

    def spoiled(column: str, value: Any) -> pl.DataFrame:
        return eight.with_columns(pl.Series(column, [*eight[column][:3], value, *eight[column][4:]]))

    mixtures = {
        "single": eight,
        "columns": eight.drop("label"),
        "words": eight.with_columns(pl.col("label").cast(pl.String)),
        "lists": eight.with_columns(pl.concat_list("label")),
        "nan": spoiled("label", float("nan")),
        "infinite": spoiled("label", float("inf")),
        "large": spoiled("label", 1e39),
        "null": spoiled("label", None),
        "textless": spoiled("document", None),
    }
    for name, mixture in mixtures.items():
        (work / name / "words").mkdir(parents=True, exist_ok=True)
        mixture.write_parquet(work / name / "words/train-0.parquet")
    queries = pa.array(
        [*(word.encode() for word in WORDS[:3]), b"\xff", *(word.encode() for word in WORDS[4:8])], pa.binary()
    )
    (work / "bytes/words").mkdir(parents=True, exist_ok=True)
    spoilt = eight.to_arrow().set_column(0, "query", queries.view(pa.string()))
    pq.write_table(spoilt, work / "bytes/words/train-0.parquet")
    for name in ("brackets/random_10k [2m]", "both/words", "both/default"):
        (work / name).mkdir(parents=True, exist_ok=True)
        eight.write_parquet(work / name / "train-0.parquet")


TAKEN = """
name: taken
title: Taken
seed: 12
shard_rows: 1000
published: {rows: 97}
configs:
  words: {source: {kind: files, path: w}, labels: teacher, rows: null, license: mit, license_link: null, overlaps: []}
"""


@pytest.mark.parametrize("alone", [True, False], ids=["the page alone", "with release.training"])
def test_a_published_mixture_is_read_at_the_commit_that_is_named_and_must_have_its_rows(
    alone: bool, work: Path, tmp_path: Path, recipe: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, named, settled = (work / "family.toml").read_text(), "a" * 40, "c" * 40
    text = text.replace('"tiny-data"', f'"tiny-data", mixture = "acme/taken", mixture_revision = "{named}"')
    here = str(work / "build/tiny/data/mixture")
    read: list[tuple[str, str | None]] = []
    load = distill.load_mixture

    def watched(data: str, commit: str | None, validation: str) -> Any:
        read.append((data, commit))
        if alone:
            raise SystemExit("enough")
        return load(here, None, validation)

    monkeypatch.setattr(distill, "load_mixture", watched)
    monkeypatch.setattr(distill, "project", None if alone else distill.project)
    monkeypatch.setattr(HfApi, "repo_info", lambda *_, revision=None, **__: SimpleNamespace(sha=revision))
    monkeypatch.chdir(tmp_path)  # where no mixture lies
    Path("family.toml").write_text(text)
    Path("data.yaml").write_text(TAKEN)
    with pytest.raises(
        (SystemExit, ReleaseError), match=r"enough|96 pairs to train on, where 97 were published \(-1\)"
    ):
        recipe()
    assert read == [("acme/taken", named)]
    if not alone:  # the commit that `make mix` settled
        Path("family.toml").write_text(text.replace(f', mixture_revision = "{named}"', ""))
        Path("build/tiny/data/pairs").mkdir(parents=True)
        manifest = {"mixture": "acme/taken", "revision": settled, "configs": {}}
        Path("build/tiny/data/pairs/manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ReleaseError, match="where 97 were published"):
            recipe()
        assert read[-1] == ("acme/taken", settled)


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_a_training_whose_gradient_is_no_number_ends_at_that_step(norm: float) -> None:
    state: Any = SimpleNamespace(is_world_process_zero=False, global_step=7)
    LogFile().on_log(None, state, None, logs={"grad_norm": 1.0, "loss": 0.0})
    with pytest.raises(ReleaseError, match=f"the gradient is {norm} at step 7"):
        LogFile().on_log(None, state, None, logs={"grad_norm": norm, "loss": 0.0})


def test_a_batch_that_does_not_divide_is_refused(work: Path, recipe: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match="a global batch of 8 does not divide by 1 processes x 3 pairs"):
        recipe("--output", "bad", "--per-device-batch-size", "3")


def test_on_the_command_line_it_is_one_line_and_the_traceback_is_in_the_log(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "gone.toml").write_text(FAMILY.format(size="mini", encoder=tmp_path / "gone", nano=work / "nano"))
    (tmp_path / "gone").mkdir()
    words = ["--family", "gone.toml", "--size", "mini", "--output", str(tmp_path / "out")]
    monkeypatch.chdir(work)
    assert forked.wait(forked.start(forked.script(ROOT / "recipes/distill.py", *words), tmp_path)) == 1
    said = (tmp_path / "stderr").read_text()
    assert "Traceback" not in said and "hint: " in said.splitlines()[-1]
    assert "Traceback" in (tmp_path / "out/train.log").read_text()


def test_what_is_wrong_with_the_family_file_is_one_line_before_there_is_a_log(
    work: Path, tmp_path: Path, recipe: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "never.toml").write_text(re.sub("epochs = .*", "epochs = 0", (work / "family.toml").read_text()))
    with pytest.raises(ReleaseError) as stopped:
        recipe("--output", str(tmp_path / "never"), family="never.toml")
    sys.excepthook(stopped.type, stopped.value, stopped.tb)  # the run's own, as Python calls it in the end
    said = capsys.readouterr().err.strip()
    assert said.splitlines()[-1].startswith("error: expected greater than 0, found int 0")
    assert "Traceback" not in said and not (tmp_path / "never").exists()
