"""A rehearsal works in a folder of its own, says in one line what failed, and counts what it asked of the Hub."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants

from release import mode
from release.errors import ReleaseError
from release.family import Family, load
from release.rehearsal import checks, hub, run, workspace

SMALL = Path("tests/rehearsal/small.toml")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The project, linked into an empty folder; its small family."""
    for name in ("Makefile", "cards", "datasets", "docs", "recipes", "release", "tests", ".venv"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return load(SMALL)


def test_only_copies_of_family_and_declaration_are_changed(project: Family) -> None:
    new_workspace = workspace.prepare(project)
    small = (new_workspace.work / project.data.declaration).read_text()
    assert "5000000" not in small
    assert "5000, split" in project.data.declaration.read_text()
    text = SMALL.read_text()
    for large, few in {
        "batch_size = 64": "batch_size = 8",
        "evaluations = 6": "evaluations = 3",
        "checkpoints = 5": "checkpoints = 2",
        "top_k = 20": "top_k = 8",
    }.items():
        text = text.replace(large, few)
    assert (new_workspace.work / SMALL).read_text() == text
    assert (new_workspace.work / "recipes/distill.py").is_file()
    assert new_workspace.work.is_relative_to(Path("build/rehearsal").resolve())
    (new_workspace.stand_ins / "kept").mkdir(parents=True)
    (new_workspace.hub / "old").mkdir(parents=True)
    workspace.prepare(project)
    assert (new_workspace.stand_ins / "kept").is_dir()
    assert not new_workspace.hub.exists()


def test_no_verb_of_a_rehearsal_knows_another_hub(project: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_real")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    variables = workspace.prepare(project).environment("http://127.0.0.1:9", "hf_rehearsed", 1)
    assert (variables["HF_ENDPOINT"], variables["HF_TOKEN"]) == ("http://127.0.0.1:9", "hf_rehearsed")
    assert "HF_HUB_OFFLINE" not in variables
    assert variables[mode.VARIABLE] == "1"
    assert variables["NO_PROXY"] == "127.0.0.1,localhost"
    assert Path(variables["HF_HOME"]).is_relative_to(Path("build/rehearsal").resolve())


@pytest.mark.parametrize("path", ["/family.toml", "../family.toml", "build/family.toml"])
def test_a_family_outside_of_the_project_is_refused(path: str, project: Family) -> None:
    with pytest.raises(ReleaseError, match="name it relative to the project"):
        workspace.prepare(replace(project, path=Path(path)))


def test_a_rehearsal_needs_a_checkout(project: Family, tmp_path: Path) -> None:
    (tmp_path / "Makefile").unlink()
    with pytest.raises(ReleaseError, match="here is no Makefile; hint: run it in a checkout"):
        workspace.prepare(project)


def test_a_family_beside_the_makefile_is_rehearsed_too_with_the_files_that_it_names(project: Family) -> None:
    Path("my.toml").write_text(SMALL.read_text())
    Path("my-text.jsonl").write_text("{}")
    new_workspace = workspace.prepare(load(Path("my.toml")))
    assert new_workspace.load().size("tiny").global_batch_size == 8
    assert load(Path("my.toml")).size("tiny").global_batch_size == 64
    assert (new_workspace.work / "my-text.jsonl").resolve() == Path("my-text.jsonl").resolve()
    assert not (new_workspace.work / "build").exists()


def test_a_rehearsal_mixes_what_a_release_takes_from_the_hub(project: Family) -> None:
    assert load(Path("recipes/ettin.toml")).data.mixture
    assert workspace.prepare(load(Path("recipes/ettin.toml"))).load().data.mixture is None
    text = Path("recipes/ettin.toml").read_text().replace("\nmixture = ", "\n'mixture' = ")
    Path("my.toml").write_text(text)
    with pytest.raises(ReleaseError, match="write `mixture` on a line of its own"):
        workspace.prepare(load(Path("my.toml"))).load()


@pytest.mark.parametrize(
    ("sizes", "every", "says"),
    [
        ("tiny,huge", False, "'huge'"),
        ("tiny, tiny", False, "'tiny' is named twice"),
        ("tiny", True, "every size, or some of them"),
    ],
)
def test_sizes_that_cannot_be_meant_are_refused(sizes: str, every: bool, says: str, project: Family) -> None:
    with pytest.raises(ReleaseError, match=says):
        run._chosen(project, sizes, every)


def test_sizes_run_in_the_order_of_the_family(project: Family) -> None:
    ettin = load(Path("recipes/ettin.toml"))
    assert run._chosen(ettin, "32m, 17m", False) == run._chosen(ettin, "", False) == ("17m", "32m")
    assert run._chosen(ettin, "", True) == tuple(ettin.sizes)


def test_a_hub_that_went_away_fails_the_step_in_a_line(project: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between its tries the client waits for 23 seconds
    rehearsal = run.Rehearsal(project, ("tiny",), workspace.prepare(project), 1)
    with rehearsal.step("what came out"):
        HfApi("http://127.0.0.1:9", token="hf_any").list_repo_files("acme/any")
    assert rehearsal.failed
    assert "hint" in str(rehearsal.steps[0].failure)
    assert "\n" not in str(rehearsal.steps[0].failure)


def test_the_hub_of_a_rehearsal_that_was_killed_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *given: sent.append(given))
    hub._end_with(os.getppid() + 1)  # another process has become the parent
    assert sent == [(os.getpid(), signal.SIGTERM)]


def test_a_verb_that_outlived_its_rehearsal_does_not_stop_the_next_one(project: Family) -> None:
    former = workspace.prepare(project)
    still_written = (former.work / "log").open("w")
    again = workspace.prepare(project)
    still_written.write("from the former one")
    still_written.close()
    assert not (again.work / "log").exists()
    assert not list(again.root.glob(f"{workspace.ASIDE}*"))


def _cached(cache: Path, model: str) -> Path:
    """The weights of a model as the Hub's client keeps them."""
    weights = (
        cache
        / f"models--{model.replace('/', '--')}/snapshots/{hashlib.sha1(model.encode()).hexdigest()}/model.safetensors"
    )
    weights.parent.mkdir(parents=True)
    weights.write_text("1")
    return weights


def test_what_no_later_stage_reads_is_given_back(project: Family) -> None:
    new_workspace = workspace.prepare(project)
    folder = new_workspace.work / project.folder("tiny")
    for name, text in {"checkpoints/1/a": "1", "last/a": "1", "model/a": "1", "export/a": "1", "repo/a": "1"}.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    (folder / "repo/README.md").write_text("a card")
    cached = [
        _cached(new_workspace.root / "home/hub", name) for name in (project.size("tiny").encoder, "acme/embedder")
    ]
    new_workspace.give_back(project, "tiny")
    assert [path.exists() for path in cached] == [False, True]
    assert sorted(path.name for path in folder.iterdir()) == ["export", "model", "repo"]
    assert (folder / "repo/a").samefile(folder / "export/a")
    assert (folder / "repo/README.md").read_text() == "a card"


def test_a_step_that_fails_is_kept_with_its_line_and_its_log(project: Family) -> None:
    rehearsal = run.Rehearsal(project, ("tiny",), workspace.prepare(project), 1)
    environment = dict(os.environ) | {"RELEASE_REHEARSAL": "1"}
    with rehearsal.step("evaluate tiny"):
        rehearsal.make("nothing-of-this-name", environment)
    (step,) = rehearsal.steps
    assert step.failure is not None and "No rule to make target" in step.failure
    assert "\n" not in step.failure
    log = next(rehearsal.workspace.logs.iterdir()).read_text()
    assert log.startswith("$ make --no-print-directory nothing-of-this-name FAMILY=tests/rehearsal/small.toml")


@pytest.mark.parametrize(
    ("stderr", "line"),
    [
        ("a note\nerror: no pairs; hint: make mix\nmake: *** [Makefile:9: x] Error 1\n", "no pairs; hint: make mix"),
        ("error: 2 missing:\n  - no token\n  - no disk\nmake: *** [x] Error 1\n", "2 missing: - no token - no disk"),
        ("Traceback\nKeyError: 'a'\nmake: *** [x] Error 1\n", "KeyError: 'a'"),
        ("make: *** [x] Error 1\n", "no message"),
    ],
)
def test_the_failure_of_a_step_is_what_its_verb_said_last(stderr: str, line: str) -> None:
    assert run._reason(stderr) == line


def test_a_second_run_that_makes_a_file_again_is_named(project: Family) -> None:
    new_workspace = workspace.prepare(project)
    record = new_workspace.work / "build/small-reranker/tiny/records/run.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"seconds": 9}))
    before = checks.state_of(new_workspace)
    checks.unchanged(before, checks.state_of(new_workspace))
    record.write_text(json.dumps({"seconds": 0}))
    with pytest.raises(ReleaseError, match=r"1 file.* changed although nothing was to be done: .*run.json"):
        checks.unchanged(before, checks.state_of(new_workspace))


def test_a_file_with_two_names_is_on_the_disk_once_and_what_a_link_leads_to_is_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"1" * 100_000)
    folder = tmp_path / "of-the-rehearsal"
    (folder / "deep").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "deep/a").write_bytes(b"1" * 100_000)
    (folder / "b").hardlink_to(folder / "deep/a")
    assert 100_000 <= run.bytes_of(folder) < 200_000


def test_requests_are_counted_from_the_log(tmp_path: Path) -> None:
    assert hub.requests(tmp_path) == []
    (tmp_path / hub.LOG).write_text("GET /api/models/a/b 200\nPOST /api/repos/create 409\n")
    assert hub.requests(tmp_path) == [("GET", "/api/models/a/b", 200), ("POST", "/api/repos/create", 409)]
