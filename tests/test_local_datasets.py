"""A user's own folder of the library `datasets` is read as it is now, whatever lay there, or under its name, before."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import polars as pl
import pytest
from sentence_transformers.cross_encoder.evaluation import nano_beir

from release import family
from release.data.contamination import build_eval_index
from release.errors import ReleaseError
from release.evaluation.nano_evaluator import NanoBEIR
from release.local_datasets import named_by_contents
from tests.training.conftest import write_nano


def change(folder: Path, text: str) -> None:
    """The same names and README, and other documents."""
    rows = pl.DataFrame({"_id": [f"d{number}" for number in range(20)], "text": [f"{text} {n}" for n in range(20)]})
    rows.write_parquet(folder / "corpus.parquet")


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(nano_beir.DATASET_NAME_TO_HUMAN_READABLE, "words", "Words")
    folder = tmp_path / "stale" / "nano-of-stale"
    folder.parent.mkdir()
    write_nano(folder)
    change(folder, "first")
    return folder


def test_a_nano_set_that_changed_under_its_name_and_readme_is_read_anew(nano: Path, tmp_path: Path) -> None:
    def documents(folder: Path) -> set[str]:
        evaluator = NanoBEIR(["words"], str(folder))
        assert evaluator.dataset_id == str(folder)
        return {text.split()[0] for sample in evaluator.evaluators[0].samples for text in sample["documents"]}

    assert documents(nano) == {"first"}
    change(nano, "second")
    assert documents(nano) == {"second"}
    other = shutil.copytree(nano, tmp_path / "elsewhere" / nano.name)
    change(other, "third")
    assert documents(other) == {"third"} and documents(nano) == {"second"}


def test_training_text_is_compared_with_the_set_that_is_there_now(nano: Path) -> None:
    demo = family.load(Path(__file__).parents[1] / "recipes/demo.toml")
    facts = dataclasses.replace(demo.evaluation, nano=str(nano), nano_sets=("NanoWords",), collections=())
    watched = dataclasses.replace(demo, evaluation=facts)
    before = build_eval_index(watched).revision
    assert build_eval_index(watched).revision == before
    change(nano, "second")
    assert build_eval_index(watched).revision != before
    pl.DataFrame({"_id": ["d0"], "body": ["x"]}).write_parquet(nano / "corpus.parquet")
    with pytest.raises(ReleaseError, match=r"the corpus of NanoWords have no column 'text' \(there are: _id, body\)"):
        build_eval_index(watched)


def test_a_hub_id_stays_and_the_link_goes_with_the_block(nano: Path) -> None:
    with named_by_contents("sentence-transformers/NanoBEIR-en") as source:
        assert source == "sentence-transformers/NanoBEIR-en"
    with named_by_contents(str(nano)) as source:
        assert Path(source).name.startswith(f"{nano.name}-") and Path(source).resolve() == nano.resolve()
    assert not Path(source).parent.exists() and nano.is_dir()
