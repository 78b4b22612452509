"""Who may do what: accounts, organisations, tokens with roles, and signed URLs that expire."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from release.errors import ReleaseError
from release.files import write_private
from release.localhub.errors import HubError
from release.localhub.names import is_usable_name

ENVIRONMENT = "RELEASE_HUB_ACCOUNTS"
SIGNATURE_SECONDS = 12 * 3600
REPO_TOKEN, REPO_TOKEN_SECONDS = "hf_jwt_", 3600  # as the real Hub's


@dataclass(frozen=True)
class Account:
    """A user with one token; it owns the namespaces of its own name and of its organisations.

    `role` is the token's: "write", or "read" for a token that changes nothing. With a `repo`, by its key, it is nobody's
    account: a trusted publisher, who owns no namespace and may change that repo alone.
    """

    name: str
    token: str = field(repr=False)
    organizations: tuple[str, ...] = ()
    role: str = "write"
    repo: int | None = None

    def owns(self, namespace: str) -> bool:
        """Whether the account belongs to `namespace`."""
        return self.repo is None and (namespace == self.name or namespace in self.organizations)


def parse_account(text: str) -> Account:
    """`NAME:TOKEN:ORG[,ORG...]`, with `:read` at the end for a token that may only read.

    Raises:
        ReleaseError: The text has another form; the message never repeats it, since it may hold a token.
    """
    name, token, organizations, role = [*text.strip().split(":"), "", "", "", ""][:4]
    names = [name, *filter(None, organizations.split(","))]
    if not token or role not in ("", "read", "write") or not all(map(is_usable_name, names)) or text.count(":") > 3:
        raise ReleaseError("an account is malformed", where=repr(name), hint="write NAME:TOKEN:ORG[,ORG...][:read]")
    return Account(name, token, tuple(names[1:]), role or "write")


def load_accounts(root: Path, given: Iterable[str] = (), token_file: Path | None = None) -> list[Account]:
    """Accounts from the command line, a token file and RELEASE_HUB_ACCOUNTS (one account per line or space).

    With none of them: the account and organisation `local`. An account without a token, such as
    `local::local,cross-encoder`, gets a random one, which is kept in `root`/accounts (mode 600).

    Raises:
        ReleaseError: An account is malformed, two share a token, or the token file cannot be read.
    """
    texts = [*given, *os.environ.get(ENVIRONMENT, "").split()]
    try:
        texts += token_file.read_text().split() if token_file else []
    except OSError as error:
        raise ReleaseError(f"cannot read the token file ({error.strerror})", where=str(token_file)) from error
    accounts = [parse_account(_with_token(root / "accounts", text)) for text in texts or ["local::local"]]
    if len({account.token for account in accounts}) < len(accounts):
        raise ReleaseError("two accounts share one token", hint="give each account a token of its own")
    return accounts


def _with_token(path: Path, text: str) -> str:
    """The account with the token that the file `path` keeps for its name, which is made if it keeps none."""
    name, separator, organizations = text.partition("::")
    if not separator or not is_usable_name(name):
        return text
    lines = path.read_text().split() if path.exists() else []
    tokens = dict(line.split(":")[:2] for line in lines)
    if name not in tokens:
        tokens[name] = random_token()
        write_private(path, "\n".join([*lines, f"{name}:{tokens[name]}:{name}"]) + "\n")
    return f"{name}:{tokens[name]}:{organizations}"


def random_token() -> str:
    """A new token of the Hub's form."""
    return f"hf_{secrets.token_hex(17)}"


class Auth:
    """Looks up tokens, and signs and verifies the URLs of the storage, which clients call without a token."""

    def __init__(self, accounts: Iterable[Account], root: Path) -> None:
        # Looked up by hash, so that the time a lookup takes says nothing about a token.
        self._accounts = {_digest(account.token): account for account in accounts}
        if not (root / "secret").exists():
            write_private(root / "secret", secrets.token_hex(32))
        self._serializer = URLSafeTimedSerializer((root / "secret").read_text())

    def account(self, header: str, *, basic: bool) -> Account | None:
        """The account of an `Authorization` header; None without one.

        A browser's sign-in (Basic) counts only where `basic` allows it: for reading pages.

        Raises:
            HubError: 401, the token is unknown, forged or has expired.
        """
        scheme, _, value = header.partition(" ")
        if not header or (scheme.lower() == "basic" and not basic):
            return None
        if scheme.lower() == "basic":
            try:
                value = base64.b64decode(value).decode().partition(":")[2]
            except ValueError:
                value = ""
        if value.startswith(REPO_TOKEN):
            claims = self.verify(value.removeprefix(REPO_TOKEN), REPO_TOKEN_SECONDS, use=REPO_TOKEN)
            return Account(f"oidc-{claims['repo']}", "", repo=claims["repo"])
        account = self._accounts.get(_digest(value.strip()))
        if account is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return account

    def repo_token(self, repo: int) -> str:
        """A token that may change one repo, by its key, for an hour."""
        return REPO_TOKEN + self.sign(use=REPO_TOKEN, repo=repo)

    def users(self) -> set[str]:
        """Every user."""
        return {account.name for account in self._accounts.values()}

    def namespaces(self) -> set[str]:
        """Every user and organisation."""
        return {name for account in self._accounts.values() for name in (account.name, *account.organizations)}

    def sign(self, **claims: Any) -> str:
        """A signed text that carries `claims` and expires after twelve hours; it fits into a URL."""
        return str(self._serializer.dumps(claims))

    def verify(self, signature: str, seconds: int = SIGNATURE_SECONDS, **required: Any) -> dict[str, Any]:
        """The claims of a text that was signed at most `seconds` ago, which must agree with `required`.

        Raises:
            HubError: 401, it is forged, has expired, or was given for something else.
        """
        try:
            claims = self._serializer.loads(signature, max_age=seconds)
        except BadData:
            claims = None
        if claims is None or any(claims.get(key) != value for key, value in required.items()):
            raise HubError(401, "The signature is forged, has expired or was given for something else")
        return claims


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
