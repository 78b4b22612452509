"""Which names are allowed: for users and repos, branches and tags, and files. They become folders and URLs."""

from __future__ import annotations

import re

SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT_ID = re.compile(r"[0-9a-f]{40}")
SHORT_COMMIT_ID = re.compile(r"[0-9a-f]{7,39}")
_NAME = re.compile(r"(?!.*(?:\.\.|--))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_-])?")
_RESERVED = {"api", "datasets", "models", "spaces", "collections", "buckets", "xet", "static"}
# What `git check-ref-format` allows, without characters that only confuse URLs.
_REFERENCE = re.compile(r"(?!.*(?:\.\.|//|/\.|@\{|\.lock(?:/|$)))[\w][\w./+@-]{0,200}(?<![./])")


def is_usable_name(name: str) -> bool:
    """Whether `name` can be a user, an organisation or a repo."""
    return bool(_NAME.fullmatch(name)) and name.lower() not in _RESERVED and not name.endswith((".git", ".ipynb"))


def is_reference_name(name: str) -> bool:
    """Whether `name` can be a branch or a tag; what looks like a commit id or a full reference cannot."""
    return bool(_REFERENCE.fullmatch(name)) and not COMMIT_ID.fullmatch(name) and not name.startswith("refs/")


def check_path(path: str) -> str:
    """`path` if it can be a file of a repo.

    Raises:
        ValueError: It is absolute, leaves the repo, or has parts that git or a file system cannot hold.
    """
    parts = path.split("/")
    if not 0 < len(path.encode("utf-8", "replace")) <= 1000:
        raise ValueError("a path must be a text of 1 to 1000 bytes")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or "\\" in path:
        raise ValueError(f"invalid path: {path[:200]!r}")
    if any(ord(letter) < 32 or ord(letter) == 127 or "\ud800" <= letter <= "\udfff" for letter in path):
        raise ValueError(f"invalid path: {path[:200]!r}")
    return path
