"""What a release still misses on this machine, said in seconds, before hours are spent.

Rights come first, then everything that the family names on a Hub, then this machine. What is finished needs nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from release import options, records, results, spec
from release.card import acceptance
from release.console import print_hint, say
from release.errors import ReleaseError
from release.family import Family, load
from release.files import resource
from release.hub_objects import hub_objects
from release.preflight import machine, objects
from release.preflight.lack import Lack
from release.preflight.rights import publishing
from release.stages import STAGES

MicroBatch = Annotated[
    int | None, typer.Option(min=1, help="Pairs of one pass in training; the global batch if left out.")
]


def command(
    size: options.Size,
    family_file: options.Family = options.ETTIN,
    push: options.Push = False,
    micro_batch: MicroBatch = None,
    far: Annotated[
        bool, typer.Option("--far", help="Let pass what only a later stage needs, and another machine has.")
    ] = False,
    goals: Annotated[bool, typer.Option("--goals", help="Print what make can make here, and nothing else.")] = False,
) -> None:
    """Raise one error that names everything missing, or say that nothing is."""
    family = load(family_file)
    if goals:
        print(*reachable(family, size))
        return
    lacks = list(missing(family, size, push=push, compare=not far, micro_batch=micro_batch))
    if far and not push:
        for lack in (lack for lack in lacks if lack.elsewhere):
            print_hint(f"left for another machine: {lack.what}", lack.hint)
        lacks = [lack for lack in lacks if not lack.elsewhere]
    for what, hint in machine.advice(family, to_run(family, size)):
        print_hint(f"worth having: {what}", hint)
    if lacks:
        what = f"a release of {family.model_id(size)} cannot be finished here, {len(lacks)} missing"
        raise ReleaseError(f"{what}:\n{listed(lacks)}")
    say(f"nothing {'else ' if far else ''}is missing for a release of {family.model_id(size)}")


def reachable(family: Family, size: str) -> list[str]:
    """The goals of make for a release that is not published: all of it, or the stages that rest on nothing that is left.

    A stage is left for another machine where this one would measure a number that no card of the family may show.
    """
    left = left_elsewhere(family, size)
    if not left:
        return ["stage", "plan"]
    return [*(stage.name for stage in STAGES if stage.name in to_run(family, size) - left - {"verify"}), "plan"]


def left_elsewhere(family: Family, size: str) -> set[str]:
    """The stages that need another machine, and all that rest on them."""
    left = {lack.stage for lack in machine.machine(family, size, to_run(family, size)) if lack.elsewhere}
    for stage in STAGES:  # in their order
        if left & set(stage.inputs):
            left.add(stage.name)
    return left


def listed(lacks: list[Lack]) -> str:
    """One line for each thing that is missing, and one for its hint."""
    return "\n".join(
        f"  - {lack.what}{f' (for make {lack.stage})' if lack.stage else ''}\n    hint: {lack.hint}" for lack in lacks
    )


def missing(
    family: Family, size: str, *, push: bool = False, compare: bool = True, micro_batch: int | None = None
) -> Iterator[Lack]:
    """Yield everything that is missing for one size.

    Args:
        push: Whether it is to be published: only then is a token asked for, and before anything else.
        compare: Whether the models count that the family is compared with.
        micro_batch: As in `machine.machine`.

    Raises:
        ReleaseError: The family has no such size.
    """
    family.size(size)
    if push:
        yield from publishing(family, size)
    stages = to_run(family, size) | ({"compare"} if compare else set())
    try:
        mixture = spec.load(resource(family.data.declaration))
        named = hub_objects(family, mixture, [size])
    except ReleaseError as error:
        yield objects.problem(error, "mix")
        return
    answers = objects.ask(family, named, stages)
    yield from answers.lacks
    yield from objects.local(family, mixture, size, stages)
    yield from machine.machine(family, size, stages, micro_batch)
    yield from machine.disk(family, stages, answers.fetched, answers.encoder)


def to_run(family: Family, size: str) -> set[str]:
    """The stages whose output is not there yet; a speed that no card of the family may show counts for none."""
    stages = {stage.name for stage in STAGES if (file := stage.file(family.build, size)) and not file.is_file()}
    return stages | (set() if "speed" in stages or _shows_speed(family, size) else {"speed"})


def _shows_speed(family: Family, size: str) -> bool:
    folder = family.folder(size) / "records"
    try:
        acceptance.speed(records.read(folder, results.SPEED), family, folder)
    except ReleaseError:
        return False
    return True
