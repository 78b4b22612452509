"""ORG=name and --org: a family is released under another organisation, in everything that names it, and its file stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release import family
from release.__main__ import main
from release.budget.training import plan
from release.card import acceptance, compare, comparison, render
from release.errors import ReleaseError
from release.hub.state import desired_repos
from release.mode import ORGANIZATION
from tests import built
from tests.test_makefile import BUILD, Project, project

__all__ = ["project"]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test sets is gone after it."""
    monkeypatch.setenv(ORGANIZATION, "")


def test_cards_collection_and_repositories_name_the_other_organisation_only(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = built.workspace(tmp_path, reranker, monkeypatch)
    assert before.about.organization == "local"
    monkeypatch.setenv(ORGANIZATION, "acme")
    facts = family.load(built.DEMO)
    measured = acceptance.card_records(facts, built.SIZE)
    texts = [
        render.model_card(facts, built.SIZE, measured),
        render.dataset_card(facts, measured.data, measured.manifest),
        render.collection_text(facts, built.SIZE, measured),
        compare.text(facts, comparison.gather(facts), []),
    ]
    for text in texts:
        assert "local/docstring" not in text and "](/local)" not in text
    assert f'CrossEncoder("acme/{facts.model_name(built.SIZE)}"' in texts[0] and "](/acme)" in texts[0]
    ids = [repo.id for repo in desired_repos(facts, built.SIZE)]
    assert ids == ["acme/docstring-reranker-data", f"acme/{facts.model_name(built.SIZE)}"]
    assert all(item["id"] in ids for item in render.collection(texts[2])["items"])
    assert facts.build == before.build  # what was measured is not measured again under another name


@pytest.mark.parametrize("words", [["--org", "acme", "plan"], ["plan", "--org", "acme"], ["plan", "--org=acme"]])
def test_every_verb_takes_it_before_and_behind(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing is staged yet
    assert main([*words, "--family", str(built.DEMO), "--size", "mini"]) == 0
    shown = capsys.readouterr().out
    assert "acme/docstring-reranker-mini-v1" in shown and "local/" not in shown


@pytest.mark.parametrize("words", [["plan", "--org="], ["--org", "", "plan"]])
def test_an_empty_one_is_not_taken_for_the_familys_own(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--family", str(built.DEMO), "--size", "mini"]) == 1
    assert capsys.readouterr().err.startswith("error: --org names no organisation; hint: --org NAME")


@pytest.mark.parametrize("name", ["a/b", "..", "two words", "-x", "a" * 97])
def test_what_is_no_organisation_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ORGANIZATION, name)
    with pytest.raises(ReleaseError, match=r"is no organisation; in ORG; hint|at most 96 characters"):
        family.load(built.DEMO)


def test_make_passes_it_on_and_remakes_what_names_it(project: Project) -> None:
    project.finish()
    assert project.would_run() == []
    assert project.would_run("stage", "ORG=acme") == ["evaluate", "card", "stage"]
    facts = json.loads((project.folder / BUILD / "mini/facts/card.json").read_text())
    assert facts["family"]["organization"] == "acme"
    assert "'two words' is no organisation" in project.make("stage", "ORG=two words").stderr
    assert "ORG= names no organisation; hint: ORG=name" in project.make("stage", "ORG=").stderr
    project.use_python()
    shown = project.make("plan", "ORG=acme")
    assert "acme/docstring-reranker-mini-v1" in shown.stdout, shown.stderr


def test_a_variable_of_the_shell_with_that_name_decides_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORG", "somebody")
    project.finish()
    assert project.would_run() == []


def test_the_number_of_published_rows_is_known_whoever_releases_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ORGANIZATION, "acme")
    ettin = family.load(Path("recipes/ettin.toml"))
    assert ettin.model_id("17m") == "acme/ettin-reranker-17m-v1"
    assert plan(ettin, "17m")["rows"] == 143_393_475
