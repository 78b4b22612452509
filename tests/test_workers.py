"""Jobs shared among processes and clusters: what an executor is told, and what it says where it cannot be used."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from release.errors import ReleaseError
from release.workers import Executor, run_on_ray, submit_to_slurm, too_few


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("24:00:00", "24:00:00"),  # YAML reads it as a number to base 60, and Slurm would take that for minutes
        ("00:30:00", "00:30:00"),
        ("4", 4),
        ("gpu", "gpu"),
        ("false", False),
        ("{account: ours}", {"account": "ours"}),
    ],
)
def test_an_option_for_an_executor_means_what_it_says(text: str, value: Any) -> None:
    assert Executor.parse("slurm", 1, [f"name={text}"], "score").options == {"name": value}


PARTITION = {"partition": "gpu", "time": "1:00:00"}


@pytest.fixture(autouse=True)
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's command, which takes nothing: no controller runs where tests do."""
    command = tmp_path / "bin/sbatch"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified' >&2\nexit 1\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    return command


def test_an_executor_that_lacks_an_option_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"'slurm' cannot be used .*partition.*hint: .*--option partition=gpu"):
        submit_to_slurm([], len, 2, name="score", logs=tmp_path, options={})
    with pytest.raises(ReleaseError, match=r"'slurm' cannot be used .*hint: .*--option partition=gpu"):
        submit_to_slurm([], len, 2, name="score", logs=tmp_path, options={**PARTITION, "sbatch_args": "no table"})


def test_jobs_that_slurm_does_not_take_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sbatch: Path
) -> None:
    with pytest.raises(ReleaseError, match=r"sbatch refused the jobs \(status 1\).*hint: correct what it names"):
        submit_to_slurm([], len, 2, name="score", logs=tmp_path / "logs", options=PARTITION)
    sbatch.unlink()
    monkeypatch.setenv("PATH", str(sbatch.parent))
    with pytest.raises(ReleaseError, match="sbatch is not here; hint: run this on a node"):
        submit_to_slurm([], len, 2, name="score", logs=tmp_path / "logs", options=PARTITION)


def test_a_cluster_that_is_too_small_for_its_workers_is_told() -> None:
    small = {"CPU": 4.0, "memory": 1e9}
    assert too_few(small, {"num_cpus": 1}, 4) is None
    assert too_few(small, {"num_cpus": 1}, 5) == "5 worker(s) need 5 CPU, and the cluster has 4"
    assert too_few(small, {"num_cpus": 1, "num_gpus": 1}, 2) == "2 worker(s) need 2 GPU, and the cluster has 0"
    assert too_few(small, {"resources": {"disk": 0.5}}, 1) == "1 worker(s) need 0.5 disk, and the cluster has 0"


def test_ray_that_is_not_here_or_lacks_an_option_is_one_line() -> None:
    says = (
        r"'ray' cannot be used .*hint: .*--option num_gpus=1"
        if find_spec("ray")
        else r"hint: pip install .*\[cluster\]"
    )
    with pytest.raises(ReleaseError, match=says):
        run_on_ray([], len, 2, options={"partition": "gpu"}, progress=lambda rows: None)


@pytest.mark.parametrize(
    ("kind", "option", "says"),
    [
        ("local", "a=1", "for an executor on a cluster"),
        ("slurm", "partition", "has no value.*NAME=VALUE"),
        ("ray", "a=[", "'\\[', which is no YAML"),
    ],
)
def test_an_option_of_nobody_or_without_a_value_is_one_line(kind: str, option: str, says: str) -> None:
    with pytest.raises(ReleaseError, match=says):
        Executor.parse(kind, 2, [option], "score")
