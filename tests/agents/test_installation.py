"""The ways by which the skill reaches an agent: the real client and a Hub's bucket, a copy, a link, an installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from release.agents import bundle, check
from release.files import list_files
from release.localhub import Account, running_hub
from tests.localhub.hub_fixtures import client_environment

pytest.importorskip("skills_ref")


def test_hf_skills_add_installs_it_from_the_buckets_layout(tmp_path: Path) -> None:
    folder = bundle.write(tmp_path / "hub/buckets" / bundle.BUCKET)
    work = tmp_path / "work"
    work.mkdir()
    with running_hub(tmp_path / "hub", [Account("somebody", "hf_" + "skilled0" * 4, ())]) as (endpoint, _):
        command = [str(Path(sys.executable).parent / "hf"), "skills", "add", check.NAME]
        environment = client_environment(endpoint, tmp_path / "home", token=None)
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    installed = work / ".agents/skills" / check.NAME
    names = list_files(folder / "skills" / check.NAME)
    assert "SKILL.md" in names and "scripts/finetune.py" in names and "references/data.md" in names
    for name in names:
        assert (installed / name).read_bytes() == (check.folder() / name).read_bytes(), name
    linked = work / ".claude/skills" / check.NAME
    assert linked.is_symlink() and (linked / "SKILL.md").is_file()
    assert [*check.problems(installed)] == []
