"""An end to waiting for a Hub: how long it may ask a client to wait, how long a step may take, and a line now and then meanwhile.

The client alone waits as long as it is told to, without a word, and for ever for an answer that does not come.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.utils import parse_ratelimit_headers
from huggingface_hub.utils._http import default_client_factory

from release.console import note
from release.errors import ReleaseError

ASKED_SECONDS = 300  # the longest window of the public Hub's rate limits
SILENT_SECONDS = 120.0  # without a byte of an answer
STEP_SECONDS = 600.0  # of one step, and for its bytes:
BYTES_PER_SECOND = 250_000
NOTE_SECONDS = 15.0  # between two notes, and two looks whether the Hub is there
LOOK_SECONDS = 15.0  # in which it answers a request for nothing, on a connection of its own, however slow the link is
LOOKS = 3  # that it may leave unanswered in a row
XET = {  # its client has its own retries, which nobody can interrupt
    "HF_XET_CLIENT_RETRY_MAX_DURATION": "60s",
    "HF_XET_CLIENT_CONNECT_TIMEOUT": "20s",
}


def be_patient_with_limits() -> None:
    """Let the Hub's client, in this whole process, refuse what would take too long."""
    for name, value in XET.items():
        os.environ.setdefault(name, value)
    set_client_factory(_client)


def _client() -> httpx2.Client:
    client = default_client_factory()
    client.timeout = httpx2.Timeout(SILENT_SECONDS, connect=20.0)
    client.event_hooks = client.event_hooks | {"response": [_check_answer]}
    return client


def _check_answer(response: Any) -> None:
    """Refuse to wait longer than the public Hub ever asks."""
    if response.status_code not in (429, 503):
        return
    limits = parse_ratelimit_headers(response.headers)
    retry_after = response.headers.get("retry-after", "").strip()
    seconds = max(limits.reset_in_seconds if limits else 0, int(retry_after) if retry_after.isdecimal() else 0)
    if seconds > ASKED_SECONDS:
        what = f"the Hub asks to wait {seconds:,} seconds (status {response.status_code})"
        raise ReleaseError(
            what, where=_origin(response.request), hint="run it again then, it continues where it stopped"
        )


def _origin(request: Any) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}"


@contextmanager
def limited(doing: str, size: int = 0, seconds: float = 0.0, *, hub: str | None = None) -> Generator[None]:
    """A step with an end, which says every quarter of a minute that it still goes on; `size` bytes are sent or fetched in it.

    Args:
        hub: The endpoint that it talks to. One that is dead or frozen ends the step: an upload alone would be tried again for
            minutes, and slowness of the link is no reason, since any answer will do.

    Raises:
        ReleaseError: It took too long. Whatever it waits for, in Python or in the client's own runtime, is interrupted.
    """
    begin, done = time.monotonic(), threading.Event()
    seconds = (seconds or STEP_SECONDS) + size / BYTES_PER_SECOND
    over: list[str] = []

    def watch() -> None:
        silent = 0
        while not done.wait(min(NOTE_SECONDS, max(0.0, begin + seconds - time.monotonic()))):
            silent = 0 if hub is None or _answers(hub) else silent + 1
            if done.is_set():
                return
            if silent >= LOOKS:
                over.append(f"{hub} does not answer any more")
            elif time.monotonic() >= begin + seconds:
                over.append(f"it takes longer than {seconds:.0f} seconds")
            if over:
                os.kill(os.getpid(), signal.SIGINT)
                return
            note(f"still: {doing} ({time.monotonic() - begin:.0f} s)")

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what goes on in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        if over:
            hint = "run it again, it continues where it stopped"
            raise ReleaseError(f"cannot {doing}: {over[0]}", hint=hint) from None
        raise
    finally:
        done.set()


def _answers(hub: str) -> bool:
    """Whether anything at all comes back from there."""
    try:
        httpx2.head(hub, timeout=LOOK_SECONDS)
    except httpx2.HTTPError:
        return False
    return True
