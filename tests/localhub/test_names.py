"""Names cannot leave the folder that they belong to, and files cannot leave their repo."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.localhub.hub_fixtures import Http

pytestmark = pytest.mark.usefixtures("nothing_changes")


@pytest.mark.parametrize(
    "name", ["..", "../evil", "a/../../evil", ".hidden", "a..b", "x.git", "a b", "api", "é", "", "a" * 97, "a/b"]
)
def test_repo_names_cannot_leave_the_folder(hub: Http, name: str) -> None:
    body = {"organization": "acme", "name": name, "type": "model"}
    assert hub("POST", "/api/repos/create", body).status == 400
    if name:
        body = {"organization": f"acme/{name}", "name": "fine", "type": "model"}
        assert hub("POST", "/api/repos/create", body).status in (400, 403)


@pytest.mark.parametrize("kind", ["../models", "bucket", 3, ["model"]])
def test_kinds_of_repos_are_known(hub: Http, kind: Any) -> None:
    assert hub("POST", "/api/repos/create", {"organization": "acme", "name": "x", "type": kind}).status == 400


BAD_PATHS = [
    "../evil",
    "a/../../evil",
    "/etc/passwd",
    "a//b",
    "./a",
    ".git/config",
    "a/.GIT/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a/",
]


@pytest.mark.parametrize("path", [*BAD_PATHS, "", "x" * 1001])
def test_files_cannot_leave_the_repo(hub: Http, path: str) -> None:
    assert hub.commit("acme/open", {path: b"evil"}).status == 400
    files = [{"path": path, "size": 3, "sample": ""}]
    assert hub("POST", "/api/models/acme/open/preupload/main", {"files": files}).status == 400


@pytest.mark.parametrize(
    "name", ["../main", "a..b", "refs/heads/x", "a.lock", "-x", "a b", "x/", "a//b", "a@{b", "0" * 40]
)
def test_branches_and_tags_have_git_names(hub: Http, name: str) -> None:
    assert hub("POST", f"/api/models/acme/open/branch/{quote(name, safe='')}", {}).status == 400
    assert hub("POST", "/api/models/acme/open/tag/main", {"tag": name}).status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/acme/open/resolve/main/../../../../secret",
        "/acme/open/resolve/main/..%2f..%2f..%2fsecret",
        "/acme/open/resolve/..%2f..%2fmain/secret",
        "/acme/..%2facme%2fclosed/resolve/main/secret.bin",
        "/buckets/acme/..%2f..%2fsecret/resolve/x",
        "/buckets/..%2f../root/resolve/secret",
        "/acme/open/resolve/main/%00",
        "/acme/open/resolve/main/%ff%fe",
        "/static/..%2fsecret",
        "//etc/passwd",
        "/../../secret",
    ],
)
def test_no_address_leads_outside(hub: Http, root: Path, path: str) -> None:
    status, body = hub.raw("GET", path)
    assert status in (400, 404)
    assert (root / "secret").read_bytes() not in body


def test_links_in_a_bucket_are_not_followed(hub: Http, root: Path) -> None:
    bucket = root / "buckets" / "acme" / "skills"
    bucket.mkdir(parents=True)
    (bucket / "fine.txt").write_text("fine")
    (bucket / "link.txt").symlink_to(root / "secret")
    (bucket / "folder").symlink_to(root)
    rows = hub("GET", "/api/buckets/acme/skills/tree").json
    assert [row["path"] for row in rows] == ["fine.txt"]
    assert hub("GET", "/buckets/acme/skills/resolve/link.txt").status == 404
    assert hub("GET", "/buckets/acme/skills/resolve/fine.txt").body == b"fine"
