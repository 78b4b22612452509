"""Publishing to a real Hub on loopback: private until verified, finished when tagged, continued when cut off."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.errors import ReleaseError
from release.family import Family
from release.files import list_files
from release.hub import change, plan, publish, stage, state
from release.localhub import Account, running_hub
from tests import built

TOKEN = "hf_" + "loopback" * 4


@pytest.fixture(scope="module")
def hub(fast_folder: Path) -> Generator[str]:
    """A Hub whose account belongs to the embedded family's organisation; a test uses a version of its own."""
    with running_hub(fast_folder / "publish", [Account("maker", TOKEN, ("local",))]) as (endpoint, _):
        yield endpoint


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client make requests. Its own default stays the public Hub, so a request that goes astray fails here."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Family:
    """A staged release under names that no other test uses."""
    built.workspace(tmp_path, reranker, monkeypatch)
    facts = built.renamed(tmp_path / "family.toml", f"r{abs(hash(request.node.name)) % 10**6}")
    restage(facts)
    return facts


def restage(family: Family) -> None:
    """Assemble both folders and the collection."""
    stage.stage_dataset(family)
    stage.stage_model(family, built.SIZE)


def verbs(steps: list[plan.PlanStep]) -> list[str]:
    return [step.verb for step in steps]


def states(api: Any, family: Family) -> list[state.RemoteRepo]:
    return [state.remote_repo(api, repo) for repo in state.desired_repos(family, built.SIZE)]


def commits(api: Any, family: Family) -> dict[str, str]:
    """What verification would have seen."""
    pairs = zip(state.desired_repos(family, built.SIZE), states(api, family), strict=True)
    return {repo.id: state.commit or "" for repo, state in pairs}


def test_a_release_is_private_then_public_then_tagged_and_then_nothing_is_left_to_do(
    family: Family, hub: str, online: None, capsys: pytest.CaptureFixture[str]
) -> None:
    api = state.connect(hub)
    steps = plan.diff(family, built.SIZE, api)
    assert verbs(steps) == ["create", "upload"] * 2 + ["tag"] * 2 + ["make public"] * 2 + ["create"]
    assert (
        state.remote_repo(api, state.desired_repos(family, built.SIZE)[0]) == state.RemoteRepo()
    )  # planning changes nothing

    assert verbs(publish.publish(family, built.SIZE, hub)) == ["create", "upload"] * 2
    assert all(state.private and not state.tagged for state in states(api, family))
    assert publish.find_collection(api, family) is None

    assert publish.publish(family, built.SIZE, hub) == []  # nothing new to upload, and still not public
    assert all(state.private for state in states(api, family))

    steps = publish.finish(family, built.SIZE, api, commits(api, family))
    assert verbs(steps) == ["tag"] * 2 + ["make public"] * 2 + ["create"]
    assert all(state.tagged and not state.private for state in states(api, family))
    content = yaml.safe_load((family.folder(built.SIZE) / "collection.yaml").read_text())
    collection = publish.find_collection(api, family)
    assert [(item.item_id, item.note) for item in collection.items] == [(i["id"], i["note"]) for i in content["items"]]
    assert collection.description == content["description"]

    assert plan.diff(family, built.SIZE, api) == []
    assert publish.finish(family, built.SIZE, api, commits(api, family)) == []
    assert TOKEN not in capsys.readouterr().out


def test_a_finished_release_never_changes(family: Family, hub: str, online: None) -> None:
    api = state.connect(hub)
    publish.publish(family, built.SIZE, hub)
    publish.finish(family, built.SIZE, api, commits(api, family))
    before = commits(api, family)
    built.measure_again(family, "speed", **vars(built.speed_result(999.0)))
    restage(family)
    with pytest.raises(
        ReleaseError,
        match=r"is finished, and README\.md, records/speed\.json, release\.json would change.*raise `version`",
    ):
        publish.publish(family, built.SIZE, hub)
    assert commits(api, family) == before


def test_before_the_tag_a_correction_replaces_what_was_uploaded(family: Family, hub: str, online: None) -> None:
    api = state.connect(hub)
    publish.publish(family, built.SIZE, hub)
    model = state.desired_repos(family, built.SIZE)[1]
    api.upload_file(path_or_fileobj=b"old", path_in_repo="leftover.json", repo_id=model.id)
    built.measure_again(family, "speed", **vars(built.speed_result(999.0)))
    restage(family)
    with pytest.raises(ReleaseError, match=r"did not put there: leftover\.json.*REPLACE=1"):
        publish.publish(family, built.SIZE, hub)
    (step,) = publish.publish(family, built.SIZE, hub, replace=True)
    assert step.detail.startswith("3 files of") and step.detail.endswith("delete 1")
    assert set(state.remote_repo(api, model).files) == set(model.files)


def test_what_moved_after_verification_is_not_made_public(family: Family, hub: str, online: None) -> None:
    api = state.connect(hub)
    publish.publish(family, built.SIZE, hub)
    verified = commits(api, family)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="late.json", repo_id=family.model_id(built.SIZE))
    with pytest.raises(ReleaseError, match=r"not at the verified commit.*run it again"):
        publish.finish(family, built.SIZE, api, verified)
    assert all(state.private for state in states(api, family))


def test_a_foreign_public_repository_is_left_alone(family: Family, hub: str, online: None) -> None:
    api = state.connect(hub)
    api.create_repo(family.model_id(built.SIZE), private=False)
    with pytest.raises(ReleaseError, match=r"is public already.*no release of this project"):
        publish.publish(family, built.SIZE, hub)


def test_whatever_request_fails_running_again_continues(
    family: Family, hub: str, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    api = state.connect(hub)
    calls = (
        "create_repo",
        "upload_folder",
        "update_repo_settings",
        "create_collection",
        "add_collection_item",
        "create_tag",
    )
    failed: set[str] = set()

    def fails_once(name: str) -> Any:
        real = getattr(HfApi, name)

        def call(self: Any, *given: Any, **named: Any) -> Any:
            result = real(self, *given, **named) if name != "upload_folder" else None
            if name not in failed:
                failed.add(name)  # what was asked for has happened, and the answer is lost
                raise ConnectionError("connection reset")
            return result if name != "upload_folder" else real(self, *given, **named)

        return call

    for name in calls:
        monkeypatch.setattr(HfApi, name, fails_once(name))
    interruptions = 0
    for _ in range(2 * len(calls)):
        try:
            publish.publish(family, built.SIZE, hub)
            publish.finish(family, built.SIZE, api, commits(api, family))
            break
        except ReleaseError as error:
            assert "run it again, it continues" in str(error)
            interruptions += 1
    assert interruptions == len(calls) == len(failed)
    assert plan.diff(family, built.SIZE, api) == []
    for repo in state.desired_repos(family, built.SIZE):
        assert len(api.list_repo_commits(repo.id, repo_type=repo.type)) == 2  # the Hub's own first one, and the upload


def test_a_push_that_is_cut_off_goes_on_behind_its_last_commit(
    family: Family, hub: str, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setattr(publish, "COMMIT_BYTES", 1)  # a commit per file
    sent: list[str] = []
    real = HfApi.upload_folder

    def cut_off(self: HfApi, **named: Any) -> Any:
        if len(sent) == 2:
            sent.append("cut off")
            raise ConnectionError("connection reset")
        sent.extend(named["allow_patterns"])
        return real(self, **named)

    monkeypatch.setattr(HfApi, "upload_folder", cut_off)
    with pytest.raises(ReleaseError, match=r"connection reset.*run it again"):
        publish.publish(family, built.SIZE, hub)
    api = state.connect(hub)
    data, model = state.desired_repos(family, built.SIZE)
    shards = [name for name in data.files if name.endswith(".parquet")]
    assert set(state.remote_repo(api, data).files) == set(sent[:2]) == set(shards)
    publish.publish(family, built.SIZE, hub)
    assert sorted([*sent[:2], *sent[3:]]) == sorted([*data.files, *model.files])  # nothing was sent twice
    assert publish.publish(family, built.SIZE, hub) == []


def test_a_commit_holds_as_much_as_may_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "COMMIT_BYTES", 10)
    sizes = {"README.md": 1, "a/0.parquet": 6, "a/1.parquet": 4, "b/0.parquet": 30, "manifest.json": 2}
    parts = [["a/0.parquet", "a/1.parquet"], ["b/0.parquet"], ["README.md", "manifest.json"]]
    assert publish.commits_of(sizes) == parts


def test_another_size_joins_the_collection_in_its_place(family: Family, hub: str, online: None) -> None:
    api = state.connect(hub)
    publish.publish(family, built.SIZE, hub)
    publish.finish(family, built.SIZE, api, commits(api, family))
    collection = publish.find_collection(api, family)
    api.create_repo("local/zz-by-hand", exist_ok=True)
    api.add_collection_item(collection.slug, "local/zz-by-hand", "model", note="added by a person")
    for item in collection.items:
        if item.item_type == "model":
            api.delete_collection_item(collection.slug, item.item_object_id)
    assert verbs(plan.diff(family, built.SIZE, api)) == ["collect"]
    publish.finish(family, built.SIZE, api, commits(api, family))
    ids = [item.item_id for item in publish.find_collection(api, family).items]
    assert ids == [family.model_id(built.SIZE), family.data_id, "local/zz-by-hand"]


def test_a_note_that_changed_is_updated(
    family: Family, hub: str, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = state.connect(hub)
    publish.publish(family, built.SIZE, hub)
    publish.finish(family, built.SIZE, api, commits(api, family))
    path = family.folder(built.SIZE) / "collection.yaml"
    changed = path.read_text().replace("The training data:", "What it learnt from:")
    path.write_text(changed)
    with pytest.raises(ReleaseError, match=r"the collection is not what its sources give"):
        publish.finish(family, built.SIZE, api, commits(api, family))
    monkeypatch.setattr(stage, "collection_text", lambda *_: changed)
    assert verbs(plan.diff(family, built.SIZE, api)) == ["note"]
    publish.finish(family, built.SIZE, api, commits(api, family))
    assert plan.diff(family, built.SIZE, api) == []


def test_without_an_endpoint_or_a_token_nothing_is_asked_of_any_hub(
    family: Family, online: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import httpx2

    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(httpx2.Client, "send", lambda *_, **__: pytest.fail("a request was made"))
    with pytest.raises(ReleaseError, match=r"no Hub is named, and there is no default.*HF_ENDPOINT"):
        change.command(built.SIZE, family.path, push=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ReleaseError, match=r"no token.*HF_TOKEN.*hf auth login"):
        change.command(built.SIZE, family.path, push=True, endpoint="http://127.0.0.1:9")
    with pytest.raises(ReleaseError, match=r"not an endpoint"):
        change.command(built.SIZE, family.path, push=True, endpoint="huggingface.co")
    change.command(built.SIZE, family.path)
    assert "Plan for an empty Hub" in capsys.readouterr().out


def test_a_plan_without_staged_folders_names_the_command(family: Family, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(stage.model_repo(family, built.SIZE))
    plan.show_diff(family, built.SIZE)
    assert "not staged yet: make stage" in capsys.readouterr().out


def test_a_release_with_a_problem_or_a_hub_that_is_down_is_one_line(family: Family, online: None) -> None:
    (stage.model_repo(family, built.SIZE) / "model.pt").write_bytes(b"x")
    with pytest.raises(ReleaseError, match=r"1 problem\(s\), the first: .*model\.pt"):
        publish.publish(family, built.SIZE, "http://127.0.0.1:9")
    (stage.model_repo(family, built.SIZE) / "model.pt").unlink()
    with pytest.raises(ReleaseError, match=r"cannot look at .*http://127\.0\.0\.1:9.*run it again") as caught:
        publish.publish(family, built.SIZE, "http://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_what_moved_on_main_after_the_release_is_named(family: Family, hub: str, online: None) -> None:
    api = state.connect(hub)
    publish.publish(family, built.SIZE, hub)
    publish.finish(family, built.SIZE, api, commits(api, family))
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=family.model_id(built.SIZE))
    with pytest.raises(ReleaseError, match=r"main of .* is not what is tagged .*: config\.json"):
        publish.publish(family, built.SIZE, hub)


def test_a_renamed_repository_is_not_overwritten(family: Family, hub: str, online: None) -> None:
    api = state.connect(hub)
    publish.publish(family, built.SIZE, hub)
    moved = f"{family.model_id(built.SIZE)}-elsewhere"
    api.move_repo(family.model_id(built.SIZE), moved)
    with pytest.raises(ReleaseError, match=rf"{family.model_id(built.SIZE)} was renamed to {moved}"):
        publish.publish(family, built.SIZE, hub)


def test_somebody_elses_private_files_are_neither_overwritten_nor_deleted(
    family: Family, hub: str, online: None
) -> None:
    api, name = state.connect(hub), family.model_id(built.SIZE)
    api.create_repo(name, private=True)
    for file in ("config.json", "[x].json", "*"):
        api.upload_file(path_or_fileobj=b"{}", path_in_repo=file, repo_id=name)
    with pytest.raises(ReleaseError, match=r"did not put there: .*\*, .*config\.json|did not put there: "):
        publish.publish(family, built.SIZE, hub)
    assert {"config.json", "[x].json", "*"} <= set(api.list_repo_files(name))
    publish.publish(family, built.SIZE, hub, replace=True)
    assert set(state.remote_repo(api, state.desired_repos(family, built.SIZE)[1]).files) == set(
        list_files(stage.model_repo(family, built.SIZE))
    )


def test_what_somebody_creates_in_public_gets_no_byte(
    family: Family, hub: str, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    real = HfApi.create_repo

    def overtaken(self: HfApi, name: str, **named: Any) -> Any:
        return real(self, name, **(named | {"private": False}))

    monkeypatch.setattr(HfApi, "create_repo", overtaken)
    with pytest.raises(ReleaseError, match=r"create .*: the Hub says that it is done, and it is not so there"):
        publish.publish(family, built.SIZE, hub)
    assert all(not remote.files for remote in states(state.connect(hub), family))


@pytest.mark.parametrize("lost", ["update_repo_settings", "create_tag"])
def test_a_success_that_changed_nothing_is_no_success(
    family: Family, hub: str, online: None, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    from huggingface_hub import HfApi

    api = state.connect(hub)
    publish.publish(family, built.SIZE, hub)
    monkeypatch.setattr(HfApi, lost, lambda *_, **__: None)  # a page with status 200, from whatever is in between
    with pytest.raises(ReleaseError, match=r"the Hub says that it is done, and it is not so there"):
        publish.finish(family, built.SIZE, api, commits(api, family))


def test_with_an_endpoint_alone_no_request_goes_anywhere_else(
    family: Family, hub: str, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, addresses = socket.socket.connect, set()

    def connect(self: socket.socket, address: Any) -> None:
        addresses.add(address)
        if address[0] != "127.0.0.1":
            raise OSError(f"a connection to {address}")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    from huggingface_hub import constants

    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://huggingface.co")
    publish.publish(family, built.SIZE, hub)
    api = state.connect(hub)
    publish.finish(family, built.SIZE, api, commits(api, family))
    assert addresses == {("127.0.0.1", int(hub.rpartition(":")[2]))}


def test_of_two_who_push_at_once_the_second_is_told_and_writes_nothing(
    family: Family, hub: str, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi

    api, real, raced = state.connect(hub), HfApi.upload_folder, []

    def overtaken(self: HfApi, **named: Any) -> Any:
        raced.append(named["repo_id"])
        api.upload_file(path_or_fileobj=b"{}", path_in_repo="o.json", repo_id=named["repo_id"], repo_type="dataset")
        return real(self, **named)

    with monkeypatch.context() as patch:
        patch.setattr(HfApi, "upload_folder", overtaken)
        with pytest.raises(ReleaseError, match=r"cannot upload .*412.*run it again"):
            publish.publish(family, built.SIZE, hub)
    assert len(api.list_repo_commits(raced[0], repo_type="dataset")) == 2, "initial commit, and the other one's"
    with pytest.raises(ReleaseError, match=r"did not put there: o\.json"):
        publish.publish(family, built.SIZE, hub)
