"""datasets/ holds declarations only, and each of them is checked key by key without a network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from release import family
from release.data import mix, spec
from release.errors import ReleaseError

ROOT = Path(__file__).resolve().parents[2]
ETTIN = ROOT / "datasets/ettin-reranker-v1-data.yaml"
DEMO = ROOT / "datasets/docstring-reranker-data.yaml"


def test_the_folder_never_becomes_importable() -> None:
    assert {path.suffix for path in (ROOT / "datasets").rglob("*") if path.is_file()} <= {".yaml", ".md"}
    assert not (ROOT / "datasets.py").exists()
    found = subprocess.run(
        [sys.executable, "-c", "import datasets; print(datasets.__file__)"], cwd=ROOT, capture_output=True, text=True
    )
    assert "site-packages" in found.stdout


def test_the_family_is_39_configs_with_the_published_facts() -> None:
    configs = spec.load(ETTIN).configs
    assert len(configs) == 39
    retrieval = {name for name, config in configs.items() if config.source.kind == "hf-retrieval"}
    domains = ("fever", "fiqa", "hotpotqa", "msmarco", "nq", "squadv2", "trivia")
    assert retrieval == {f"rerank_{domain}" for domain in domains}
    assert all(configs[name].sampling == spec.Sampling(256, 16, 64, 32, (32, 256)) for name in retrieval)
    assert configs["quora"].held_out == spec.HeldOut(5000, "validation")
    assert (configs["amazon_reviews"].cap, configs["beir_dbpedia"].cap) == (
        spec.Cap(5_000_000, "seeded"),
        spec.Cap(2_500_000, "seeded"),
    )
    assert configs["fw_edu"].source.config == "fw-edu"
    assert configs["agnews"].rows == 1_157_745
    assert all(config.source.revision is None for config in configs.values())  # unknown until fetched


@pytest.mark.parametrize("name", ["ettin", "demo"])
def test_each_family_names_a_declaration_with_its_validation_config(name: str) -> None:
    facts = family.load(ROOT / f"recipes/{name}.toml")
    found = spec.load(ROOT / facts.data.declaration)
    held_out = found.configs[facts.data.validation].held_out
    assert held_out is not None
    assert held_out.split == "validation"


def test_the_plan_says_what_is_unknown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mix.print_plan(spec.load(ETTIN), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert "39 configs" in lines[0]
    agnews = next(line for line in lines if " agnews " in line)
    assert "1,157,745" in agnews
    assert agnews.count("unknown until fetched") == 3  # bytes, licence and overlaps
    assert "unknown until fetched" in next(line for line in lines if " paq " in line)


GOOD = """
name: n
title: t
seed: 1
shard_rows: 10
configs:
  one:
    source: {kind: files, path: one.csv}
    license: cc0-1.0
    license_link: null
    labels: teacher
    rows: null
    overlaps: []
"""


def load(tmp_path: Path, text: str) -> spec.Declaration:
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    return spec.load(path)


def test_a_good_declaration_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).configs["one"].license == "cc0-1.0"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    license: cc0-1.0\n", "", "missing key 'license'.*config one"),
        ("cc0-1.0", "''", "empty licence.*config one, key license"),
        ("cc0-1.0", "3", "expected str, found int 3.*config one, key license"),
        ("labels: teacher", "lables: teacher", "unknown key 'lables'.*config one.*did you mean 'labels'"),
        ("labels: teacher", "labels: teachers", "unknown value 'teachers'.*did you mean 'teacher'"),
        ("labels: teacher", "labels: source", "no column is named.*config one"),
        ("kind: files", "kind: fils", "unknown value 'fils'.*source.kind.*did you mean 'files'"),
        (", path: one.csv", "", "missing key 'source.path'.*config one"),
        ("path: one.csv", "path: one.csv, domain: d", "unknown key 'source.domain'.*config one"),
        ("overlaps: []", "overlaps: nq", "expected tuple or null, found str 'nq'"),
        ("overlaps: []", "overlaps: []\n    cap: {rows: -1, draw: seeded}", "from 0 on, found -1.*cap, key rows"),
        ("overlaps: []", "overlaps: []\n    cap: {rows: 1, draw: sorted}", "unknown value 'sorted'.*cap.draw"),
        ("overlaps: []", "overlaps: []\n    template: none", "unknown template 'none'"),
        ("  one:", "  one: {}\n  one:", "duplicate key 'one'"),
        ("seed: 1", "seed: yes", "expected int, found bool"),
        ("configs:", "configs: [", "not a valid YAML file"),
        ("shard_rows: 10\n", "", "missing key 'shard_rows'"),
    ],
)
def test_a_wrong_declaration_is_refused_by_config_and_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ReleaseError, match=says):
        load(tmp_path, GOOD.replace(old, new))


def test_a_band_that_cannot_fill_the_places_is_refused(tmp_path: Path) -> None:
    text = ETTIN.read_text(encoding="utf-8").replace("band: [32, 256]", "band: [32, 40]")
    with pytest.raises(ReleaseError, match=r"band \[32, 40\] cannot give 32 candidates.*rerank_fever"):
        load(tmp_path, text)
