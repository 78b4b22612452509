"""`make rehearse`: a release from end to end on stand-ins, by the unchanged verbs, on an embedded Hub of its own.

Every repository that the family names is put on that Hub in small, in its own form, and then make runs each stage for each size as
a maintainer would: all sizes are made and measured, compared with others, and then published one after the other. What came out is
held against the family; then everything runs once more, with nothing left to do.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub import HfApi, constants

from release import hub_access, mode, options, spec, stages
from release.console import print_json, say, table
from release.errors import ReleaseError
from release.family import Family, load
from release.files import exclusive_lock
from release.localhub import Account
from release.localhub.auth import random_token
from release.rehearsal import checks, repositories
from release.rehearsal.hub import rehearsal_hub, requests
from release.rehearsal.repositories import StandIn
from release.rehearsal.workspace import DIRECT, Workspace, prepare

PUSHED = ("preflight", "publish", "verify")
NAMES = [stage.name for stage in stages.STAGES]
MEASURED, PUBLISHED = NAMES[: NAMES.index("card")], NAMES[NAMES.index("card") :]  # the comparison comes between
MOST_PARAMETERS = 70_000_000  # of an encoder where every size is rehearsed: each is on the disk ten times
MAINTAINER, UPSTREAM = "maintainer", "upstream"


@dataclass
class RehearsalStep:
    """One step: what it was called, how long it took, and one line about what went wrong, if anything did."""

    name: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    requests: int = 0
    failure: str | None = None


@dataclass
class Rehearsal:
    """A rehearsal while it runs: every step is timed, and what fails is kept, so that what does not depend on it still runs."""

    family: Family
    sizes: tuple[str, ...]
    workspace: Workspace
    threads: int
    steps: list[RehearsalStep] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Generator[RehearsalStep]:
        """Time a block; a ReleaseError inside becomes the step's failure."""
        step = RehearsalStep(name)
        self.steps.append(step)
        started, cpu, before = time.monotonic(), _cpu_seconds(), len(requests(self.workspace.hub))
        try:
            yield step
        except ReleaseError as error:
            step.failure = str(error)
        except Exception as error:  # the Hub went away, or the disk is full: the client and the network have many
            why = hub_access.reason(error)
            if why is None and not isinstance(error, OSError):
                raise
            step.failure = f"{why.what}; hint: {why.hint}" if why else " ".join(str(error).split())
        step.seconds, step.cpu_seconds = time.monotonic() - started, _cpu_seconds() - cpu
        step.requests = len(requests(self.workspace.hub)) - before
        print(f"{step.seconds:7.1f} s  {name}{f': {step.failure}' if step.failure else ''}", flush=True)

    @property
    def failed(self) -> bool:
        """Whether any step did."""
        return any(step.failure for step in self.steps)

    def make(self, target: str, environment: dict[str, str], size: str = "", *more: str) -> None:
        """Run one target of make in the workspace; `more` are further variables of make.

        Raises:
            ReleaseError: It failed; the line is the last one that it printed.
        """
        arguments = ["make", "--no-print-directory", target, f"FAMILY={self.family.path}"]
        arguments += [f"SIZE={size}"] if size else []
        arguments += [*(["PUSH=1"] if target in PUSHED else []), *more]
        done = subprocess.run(arguments, cwd=self.workspace.work, env=environment, capture_output=True, text=True)
        log = self.workspace.logs / f"{len(self.steps):02}-{target}{f'-{size}' if size else ''}.log"
        log.write_text(f"$ {' '.join(arguments)}\n{done.stdout}\n{done.stderr}", encoding="utf-8")
        if done.returncode:
            raise ReleaseError(_reason(done.stderr), where=str(log))


def command(
    family_file: options.Family = options.ETTIN,
    sizes: Annotated[str, typer.Option(help="Sizes between commas; the smallest two if left out.")] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every size of the family; large ones with fewer layers.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each verb.")] = len(os.sched_getaffinity(0)),
) -> None:
    """Rehearse a release of some sizes of a family; exit with 1 if a step failed."""
    if constants.HF_HUB_OFFLINE:
        raise ReleaseError("the client is offline, and a rehearsal has a Hub of its own", hint="unset HF_HUB_OFFLINE")
    os.environ[mode.VARIABLE] = "1"  # what is checked here was measured in a rehearsal
    os.environ |= dict.fromkeys(DIRECT, "127.0.0.1,localhost")
    family = load(family_file)
    chosen = _chosen(family, sizes, every)
    started = time.monotonic()
    with exclusive_lock(Path("build/rehearsal")):
        workspace = prepare(family)
        rehearsal = Rehearsal(workspace.load(), chosen, workspace, threads)
        published = run(rehearsal, most=MOST_PARAMETERS if every else None)
    seconds = time.monotonic() - started
    family = rehearsal.family
    for line in checks.not_rehearsed(family, chosen, workspace, MOST_PARAMETERS if every else None):
        say(f"not rehearsed: {line}")
    _show(rehearsal, published, seconds)
    if rehearsal.failed:
        raise ReleaseError(
            "the rehearsal failed", where=str(rehearsal.workspace.logs), hint="read the log of that step"
        )


def _chosen(family: Family, sizes: str, every: bool) -> tuple[str, ...]:
    """The sizes that are asked for, in the family's order.

    Raises:
        ReleaseError: One is not the family's, or is named twice.
    """
    named = [name for part in sizes.split(",") if (name := part.strip())]
    if every and named:
        raise ReleaseError("every size, or some of them?", hint="leave out ALL=1 (--all), or SIZES")
    for name in named:
        family.size(name)
        if named.count(name) > 1:
            raise ReleaseError(f"the size {name!r} is named twice", hint="SIZES=17m,32m: each size once")
    return tuple(size for size in family.sizes if size in named or every) or tuple([*family.sizes][:2])


def run(rehearsal: Rehearsal, *, most: int | None = None) -> list[str]:
    """All of it; returns the repositories that were published. Encoders of more than `most` parameters have fewer layers."""
    family, workspace = rehearsal.family, rehearsal.workspace
    stand_ins: list[StandIn] = []
    folders: dict[str, Path] = {}
    with rehearsal.step("stand-ins"):
        declaration = spec.load(workspace.work / family.data.declaration)
        stand_ins = repositories.stand_ins(family, declaration, rehearsal.sizes, most=most)
        folders = repositories.build(stand_ins, workspace.stand_ins)
    if rehearsal.failed:
        return []
    accounts = _accounts(family, stand_ins)
    with rehearsal_hub(workspace.hub, accounts) as (endpoint, token):
        with rehearsal.step("hub"):
            repositories.put(HfApi(endpoint, token=accounts[1].token), stand_ins, folders, workspace.hub)
        if rehearsal.failed:
            return []
        environment = workspace.environment(endpoint, token, rehearsal.threads)
        api = HfApi(endpoint, token=token)
        done = [size for size in rehearsal.sizes if _stages(rehearsal, environment, size, ["preflight", *MEASURED])]
        with rehearsal.step("compare"):
            rehearsal.make("compare", environment)
        for size in done:
            _stages(rehearsal, environment, size, PUBLISHED)
        published: list[str] = []
        with rehearsal.step("what came out"):
            published = checks.published(family, rehearsal.sizes, api)
            checks.check(family, rehearsal.sizes, declaration, workspace, api, [each.id for each in stand_ins])
        if rehearsal.failed:  # what failed would be made, and fail, once more
            return published
        _run_again(rehearsal, environment)
        with rehearsal.step("correction"):
            _correction(rehearsal, environment, api)
        return published


def _stages(rehearsal: Rehearsal, environment: dict[str, str], size: str, targets: Sequence[str]) -> bool:
    """Some targets for one size, until one fails; whether none did."""
    for target in targets:
        with rehearsal.step(f"{target} {size}") as step:
            if target == "publish":
                rehearsal.make("plan", environment, size)
            rehearsal.make(target, environment, size)
        if step.failure:
            return False
        if target in ("select", "stage"):
            rehearsal.workspace.give_back(rehearsal.family, size)
    return True


def _run_again(rehearsal: Rehearsal, environment: dict[str, str]) -> None:
    """Everything once more: no stage runs, no record changes, and little is asked of the Hub."""
    before = checks.state_of(rehearsal.workspace)
    for size in rehearsal.sizes:
        with rehearsal.step(f"again {size}"):
            rehearsal.make("verify", environment, size)
    with rehearsal.step("again compare"):
        rehearsal.make("compare", environment)
        checks.unchanged(before, checks.state_of(rehearsal.workspace))


def _correction(rehearsal: Rehearsal, environment: dict[str, str], api: HfApi) -> None:
    """One word of a card is corrected: what is tagged refuses it, and WHAT=card makes it a further revision beside the tag."""
    path, size = rehearsal.workspace.work / rehearsal.family.path, rehearsal.sizes[0]
    text, name = path.read_text(encoding="utf-8"), rehearsal.family.model_id(size)
    path.write_text(text.replace(rehearsal.family.about.summary, f"{rehearsal.family.about.summary} Corrected."))
    released = _tags(api, name)
    try:
        rehearsal.make("publish", environment, size)
    except ReleaseError as error:
        if "is finished" not in str(error) or "WHAT=card" not in str(error):
            raise
    else:
        raise ReleaseError("a corrected card went over a tagged one", hint="a tag means that nothing changes any more")
    rehearsal.make("publish", environment, size, "WHAT=card")
    corrected, head = _tags(api, name), api.repo_info(name).sha
    if any(corrected.get(tag) != commit for tag, commit in released.items()) or head in released.values():
        raise ReleaseError(f"the tags of {name} were {released}, they are {corrected}, and main is at {head}")
    if head not in corrected.values():
        raise ReleaseError(f"the corrected card of {name} has no tag", hint="make publish WHAT=card sets one")


def _tags(api: HfApi, name: str) -> dict[str, str]:
    return {ref.name: ref.target_commit for ref in api.list_repo_refs(name).tags}


def _reason(stderr: str) -> str:
    """The last error that a verb printed, in one line; what else it said last where there is none."""
    said = [line for line in stderr.splitlines() if line.strip() and not line.startswith("make: *** [")]
    starts = [number for number, line in enumerate(said) if line.startswith("error: ")]
    lines = said[starts[-1] :] if starts else said[-1:] or ["no message"]
    if not lines[0].endswith(":"):  # only a list goes on
        lines = lines[:1]
    return " ".join(line.strip().removeprefix("error: ") for line in lines)


def _accounts(family: Family, stand_ins: Sequence[StandIn]) -> list[Account]:
    """Who publishes, in the family's organisation only, and who owns what is published already."""
    organizations = tuple(dict.fromkeys(each.id.partition("/")[0] for each in stand_ins))
    ours, theirs = (family.about.organization,), organizations
    return [Account(MAINTAINER, random_token(), ours), Account(UPSTREAM, random_token(), theirs)]


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime + own.ru_utime + own.ru_stime


def bytes_of(folder: Path) -> int:
    """What the files below a folder take, each once however many names it has; no link is followed."""
    stats = [path.lstat() for path in folder.rglob("*")]
    return sum({each.st_ino: each.st_blocks * 512 for each in stats}.values())


def _show(rehearsal: Rehearsal, published: list[str], seconds: float) -> None:
    """The table of steps, and the line for programs."""
    rows = [
        [step.name, f"{step.seconds:.1f}", f"{step.cpu_seconds:.1f}", step.requests, "failed" if step.failure else "ok"]
        for step in rehearsal.steps
    ]
    table("Rehearsal", ["step", "seconds", "CPU s", "requests", ""], rows)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2  # Linux counts in KiB
    disk = bytes_of(rehearsal.workspace.root) / 1024**3
    say(f"the largest process took {largest:.1f} GB, and {disk:.1f} GB are on the disk")
    again = [step.requests for step in rehearsal.steps if step.name.startswith("again")]
    print_json(
        {
            "sizes": list(rehearsal.sizes),
            "steps": {step.name: round(step.seconds, 1) for step in rehearsal.steps},
            "failed": [{"step": step.name, "what": step.failure} for step in rehearsal.steps if step.failure],
            "seconds": round(seconds, 1),
            "repositories": published,
            "second_run_requests": sum(again),
            "largest_process_gb": round(largest, 2),
            "disk_gb": round(disk, 2),
        }
    )
