"""The Hub as a whole: which repos there are, who may see and change them, and where content lies."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from release.localhub.accounts import Account, Gate, usable_name
from release.localhub.collection import Collections
from release.localhub.errors import HubError, bad, no_entry
from release.localhub.history import KINDS, Entry, Files, Repo
from release.localhub.store import Store, git_oid, read_range
from release.localhub.xet import Recipe, Xet

# What git would hold as a pointer, whatever its size.
LARGE_SUFFIXES = frozenset(
    """
    7z arrow bin bz2 ckpt ftz gz h5 joblib mlmodel model msgpack npy npz onnx ot parquet pb pickle pkl pt pth rar
    safetensors tar tflite tgz wasm xz zip zst gguf gif jpg jpeg png webp mp3 mp4 wav flac ogg pdf
    """.split()  # noqa: SIM905 - read better as words than as a page of quotes
)
GITATTRIBUTES = "".join(
    f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in sorted(LARGE_SUFFIXES)
).encode()


@dataclass(frozen=True)
class Content:
    """The bytes of a file wherever they lie; `recipe` is set if a client can fetch them through Xet."""

    size: int
    recipe: Recipe | None
    read: partial[Iterator[bytes]]  # (low, high) -> the bytes low to high (exclusive), piece by piece


class Hub:
    """Everything under one folder.

    Args:
        root: The folder; it is made if it is not there.
        accounts: Who has a token.
    """

    def __init__(self, root: Path, accounts: Iterable[Account]) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.store, self.gate = root, Store(root), Gate(accounts, root)
        self.store.clean()
        self.xet = Xet(self.store)
        self.collections = Collections(root / "collections")
        self._lock = threading.Lock()
        self._repos = {(repo.kind, repo.id): repo for repo in load_repos(root)}
        self.collections.keep_only(self._repos)  # a crash may have come between a repo's end and this

    def store_id(self) -> str:
        """A name for this store that changes when it is wiped: clients remember per address what they have sent."""
        kept = self.root / "store-id"
        if not kept.exists():
            kept.write_text(uuid.uuid4().hex)
        return kept.read_text()

    def repos(self, account: Account | None) -> list[Repo]:
        """The repos that `account` may see, newest first."""
        seen = [repo for repo in list(self._repos.values()) if self.may_read(repo, account)]
        return sorted(seen, key=lambda repo: repo.state["created"], reverse=True)

    def may_read(self, repo: Repo, account: Account | None) -> bool:
        """Whether `account` may know that the repo exists."""
        return not repo.state["private"] or (account is not None and account.owns(repo.id.partition("/")[0]))

    def find(self, kind: str, repo_id: str, account: Account | None) -> Repo:
        """The repo, if `account` may read it.

        Raises:
            HubError: RepoNotFound, the same for a repo that is private and for one that is not there: 404, or 401
                for a stranger, who might see it after signing in.
        """
        repo = self._repos.get((kind, repo_id))
        if repo is None or not self.may_read(repo, account):
            raise HubError(404 if account else 401, "Repository not found", "RepoNotFound")
        return repo

    def permitted(self, kind: str, repo_id: str) -> Repo:
        """The repo that a permit names, which was signed after its rights had been checked.

        Raises:
            HubError: 404, the repo has been deleted since.
        """
        if (kind, repo_id) not in self._repos:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return self._repos[kind, repo_id]

    def find_to_write(self, kind: str, repo_id: str, account: Account | None) -> Repo:
        """The repo, if `account` may change it.

        Raises:
            HubError: As `find`; 403 without the right.
        """
        repo = self.find(kind, repo_id, account)
        self.check_writer(repo_id.partition("/")[0], account)
        return repo

    def check_writer(self, namespace: str, account: Account | None) -> Account:
        """`account`, if it may create and change things in `namespace`.

        Raises:
            HubError: 401 for a stranger, 403 without the right or with a token that may only read.
        """
        if account is None:
            raise HubError(401, "Invalid username or password.")
        if not account.owns(namespace):
            raise HubError(403, f"You don't have the rights to create or change anything under {namespace}")
        if account.role == "read":
            raise HubError(403, "This token may only read")
        return account

    def create(self, kind: str, repo_id: str, account: Account, *, private: bool) -> Repo:
        """Make a repo whose first commit holds .gitattributes, as on the real Hub.

        Raises:
            HubError: 400 the name cannot be used, 409 the repo exists.
        """
        if kind not in KINDS.values() or not all(usable_name(part) for part in repo_id.split("/")):
            raise bad(f"Invalid repo name: {repo_id[:200]!r}")
        with self._lock:
            if repo := self._repos.get((kind, repo_id)):
                raise HubError(409, "You already created this repo", extra={"path": repo.url_path})
            sha256 = self.store.put(GITATTRIBUTES)
            files: Files = {".gitattributes": Entry(len(GITATTRIBUTES), git_oid(GITATTRIBUTES), sha256)}
            folder = self.root / "repos" / f"{kind}s" / repo_id
            repo = Repo.create(folder, kind, repo_id, private=private, author=account.name, files=files)
            self._repos[kind, repo_id] = repo
        return repo

    def delete(self, repo: Repo) -> None:
        """Remove a repo in one step. Content stays, since other repos may hold it too."""
        with self._lock, repo.lock, self.store.scratch() as trash:
            repo.folder.rename(trash)
            self._repos.pop((repo.kind, repo.id), None)
            self.collections.keep_only(self._repos)

    def content(self, sha256: str) -> Content | None:
        """The bytes with this sha256, if the Hub has them."""
        recipe, blob = self.xet.of_content(sha256), self.store.place("blobs", sha256)
        if blob.exists():
            return Content(blob.stat().st_size, recipe, partial(read_range, blob))
        return Content(recipe.size, recipe, partial(self.xet.read, recipe)) if recipe else None

    def read(self, entry: Entry) -> bytes:
        """The bytes of a file that is small enough to hold, as cards are.

        Raises:
            HubError: 404, the content is missing.
        """
        content = self.content(entry.sha256)
        if content is None:
            raise no_entry(entry.sha256)
        return b"".join(content.read(0, content.size))

    def grant(self, repo: Repo, sha256: str) -> None:
        """Note that a client has uploaded this content to this repo."""
        marker = repo.folder / "objects" / sha256
        marker.parent.mkdir(exist_ok=True)
        marker.touch()

    def publish(self, sha256: str) -> None:
        """Note that this content belongs to a public bucket."""
        marker = self.root / "public" / sha256
        marker.parent.mkdir(exist_ok=True)
        marker.touch()

    def size_in(self, repo: Repo, sha256: str) -> int | None:
        """The size of content that was uploaded to this repo, else None.

        Content is shared on the disk, but a hash that somebody read in a private repo's listing, or on a card, must
        not be enough to pull the content into a repo of their own.
        """
        content = self.content(sha256) if (repo.folder / "objects" / sha256).exists() else None
        return content.size if content else None


def load_repos(root: Path) -> list[Repo]:
    """Every repo under `root`; a folder whose creation a crash cut off has no state, and does not count."""
    return [Repo(state.parent) for state in sorted(root.glob("repos/*/*/*/repo.json"))]
