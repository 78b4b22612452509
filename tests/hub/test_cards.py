"""A card is corrected after the release: a further revision of the same version, in which nothing else differs."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from release.errors import ReleaseError
from release.family import Family, load
from release.hub import change, plan, publish, pulled, stage, state
from tests import built


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What is run in a fresh process before a card is seen: it costs ten seconds each, tests/hub/test_verify.py runs it."""
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(pulled, "elsewhere", lambda task, *_: seen.append(task) or [])
    return seen


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, reranker: Path, patch: pytest.MonkeyPatch, hub: str) -> Family:
    """A release that is public and tagged; every test of this file adds its own revision of the card."""
    folder = tmp_path_factory.mktemp("released")
    built.workspace(folder, reranker, patch)
    family = built.renamed(folder / "family.toml", "cards")
    restage(family)
    publish.publish(family, built.SIZE, hub)
    api = state.connect(hub)
    publish.finish(family, built.SIZE, api, heads(family, api))
    return family


@pytest.fixture
def released(first: Family, monkeypatch: pytest.MonkeyPatch) -> Generator[Family]:
    """The release as the family file says it, with the records as they were."""
    monkeypatch.chdir(first.path.parent)
    text, record = first.path.read_text(), (first.folder(built.SIZE) / "records/speed.json").read_bytes()
    yield load(first.path)
    first.path.write_text(text)
    (first.folder(built.SIZE) / "records/speed.json").write_bytes(record)
    restage(load(first.path))


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch, hub: str) -> Family:
    """Another release, which is staged."""
    built.workspace(tmp_path, reranker, monkeypatch)
    facts = built.renamed(tmp_path / "family.toml", f"c{tmp_path.name[-6:].strip('_')}")
    restage(facts)
    return facts


def restage(family: Family) -> None:
    stage.stage_dataset(family)
    stage.stage_model(family, built.SIZE)


def heads(family: Family, api: Any) -> dict[str, str]:
    repos = state.desired_repos(family, built.SIZE)
    return {repo.id: state.remote_repo(api, repo).head or "" for repo in repos}


def corrected(family: Family, text: str) -> Family:
    """The family with other words in its summary, staged."""
    family.path.write_text(family.path.read_text().replace(family.about.summary, text))
    changed = load(family.path)
    restage(changed)
    return changed


def tags(api: Any, family: Family) -> dict[str, str]:
    refs = api.list_repo_refs(family.model_id(built.SIZE))
    return {ref.name: ref.target_commit for ref in refs.tags}


def correct(family: Family, hub: str, **options: Any) -> None:
    change.command(built.SIZE, family.path, push=True, endpoint=hub, what="card", **options)


def test_a_corrected_card_is_a_further_revision_and_the_release_stays_where_it_is(
    released: Family, hub: str, tried: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    api, version = state.connect(hub), released.about.version
    first = tags(api, released)[version]
    family = corrected(released, "It says something else now.")
    plan.show_diff(family, built.SIZE, hub, what="card")
    shown = " ".join(capsys.readouterr().out.split())
    assert f"correct {family.model_id(built.SIZE)}: README.md" in shown and f"{version}-card2" in shown
    assert "+It says something else now. It reads a query" in shown and f"-{released.about.summary}" in shown
    assert "describe Docstring Rerankers" in shown  # the collection says the summary too

    correct(family, hub)
    assert "It says something else now." in Path(family.folder(built.SIZE) / "repo/README.md").read_text()
    (task,) = tried
    assert family.model_id(built.SIZE) in task["snippets"][1]  # run before anybody saw the card
    now = tags(api, family)
    assert now == {version: first, f"{version}-card2": api.repo_info(family.model_id(built.SIZE)).sha}
    assert publish.find_collection(api, family).description == "It says something else now."
    assert plan.diff(family, built.SIZE, api, what="card") == plan.diff(family, built.SIZE, api) == []

    correct(family, hub)
    assert tags(api, family) == now and len(tried) == 1


def test_whatever_else_would_change_is_named_and_nothing_is_sent(
    released: Family, hub: str, tried: list[dict[str, Any]]
) -> None:
    api = state.connect(hub)
    before = heads(released, api)
    built.measure_again(released, "speed", **vars(built.speed_result(999.0)))
    restage(released)
    with pytest.raises(
        ReleaseError, match=r"a card alone, and of .* records/speed\.json would change.*raise `version`"
    ):
        correct(released, hub)
    assert heads(released, api) == before and not tried


def test_a_snippet_that_fails_keeps_the_card_as_it_is(
    released: Family, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ReleaseError("a snippet of the card prints nothing")

    api = state.connect(hub)
    before = heads(released, api)
    family = corrected(released, "Other words.")
    monkeypatch.setattr(pulled, "elsewhere", fails)
    with pytest.raises(ReleaseError, match="prints nothing"):
        correct(family, hub)
    assert heads(family, api) == before


def test_a_correction_that_is_cut_off_before_its_tag_goes_on(
    released: Family, hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    family, real = corrected(released, "Cut off."), HfApi.create_tag

    def lost(*_: Any, **__: Any) -> None:
        raise ConnectionError("connection reset")

    monkeypatch.setattr(HfApi, "create_tag", lost)
    with pytest.raises(ReleaseError, match=r"connection reset.*run it again"):
        correct(family, hub)
    with pytest.raises(ReleaseError, match=r"is not what is tagged.*make publish WHAT=card PUSH=1"):
        publish.publish(family, built.SIZE, hub)
    monkeypatch.setattr(HfApi, "create_tag", real)
    api = state.connect(hub)
    before = len(tags(api, family))
    further = corrected(family, "Cut off, and then corrected again.")
    correct(further, hub)
    assert len(tags(api, further)) == before + 1
    publish.check_finished(state.desired_repos(further, built.SIZE), api, heads(further, api))


def test_what_a_person_wrote_into_the_card_on_the_hub_is_not_overwritten_unasked(released: Family, hub: str) -> None:
    api, name = state.connect(hub), released.model_id(built.SIZE)
    before = len(tags(api, released))
    card = Path(stage.model_repo(released, built.SIZE) / "README.md").read_text() + "\nBy hand.\n"
    api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=name)
    with pytest.raises(ReleaseError, match=r"main of .* is not what is tagged .*: README\.md.*WHAT=card"):
        publish.publish(released, built.SIZE, hub)
    with pytest.raises(ReleaseError, match=r"somebody else changed the card of .*Upload README.*REPLACE=1"):
        correct(released, hub)
    correct(released, hub, replace=True)
    assert len(tags(api, released)) == before + 1


def test_nothing_is_corrected_that_was_not_released(family: Family, hub: str) -> None:
    with pytest.raises(ReleaseError, match=r"is not released, so there is no card to correct"):
        correct(family, hub)
    with pytest.raises(ReleaseError, match=r"none is named.*HF_ENDPOINT"):
        plan.show_diff(family, built.SIZE, what="card")


def test_public_and_untagged_with_another_card_is_no_dead_end(family: Family, hub: str) -> None:
    """A push whose repositories somebody made public by hand: they are private again first, or the card alone is corrected."""
    publish.publish(family, built.SIZE, hub)
    api, name = state.connect(hub), family.model_id(built.SIZE)
    open_by_hand(family, api)
    family = corrected(family, "Corrected too late.")
    with pytest.raises(ReleaseError, match=r"is public, was never verified.*WHAT=card PUSH=1.*REPLACE=1"):
        publish.publish(family, built.SIZE, hub)
    publish.publish(family, built.SIZE, hub, replace=True)
    assert api.repo_info(name).private
    open_by_hand(family, api)
    family = corrected(family, "Corrected later still.")
    correct(family, hub)
    assert tags(api, family) == {family.about.version: api.repo_info(name).sha}
    assert plan.diff(family, built.SIZE, api) == []


def open_by_hand(family: Family, api: Any) -> None:
    for repo in state.desired_repos(family, built.SIZE):
        api.update_repo_settings(repo.id, repo_type=repo.type, private=False)


def test_the_newest_tag_of_a_version_is_found_by_its_number() -> None:
    names = ["v1", "v1-card2", "v1-card10", "v1-card9", "v11", "v1-cards", "v1-card1", "v1-card02", "v2-card3"]
    assert state.newest("v1", names) == "v1-card10"
    assert state.newest("v3", names) is None
    assert [state.card_tag("v1", number) for number in (1, 2)] == ["v1", "v1-card2"]


def test_other_weights_on_main_or_at_a_tag_by_hand_are_no_correction_of_a_card(released: Family, hub: str) -> None:
    api, name = state.connect(hub), released.model_id(built.SIZE)
    content = (stage.model_repo(released, built.SIZE) / "config.json").read_bytes()
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=name)
    with pytest.raises(ReleaseError, match=r"a card alone, and of .* config\.json would change"):
        correct(released, hub, replace=True)
    api.create_tag(name, tag=f"{released.about.version}-card99")
    api.upload_file(path_or_fileobj=content, path_in_repo="config.json", repo_id=name)
    with pytest.raises(ReleaseError, match=r"config\.json would change"):
        correct(released, hub, replace=True)
