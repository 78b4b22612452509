"""A figure that fell by more than its interval since the version before stops a release, unless the family allows it by name."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from release import records, results
from release.errors import ReleaseError
from release.evaluation import queries
from release.family import Family, ReleaseConfig, load
from release.hub import regression, state
from tests import built


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A measured size, with a copy of its records as the release before it."""
    facts = built.workspace(tmp_path, reranker, monkeypatch)
    shutil.copytree(facts.folder(built.SIZE) / "records", tmp_path / "before/records")
    return facts


def worse(folder: Path, by: float) -> None:
    """Every query is worse by `by` than it was measured."""
    record = records.read(folder, results.EVALUATE)
    scores = queries.read(folder, record.measured)
    lower = [
        dataclasses.replace(each, reranked_ndcg=tuple(max(0.0, value - by) for value in each.reranked_ndcg))
        for each in scores.model
    ]
    sha256 = queries.write(folder, dataclasses.replace(scores, model=tuple(lower)))
    records.write(
        dataclasses.replace(record, measured=dataclasses.replace(record.measured, queries_sha256=sha256)), folder
    )


def test_what_is_as_it_was_is_printed_and_passes(family: Family, capsys: pytest.CaptureFixture[str]) -> None:
    figures = regression.check(family, built.SIZE, None, "before")
    assert [each.name for each in figures] == [
        "ndcg",
        "ndcg docstrings bm25",
        f"ndcg docstrings {built.MINILM}",
        "pairs_per_second",
    ]
    assert not any(each.fell for each in figures) and figures[0].old == figures[0].new
    assert "pairs_per_second" in capsys.readouterr().out


def test_a_fall_beyond_the_interval_is_refused_unless_it_is_allowed_by_name(family: Family) -> None:
    worse(family.folder(built.SIZE) / "records", 0.05)
    with pytest.raises(
        ReleaseError, match=r"ndcg, ndcg docstrings bm25.* fell by more than the interval.*allow_regression"
    ):
        regression.check(family, built.SIZE, None, "before")
    names = tuple(each.name for each in regression.check(family, built.SIZE, None, "before", refuse=False) if each.fell)
    assert len(names) == 3
    allowed = dataclasses.replace(family, release=ReleaseConfig(allow_regression=names))
    regression.check(allowed, built.SIZE, None, "before")


def test_a_slower_model_is_refused_where_even_its_fastest_pass_is_slower(family: Family) -> None:
    built.measure_again(family, "speed", **vars(built.speed_result(300.0)))
    with pytest.raises(ReleaseError, match=r"pairs_per_second fell"):
        regression.check(family, built.SIZE, None, "before")


def test_the_version_before_is_found_by_its_number(family: Family) -> None:
    def of(version: str) -> str | None:
        about = dataclasses.replace(family.about, version=version)
        return regression.before(dataclasses.replace(family, about=about), built.SIZE)

    assert of("v1") is None and of("final") is None
    assert of("v10") == "local/docstring-reranker-mini-v9@v9"


def test_the_version_before_is_read_at_its_tag_on_the_hub(
    family: Family, hub: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api = state.connect(hub)
    second = dataclasses.replace(family, about=dataclasses.replace(family.about, version="v2"))
    assert regression.check(second, built.SIZE, api) == []  # no version before is there
    name = f"local/{family.about.name}-{built.SIZE}-v1"
    api.create_repo(name, private=True)
    api.upload_folder(repo_id=name, folder_path="before/records", path_in_repo="records")
    api.create_tag(name, tag="v1")
    api.delete_folder("records", name)  # main says nothing: what was released is the tag
    figures = regression.check(second, built.SIZE, api)
    assert len(figures) == 4 and not any(each.fell for each in figures)
    assert f"beside {name}@v1" in capsys.readouterr().out
    worse(family.folder(built.SIZE) / "records", 0.05)
    with pytest.raises(ReleaseError, match=rf"fell by more than the interval beside {name}@v1"):
        regression.check(second, built.SIZE, api)


def test_what_is_named_and_not_there_is_one_line(family: Family, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"no folder absent, and no Hub is named"):
        regression.check(family, built.SIZE, None, "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReleaseError, match=r"no record of 'evaluate'"):
        regression.check(family, built.SIZE, None, "empty")


def test_a_family_file_names_what_may_fall(tmp_path: Path) -> None:
    text = built.DEMO.read_text(encoding="utf-8") + '\n[release]\nallow_regression = ["pairs_per_second"]\n'
    (tmp_path / "family.toml").write_text(text)
    assert load(tmp_path / "family.toml").release.allow_regression == ("pairs_per_second",)
