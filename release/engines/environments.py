"""Environments of the engines that this project does not have, under build/engines: built once, by uv with hard links, by npm."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from filelock import FileLock

from release.engines.catalogue import Engine
from release.engines.jobs import WORKER, link
from release.errors import CannotRun
from release.files import PACKAGE, sha256_file, sha256_folder, short_hash, write_atomic

ROOT = Path("build/engines")
TORCH = ("torch", "torchgen", "functorch")  # with their metadata linked from this project's environment
NODE_WORKER = WORKER.with_suffix(".mjs")


def program(engine: Engine) -> tuple[list[str], dict[str, str]]:
    """How `engine` is run: the program with its arguments, empty for this project's own Python, and its environment.

    Raises:
        CannotRun: What it needs is not here; the line says what.
    """
    if engine.core:
        return [], {}
    if engine.read:
        raise CannotRun(engine.read)
    if engine.language == "javascript":
        folder = _built(engine, _npm)
        return ["node", str((folder / NODE_WORKER.name).resolve())], {}
    folder = _built(engine, _uv)
    return [str((folder / "bin/python").absolute()), str(WORKER)], {"PYTHONPATH": ""}


@functools.cache
def installed(program: tuple[str, ...]) -> list[str]:
    """Every package, with its version, where `program` runs, and the code of this project that runs there."""
    if not program:
        packages = [f"{each.name} {each.version}" for each in metadata.distributions()]
        return [*sorted(packages), sys.version, sha256_folder(PACKAGE / "runtime", "*.py"), sha256_file(WORKER)]
    if program[0] == "node":
        lock = Path(program[1]).with_name("node_modules") / ".package-lock.json"
        return [sha256_file(lock), sha256_file(NODE_WORKER)]
    folders = Path(program[0]).parent.parent.glob("lib/python*/site-packages/*.dist-info")
    return [*sorted(folder.name for folder in folders), sys.version, sha256_file(WORKER)]


def _built(engine: Engine, build: Callable[[Engine, Path], None]) -> Path:
    """The folder of an environment; one that is not finished is built anew, and one that another run builds is waited for.

    Raises:
        CannotRun: It cannot be built, or written.
    """
    name = re.sub(r"[^\w.]+", "-", engine.packages[0]).strip("-")
    folder = ROOT / f"{name}-{short_hash(json.dumps([engine.packages, sys.version]))}"
    if (folder / ".ready").is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not (folder / ".ready").is_file():
                shutil.rmtree(folder, ignore_errors=True)
                build(engine, folder)
                (folder / ".ready").touch()
    except OSError as error:
        raise CannotRun(f"its environment cannot be built ({error.strerror or type(error).__name__})") from error
    return folder


def _uv(engine: Engine, folder: Path) -> None:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise CannotRun("uv is not installed", hint="pip install uv")
    _call([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    _link_torch(folder)
    install = [uv, "pip", "install", "--quiet", "--link-mode", "hardlink", "--python", str(folder / "bin/python")]
    _call([*install, *engine.packages, "--constraint", str(_constraint(folder))])


def _link_torch(folder: Path) -> None:
    """This project's torch in another environment, by hard links: the same kernels, and no second gigabyte."""
    import torch

    source = Path(torch.__file__).parent.parent
    (target,) = (folder / "lib").glob("python*/site-packages")
    for path in (*(source / name for name in TORCH), *source.glob("torch-*.dist-info")):
        if path.is_dir():
            shutil.copytree(path, target / path.name, copy_function=link)


def _constraint(folder: Path) -> Path:
    """A file that holds torch where it is, so that no engine brings a build with CUDA, which is gigabytes."""
    import torch

    path = folder / "constraints.txt"
    write_atomic(path, f"torch=={torch.__version__}\n")
    return path


def _npm(engine: Engine, folder: Path) -> None:
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise CannotRun("node and npm are not installed")
    folder.mkdir()
    write_atomic(folder / "package.json", '{"private": true, "type": "module"}\n')
    shutil.copyfile(NODE_WORKER, folder / NODE_WORKER.name)
    _call(["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error", *engine.packages])


def _call(command: list[str]) -> None:
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}  # its CUDA libraries are not in the registry
    if "PIP_FIND_LINKS" in environment:
        environment.setdefault("UV_FIND_LINKS", environment["PIP_FIND_LINKS"])
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode:
        raise CannotRun(f"its environment cannot be built ({_reason(done.stderr)})")


def _reason(text: str) -> str:
    """The last line that says why, for a record: without the place of npm's log, and without a registry's address."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "complete log" not in line] or [
        "no message"
    ]
    return re.sub(r"https?://\S+|(?<=EAI_AGAIN )\S+|(?<=ENOTFOUND )\S+", "the registry", lines[-1])[:200]
