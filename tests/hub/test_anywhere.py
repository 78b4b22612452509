"""A stranger who knows nothing but a repository's name proves its files, its tag, its records, its figures and its card."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from benchmarks import hub_lies
from release.errors import ReleaseError
from release.family import Family
from release.hub import anywhere, publish, stage, state
from release.localhub import Account, running_hub
from tests import built

TOKEN = "hf_" + "loopback" * 4


@pytest.fixture(scope="module")
def release(
    tmp_path_factory: pytest.TempPathFactory, fast_folder: Path, reranker: Path
) -> Generator[tuple[HfApi, Family, Path]]:
    """A finished release on a Hub of its own: the client, the family, and the folder where it was staged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("HF_TOKEN", TOKEN)
        folder = tmp_path_factory.mktemp("release")
        family = built.workspace(folder, reranker, patch)
        stage.stage_dataset(family)
        stage.stage_model(family, built.SIZE)
        with running_hub(fast_folder / "anywhere", [Account("maker", TOKEN, ("local",))]) as (endpoint, _):
            publish.publish(family, built.SIZE, endpoint)
            api = state.connect(endpoint)
            repos = state.desired_repos(family, built.SIZE)
            commits = {repo.id: state.remote_repo(api, repo).commit or "" for repo in repos}
            publish.finish(family, built.SIZE, api, commits, saw="64 pairs")
            yield HfApi(endpoint=endpoint, token=TOKEN), family, folder


@pytest.fixture
def stranger(release: tuple[HfApi, Family, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    """The client of somebody in an empty folder, without a token."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN")
    return HfApi(endpoint=release[0].endpoint, token=False)


def test_a_release_is_proved_from_its_name_alone(
    release: tuple[HfApi, Family, Path], stranger: HfApi, tmp_path: Path
) -> None:
    _, family, _ = release
    proofs = anywhere.verify(family.model_id(built.SIZE), stranger)
    assert proofs.keys() == {
        "files",
        "tag",
        "commit",
        "signature",
        "records",
        "figures",
        "weights",
        "card",
        "data",
        "collection",
        "not proved",
        "revision",
    }
    assert "rendered again to the same" in proofs["card"]
    assert "its note is what its records give" in proofs["collection"] and "no signature" in proofs["not proved"]
    data = anywhere.verify(family.data_id, stranger)
    assert "rendered again to the same" in data["card"] and "its note is what" in data["collection"]
    assert "greatest label of each config counted again" in data["figures"] and "teacher" in data["not proved"]
    assert not list(tmp_path.iterdir())


def test_a_note_in_the_collection_says_what_the_records_give(release: tuple[HfApi, Family, Path]) -> None:
    api, family, _ = release
    collection = state.find_collection(api, family)
    item = next(each for each in collection.items if each.item_id == family.model_id(built.SIZE))
    api.update_collection_item(collection.slug, item.item_object_id, note="the best of all")
    with pytest.raises(
        ReleaseError, match=r"its note in the collection .* says 'the best of all', and its records give"
    ):
        anywhere.verify(family.model_id(built.SIZE), api)
    api.update_collection_item(collection.slug, item.item_object_id, note=item.note)


def test_what_is_no_release_of_this_project_is_one_line(release: tuple[HfApi, Family, Path], stranger: HfApi) -> None:
    release[0].create_repo("local/other", exist_ok=True)
    release[0].upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="local/other")
    with pytest.raises(ReleaseError, match=r"no release\.json: released by somebody else.*local/other") as caught:
        anywhere.verify("local/other", stranger)
    assert "\n" not in str(caught.value) and "/tmp" not in str(caught.value)
    with pytest.raises(ReleaseError, match=r"no such repository, or it is private"):
        anywhere.verify("local/absent", stranger)


def test_whoever_can_write_there_is_caught_all_the_same(release: tuple[HfApi, Family, Path]) -> None:
    api, family, root = release
    lies = {
        "on the Hub: a file beside release.json": r"notes\.json: it lies beside what release\.json names",
        "on the Hub, with release.json: a headline": r"README\.md: not what its records give, first: '.*NDCG@10 0\.9",
        "on the Hub, with release.json: a recall": r"records/evaluate\.json: recall is not the same of the model's rows",
        "on the Hub, with release.json: a record more": r"notes\.json: nothing in the repository gives this file",
        "on the Hub, with release.json: a bit of the weights": r"onnx/model\.onnx: .* is not the root.s",
        "on the Hub, with release.json: a pickle, and the records of the export": "pytorch_model.bin: not a kind of file",
        "on the Hub, with release.json: another head of the modules, and the records of the export": "the head is not the one",
        "on the Hub, with release.json: another weight of the root, and the records of the export": "onnx: .* is not the root's",
        "on the Hub: a file that begins like the Hub's own": r"\.gitattributes\.json: it lies beside",
        "on the Hub: a branch called like a card's tag": "a branch is called like the tag v1-card2",
        "on the Hub: main moved, the same files": "main is not what is tagged v1",
    }
    caught = hub_lies.tell(api, family.model_id(built.SIZE), root / stage.model_repo(family, built.SIZE), set(lies))
    assert caught.keys() == lies.keys()
    for name, says in lies.items():
        assert re.search(says, caught[name] or "nothing"), (name, caught[name])


def test_a_version_has_one_model_and_the_data_that_it_names(
    release: tuple[HfApi, Family, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one here: it leaves other data on the Hub."""
    api, family, root = release
    monkeypatch.chdir(root)
    says = {
        "on the Hub, a revision of the card: a record": r"records/speed\.json: not what v1 released, of which this is another card",
        "on the Hub, a revision of the card: without the release": r"no tag v1",
        "on the Hub: other data than the model was trained on": r"manifest\.json of local/.* v1 is not what this model was trained",
        "on the Hub: other data, by themselves": r"manifest\.json",
        "on the Hub: data without a tag": r"has no tag v1: the data were never finished",
    }
    caught = hub_lies.tell_more(api, family, built.SIZE)
    assert caught.keys() == says.keys()
    for name, line in says.items():
        assert re.search(line, caught[name] or "nothing"), (name, caught[name])
