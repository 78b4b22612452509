"""The options that most verbs share, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Family = Annotated[Path, typer.Option("--family", help="The family file.")]
Size = Annotated[str, typer.Option(help="One of the family's sizes.")]
Push = Annotated[bool, typer.Option("--push", help="Write to the endpoint that HF_ENDPOINT names.")]

ETTIN = Path("recipes/ettin.toml")
