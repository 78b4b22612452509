"""Rendering in a process of its own: a card made to be slow costs its own page one second, and nobody else any."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from functools import lru_cache
from html import escape
from pathlib import Path

_PROGRAM = Path(__file__).with_name("render.py")
_AT_ONCE = threading.Semaphore(2)  # so that two cores are kept busy, and no more memory than that is used
WALL_SECONDS = 60  # far above the limit of processor time that the program sets itself


@lru_cache(64)
def render_card(markdown: str, repo_path: str, revision: str) -> str:
    """`card_html` within limits of time and memory; beyond them, or if it fails, the text as it is."""
    command = [sys.executable, "-P", str(_PROGRAM)]
    arguments = json.dumps([markdown, repo_path, revision]).encode()
    with _AT_ONCE:
        try:
            done = subprocess.run(command, input=arguments, capture_output=True, timeout=WALL_SECONDS, check=True)
            return done.stdout.decode()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            notice = "This card takes too long to render; it is shown as plain text."
            return f'<p class="notice">{notice}</p><pre>{escape(markdown)}</pre>'
