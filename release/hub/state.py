"""A Hub as it is: the client of a given endpoint, and what its repositories and collections hold. Reads only."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from release import keyless
from release.errors import ReleaseError
from release.family import Family
from release.files import list_files, sha256_file
from release.hub import patience, stage

Endpoint = Annotated[str | None, typer.Option(help="The Hub to talk to; HF_ENDPOINT if left out; no default.")]
RepoType = Literal["model", "dataset"]


@dataclass(frozen=True)
class DesiredRepo:
    """A repository as it should be: its staged folder, and the tag that it gets when it is finished."""

    id: str
    type: RepoType
    folder: Path
    tag: str

    @property
    def files(self) -> list[str]:
        return list_files(self.folder)


@dataclass(frozen=True)
class RemoteRepo:
    """A repository as it is: `files` and `commit` are those of the newest tag where there is one, else of the main branch.

    Attributes:
        tag: The newest of the version's tags: its own, or that of a revision of its card.
        head: Where the main branch is, which is what people load.
        moved: The files that are others on the main branch than at the tag.
    """

    private: bool = True
    commit: str | None = None
    tag: str | None = None
    files: dict[str, RepoFile] = field(default_factory=dict)
    moved: tuple[str, ...] = ()
    head: str | None = None

    @property
    def exists(self) -> bool:
        return self.commit is not None

    @property
    def tagged(self) -> bool:
        return self.tag is not None


def card_tag(tag: str, number: int) -> str:
    """What the revision of a card is tagged; the release itself is the first one."""
    return f"{tag}-card{number}" if number > 1 else tag


def revision(tag: str, name: str) -> int:
    """Which revision of the version `tag` the tag `name` is: 1 for the release itself, 0 for none."""
    match = re.fullmatch(rf"{re.escape(tag)}(?:-card([2-9]|[1-9]\d+))?", name)
    return int(match.group(1) or 1) if match else 0


def newest(tag: str, names: Iterable[str]) -> str | None:
    """The newest of a version's tags among `names`, None where it was never released."""
    return max((name for name in names if revision(tag, name)), key=lambda name: revision(tag, name), default=None)


def given_endpoint(endpoint: str | None) -> str | None:
    """The endpoint that was given, by option or by HF_ENDPOINT; never a default, least of all the public Hub."""
    url = endpoint or os.environ.get("HF_ENDPOINT") or None
    if url and not url.startswith(("https://", "http://")):
        raise ReleaseError(
            f"not an endpoint: {url!r}", hint="write it like https://huggingface.co or http://127.0.0.1:8080"
        )
    return url.rstrip("/") if url else None


def connect(endpoint: str | None, *, write: bool = True) -> HfApi:
    """The client of the given endpoint; its token comes from HF_TOKEN or the client's own login.

    Raises:
        ReleaseError: No endpoint was given, or a token is needed and there is none.
    """
    url = given_endpoint(endpoint)
    if url is None:
        raise ReleaseError("no Hub is named, and there is no default", hint="set HF_ENDPOINT, or pass --endpoint URL")
    token = keyless.token(url)
    if not (token or "").isascii():
        raise ReleaseError("the token holds a letter that no token has", where=url, hint="copy HF_TOKEN again")
    if write and token is None:
        raise ReleaseError("no token for publishing", where=url, hint="set HF_TOKEN, or run `hf auth login`")
    patience.be_patient_with_limits()
    # Some requests of the client go to its default, whatever endpoint it is given; `keyless.token` sets constants.ENDPOINT.
    constants.HUGGINGFACE_CO_URL_TEMPLATE = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    return HfApi(endpoint=url)


@contextmanager
def hub_errors(api: HfApi, doing: str) -> Generator[None]:
    """Turn whatever the client raises into one line; nothing is lost, because every step looks before it acts."""
    try:
        yield
    except ReleaseError:
        raise
    except (
        Exception
    ) as error:  # an answer that is no JSON, or lacks a key, is a ValueError, a KeyError, a TypeError, ...
        if (
            isinstance(error, HfHubHTTPError)
            and error.response is not None
            and error.response.status_code in (401, 403)
        ):
            hint = "use a token that may write to that organisation"
        else:
            hint = "run it again, it continues where it stopped"
        what = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ReleaseError(f"cannot {doing} ({what})", where=str(api.endpoint), hint=hint) from error


def desired_repos(family: Family, size: str) -> list[DesiredRepo]:
    """The repositories of a release, in the order in which they are published."""
    data = data_repo(family)
    model = DesiredRepo(family.model_id(size), "model", stage.model_repo(family, size), family.about.version)
    return [data, model] if data else [model]


def data_repo(family: Family) -> DesiredRepo | None:
    """The family's own data; None where they are of somebody else, or published before: those are named and never written."""
    if family.data.mixture:
        return None
    return DesiredRepo(family.data_id, "dataset", stage.dataset_repo(family), family.about.version)


def remote_repo(api: HfApi, repo: DesiredRepo) -> RemoteRepo:
    """Look at a repository on the Hub; one that this token cannot see does not exist for it.

    Raises:
        ReleaseError: The Hub answers for another repository, to which this one was renamed, or does not answer well.
    """
    with hub_errors(api, f"look at {repo.id}"):
        try:
            info = api.repo_info(repo.id, repo_type=repo.type)
        except RepositoryNotFoundError:
            return RemoteRepo()
        if info.id != repo.id:  # the Hub follows a name that was given up to wherever its repository is now
            hint = "choose another name; in a family file, another `version`"
            raise ReleaseError(f"{repo.id} was renamed to {info.id}", where=str(api.endpoint), hint=hint)
        refs = api.list_repo_refs(repo.id, repo_type=repo.type)
        tags = {ref.name: ref.target_commit for ref in refs.tags}
        tag = newest(repo.tag, tags)
        head = info.sha or "main"
        commit = tags[tag] if tag else head
        files = tree(api, repo, commit)
        main = files if commit == head else tree(api, repo, head)
    return RemoteRepo(bool(info.private), commit, tag, files, tuple(different(files, main)), head)


def tree(api: HfApi, repo: DesiredRepo, revision: str) -> dict[str, RepoFile]:
    """The files of a repository at a revision, by name, without the one that the Hub writes itself."""
    listed = api.list_repo_tree(repo.id, repo_type=repo.type, revision=revision, recursive=True)
    return {file.path: file for file in listed if isinstance(file, RepoFile) and file.path != ".gitattributes"}


def different(files: dict[str, RepoFile], others: dict[str, RepoFile]) -> list[str]:
    """The names of files that two trees do not share, by the Hub's hashes of their content."""
    blobs, theirs = ({name: file.blob_id for name, file in each.items()} for each in (files, others))
    return sorted(name for name in {*blobs, *theirs} if blobs.get(name) != theirs.get(name))


def same(file: Path, remote: RepoFile) -> bool:
    """Whether a file on the Hub has this content: by sha256 where the Hub has one, else by git's hash of the blob."""
    if file.stat().st_size != remote.size:
        return False
    if remote.lfs is not None:
        return sha256_file(file) == remote.lfs.sha256
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0%s" % (len(content), content), usedforsecurity=False).hexdigest() == remote.blob_id


def changed(repo: DesiredRepo, remote: RemoteRepo) -> tuple[list[str], list[str]]:
    """Names of files to upload, and of files on the Hub that the staged folder does not hold."""
    files = repo.files
    upload = [name for name in files if name not in remote.files or not same(repo.folder / name, remote.files[name])]
    return upload, sorted(remote.files.keys() - set(files))


def find_collection(api: HfApi, family: Family) -> Any:
    """The collection of the family's title in its organisation, with all its items, or None."""
    with hub_errors(api, "look at the collections"):
        for collection in api.list_collections(owner=family.about.organization):
            if collection.title == family.about.collection:
                return api.get_collection(collection.slug)  # lists show four items at most
    return None
