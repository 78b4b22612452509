"""The options that most verbs share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Family = Annotated[Path, typer.Option("--family", help="The family file.")]
Size = Annotated[str, typer.Option(help="One of the family's sizes, or all: one after the other.")]
Push = Annotated[bool, typer.Option("--push", help="Write to the endpoint that HF_ENDPOINT names.")]
Whole = Literal["release", "card"]
What = Annotated[Whole, typer.Option(help="The whole release, or a correction of its cards alone.")]
Pull = Annotated[bool, typer.Option("--pull-request", help="Propose it in one pull request, which a person merges.")]
Previous = Annotated[
    str | None, typer.Option(help="The release to compare with: a folder, or ID@REVISION; else the version before.")
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that share the work.")]
Executor = Annotated[Literal["local", "slurm", "ray"], typer.Option(help="Where they run.")]
ExecutorOptions = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="For the executor.")]

ETTIN = Path("recipes/ettin.toml")
