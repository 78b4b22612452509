"""The command line: `python -m release VERB`. A module is imported only when its verb is called; errors are one line."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # until `main` says what was stopped, Ctrl-C ends this without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import typer

from release import every_size, stages
from release.command_line import exit_status
from release.console import hide_bars
from release.errors import ReleaseError
from release.files import resource
from release.mode import ORGANIZATION
from release.options import ETTIN
from release.start_up import loading

VERBS = {  # verb -> the function that is called, or the script that is run, and what it does
    "demo": ("release.demo:command", "every stage, small: no network, no GPU, no account"),
    "preflight": ("release.preflight.check:command", "what a release of a size lacks on this machine"),
    **{stage.name: (stage.command, stage.description) for stage in stages.STAGES},
    "check": ("release.hub.checks:command", "every reason not to publish a staged folder"),
    "release-data": ("release.hub.change:data_command", "the data set on its own, once; compared by hashes (PUSH=1)"),
    "explain": ("release.card.explain:command", "where a number on the card or in the collection comes from"),
    "compare": ("release.compared:command", "sizes, teacher, other rerankers: table and plots"),
    "plan": ("release.hub.change:plan_command", "what would run and be published, without doing it"),
    "plan-data": ("release.data.plan:command", "rows, bytes, licences and overlaps of the declared data"),
    "plan-train": ("release.budget.training:command", "steps, memory and hours of training a size"),
    "plan-evaluate": ("release.budget.evaluation:command", "pairs, texts and hours of the two-stage evaluation"),
    "rehearse": ("release.rehearsal.run:command", "a release from end to end on stand-ins, on a Hub of its own"),
    "skill": ("release.agents.check:command", "the skill for agents: specification, links, commands, scripts"),
    "skill-bundle": ("release.agents.bundle:command", "the skill as a bucket of skills holds it; sends nothing"),
    "skill-evals": ("release.agents.evals:command", "the tasks that judge the skill, done once and checked"),
    "agent-rehearsal": (
        "release.agents.rehearsal:command",
        "follow the skill's commands literally, on an embedded Hub",
    ),
    "hub": ("release.localhub.cli:hub", "serve the embedded Hub on loopback"),
    "hub-fsck": ("release.localhub.cli:hub_fsck", "check every hash that the embedded Hub keeps"),
}
EXTRAS = {  # the packages that a verb needs beside the core ones; for all others it is `demo`, which has everything
    **dict.fromkeys(("mix", "score", "plan-data"), "data"),
    **dict.fromkeys(("preflight", "plan", "plan-evaluate", "select", "evaluate", "speed"), "evaluate"),
    "engines": "engines,evaluate,export",
    **dict.fromkeys(("export", "check", "verify"), "export"),
    **dict.fromkeys(("hub", "hub-fsck"), "localhub"),
    **dict.fromkeys(("skill", "skill-bundle", "skill-evals", "agent-rehearsal"), "dev"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return 0, 1 for an error that people can correct, 2 for wrong usage, or 130 for Ctrl-C."""
    hide_bars()
    organization, arguments = _split_organization(sys.argv[1:] if arguments is None else arguments)
    if organization:
        os.environ[ORGANIZATION] = organization
    verb = arguments[0] if arguments else ""

    def call() -> int | None:
        if organization == "":
            hint = "--org NAME, or leave it out for the family's own"
            raise ReleaseError("--org names no organisation", hint=hint)
        if every_size.option(arguments, "--size") == every_size.ALL and verb in VERBS:
            family = every_size.option(arguments, "--family") or str(ETTIN)
            return every_size.run_verb(arguments, resource(family), os.environ.get(ORGANIZATION, ""))
        if (script := VERBS.get(verb, ("",))[0]).endswith(".py"):
            return subprocess.call([sys.executable, str(resource(script)), *arguments[1:]])
        return _app(verb)(arguments, prog_name=_program(), standalone_mode=False)

    def usage(message: str) -> str | None:
        known = stages.RENAMED.get(verb, verb if verb in VERBS else "")
        hint = f"{_program()} {known}".strip()
        # without any argument the help was shown
        return f"{stages.renamed(verb) or message}; hint: {hint} --help" if arguments else None

    return exit_status(call, usage=usage, extra=EXTRAS.get(verb, "demo"))


def _app(verb: str) -> typer.Typer:
    """All verbs with their help, of which only `verb` has its module imported."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_about)
    for name, (where, about) in VERBS.items():
        app.command(name, help=about)(_load(where) if name == verb else _verb)
    return app


def _about(
    org: Annotated[
        str, typer.Option(metavar="NAME", help="With any verb: release the family under this organisation or user.")
    ] = "",
) -> None:
    """From an encoder, a teacher and text to a released reranker whose card holds only measured numbers."""


def _split_organization(arguments: list[str]) -> tuple[str | None, list[str]]:
    """What --org says, which any verb takes, None without it; and the arguments without it."""
    for index, word in enumerate(arguments):
        if word == "--org" and index + 1 < len(arguments):
            return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
        if word.startswith("--org="):
            return word.removeprefix("--org="), arguments[:index] + arguments[index + 1 :]
    return None, arguments


def _verb() -> None:
    """A verb whose module is not needed now."""


def _load(where: str) -> Callable[..., None]:
    module, function = where.split(":")
    with loading():
        return getattr(importlib.import_module(module), function)


def _program() -> str:
    """How this command line was called."""
    name = Path(sys.argv[0]).name
    return name if name == "ettin-release" else "python -m release"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
