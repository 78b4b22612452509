"""A proxy on loopback for the private repositories of a release, for code that must not have the token: it reads, and only them."""

from __future__ import annotations

import re
import secrets
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import httpx2
from huggingface_hub import get_token

DROPPED = {
    "connection",
    "transfer-encoding",
    "keep-alive",
    "host",
    "authorization",
    "accept-encoding",
    "content-length",
}


class ReadProxy:
    """Passes requests for `repositories` (`id`, `type`) on to the Hub of `api`, with its token; every other one is refused.

    `address` is its endpoint, which nobody else on this machine can guess.
    """

    def __init__(self, api: Any, repositories: list[dict[str, str]]) -> None:
        self._endpoint, self._token = str(api.endpoint), api.token or get_token()
        self._begins = [path for repo in repositories for path in _paths(repo["id"], f"{repo['type']}s")]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Reader", (_Reader,), {"proxy": self}))
        self._server.daemon_threads = True
        self._secret = f"/{secrets.token_urlsafe(16)}"
        self.address = f"http://127.0.0.1:{self._server.server_port}{self._secret}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def path(self, method: str, requested: str) -> str | None:
        """The Hub's path for a request that reads one of the repositories, else None; asking for many paths at once is a POST."""
        if not requested.startswith(f"{self._secret}/"):
            return None
        path = requested.removeprefix(self._secret)
        raw = urlsplit(path).path
        own = [begin for begin in self._begins if unquote(raw) == begin or raw.startswith(f"{begin}/")]
        reads = method in ("GET", "HEAD") or any(
            re.fullmatch(rf"{re.escape(begin)}/paths-info/[^/]+", raw) for begin in own
        )
        return path if own and reads and ".." not in unquote(raw).split("/") else None

    @contextmanager
    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Generator[Any]:
        """The Hub's answer, as a stream."""
        headers |= {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        with (
            httpx2.Client(timeout=60.0, follow_redirects=False) as client,
            client.stream(method, self._endpoint + path, headers=headers, content=body) as answer,
        ):
            yield answer

    def here(self, value: str) -> str:
        """A header's value with this address in place of the Hub's."""
        return value.replace(self._endpoint, self.address)


def _paths(name: str, kind: str) -> list[str]:
    return [f"/api/{kind}/{name}", f"/{name}" if kind == "models" else f"/{kind}/{name}"]


class _Reader(BaseHTTPRequestHandler):
    proxy: ReadProxy
    disable_nagle_algorithm = True  # it costs 40 ms per answer

    def _answer(self) -> None:
        path = self.proxy.path(self.command, self.path)
        if path is None:
            self.send_error(403, "this only reads the repositories of the release")
            return
        headers = {key: value for key, value in self.headers.items() if key.lower() not in DROPPED}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            with self.proxy.ask(self.command, path, headers, body) as answer:
                self._pass(answer)
        except httpx2.HTTPError as error:  # before an answer, or in its middle, where the connection just ends
            self.close_connection = True
            print(f"{self.path}: {type(error).__name__}", file=sys.stderr)

    def _pass(self, answer: Any) -> None:
        self.send_response(answer.status_code)
        for key, value in answer.headers.items():
            if key.lower() not in DROPPED - {"content-length"}:
                self.send_header(key, self.proxy.here(value))
        self.end_headers()
        for part in answer.iter_raw() if self.command != "HEAD" else ():
            self.wfile.write(part)

    do_GET = do_HEAD = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: this is no server for people."""
