"""Trusted Publishers: a CI job proves who it is, and gets a token that may write one repo for an hour, and nothing else.

On the real Hub, people name on a repo's settings page whose jobs they trust; here `hub --trust REPO` does, for the only CI
that this Hub knows. That CI cannot exist here: `IdentityProvider` stands for it, with a key that nobody else has and that
ends with the process. It speaks as GitHub's does, so that the client takes its own way through both.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.files import write_private
from release.localhub.errors import HubError
from release.localhub.history import Repo

IDENTITY_SECONDS = 300  # as GitHub's
ALGORITHM, ISSUER = "ES256", "https://ci.invalid"  # a name that no server ever has
JOB = {
    "repository": "rehearsal/ci",
    "ref": "refs/heads/main",
    "workflow": "publish",
}  # what a trusted job's token must say
CLAIMS = ("iss", "aud", "exp", "iat", "jti", "sub")
KINDS = {"model": "", "dataset": "datasets/", "space": "spaces/"}
HINT = "pip install 'ettin-release[keyless]'"


def resource_of(repo: Repo) -> str:
    """How a job names a repo: `namespace/name`, or `datasets/namespace/name`."""
    return KINDS[repo.kind] + repo.id


def invalid(error: str = "invalid_grant") -> HubError:
    """400 in OAuth's form; which check failed is nobody's business, as on the real Hub."""
    return HubError(400, "The identity token is not accepted for this resource", error=error)


class IdentityProvider:
    """The stand-in for a CI: it signs that a job is one of `JOB`, for whoever holds that job's request token."""

    def __init__(self) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric import ec  # the extra `keyless` brings it
        except ModuleNotFoundError as error:
            raise ReleaseError(f"trusted publishers need the package {error.name}", hint=HINT) from error
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public_key = self._key.public_key()
        self.request_token = secrets.token_urlsafe(24)

    def identity(self, audience: str, **changed: Any) -> str:
        """A signed identity token for `audience`; `changed` are claims that differ from a job's own."""
        import jwt  # the extra `keyless` brings it

        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "iat": now,
            "exp": now + IDENTITY_SECONDS,
            "jti": secrets.token_hex(16),
        }
        claims |= {"sub": f"repo:{JOB['repository']}:ref:{JOB['ref']}"} | JOB | changed
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)


@dataclass(frozen=True)
class Identity:
    """A proved identity token: by its id, and until when it can be used (seconds since 1970)."""

    token_id: str
    expires: int


class TrustedPublishers:
    """Which repos trust the jobs of the CI.

    Args:
        trusted: Repos, as a job names them.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._trusted = frozenset(trusted)
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()
        self.provider = IdentityProvider() if self._trusted else None

    def check(self, repo: Repo, identity_token: str, audience: str) -> None:
        """Refuse whoever is no job that `repo` trusts.

        Raises:
            HubError: invalid_grant: the repo trusts nobody, or the token is forged, unsigned, expired, of another audience,
                of another job, or was used before.
        """
        identity = self._proved(identity_token, audience)
        if identity is None or resource_of(repo) not in self._trusted or not self._first_use(identity):
            raise invalid()

    def _proved(self, token: str, audience: str) -> Identity | None:
        if self.provider is None:
            return None
        import jwt  # the extra `keyless` brings it

        try:
            claims = jwt.decode(
                token,
                self.provider.public_key,
                [ALGORITHM],
                options={"require": [*CLAIMS, *JOB]},
                audience=audience,
                issuer=ISSUER,
            )
        except jwt.InvalidTokenError:
            return None
        if any(claims[name] != value for name, value in JOB.items()):
            return None
        return Identity(str(claims["jti"]), int(claims["exp"]))

    def _first_use(self, identity: Identity) -> bool:
        with self._lock:
            now = time.time()
            self._used = {token_id: end for token_id, end in self._used.items() if end > now}
            known = identity.token_id in self._used
            self._used[identity.token_id] = identity.expires
            return not known

    def write_environment(self, root: Path, endpoint: str) -> Path | None:
        """`root`/ci.env, which makes a shell a job of the CI; None where no repo trusts it."""
        path = root / "ci.env"
        if self.provider is None:
            path.unlink(missing_ok=True)
            return None
        lines = {"HF_ENDPOINT": endpoint, "GITHUB_ACTIONS": "true"}
        lines |= {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{endpoint}/ci/identity"}
        lines |= {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": self.provider.request_token}
        write_private(path, "".join(f"export {name}={value}\n" for name, value in lines.items()))
        return path
