"""The Hub as a whole: which repos there are, under which names, and where their content is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.localhub.auth import Account, Auth
from release.localhub.errors import HubError, bad_request, entry_not_found, repo_not_found
from release.localhub.history import Commit, Entry, Repo, load_repos, now
from release.localhub.metadata import BadMetadata, split_card
from release.localhub.names import is_usable_name
from release.localhub.rights import may_read
from release.localhub.storage.blobs import Store, git_oid, read_range
from release.localhub.storage.database import Database
from release.localhub.storage.xet import XetStore
from release.localhub.storage.xet_format import XetFile
from release.localhub.trusted import TrustedPublishers

KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
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
MAX_TEXT = 1 << 20


@dataclass(frozen=True)
class Content:
    """The bytes of a file; `xet_file` is set if a client can fetch them through Xet."""

    size: int
    xet_file: XetFile | None
    read: partial[Iterator[bytes]]  # (start, end) -> the bytes start to end (exclusive), piece by piece


class Hub:
    """Everything under one folder.

    Args:
        root: The folder; it is made if it does not exist.
        accounts: Who has a token.
        trusted: Whose CI jobs may write which repos.

    Raises:
        ReleaseError: The folder holds the Hub of an older version.
    """

    def __init__(self, root: Path, accounts: Iterable[Account], trusted: TrustedPublishers | None = None) -> None:
        if (root / "repos").is_dir():
            raise ReleaseError(
                "an older version kept its Hub here, in another form", where=str(root), hint="choose another --root"
            )
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.store, self.auth = root, Store(root), Auth(accounts, root)
        self.trusted = trusted or TrustedPublishers()
        self.store.prepare()
        self.db = Database(root / "hub.sqlite")
        self.xet = XetStore(self.store, self.db)
        self.card_metadata = lru_cache(512)(self._card_metadata)  # by the card's sha256

    def store_id(self) -> str:
        """A name for this store that changes when it is wiped: clients remember per address what they have sent."""
        return self.db("SELECT store_id FROM about")[0]["store_id"]

    def repos(self, account: Account | None) -> list[Repo]:
        """The repos that `account` may see, newest first."""
        repos = load_repos(self.db, "ORDER BY created DESC, key DESC")
        return [repo for repo in repos if may_read(repo, account)]

    def repo_heads(self, account: Account | None, selects: Callable[[Repo], bool]) -> list[tuple[Repo, Commit]]:
        """The repos that `account` may see and `selects` accepts, newest first, each with the commit of main."""
        with self.db.change():  # nothing is deleted between the list and its commits
            return [(repo, repo.resolve("main")) for repo in self.repos(account) if selects(repo)]

    def find(self, kind: str, repo_id: str, account: Account | None) -> Repo:
        """The repo, if `account` may read it; its id may differ from `repo_id` in case, or because it was moved.

        Raises:
            HubError: RepoNotFound, as `repo_not_found`.
        """
        same = "WHERE kind = ? AND id = ? COLLATE NOCASE ORDER BY id = ? DESC"
        repos = load_repos(self.db, same, kind, repo_id, repo_id)
        moved = "WHERE key = (SELECT repo FROM moved WHERE kind = ? AND id = ?)"
        repos = repos or load_repos(self.db, moved, kind, repo_id)
        if not repos or not may_read(repos[0], account):
            raise repo_not_found(signed_in=account is not None)
        return repos[0]

    def signed_repo(self, key: int) -> Repo:
        """The repo that a signed URL names, which was signed after the caller's rights had been checked.

        Raises:
            HubError: 404, the repo has been deleted since.
        """
        repos = load_repos(self.db, "WHERE key = ?", key)
        if not repos:
            raise repo_not_found(signed_in=True)
        return repos[0]

    def create(self, kind: str, repo_id: str, account: Account, *, private: bool) -> Repo:
        """Make a repo whose first commit holds .gitattributes, as on the real Hub.

        Raises:
            HubError: 400 the name cannot be used, 409 the repo exists.
        """
        if kind not in KINDS.values():
            raise bad_request(f"Invalid repo type: {kind[:200]!r}")
        entry = Entry(len(GITATTRIBUTES), git_oid(GITATTRIBUTES), self.store.put(GITATTRIBUTES))
        with self.db.change():
            self._reserve(kind, repo_id)
            row = (kind, repo_id, private, now())
            self.db("INSERT INTO repo (kind, id, private, created) VALUES (?, ?, ?, ?)", *row)
            repo = self.find(kind, repo_id, account)
            repo.add_commit("refs/heads/main", (), "initial commit", "", account.name, {".gitattributes": entry})
        return repo

    def move(self, repo: Repo, new_id: str) -> None:
        """Give a repo another id; the old one leads to it until another repo takes it.

        Raises:
            HubError: 400 the name cannot be used, 409 a repo has it.
        """
        with self.db.change():
            if repo.id.lower() != new_id.lower():
                self._reserve(repo.kind, new_id)
                self.db("INSERT INTO moved VALUES (?, ?, ?)", repo.kind, repo.id, repo.key)
            self.db("UPDATE repo SET id = ? WHERE key = ?", new_id, repo.key)

    def _reserve(self, kind: str, repo_id: str) -> None:
        """Check that a repo can have this id, which no longer leads to one that was moved."""
        names = repo_id.split("/")
        if len(names) != 2 or not all(map(is_usable_name, names)):
            raise bad_request(f"Invalid repo name: {repo_id[:200]!r}")
        if load_repos(self.db, "WHERE kind = ? AND id = ? COLLATE NOCASE", kind, repo_id):
            raise HubError(409, f"A {kind} repository called {repo_id} already exists")
        self.db("DELETE FROM moved WHERE kind = ? AND id = ?", kind, repo_id)

    def delete(self, repo: Repo) -> None:
        """Remove a repo, also from collections. Content stays, since other repos may hold it too."""
        self.db("DELETE FROM repo WHERE key = ?", repo.key)

    def content(self, sha256: str) -> Content | None:
        """The bytes with this sha256, if the Hub has them."""
        xet_file, blob = self.xet.find(sha256=sha256), self.store.path("blobs", sha256)
        if blob.exists():
            return Content(blob.stat().st_size, xet_file, partial(read_range, blob))
        return Content(xet_file.size, xet_file, partial(self.xet.read, xet_file)) if xet_file else None

    def read_text(self, sha256: str) -> str:
        """The text of a card or another small file, or of its first megabyte: every list of repos reads all cards.

        Raises:
            HubError: 404, the content is missing.
        """
        content = self.content(sha256)
        if content is None:
            raise entry_not_found(sha256)
        return b"".join(content.read(0, min(content.size, MAX_TEXT))).decode("utf-8", "replace")

    def _card_metadata(self, sha256: str) -> dict[str, Any]:
        """The metadata of a card; empty if it cannot be read."""
        try:
            return split_card(self.read_text(sha256))[0]
        except BadMetadata:
            return {}

    def record_upload(self, repo: Repo, sha256: str) -> None:
        """Note that a client has uploaded this content to this repo, if the repo has not been deleted meanwhile."""
        self.db("INSERT OR IGNORE INTO upload SELECT key, ? FROM repo WHERE key = ?", sha256, repo.key)

    def uploaded_size(self, repo: Repo, sha256: str) -> int | None:
        """The size of content that was uploaded to this repo, else None.

        Content is shared on the disk, but a hash that somebody read in a private repo's listing, or on a card, must
        not be enough to get the content into a repo of their own.
        """
        uploaded = self.db("SELECT 1 FROM upload WHERE repo = ? AND sha256 = ?", repo.key, sha256)
        content = self.content(sha256) if uploaded else None
        return content.size if content else None
