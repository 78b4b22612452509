"""The command line: `python -m release VERB`. A room is imported only when its verb is called; errors are one line."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import typer

from release.errors import ReleaseError, disk_is_full

VERBS = {  # verb -> the function that is called, and what it does
    "demo": ("release.demo:command", "The whole chain on the embedded default, published to the embedded Hub."),
    "preflight": ("release.preflight:command", "What a release of one size still misses on this machine."),
    "evaluate": (
        "release.evaluation.evaluate:command",
        "Two-stage NDCG@10 of a family's size, or of any CrossEncoder.",
    ),
    "choose": (
        "release.evaluation.select_checkpoint:command",
        "The best or the last checkpoint, by the family's benchmark.",
    ),
    "speed": ("release.speed.benchmark:command", "Pairs per second by the family's protocol."),
    "compare": ("release.card.compare:command", "The family beside its teacher and other rerankers: table and plots."),
    "export": ("release.export.checkpoint:command", "Dual-root checkpoint and ONNX, compared with the trained model."),
    "card": ("release.card.render:command", "Family and records -> the model's and the dataset's card."),
    "stage": ("release.hub.stage:command", "Assemble and check the folders exactly as the Hub will hold them."),
    "check": ("release.hub.checks:command", "Every reason why a staged folder must not be published."),
    "plan": ("release.preflight:plan", "What would run and what would be published, without doing it."),
    "publish": (
        "release.hub.publish:command",
        "Upload to the endpoint in HF_ENDPOINT, private until verified; needs --push.",
    ),
    "verify": ("release.hub.verify:command", "Pull everything back, compare, then make it public and tag it."),
    "hub": ("release.localhub.cli:hub", "Serve the embedded Hub on loopback."),
    "hub-fsck": ("release.localhub.cli:hub_fsck", "Check every hash that the embedded Hub keeps."),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return 0, 1 for an error that people can fix, 2 for wrong usage, or 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_about)
    try:
        for verb, (where, about) in VERBS.items():
            app.command(verb, help=about)(_load(where) if arguments[:1] == [verb] else _about)
        return app(arguments, prog_name="python -m release", standalone_mode=False) or 0
    except typer.TyperException as error:  # wrong usage
        if arguments:  # without any, the help was shown
            words = ["python -m release", *(verb for verb in arguments[:1] if verb in VERBS), "--help"]
            print(f"error: {error.format_message()}; hint: {' '.join(words)}", file=sys.stderr)
        return error.exit_code
    except ReleaseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if not disk_is_full(error):
            raise
        where = getattr(error, "filename", None) or "build"
        print(f"error: the disk is full; in {where}; hint: free some space", file=sys.stderr)
        return 1
    except (typer.Abort, KeyboardInterrupt):
        print("stopped; nothing half written was kept: run the same command again to continue", file=sys.stderr)
        return 130


def _about() -> None:
    """From a trained reranker to a released one: measure, export, card, stage, publish, verify."""


def _load(where: str) -> Callable[..., None]:
    module, function = where.split(":")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    sys.exit(main())
