"""The embedded Hub with faults on demand, and a log of its requests: an ASGI wrapper, never part of what is shipped.

`running_faulty_hub` starts it; then POST /_test/faults sets faults, GET /_test/log and DELETE /_test/log read and
clear the log. `python -m tests.localhub.faults --root FOLDER` serves it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from release.localhub import Account, running_hub, serve


@dataclass
class Fault:
    """What happens to requests whose method and path (a regular expression) match, from the `nth` on, `times` times.

    Args:
        method: An HTTP method, or * for all.
        path: A regular expression that is searched for in the raw path.
        action: The Hub never sees the request: "answer" gives `status`, `headers` and `body` instead, "drop" closes
            the connection. "delay": the Hub gets it `seconds` later. The Hub does everything: "lose" closes the
            connection before the answer's first byte, "cut" in the middle of its body, and "flip" changes one bit in
            the middle of each part of the body.
        nth: The first matching request that the fault changes, counted from 1.
        times: How many requests it changes.
    """

    method: str
    path: str
    action: Literal["answer", "drop", "delay", "lose", "cut", "flip"]
    nth: int = 1
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "a fault, on demand"
    seconds: float = 1.0
    seen: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Whether the fault changes this request; every request of its kind is counted."""
        if self.method not in ("*", method) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class ConnectionCut(ConnectionError):
    """Ends a connection: the server closes it when the app raises in the middle of an answer."""


class FaultInjection:
    """ASGI middleware with the faults that are set, and the log of requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._faults: list[Fault] = []
        self._log: list[list[Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or its fault."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope["path"].startswith("/_test/"):
            return await (await self._control(Request(scope, receive)))(scope, receive, send)
        method, path = scope["method"], scope["raw_path"].decode("ascii", "replace")
        fault = next((fault for fault in self._faults if fault.matches(method, path)), None)
        row = [method, path, scope["query_string"].decode("ascii", "replace"), 0]
        self._log.append(row)
        if fault and fault.action == "answer":
            row[3] = fault.status
            return await Response(fault.body, fault.status, fault.headers)(scope, receive, send)
        if fault and fault.action == "drop":
            return _abort(send)
        if fault and fault.action == "delay":
            await asyncio.sleep(fault.seconds)

        async def send_and_log(message: Message) -> None:
            if message["type"] == "http.response.start":
                row[3] = message["status"]
            await (_damage(fault, message, send) if fault else send(message))

        await self._app(scope, receive, send_and_log)

    async def _control(self, request: Request) -> JSONResponse:
        name = request.url.path.removeprefix("/_test/")
        if (request.method, name) == ("POST", "faults"):
            self._faults = [Fault(**fault) for fault in json.loads(await request.body())]
        elif (request.method, name) == ("DELETE", "log"):
            self._log.clear()
        return JSONResponse(self._log if name == "log" else [asdict(fault) for fault in self._faults])


async def _damage(fault: Fault, message: Message, send: Send) -> None:
    """Send one message of an answer as the fault wants it."""
    body = message.get("body", b"")
    if fault.action == "lose":
        return _abort(send)
    if fault.action == "cut" and message["type"] == "http.response.body":
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        raise ConnectionCut
    if fault.action == "flip" and body:
        middle = len(body) // 2
        message = message | {"body": body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]}
    await send(message)


def _abort(send: Send) -> None:
    """Close the connection of uvicorn's `send`: ASGI has no way to, and an exception would become a 500."""
    send.__self__.transport.abort()


def running_faulty_hub(
    root: Path, accounts: Iterable[Account] | None = None, *, stall_seconds: float = 60.0
) -> AbstractContextManager[tuple[str, str]]:
    """`running_hub` with fault injection, and with `stall_seconds` for clients that stop in the middle."""
    return running_hub(root, accounts, module=("tests.localhub.faults", "--stall-seconds", str(stall_seconds)))


def main() -> None:
    """Serve a Hub with fault injection, for the accounts in RELEASE_HUB_ACCOUNTS."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--stall-seconds", type=float, default=60.0)
    args = parser.parse_args()
    serve(args.root, port=args.port, stall_seconds=args.stall_seconds, wrap=FaultInjection)


if __name__ == "__main__":
    main()
