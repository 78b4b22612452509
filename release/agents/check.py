"""`make skill`: the skill by the public specification and by its own contract, without running what takes minutes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from release.agents import pages
from release.console import print_json
from release.errors import ReleaseError
from release.files import PACKAGE, RESOURCES

NAME = "finetune-ettin-reranker"
SCRIPTS = ("prepare", "finetune", "evaluate", "publish")
LONGEST = 150  # lines of SKILL.md: it is a router
FEWEST_EVALS = 8
OTHERS = ("pip install ", "ettin-release verify --repo ")  # commands that are no script of the skill
TAGS = {  # what follows `sh` on a fence: whom a command is for
    "file": "the data is a file",
    "beir": "the data is a folder in BEIR's form",
    "account": "it needs an account on a Hub",
    "embedder": "with a retriever of one's own",
    "run": "with candidates of one's own",
    "lora": "with little memory",
}
EVAL_KEYS = {"id", "prompt", "expected_output", "files", "expectations", "commands", "checks"}


def folder() -> Path:
    """The skill: in a checkout below skills/, in an installed wheel where agents look for the skills of a package."""
    packed = RESOURCES / ".agents/skills" / NAME
    return packed if packed.is_dir() else RESOURCES / "skills" / NAME


def command() -> None:
    """Check the skill: the specification, its links, its commands, its scripts and its evaluations."""
    skill = folder()
    if faults := [*problems(skill)]:
        more = f" (and {len(faults) - 1} more: {'; '.join(faults[1:4])})" if faults[1:] else ""
        raise ReleaseError(f"{faults[0]}{more}", where=str(skill), hint="correct it, and run make skill again")
    written = sorted(skill.rglob("*.md"))
    print_json(
        {
            "skill": NAME,
            "lines": len((skill / "SKILL.md").read_text(encoding="utf-8").splitlines()),
            "pages": len(written),
            "commands": sum(len(block.commands) for page in written for block in pages.blocks(page)),
            "links": sum(len(pages.links(page)) for page in written),
            "evals": len(evals(skill)),
        }
    )


def problems(skill: Path) -> Iterator[str]:
    """What is wrong with a skill's folder, one line each."""
    from skills_ref import validate

    yield from validate(skill)
    if not (skill / "SKILL.md").is_file():
        return
    lines = len((skill / "SKILL.md").read_text(encoding="utf-8").splitlines())
    if lines > LONGEST:
        yield f"SKILL.md has {lines} lines, {LONGEST} are allowed: move details to references/"
    options = {name: _options(skill / f"scripts/{name}.py") for name in SCRIPTS}
    yield from (f"scripts/{name}.py --help fails" for name, works in options.items() if not works)
    yield from (fault for name in SCRIPTS for fault in _header(skill / f"scripts/{name}.py"))
    for page in sorted(skill.rglob("*.md")):
        where = page.relative_to(skill)
        yield from (f"{where}: dead link {target}" for target in pages.dead_links(page))
        for block in pages.blocks(page):
            yield from (f"{where} line {block.line}: {fault}" for fault in _block_faults(block, options))
    yield from _eval_faults(skill)


def _options(script: Path) -> set[str]:
    """The options that a script's --help names; none where it fails."""
    environment = os.environ | {"COLUMNS": "200", "PYTHONPATH": str(PACKAGE.parent), "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run([sys.executable, script, "--help"], env=environment, capture_output=True, text=True)
    return set(re.findall(r"--[a-z][a-z-]*", done.stdout)) if done.returncode == 0 else set()


def _header(script: Path) -> Iterator[str]:
    """Faults of a script's inline metadata (PEP 723)."""
    text = script.read_text(encoding="utf-8") if script.is_file() else ""
    match = re.search(r"^# /// script\n((?:#.*\n)*?)# ///$", text, re.MULTILINE)
    header = tomllib.loads(re.sub(r"^# ?", "", match[1], flags=re.MULTILINE)) if match else {}
    if not header.get("dependencies") or not header.get("requires-python"):
        yield f"scripts/{script.name}: no inline metadata that names Python and the dependencies"


def _block_faults(block: pages.Block, options: dict[str, set[str]]) -> Iterator[str]:
    """Commands that nothing would run: an unknown tag, script or option."""
    yield from (f"unknown tag {tag!r} (there are: {', '.join(TAGS)})" for tag in block.tags if tag not in TAGS)
    for line in block.commands:
        if not (match := re.search(r'"\$SKILL/scripts/(\w+)\.py"(.*)', line)):
            if not line.startswith(OTHERS):
                yield f"a command that is neither a script of the skill nor pip or verify: {line}"
            continue
        name, rest = match.groups()
        if name not in options:
            yield f"no script {name}.py"
        else:
            unknown = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", rest)) - options[name]
            yield from (f"{name}.py has no option {option}" for option in sorted(unknown))


def evals(skill: Path) -> list[dict[str, Any]]:
    """The tasks of evals/evals.json, none where it cannot be read."""
    try:
        return json.loads((skill / "evals/evals.json").read_text(encoding="utf-8"))["evals"]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _eval_faults(skill: Path) -> Iterator[str]:
    tasks = evals(skill)
    if len(tasks) < FEWEST_EVALS:
        yield f"evals/evals.json holds {len(tasks)} tasks, at least {FEWEST_EVALS} are needed"
    for number, task in enumerate(tasks, 1):
        if set(task) != EVAL_KEYS or not (task["expectations"] and task["commands"] and task["checks"]):
            yield f"evals/evals.json task {number}: the keys are {', '.join(sorted(EVAL_KEYS))}, with something to check"
    if len({task.get("id") for task in tasks}) < len(tasks):
        yield "evals/evals.json: two tasks have one id"
