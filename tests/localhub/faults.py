"""The embedded Hub with faults on demand, and a log of its requests: an ASGI wrapper, never part of what is shipped.

`running_faulty_hub` starts it; then POST /_test/faults sets faults, GET /_test/log and DELETE /_test/log read and
clear the log. POST /_test/complete says what repositories hold when they are whole (id -> path -> git's hash of the file):
from then on a look follows every request but GET and HEAD, and GET /_test/incomplete has how many looks there were,
and whatever was public or tagged and not whole. `python -m tests.localhub.faults --root FOLDER` serves it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from release.localhub import Account, running_hub, serve
from release.localhub.history import load_repos
from release.localhub.storage.database import Database


@dataclass
class Fault:
    """What happens to requests whose method and path (a regular expression) match, from the `nth` on, `times` times.

    Args:
        method: An HTTP method, or * for all.
        path: A regular expression that is searched for in the raw path.
        action: The Hub never sees the request: "answer" gives `status`, `headers` and `body` instead, "drop" closes
            the connection. "delay": the Hub gets it `seconds` later. The Hub does everything: "lose" closes the
            connection before the answer's first byte, "cut" in the middle of its body, and "flip" changes one bit in
            the middle of each part of the body. "spoil" changes one bit in the middle of each part of the request's body.
        nth: The first matching request that the fault changes, counted from 1.
        times: How many requests it changes.
    """

    method: str
    path: str
    action: Literal["answer", "drop", "delay", "lose", "cut", "flip", "spoil"]
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


class Watch:
    """Looks for what is public or tagged and not whole, or public and untagged."""

    def __init__(self, database: Database, complete: dict[str, dict[str, str]]) -> None:
        self._database, self._complete = database, complete
        self.looks, self.seen = 0, []

    def look(self, after: str) -> None:
        """Look once, and remember what is wrong."""
        self.looks += 1
        for line in self._wrong():
            self.seen.append(f"{line} after {after}")

    def _wrong(self) -> Iterator[str]:
        repos = [repo for repo in load_repos(self._database) if repo.id in self._complete]
        for repo in repos:
            tags, public = repo.refs("tags"), not repo.private
            for name in [*(["main"] if public else []), *tags]:
                files = {path: entry.oid for path, entry in repo.resolve(name).files.items()}
                if files != self._complete[repo.id]:
                    yield f"{repo.id} at {name} is not whole"
            if public and not tags:
                yield f"{repo.id} is public and untagged"


class FaultInjection:
    """ASGI middleware with the faults that are set, and the log of requests."""

    def __init__(self, app: ASGIApp, root: Path) -> None:
        self._app, self._root = app, root
        self._faults: list[Fault] = []
        self._log: list[list[Any]] = []
        self._watch: Watch | None = None

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

        async def receive_spoiled() -> Message:
            message = await receive()
            return message | {"body": _flip(message["body"])} if message.get("body") else message

        try:
            await self._app(scope, receive_spoiled if fault and fault.action == "spoil" else receive, send_and_log)
        finally:
            if self._watch and method not in ("GET", "HEAD"):
                self._watch.look(f"{method} {path}")

    async def _control(self, request: Request) -> JSONResponse:
        name = request.url.path.removeprefix("/_test/")
        if (request.method, name) == ("POST", "faults"):
            self._faults = [Fault(**fault) for fault in json.loads(await request.body())]
        elif (request.method, name) == ("DELETE", "log"):
            self._log.clear()
        elif (request.method, name) == ("POST", "complete"):
            self._watch = Watch(Database(self._root / "hub.sqlite", read_only=True), json.loads(await request.body()))
        elif name == "incomplete":
            return JSONResponse({"looks": self._watch.looks, "seen": self._watch.seen} if self._watch else None)
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
        message = message | {"body": _flip(body)}
    await send(message)


def _flip(body: bytes) -> bytes:
    """The same with one bit changed in the middle."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


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
    wrap = partial(FaultInjection, root=args.root)
    serve(args.root, port=args.port, stall_seconds=args.stall_seconds, wrap=wrap)


if __name__ == "__main__":
    main()
