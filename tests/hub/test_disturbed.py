"""Samples of `make faults` and `make kills`: whatever happens to a release, running it again ends like an undisturbed one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from release.family import Family
from release.hub import stage
from tests import built
from tests.hub import faults
from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import ACCOUNTS, Http

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, reranker: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        family: Family = built.workspace(folder, reranker, patch)
        stage.stage_dataset(family)
        stage.stage_model(family, built.SIZE)
    return folder


SAMPLE = "commit, first: answer lost|settings, last: HTML"


@pytest.mark.parametrize(
    ("module", "arguments", "tried"), [("faults", ("--only", SAMPLE), 2), ("kills", ("--count", "1"), 1)]
)
def test_a_disturbed_release_ends_like_an_undisturbed_one(
    work: Path, module: str, arguments: tuple[str, ...], tried: int
) -> None:
    command = [sys.executable, "-m", f"tests.hub.{module}", "--work", str(work), "--jobs", "1", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    result = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, result["tried"], result["converged"], result["diverged"]) == (0, tried, tried, 0), (
        done.stdout
    )
    assert result["looks"] > 5 and result["incomplete"] == []


def test_a_request_that_no_class_knows_is_no_release_that_was_tried() -> None:
    with pytest.raises(LookupError, match=r"PATCH /api/new is in no class"):
        faults.kinds([["PATCH", "/api/new", "", 200]])
    assert faults.kinds([["GET", "/api/models/a/b/refs", "", 200], ["GET", "/api/datasets/a/b/refs", "", 200]]) == {
        "refs": 2
    }


def test_what_is_public_and_not_whole_is_seen(tmp_path: Path) -> None:
    with running_faulty_hub(tmp_path, ACCOUNTS) as (endpoint, token):
        http = Http(endpoint, token)
        http.create("acme/data", kind="dataset", private=True)
        http.create("acme/model", private=True)
        whole = {row["path"]: row["oid"] for row in http("GET", "/api/models/acme/model/tree/main").json}
        http("POST", "/_test/complete", {"acme/data": whole, "acme/model": {**whole, "README.md": "0" * 40}})
        http("PUT", "/api/datasets/acme/data/settings", {"private": False})
        http("POST", "/api/models/acme/model/tag/main", {"tag": "v1"})
        seen = http("GET", "/_test/incomplete").json
    assert seen["looks"] == 2
    lines = [line.partition(" after")[0] for line in seen["seen"]]
    assert lines == [*["acme/data is public and untagged"] * 2, "acme/model at v1 is not whole"]
