"""The two verbs of the command line: `hub` and `hub-fsck`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from release.localhub.fsck import fsck
from release.localhub.server import serve

Root = Annotated[Path, typer.Option(help="Where everything is kept.")]


def hub(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 picks a free one.")] = 8765,
    root: Root = Path("build/hub"),
    account: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:[TOKEN]:ORG[,ORG...]",
            help="Who may write, and where, e.g. local::cross-encoder; without a token, one is made. Repeatable.",
        ),
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REPO",
            help="Trust the stand-in of a CI to write this repository, e.g. datasets/local/data; ROOT/ci.env is its job.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; another needs a token file.")] = "127.0.0.1",
    token_file: Annotated[Path | None, typer.Option(help="A file with one account per line, as --account.")] = None,
) -> None:
    """Serve the embedded Hub until it is stopped. Accounts may also be in RELEASE_HUB_ACCOUNTS."""
    serve(root, port=port, host=host, accounts=account or (), trust=trust or (), token_file=token_file)


def hub_fsck(root: Root = Path("build/hub")) -> None:
    """Check every hash of the embedded Hub's content and history; exit status 1 if one does not agree."""
    report = fsck(root)
    print(report)
    raise typer.Exit(1 if report.problems else 0)
