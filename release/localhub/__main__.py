"""`python -m release.localhub`: the Hub without the rest of the command line, as `running_hub` starts it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from release.errors import ReleaseError
from release.localhub.server import serve

parser = ArgumentParser(description="Serve the embedded Hub on a free port of the loopback.")
parser.add_argument("--root", type=Path, required=True)
parser.add_argument("--testing", action="store_true")

if __name__ == "__main__":
    options = parser.parse_args()
    try:
        serve(options.root, testing=options.testing)
    except ReleaseError as error:
        sys.exit(f"error: {error}")
