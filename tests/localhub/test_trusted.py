"""Trusted Publishers: a proved CI job gets a token for one repo and one hour; whatever is not proved gets nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from release.localhub import running_hub, trusted
from release.localhub.api.oauth import GRANT, ID_TOKEN
from release.localhub.auth import REPO_TOKEN, Auth
from release.localhub.errors import HubError
from release.localhub.history import Repo
from tests.localhub.hub_fixtures import ACCOUNTS, Http

HUB = "http://127.0.0.1:1"


def repo(name: str, kind: str = "model") -> Repo:
    return Repo(None, 1, kind, name, True, "", "")  # ty: ignore[invalid-argument-type] - nothing is asked of its database


def test_what_a_trusted_job_says_is_taken_once() -> None:
    publishers = trusted.TrustedPublishers(["acme/model", "datasets/acme/data"])
    assert publishers.provider
    publishers.check(repo("acme/data", "dataset"), publishers.provider.identity(HUB), HUB)
    token = publishers.provider.identity(HUB)
    publishers.check(repo("acme/model"), token, HUB)
    with pytest.raises(HubError, match="not accepted"):
        publishers.check(repo("acme/model"), token, HUB)


KEY = ec.generate_private_key(ec.SECP256R1())
PAST = int(time.time()) - 1


@pytest.mark.parametrize(
    ("name", "claims", "key", "algorithm"),
    [
        pytest.param("acme/other", {}, None, "", id="another repository"),
        pytest.param("datasets/acme/model", {}, None, "", id="another kind of repository"),
        pytest.param("acme/model", {"aud": "https://huggingface.co"}, None, "", id="another audience"),
        pytest.param("acme/model", {"iss": "https://token.actions.githubusercontent.com"}, None, "", id="another CI"),
        pytest.param("acme/model", {"exp": PAST}, None, "", id="expired"),
        pytest.param("acme/model", {"repository": "rehearsal/ci-fork"}, None, "", id="another job"),
        pytest.param("acme/model", {"ref": "refs/heads/main-2"}, None, "", id="another branch"),
        pytest.param("acme/model", {"workflow": "other"}, None, "", id="another workflow"),
        pytest.param("acme/model", {}, KEY, "ES256", id="another key"),
        pytest.param("acme/model", {}, None, "none", id="unsigned"),
        pytest.param("acme/model", {}, "secret" * 8, "HS256", id="signed with a shared secret"),
    ],
)
def test_whoever_is_not_that_job_gets_nothing(name: str, claims: dict[str, Any], key: Any, algorithm: str) -> None:
    publishers = trusted.TrustedPublishers(["acme/model"])
    assert publishers.provider
    token = publishers.provider.identity(HUB, **claims)
    if algorithm:
        said = jwt.decode(token, options={"verify_signature": False, "verify_aud": False})
        token = jwt.encode(said, key, algorithm=algorithm)
    prefix, _, rest = name.partition("/")
    with pytest.raises(HubError) as refused:
        publishers.check(repo(rest, "dataset") if prefix == "datasets" else repo(name), token, HUB)
    assert (refused.value.status, refused.value.extra) == (400, {"error": "invalid_grant"})


def test_a_token_for_one_repo_is_for_an_hour_and_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = Auth([], tmp_path)
    token = auth.repo_token(7)
    account = auth.account(f"Bearer {token}", basic=False)
    assert account and account.repo == 7 and not account.owns("acme") and not account.owns(account.name)
    for forged in (f"{token}x", REPO_TOKEN + auth.sign(repo=7, write=True), REPO_TOKEN):
        with pytest.raises(HubError, match="forged"):
            auth.account(f"Bearer {forged}", basic=False)
    later = time.time() + 3700
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(HubError, match="expired"):
        auth.account(f"Bearer {token}", basic=False)


def test_the_exchange_is_an_answer_in_the_form_of_the_real_hub(tmp_path: Path) -> None:
    with running_hub(tmp_path, ACCOUNTS, trust=["acme/model"]) as (endpoint, token):
        http = Http(endpoint, token)
        for name, kind in (("acme/model", "model"), ("acme/other", "model")):
            http.create(name, kind=kind, private=True)
        lines = dict(
            line.removeprefix("export ").split("=", 1) for line in (tmp_path / "ci.env").read_text().splitlines()
        )
        assert (tmp_path / "ci.env").stat().st_mode & 0o077 == 0
        authorization = {"Authorization": f"Bearer {lines['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
        identity = http("GET", f"/ci/identity?audience={endpoint}", headers=authorization).json["value"]
        assert http("GET", "/ci/identity", token=None).status == 401

        def exchanged(**changed: str) -> Any:
            body = {
                "grant_type": GRANT,
                "subject_token_type": ID_TOKEN,
                "subject_token": identity,
                "resource": "acme/model",
            }
            return http("POST", "/oauth/token", body | changed, token=None)

        assert exchanged(resource="acme").json["error"] == "invalid_request"
        assert exchanged(grant_type="password").json["error"] == "invalid_request"
        assert exchanged(resource="acme/absent").json["error"] == "invalid_grant"
        answer = exchanged().json
        own = answer.pop("access_token")
        assert answer == {
            "token_type": "bearer",
            "expires_in": 3600,
            "issued_token_type": ID_TOKEN.replace("id_", "access_"),
        }
        assert exchanged().json["error"] == "invalid_grant"

        settings, new = {"private": False}, {"name": "more", "organization": "acme"}
        line = {"key": "header", "value": {"summary": "x"}}, {"key": "file", "value": {"path": "a", "content": "1"}}
        commit = "\n".join(json.dumps(each) for each in line).encode()
        answers = {
            "read": http("GET", "/api/models/acme/model", token=own).status,
            "write": http("POST", "/api/models/acme/model/commit/main", commit, token=own).status,
            "settings": http("PUT", "/api/models/acme/model/settings", settings, token=own).status,
            "another": http("GET", "/api/models/acme/other", token=own).status,
            "write another": http("POST", "/api/models/acme/other/commit/main", commit, token=own).status,
            "create": http("POST", "/api/repos/create", new, token=own).status,
            "delete": http("DELETE", "/api/repos/delete", {"name": "model", "organization": "acme"}, token=own).status,
            "collect": http("POST", "/api/collections", {"title": "x", "namespace": "acme"}, token=own).status,
            "who": http("GET", "/api/whoami-v2", token=own).status,
        }
        assert answers == {"read": 200, "write": 200, "settings": 200, "another": 404, "write another": 404} | {
            "create": 403,
            "delete": 403,
            "collect": 403,
            "who": 401,
        }
