"""`make agent-rehearsal`: what an agent does with the skill, by the letter, in an empty folder, on an embedded Hub.

The commands are read out of SKILL.md and run as they are written; this module knows only what a user knows: the data, the base
model, and the name of the repository. The skill comes from the Hub's bucket by `hf skills add`, and the first command of SKILL.md
installs the project's wheel.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from huggingface_hub import HfApi, constants

from release.agents import answers, bundle, check, pages
from release.beir import files
from release.console import print_json
from release.errors import ReleaseError
from release.files import PACKAGE, RESOURCES, exclusive_lock, write_atomic
from release.localhub import Account, running_hub
from release.localhub.auth import random_token

ROOT = Path("build/agent-rehearsal")
DEMO = Path("build/docstring-reranker")
BASE = "local/docstring-reranker-mini-v1"
USER = "somebody"


@dataclass(frozen=True)
class UserData:
    """Data of one form, and the word by which SKILL.md marks what is for that form only."""

    name: str
    form: str
    data: Path


def command(
    base: Annotated[Path, typer.Option(help="The folder of a released model, put on the Hub of the rehearsal.")] = DEMO
    / "mini/repo",
    beir: Annotated[
        Path, typer.Option(show_default=False, help="A folder in BEIR's form; the demo's collection by default.")
    ] = DEMO / "data/collections/docstrings",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each command.")] = len(os.sched_getaffinity(0)),
) -> None:
    """Follow the skill's commands literally on a file and on a folder in BEIR's form; ends with one JSON object per data set."""
    if constants.HF_HUB_OFFLINE:
        raise ReleaseError("the client is offline, and a rehearsal has a Hub of its own", hint="unset HF_HUB_OFFLINE")
    if PACKAGE.parent != RESOURCES:
        raise ReleaseError("the rehearsal builds the project's wheel", where=str(PACKAGE), hint="run it in a checkout")
    if not (base / "modules.json").is_file():
        raise ReleaseError("no released model", where=str(base), hint="make demo makes one, or pass --base FOLDER")
    files(beir)
    with exclusive_lock(ROOT):
        for old in ("hub", "home", "work"):
            shutil.rmtree(ROOT / old, ignore_errors=True)
        tasks = [
            UserData("answers", "file", answers.write(ROOT / "data/answers.jsonl")),
            UserData(beir.resolve().name, "beir", beir),
        ]
        wheels = build_wheel(ROOT / "wheels")
        bundle.write(ROOT / "hub/buckets" / bundle.BUCKET)
        token = random_token()
        with running_hub(ROOT / "hub", [Account(USER, token, ("local",))]) as (endpoint, _):
            publish_base(base, endpoint, token)
            results = {
                task.name: rehearse(task, Workplace(ROOT / "work" / task.name, wheels, endpoint, token, threads))
                for task in tasks
            }
    print_json(results)
    if failed := {name: result["failed"] for name, result in results.items() if result["failed"]}:
        name, what = next(iter(failed.items()))
        raise ReleaseError(f"{name}: {what}", where=str(ROOT / "work" / name), hint="read its rehearsal.log")


class Workplace:
    """An empty folder in which an agent works: its own environment, home and client of the Hub."""

    def __init__(self, folder: Path, wheels: Path, endpoint: str, token: str, threads: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        python = ROOT.resolve() / "home/venv/bin"
        if not python.is_dir():
            make_environment(python.parent)
        self.environment = {
            "PATH": f"{python}:{os.environ['PATH']}",
            "HOME": str(ROOT.resolve() / "home"),
            "HF_HOME": str(ROOT.resolve() / "home/hf"),
            "HF_ENDPOINT": endpoint,
            "HF_TOKEN": token,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "OMP_NUM_THREADS": str(threads),
            "COLUMNS": "120",
            # pip finds the wheel here and everything else in place: the rehearsal needs no network
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels.resolve()),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def shell(self, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one line as it is written, and keep what it printed."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=self.environment | variables, capture_output=True, text=True
        )
        with (self.folder / "rehearsal.log").open("a", encoding="utf-8") as log:
            log.write(f"$ {line}\n{done.stdout}{done.stderr}(status {done.returncode})\n\n")
        return done


def rehearse(task: UserData, workplace: Workplace) -> dict[str, Any]:
    """Follow SKILL.md on one data set, to its end or to the first command that fails."""
    started = time.monotonic()
    repository = f"{USER}/{task.name}-reranker"
    outcome: dict[str, Any] = {"commands": 0, "failed": None, "refused": None}
    try:
        data = _copy_data(task, workplace.folder)
        _run(workplace, f"hf skills add {check.NAME}", {})
        skill = Path(".agents/skills") / check.NAME
        variables = {"SKILL": str(skill), "DATA": data, "BASE": BASE, "REPO": repository}
        for block in pages.blocks(workplace.folder / skill / "SKILL.md"):
            if block.tags and not {task.form, "account"} & set(block.tags):
                continue
            for line in block.commands:
                _run(workplace, line, variables)
                outcome["commands"] += 1
    except ReleaseError as error:
        # By the contract a REGRESSION stays here: then the rehearsal has shown just that, and nothing has failed.
        outcome["refused" if "worse than its base" in str(error) else "failed"] = str(error)
    return (
        _measured(workplace, repository)
        | {"repository": repository}
        | outcome
        | {"seconds": round(time.monotonic() - started, 1)}
    )


def _copy_data(task: UserData, folder: Path) -> str:
    """The data where a user has it, and its name there."""
    copy = shutil.copytree if task.data.is_dir() else shutil.copy
    copy(task.data, folder / task.data.name)
    return task.data.name


def _run(workplace: Workplace, line: str, variables: dict[str, str]) -> None:
    started, cpu = time.monotonic(), _cpu_seconds()
    done = workplace.shell(line, **variables)
    print(f"{time.monotonic() - started:7.1f} s {_cpu_seconds() - cpu:7.1f} CPU s  {line}", flush=True)
    if done.returncode:
        said = [text for text in done.stderr.splitlines() if text.strip()] or ["no message"]
        raise ReleaseError(f"{line}: {said[-1].removeprefix('error: ')}")


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _measured(workplace: Workplace, repository: str) -> dict[str, Any]:
    """What came out: the figures of the record, and whether the Hub holds the model for everybody."""
    names = ("verdict", "score", "baseline", "delta", "ci_low", "ci_high", "guard_delta", "published")
    outcome: dict[str, Any] = dict.fromkeys(names) | {"published": False}
    try:
        record = json.loads((workplace.folder / "tuned/records/finetune.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return outcome
    test, guard = record["measured"]["test"], record["measured"]["guard"]
    outcome |= {name: test[name] for name in names if name in test}
    log = (workplace.folder / "rehearsal.log").read_text(encoding="utf-8")
    verdicts = [line for line in log.splitlines() if line.startswith("VERDICT: ")]
    outcome |= {"verdict": verdicts[-1].split()[1] if verdicts else None, "guard_delta": guard["delta"]}
    api = HfApi(workplace.environment["HF_ENDPOINT"], token=False)  # as anybody sees it
    outcome["published"] = api.repo_exists(repository) and bool(api.list_repo_refs(repository).tags)
    return outcome


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout, alone in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    arguments = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        str(PACKAGE.parent),
    ]
    done = subprocess.run([*arguments, "--wheel-dir", str(folder)], capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(
            f"the wheel cannot be built ({done.stderr.strip().splitlines()[-1]})", where=str(PACKAGE.parent)
        )
    return folder


def make_environment(folder: Path) -> None:
    """A virtual environment that has every package of this one but the project itself."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    ours = Path(sysconfig.get_path("purelib"))
    others = folder / "packages"
    others.mkdir()
    for path in ours.iterdir():
        if not path.name.startswith(("ettin_release", "_editable_impl_ettin_release", "__pycache__")):
            (others / path.name).symlink_to(path)
    write_atomic(site / "packages.pth", f"{others}\n")
    for name in ("hf", "pip"):
        program = {"hf": "huggingface_hub.cli.hf", "pip": "pip"}[name]
        script = folder / "bin" / name
        write_atomic(script, f'#!/bin/sh\nexec {folder}/bin/python -m {program} "$@"\n')
        script.chmod(0o755)


def publish_base(folder: Path, endpoint: str, token: str) -> None:
    """The released model on the Hub of the rehearsal, as its family published it."""
    api = HfApi(endpoint, token=token)
    api.create_repo(BASE)
    api.upload_folder(repo_id=BASE, folder_path=folder)
