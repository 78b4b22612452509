"""Trouble on demand, for tests: fail, delay or cut the n-th request that matches; and a log of requests.

It does not exist unless the app is made with `testing=True`: then tests talk to /_test/faults and /_test/log.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Fault:
    """What happens to requests whose method and path (a regular expression) match, from the `nth` on, `times` times.

    `action`: "fail" answers `status` without doing anything; "delay" waits `seconds` first; "cut" does everything and
    then breaks the connection off in the middle of the answer, so that the client cannot know.
    """

    method: str
    path: str
    action: str
    nth: int = 1
    times: int = 1
    status: int = 503
    seconds: float = 1.0
    seen: int = 0

    def strikes(self, method: str, path: str) -> bool:
        """Whether this request is to suffer; every matching one counts."""
        if self.method not in ("*", method) or not re.search(self.path, path):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Cut(ConnectionError):
    """Breaks a connection off: the server closes it when the app ends with an error in the middle of an answer."""


class Faults:
    """ASGI middleware with the faults that are set, and the log of what was asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._faults: list[Fault] = []
        self._log: list[list[Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or what is left of it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if scope["path"].startswith("/_test/"):
            return await (await self._control(Request(scope, receive)))(scope, receive, send)
        method, path = scope["method"], scope["raw_path"].decode("ascii", "replace")
        fault = next((fault for fault in self._faults if fault.strikes(method, path)), None)
        row = [method, path, scope["query_string"].decode("ascii", "replace"), 0]
        self._log.append(row)
        if fault and fault.action == "delay":
            await asyncio.sleep(fault.seconds)
        if fault and fault.action == "fail":
            row[3] = fault.status
            return await PlainTextResponse("a fault, on demand", fault.status)(scope, receive, send)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                row[3] = message["status"]
            if fault and fault.action == "cut" and message["type"] == "http.response.body":
                body = message.get("body", b"")
                await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
                raise Cut
            await send(message)

        await self._app(scope, receive, watch)

    async def _control(self, request: Request) -> JSONResponse:
        name = request.url.path.removeprefix("/_test/")
        if (request.method, name) == ("POST", "faults"):
            self._faults = [Fault(**fault) for fault in json.loads(await request.body())]
        elif (request.method, name) == ("DELETE", "log"):
            self._log.clear()
        return JSONResponse(self._log if name == "log" else [vars(fault) for fault in self._faults])
