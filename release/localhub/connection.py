"""uvicorn's HTTP protocol, with an end for connections whose client stops in the middle."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class StallTimeout(H11Protocol):
    """Closes a connection whose client does not finish a request's head, or does not read its answer.

    uvicorn by itself waits for ever. It ends an idle connection between two requests, and the Hub a body that stops.

    Args:
        seconds: How long the Hub waits for the next byte.
        arguments, options: uvicorn's own.
    """

    def __init__(self, *arguments: Any, seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seconds = seconds
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first head is expected."""
        super().connection_made(transport)
        self._start("head")

    def data_received(self, data: bytes) -> None:
        """The rest of a head is expected, unless a request is being answered."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop("head")
        elif "head" not in self._timers:
            self._start("head")

    def pause_writing(self) -> None:
        """The client has stopped reading."""
        super().pause_writing()
        self._start("answer")

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._stop("answer")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        super().connection_lost(exc)
        for name in list(self._timers):
            self._stop(name)

    def _start(self, name: str) -> None:
        self._timers[name] = self.loop.call_later(self._seconds, self.transport.abort)

    def _stop(self, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
