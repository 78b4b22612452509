"""datasets/ holds declarations only, and each of them is checked key by key without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from release import family, spec
from release.data import plan
from release.errors import ReleaseError

ROOT = Path(__file__).resolve().parents[1]
ETTIN = ROOT / "datasets/ettin-reranker-v1-data.yaml"
DEMO = ROOT / "datasets/docstring-reranker-data.yaml"


def test_the_folder_never_becomes_importable() -> None:
    assert {path.suffix for path in (ROOT / "datasets").rglob("*") if path.is_file()} <= {".yaml", ".md"}
    assert not (ROOT / "datasets.py").exists()
    done = subprocess.run(
        [sys.executable, "-c", "import datasets; print(datasets.__file__)"], cwd=ROOT, capture_output=True, text=True
    )
    assert "site-packages" in done.stdout


def test_the_family_is_39_configs_with_the_published_facts() -> None:
    configs = spec.load(ETTIN).configs
    assert len(configs) == 39
    retrieval = {name for name, config in configs.items() if config.source.kind == "hf-retrieval"}
    domains = ("fever", "fiqa", "hotpotqa", "msmarco", "nq", "squadv2", "trivia")
    assert retrieval == {f"rerank_{domain}" for domain in domains}
    assert all(configs[name].sampling == spec.SamplingSpec(256, 16, 64, 32, (32, 256)) for name in retrieval)
    assert configs["quora"].held_out == spec.HeldOutSpec(5000, "validation")
    assert (configs["amazon_reviews"].cap, configs["beir_dbpedia"].cap) == (
        spec.CapSpec(5_000_000, "seeded"),
        spec.CapSpec(2_500_000, "seeded"),
    )
    assert configs["fw_edu"].source.config == "fw-edu"
    assert configs["agnews"].rows == 1_157_745
    assert all(config.source.revision is None for config in configs.values())  # unknown until fetched


@pytest.mark.parametrize("name", ["ettin", "demo"])
def test_each_family_names_a_declaration_with_its_validation_config(name: str) -> None:
    facts = family.load(ROOT / f"recipes/{name}.toml")
    loaded = spec.load(ROOT / facts.data.declaration)
    held_out = loaded.configs[facts.data.validation].held_out
    assert held_out is not None
    assert held_out.split == "validation"


def test_the_plan_says_what_is_unknown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan.show(spec.load(ETTIN), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert "39 configs" in lines[0] and "?: unknown until fetched" in lines
    agnews = next(line for line in lines if line.startswith("agnews ")).split()
    assert agnews == ["agnews", "1,157,745", "?", "?", "?"]  # bytes, licence and overlaps
    assert next(line for line in lines if line.startswith("paq ")).split() == ["paq", "?", "?", "?", "?"]
    assert "  SCIDOCS: s2orc_abstract_citation, s2orc_citation_titles, s2orc_title_abstract" in lines


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


def load(tmp_path: Path, text: str) -> spec.MixtureSpec:
    path = tmp_path / "data.yaml"
    path.write_text(text, encoding="utf-8")
    return spec.load(path)


def test_a_good_declaration_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).configs["one"].license == "cc0-1.0"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("    license: cc0-1.0\n", "", r"missing key 'license'.*key configs\.one"),
        ("cc0-1.0", "''", r"empty licence.*key configs\.one\.license"),
        ("cc0-1.0", "3", r"expected a valid string, found int 3.*key configs\.one\.license"),
        ("labels: teacher", "lables: teacher", r"unknown key 'lables'.*key configs\.one;.*did you mean 'labels'"),
        ("labels: teacher", "labels: teachers", r"unknown value 'teachers'.*one\.labels.*did you mean 'teacher'"),
        ("labels: teacher", "labels: source", r"no column is named.*key configs\.one;"),
        ("kind: files", "kind: fils", r"unknown value 'fils'.*configs\.one\.source\.kind.*did you mean 'files'"),
        ("kind: files, ", "", r"missing key 'kind'.*configs\.one\.source"),
        ("kind: files, ", "kinds: files, ", r"unknown key 'kinds'.*configs\.one\.source; hint: did you mean 'kind'"),
        (", path: one.csv", "", r"missing key 'path'.*configs\.one\.source"),
        ("path: one.csv", "path: one.csv, domain: d", r"unknown key 'domain'.*configs\.one\.source"),
        ("path: one.csv", "path: one.csv, pth: d", r"unknown key 'pth'.*did you mean 'path'"),
        ("overlaps: []", "overlaps: nq", "expected a valid array, found str 'nq'"),
        ("overlaps: []", "overlaps: []\n    cap: {rows: -1, draw: seeded}", r"greater than 0, found int -1.*cap\.rows"),
        ("overlaps: []", "overlaps: []\n    cap: {rows: 1, draw: sorted}", r"unknown value 'sorted'.*cap\.draw"),
        ("overlaps: []", "overlaps: []\n    cap: {rows: 1, drew: first}", r"unknown key 'drew'.*did you mean 'draw'"),
        ("overlaps: []", "overlaps: []\n    held_out: {rows: 0, split: test}", r"greater than 0.*held_out\.rows"),
        ("overlaps: []", "overlaps: []\n    held_out: {rows: 1, split: train}", "cannot be held out as 'train'"),
        ("overlaps: []", "overlaps: []\n    held_out: {rows: 1, split: Train}", "cannot be held out as 'Train'"),
        ("overlaps: []", "overlaps: []\n    held_out: {rows: 1, split: ../x}", "cannot be held out as '../x'"),
        ("configs:", "templates: {spare: 0}\nconfigs:", r"expected keys and values.*key templates\.spare"),
        ("configs:", "templates: {spare: {source: 0}}\nconfigs:", r"values, found int.*templates\.spare\.source"),
        ("configs:", "templates: {spare: {lables: x}}\nconfigs:", "unknown key 'lables'.*spare; hint: .*'labels'"),
        ("configs:", "templates: {spare: {labels: x}}\nconfigs:", r"unknown value 'x'.*templates\.spare\.labels"),
        ("configs:", "templates: {spare: {cap: {rows: 0}}}\nconfigs:", r"than 0, found int 0.*spare\.cap\.rows"),
        ("configs:", "templates: {spare: {source: {kind: fils}}}\nconfigs:", r"'fils'.*templates\.spare\.source"),
        ("overlaps: []", "overlaps: []\n    template: none", "unknown template 'none'"),
        ("overlaps: []", "overlaps: []\n    template: [none]", r"unknown template \['none'\]"),
        ("overlaps: []", "overlaps: []\n    license_note: 2024-01-01", "is a date; text needs quotes"),
        ("  one:", "  one: {}\n  one:", "duplicate key 'one'"),
        ("  one:", "  One: *x\n  one:", "not a valid YAML file"),
        ("  one:", "  no:", r"the key False is a bool, not text.*key configs; hint: write names in quotes"),
        ("  one:", "  010:", "the key 8 is a int, not text"),
        ("cc0-1.0", '"a\\tb"', "expected a line of text"),
        ("cc0-1.0", '"a\\0b"', "expected a line of text"),
        ("license_link: null", "license_link: 'javascript:alert(1)'", r"no address of a page.*one\.license_link"),
        ("license_link: null", "license_link: ftp://a.b/c", "no address of a page"),
        ("license_link: null", "license_link: ''", "no address of a page"),
        ("title: t", "title: ''", "expected a line of text, found ''.*key title"),
        ("title: t", 'title: "a\\ud800"', "cannot be read|not a valid YAML|surrogates"),
        ("title: t", 'title: "a\\nb"', "expected a line of text"),
        ("path: one.csv", "path: ''", r"expected a line of text.*source\.path"),
        ("path: one.csv", 'path: "a\\0b"', r"expected a line of text.*source\.path|not a valid YAML"),
        ("path: one.csv}", "path: one.csv}\n    columns: {query: ''}", r"expected a line of text.*columns\.query"),
        ("overlaps: []", "overlaps: ['']", r"expected a line of text.*overlaps\.0"),
        ("overlaps: []", "overlaps: []\n    license_note: ' '", r"expected a line of text.*license_note"),
        ("rows: null", "rows: 1000000000000000", r"less than or equal to.*one\.rows"),
        ("rows: null", "rows: -1", r"greater than or equal to 0.*one\.rows"),
        ("seed: 1", f"seed: {9 * 10**29}", "expected .*, found int 9.*key seed"),
        ("seed: 1", "seed: 9.0e+29", "expected .*found float.*key seed"),
        ("seed: 1", "seed: -1", "greater than or equal to 0, found int -1.*key seed"),
        ("shard_rows: 10\n", "shard_rows: 1000000000000\n", "less than or equal to 100000000.*key shard_rows"),
        ("seed: 1", "seed: yes", "expected a valid integer, found bool"),
        ("seed: 1", "seed: 1.0", "expected a valid integer, found float"),
        ("configs:", "configs: [", "not a valid YAML file"),
        ("configs:", f"x: {'[' * 3000}\nconfigs:", "not a valid YAML file"),
        ("shard_rows: 10\n", "", "missing key 'shard_rows'"),
        ("shard_rows: 10\n", "shard_rows: 0\n", "greater than 0, found int 0.*key shard_rows"),
        ("kind: files, path: one.csv", "kind: hf, repository: a/b/c, config: x, split: y", "no repository id"),
        ("kind: files, path: one.csv", "kind: beir, path: x, split: ../y", "cannot be the name of a folder"),
        ("kind: files, path: one.csv", "kind: docstrings", "`candidates`.*go together"),
        ("kind: files, path: one.csv", "kind: retrieval, path: x, domain: d, scores: s", "`sampling`.*go together"),
        (
            "path: one.csv}",
            "path: x}\n    columns: {query: q}\n    source: {kind: beir, path: x}",
            "duplicate key 'source'",
        ),
        ("kind: files, path: one.csv}", "kind: beir, path: x}\n    columns: {query: q}", "has no columns to name"),
    ],
)
def test_a_wrong_declaration_is_refused_by_config_and_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ReleaseError, match=says):
        load(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("name: n\n", "name: n\npath: elsewhere\n", "'path'"),
        ("configs:\n  one:\n", "configs:\n  one:\n    name: two\n", "'name'; in .*configs.one"),
    ],
)
def test_what_follows_from_its_place_cannot_be_said_otherwise(tmp_path: Path, old: str, new: str, where: str) -> None:
    with pytest.raises(ReleaseError, match=f"unknown key {where}"):
        load(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    "name",
    ["../../mini", "..", ".", "a/b", "a\\b", "*", "a*", "random_10k [2m]", "default", "Default", "manifest.json", "a..b", "",
     " ", ".a", "-a", "a.", "a b", "a\n", "é", "x" * 97, "C:", "a:b", "~",
     "con", "NUL.txt", "lpt1", "a\u200bb", "a%2Fb", "１"],
)  # fmt: skip
def test_a_config_name_that_is_no_folder_or_no_config_is_refused_at_the_reading(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReleaseError, match=r"data.yaml, key configs\.") as caught:
        load(tmp_path, GOOD.replace("  one:", f"  {json.dumps(name)}:"))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="config"):  # nor can one be made in Python
        replace(load(tmp_path, GOOD).configs["one"], name=name)


@pytest.mark.parametrize("name", ["one", "fw-edu", "fw_edu", "en.wiki", "2024", "A1", "x" * 96])
def test_names_that_the_hub_and_every_disk_take_are_good(tmp_path: Path, name: str) -> None:
    assert list(load(tmp_path, GOOD.replace("  one:", f"  '{name}':")).configs) == [name]


def test_an_upstream_name_may_be_any(tmp_path: Path) -> None:
    source = 'kind: hf, repository: a/b, config: "random_10k [2m]", split: train'
    config = load(tmp_path, GOOD.replace("kind: files, path: one.csv", source)).configs["one"]
    assert config.source == spec.HubSource("hf", "a/b", "random_10k [2m]", "train")


def test_names_that_differ_by_case_only_are_refused(tmp_path: Path) -> None:
    entry = GOOD[GOOD.index("  one:") :]
    with pytest.raises(ReleaseError, match="upper and lower case only"):
        load(tmp_path, GOOD + entry.replace("  one:", "  ONE:"))


def test_a_band_that_cannot_fill_the_places_is_refused(tmp_path: Path) -> None:
    text = ETTIN.read_text(encoding="utf-8").replace("band: [32, 256]", "band: [32, 40]")
    with pytest.raises(
        ReleaseError, match=r"band \[32, 40\] cannot give 32 candidates.*key templates\.retrieval\.sampling"
    ):
        load(tmp_path, text)
