"""Run the Hub: in this process (`serve`), or beside it for a demo or a test (`running_hub`)."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from release.errors import ReleaseError
from release.files import exclusive_lock, write_atomic
from release.localhub.app import LOOPBACK, STALL_SECONDS, create_app
from release.localhub.auth import ENVIRONMENT, Account, load_accounts, random_token
from release.localhub.connection import StallTimeout
from release.localhub.trusted import TrustedPublishers

START_SECONDS = 60.0  # that a Hub may take to start on a busy machine


def serve(
    root: Path,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    accounts: Iterable[str] = (),
    token_file: Path | None = None,
    stall_seconds: float = STALL_SECONDS,
    trust: Iterable[str] = (),
    wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> None:
    """Serve the Hub over `root` until SIGTERM or SIGINT, then exit with 0.

    The address is in `root`/endpoint while it runs. `port` 0 picks a free one; `accounts` and `token_file` as in
    `load_accounts`; a client that neither sends nor reads what is due for `stall_seconds` is disconnected; `trust` as
    in `TrustedPublishers`: `root`/ci.env then makes a shell a job of that CI; `wrap` puts an ASGI middleware around the app.

    Raises:
        ReleaseError: The host is not the loopback and no token file says who may use the Hub; the port is taken;
            another Hub runs over `root`; an account is malformed.
    """
    if not _is_loopback(host) and token_file is None:
        raise ReleaseError(
            f"the Hub does not listen on {host} for everybody",
            hint="leave --host at 127.0.0.1, or name the accounts with --token-file",
        )
    with exclusive_lock(root), _listening_socket(host, port) as listener:
        loaded = load_accounts(root, accounts, token_file)
        hosts = LOOPBACK if _is_loopback(host) else ("*",)
        trusted = TrustedPublishers(trust)
        app = create_app(root, loaded, hosts=hosts, stall_seconds=stall_seconds, publishers=trusted)
        endpoint = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        job = trusted.write_environment(root, endpoint)
        write_atomic(root / "endpoint", endpoint)
        print(
            _greeting(endpoint, root, loaded), *([f"  a job of the CI: . {job}"] if job else []), sep="\n", flush=True
        )
        # uvicorn repeats the signal that ended it, and by default that would not be exit status 0.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        config = uvicorn.Config(
            wrap(app),
            http=cast("type[asyncio.Protocol]", partial(StallTimeout, seconds=stall_seconds)),
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=5,
        )
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            (root / "endpoint").unlink(missing_ok=True)


@contextmanager
def running_hub(
    root: Path,
    accounts: Iterable[Account] | None = None,
    *,
    module: Sequence[str] = ("release", "hub"),
    trust: Iterable[str] = (),
) -> Generator[tuple[str, str]]:
    """A Hub in a process of its own, on a free port, over `root`; yields its endpoint and the first account's token.

    Without `accounts`: the account and organisation `local`. Its output goes to `root`/hub.log. At the end it gets
    SIGTERM. Children must get HF_ENDPOINT and HF_TOKEN in their environment when they start. `module` is what
    `python -m` runs: a program that takes --port and --root and calls `serve`. `trust` as in `serve`.

    Raises:
        ReleaseError: It does not answer within a minute.
    """
    known = list(accounts or [Account("local", random_token(), ("local",))])
    lines = [f"{account.name}:{account.token}:{','.join(account.organizations)}:{account.role}" for account in known]
    root.mkdir(parents=True, exist_ok=True)
    (root / "endpoint").unlink(missing_ok=True)
    command = [sys.executable, "-m", *module, "--port", "0", "--root", str(root)]
    command += [part for name in trust for part in ("--trust", name)]
    source = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(source), os.environ.get("PYTHONPATH", "")]))
    # The tokens travel in the environment: everybody on the machine can read a command line.
    environment = os.environ | {ENVIRONMENT: " ".join(lines), "PYTHONPATH": path}
    with (root / "hub.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield _wait(root, process), known[0].token
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(root: Path, process: subprocess.Popen[bytes]) -> str:
    """The endpoint, once it answers."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            endpoint = (root / "endpoint").read_text()
            urllib.request.urlopen(f"{endpoint}/static/page.css", timeout=5).close()
            return endpoint
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
    raise ReleaseError("the Hub did not start", where=str(root / "hub.log"), hint="read that file")


def _greeting(endpoint: str, root: Path, accounts: list[Account]) -> str:
    lines = [f"Hub at {endpoint}, kept in {root}", f"  export HF_ENDPOINT={endpoint}"]
    generated = root / "accounts"
    rows = generated.read_text().split() if generated.exists() else []
    tokens = [row.split(":")[1] for row in rows]
    if accounts[0].token in tokens:
        # The command that prints it, not its value: output ends up in logs.
        line = tokens.index(accounts[0].token) + 1
        lines.append(f"  export HF_TOKEN=$(sed -n {line}p {generated} | cut -d: -f2)")
    return "\n".join([*lines, f"  accounts: {', '.join(account.name for account in accounts)}"])


@contextmanager
def _listening_socket(host: str, port: int) -> Generator[socket.socket]:
    # With its protocol named: only then asyncio turns off Nagle's algorithm, which costs 40 ms per request.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # from now on a client waits instead of being refused
    except OSError as error:
        listener.close()
        raise ReleaseError(
            f"cannot listen on {host}:{port} ({error.strerror})", hint="choose another --port"
        ) from error
    with listener:
        yield listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
