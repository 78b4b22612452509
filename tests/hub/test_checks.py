"""Nothing is published that should not be, and every reason is said at once."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from release.card import acceptance, render
from release.errors import ReleaseError
from release.family import Family
from release.hub import checks, stage
from release.localhub import metadata
from tests import built


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    facts = built.workspace(tmp_path, reranker, monkeypatch)
    stage.stage_dataset(facts)
    stage.stage_model(facts, built.SIZE)
    return facts


def rewrite(path: Path, old: str, new: str) -> None:
    """Replace text in a staged file, through a new file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.unlink()
    path.write_text(text.replace(old, new), encoding="utf-8")


def flip(path: Path) -> None:
    """Change the last bit of a file, in place."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_good_release_has_no_problem(family: Family) -> None:
    assert checks.problems(family, built.SIZE) == []


def test_a_licence_of_ones_own_and_another_language_come_onto_the_cards(family: Family) -> None:
    named = {"license": "other", "license_name": "mine-1.0", "license_link": "https://example.org/mine"}
    other = replace(family, about=replace(family.about, language="no", **named), data=replace(family.data, **named))
    measured = acceptance.card_records(other, built.SIZE)
    card, data = (
        render.model_card(other, built.SIZE, measured),
        render.dataset_card(other, measured.data, measured.manifest),
    )
    assert "under [mine-1.0](https://example.org/mine)" in card and "measured on Norwegian text" in card
    assert "[mine-1.0](https://example.org/mine) covers what was made here" in data
    for text in (card, data):
        front, _ = checks.split_card(text)
        assert {key: front[key] for key in named} == named and front["language"] == "no"
        assert metadata.validate(text, "dataset" if text is data else "model") == ([], [])
    stage.stage_dataset(other)
    stage.stage_model(other, built.SIZE)
    assert checks.problems(other, built.SIZE) == []


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "settings of one reader": (
        lambda repo: (repo / "special_tokens_map.json").write_text("{}"),
        "special_tokens_map.json: not a kind of file that is published",
    ),
    "pickle": (lambda repo: (repo / "pytorch_model.bin").write_bytes(b"x"), "not a kind of file that is published"),
    "missing": (lambda repo: (repo / "onnx/model.onnx").unlink(), "onnx/model.onnx: required, and missing"),
    "empty": (lambda repo: (repo / "records/empty.json").touch(), "records/empty.json: empty"),
    "token": (
        lambda repo: (repo / "records/notes.json").write_text(json.dumps("hf_" + "a1B2" * 9)),
        "notes.json: holds what looks like a token",
    ),
    "home": (
        lambda repo: (repo / "records/notes.json").write_text(json.dumps(f"{Path.home()}/x")),
        "notes.json: holds a path of the build machine",
    ),
    "cwd": (
        lambda repo: (repo / "onnx/model.onnx_data").write_bytes(b"\0" + bytes(Path.cwd()) + b"/a.py\0"),
        "onnx/model.onnx_data: holds a path of the build machine",
    ),
    "other home": (
        lambda repo: (repo / "records/notes.json").write_text('"see /home/alice/x"'),
        "holds a path of the build machine",
    ),
    "licence": (lambda repo: rewrite(repo / "README.md", "license: apache-2.0", "license: mine"), "licence 'mine'"),
    "yaml": (lambda repo: rewrite(repo / "README.md", "language: en", "language: [en"), "front matter is no YAML"),
    "pipeline": (lambda repo: rewrite(repo / "README.md", "text-ranking", "text-search"), "it must be 'text-ranking'"),
    "dead link": (lambda repo: rewrite(repo / "README.md", "(records)", "(evidence)"), "a link to evidence"),
    "id": (
        lambda repo: rewrite(repo / "README.md", 'CrossEncoder("local/docstring', 'CrossEncoder("other/docstring'),
        "the usage loads other/docstring-reranker-mini-v1",
    ),
    "flipped bit": (
        lambda repo: flip(repo / "4_Dense/model.safetensors"),
        "4_Dense/model.safetensors: not the trained model's",
    ),
    "headline": (lambda repo: rewrite(repo / "README.md", "0.596 → 0.605", "0.596 → 0.999"), "not what its sources"),
    "pickle as weights": (
        lambda repo: (repo / "2_Dense/model.safetensors").write_bytes(pickle.dumps({"weight": [1.0] * 99})),
        "2_Dense/model.safetensors: not what its name claims",
    ),
    "no number": (
        lambda repo: (repo / "records/more.json").write_text('{"score": NaN}'),
        "records/more.json: not what its name claims (NaN is no number)",
    ),
    "foreign code": (
        lambda repo: built.edit(repo / "config.json", lambda value: value.update(auto_map={"AutoModel": "x--y.Z"})),
        "config.json: names code to be run (auto_map)",
    ),
    "link": (
        lambda repo: (repo / "onnx/model.onnx_data").symlink_to("/etc/hostname"),
        "onnx/model.onnx_data: a link, which is not published",
    ),
    "foreign record": (
        lambda repo: built.edit(repo / "records/speed.json", lambda record: record.update(model_sha256="0" * 64)),
        "records/speed.json: the record of 'speed' was measured on another model",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(family: Family, fault: str) -> None:
    change, says = FAULTS[fault]
    change(stage.model_repo(family, built.SIZE))
    messages = checks.problems(family, built.SIZE)
    assert messages and any(says in line for line in messages), messages
    assert all("\n" not in line for line in messages)


def test_all_problems_come_at_once(family: Family, capsys: pytest.CaptureFixture[str]) -> None:
    repo, data = stage.model_repo(family, built.SIZE), stage.dataset_repo(family)
    (repo / "optimizer.pt").write_bytes(b"x")
    (repo / "tokenizer.json").unlink()
    shard = next(data.glob("*/train-*.parquet"))
    shard.unlink()
    shard.write_bytes(b"PAR1")
    collection = family.folder(built.SIZE) / "collection.yaml"
    rewrite(collection, 'title: "Docstring', 'title: "' + "D" * 60)
    with pytest.raises(ReleaseError, match=r"4 problem\(s\)"):
        checks.command(built.SIZE, built.DEMO)
    said = capsys.readouterr().out
    for word in ("optimizer.pt", "tokenizer.json: required", "not the shard", "the Hub takes 60"):
        assert word in said


def test_what_is_not_staged_is_a_problem(family: Family) -> None:
    import shutil

    shutil.rmtree(stage.model_repo(family, built.SIZE))
    assert any("not staged, make stage" in line for line in checks.problems(family, built.SIZE))


def test_a_package_that_is_missing_here_is_no_fault_of_the_files(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line says which extra brings it."""
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(ModuleNotFoundError, match="onnx_ir"):
        checks.problems(family, built.SIZE)
