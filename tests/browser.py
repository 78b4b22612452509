"""A real browser, Chromium without a window; a test that needs it is skipped where there is none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FIXED = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--window-size=1280,1400",
    "--virtual-time-budget=3000",
)


def browse(home: Path, url: str, *options: str) -> str:
    """What Chromium prints for a page."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    command = [chromium, *FIXED, f"--user-data-dir={home}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
