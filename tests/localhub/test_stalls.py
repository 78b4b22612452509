"""A client that stops in the middle is disconnected, and everybody else is served meanwhile."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.localhub.faults import running_faulty_hub
from tests.localhub.hub_fixtures import ACCOUNTS, Http

SECONDS = 1.0
HEAD = "POST /api/validate-yaml HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def hub(fast_folder: Path) -> Generator[Http]:
    with running_faulty_hub(fast_folder / "stalls", ACCOUNTS, stall_seconds=SECONDS) as (endpoint, token):
        yield Http(endpoint, token)


def connect(hub: Http) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(hub.endpoint.rpartition(":")[2])), timeout=30)


def until_closed(connection: socket.socket) -> bytes:
    """What the Hub sends before it closes the connection."""
    parts = []
    try:
        while part := connection.recv(1 << 20):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize(
    "sent", ["", "P", HEAD, HEAD + "Content-Length: 5"], ids=["nothing", "a letter", "a line", "lines"]
)
def test_a_head_that_does_not_end_is_not_waited_for(hub: Http, sent: str) -> None:
    with connect(hub) as connection:
        connection.sendall(sent.encode())
        begin = time.monotonic()
        assert hub("GET", "/api/whoami-v2").status == 200, "the Hub serves nobody else"
        assert until_closed(connection) == b""
        assert time.monotonic() - begin > SECONDS * 0.8


def test_a_second_head_on_a_connection_must_end_too(hub: Http) -> None:
    with connect(hub) as connection:
        connection.sendall(b"GET /static/page.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(1 << 20).startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD.encode())
        assert b"HTTP/1.1" not in until_closed(connection)


def test_a_body_that_does_not_end_is_408(hub: Http) -> None:
    with connect(hub) as connection:
        connection.sendall(f"{HEAD}Connection: close\r\nContent-Length: 1000\r\n\r\nhalf".encode())
        assert until_closed(connection).startswith(b"HTTP/1.1 408")


def test_a_slow_body_is_waited_for(hub: Http) -> None:
    body = b'{"content": "# hi", "repoType": "model"}'
    with connect(hub) as connection:
        connection.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode())
        for number in range(len(body)):
            connection.sendall(body[number : number + 1])
            time.sleep(2 * SECONDS / len(body))
        assert connection.recv(1 << 20).startswith(b"HTTP/1.1 200")


def test_an_answer_that_nobody_reads_ends(hub: Http) -> None:
    hub.create("acme/large")
    hub.commit_lfs("acme/large", "large.bin", hub.lfs("acme/large", os.urandom(32 << 20)))
    with connect(hub) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        connection.sendall(b"GET /acme/large/resolve/main/large.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(3 * SECONDS)
        assert len(until_closed(connection)) < 32 << 20
    assert hub("GET", "/acme/large/resolve/main/large.bin").status == 200
