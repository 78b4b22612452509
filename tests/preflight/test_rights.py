"""Who may publish what is asked before anything is trained, of the Hub itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator
from pathlib import Path

import pytest

from release import family
from release.localhub import Account
from release.mode import ORGANIZATION
from release.preflight import rights
from release.preflight.rights import publishing
from tests import built
from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import Http

OWNER = Account("owner", "hf_owner_of_the_family", ("local",))
READER = Account("reader", "hf_reader_of_the_family", ("local",), role="read")
STRANGER = Account("stranger", "hf_stranger_to_the_family", ("elsewhere",))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Generator[Http]:
    with running_faulty_hub(tmp_path_factory.mktemp("hub"), [OWNER, READER, STRANGER]) as (endpoint, token):
        yield Http(endpoint, token)


@pytest.fixture
def ask(hub: Http, monkeypatch: pytest.MonkeyPatch) -> Generator[object]:
    """What preflight says to a token about the embedded family."""
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def publishing_lacks(token: str, version: str = "v1") -> list[str]:
        monkeypatch.setenv("HF_TOKEN", token)
        facts = family.load(built.DEMO)
        facts = dataclasses.replace(facts, about=dataclasses.replace(facts.about, version=version))
        return [lack.what for lack in publishing(facts, built.SIZE)]

    yield publishing_lacks


def test_only_a_token_that_may_write_to_the_organisation_passes(
    ask, hub: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(OWNER.token) == []
    assert ask(READER.token) == ["the token may only read"]
    assert ask(STRANGER.token) == ["stranger may not publish under local"]
    monkeypatch.setenv(ORGANIZATION, "elsewhere")  # as the hint proposes
    assert ask(STRANGER.token) == []
    monkeypatch.delenv(ORGANIZATION)
    assert ask("hf_nobody_at_all") == [f"the token is not valid at {hub.endpoint}"]


def test_a_name_that_is_taken_by_something_else_is_said_first(ask, hub: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    name = family.load(built.DEMO).model_id(built.SIZE)
    hub.create(name, private=True)
    assert ask(OWNER.token) == []  # private: a release that was cut off goes on
    assert hub("PUT", f"/api/models/{name}/settings", {"private": False}).status == 200
    assert ask(OWNER.token) == [f"{name} is public already, and without the tag v1 no release of this project"]
    assert ask(OWNER.token, "v2") == []
    commit = (
        {"key": "header", "value": {"summary": "Release v1"}},
        {"key": "file", "value": {"path": "a", "content": ""}},
    )
    lines = "\n".join(json.dumps(line) for line in commit).encode()
    assert hub("POST", f"/api/models/{name}/commit/main", lines).status == 200
    assert ask(OWNER.token) == []  # public, ours and untagged: publish goes on with it
    hub("DELETE", "/api/repos/delete", {"organization": "local", "name": name.partition("/")[2]})
    hub.create(name)
    hub.create(name.replace("-v1", "-v2"))
    monkeypatch.setenv("HF_TOKEN", OWNER.token)
    (lack,) = publishing(family.load(built.DEMO), built.SIZE)
    assert 'version = "v3" in recipes/demo.toml is free' in lack.hint.replace(str(built.DEMO), "recipes/demo.toml")
    assert "ORG=name" in lack.hint


@pytest.mark.parametrize(
    ("name", "tag", "later"),
    [
        ("acme/ettin-reranker-17m-v1", "v1", "acme/ettin-reranker-17m-v2"),
        ("acme/ettin-reranker-v1-data", "v1", "acme/ettin-reranker-v2-data"),
        ("acme/some-data", "v9", "acme/some-data-v10"),
        ("acme/x-beta", "beta", "acme/x-beta-2"),
    ],
)
def test_the_next_version_is_the_first_that_nobody_has(name: str, tag: str, later: str) -> None:
    class Nobody:
        def repo_exists(self, *_: object, **__: object) -> bool:
            return False

    assert rights._next_free(Nobody(), name, "model", tag) == later


def test_roles_and_fine_grained_tokens_are_asked_as_the_hub_describes_them() -> None:
    """Answers of the public Hub, which the embedded one does not give: it has neither."""
    demo = family.load(built.DEMO)

    def says(within: str, **token: object) -> list[str]:
        orgs = [{"name": "local", "roleInOrg": within}]
        account = {"name": "ada", "orgs": orgs, "auth": {"accessToken": {"role": "write"} | token}}
        return [lack.what for lack in rights._rights(demo, account)]

    assert says("admin") == says("write") == []
    assert says("read") == ["ada may not publish under local"]
    scope = {"entity": {"type": "org", "name": "local"}, "permissions": ["repo.content.read", "repo.write"]}
    assert says("write", role="fineGrained", fineGrained={"scoped": [scope]}) == []
    assert says("write", role="fineGrained", fineGrained={"scoped": []}) == [
        "the fine-grained token may not write under local"
    ]


def test_without_endpoint_and_token_both_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr("release.preflight.rights.has_token", lambda: False)
    assert [lack.what for lack in publishing(family.load(built.DEMO), built.SIZE)] == ["no endpoint", "no token"]


@pytest.mark.parametrize("body", ["<html>Sign in to the network</html>", "{}", "[]", '{"name": 1'])
def test_what_is_no_answer_of_a_hub_is_said_in_a_line(ask, hub: Http, body: str) -> None:
    hub.faults({"action": "answer", "method": "*", "path": "^/api/", "status": 200, "body": body, "times": 100})
    (line,) = ask(OWNER.token)
    hub.faults()
    assert line.startswith(f"{hub.endpoint} does not ")
