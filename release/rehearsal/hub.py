"""The Hub of a rehearsal: the embedded one over a folder of its own, with a log of its requests.

`python -m release.rehearsal.hub --root FOLDER` serves it; `rehearsal_hub` starts that beside this process.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from release.localhub import Account, running_hub, serve

LOG = "requests.log"


class RequestLog:
    """ASGI middleware that writes a line for every request: method, path and status."""

    def __init__(self, app: ASGIApp, path: Path) -> None:
        self._app, self._path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and note it when its answer begins."""

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                with self._path.open("a", encoding="utf-8") as log:
                    log.write(f"{scope['method']} {scope['path']} {message['status']}\n")
            await send(message)

        await self._app(scope, receive, send_and_note if scope["type"] == "http" else send)


def requests(root: Path) -> list[tuple[str, str, int]]:
    """All requests so far: method, path, status."""
    path = root / LOG
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [(method, where, int(status)) for method, where, status in (line.split(" ") for line in lines)]


def rehearsal_hub(root: Path, accounts: Iterable[Account]) -> AbstractContextManager[tuple[str, str]]:
    """As `release.localhub.running_hub`, with the log."""
    return running_hub(root, accounts, module=("release.rehearsal.hub",))


def _end_with(parent: int) -> None:
    """Stop serving once the rehearsal is gone that started this, however it ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m release.rehearsal.hub", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    args = parser.parse_args()
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    serve(args.root, port=args.port, wrap=lambda app: RequestLog(app, args.root / LOG))


if __name__ == "__main__":
    main()
