"""Verify a released repository on any machine, with nothing but its name: files, tag, records, every figure, and the card.

No model is loaded and no torch is needed: that its scores are the same is what `make verify` shows before anything is public.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from release import console
from release.errors import ReleaseError
from release.family import Signer
from release.hub import cards, checks, formats, proof, state
from release.hub.pull_requests import reference
from release.hub_commits import merged_pull
from release.truth import manifest, signing
from release.truth.manifest import Manifest


@dataclass(frozen=True)
class PublishedRelease:
    """A repository on a Hub as it was downloaded: the commit, the folder, and the tag's commit and the message of its commit.

    Attributes:
        given: Whether a revision was asked for; else it is the main branch, which people load.
        client: The one that may read it.
        names: Every file that the Hub lists: a folder may hold files of the client too.
    """

    id: str
    type: state.RepoType
    commit: str
    folder: Path
    tags: dict[str, str]
    message: str
    given: bool
    client: HfApi
    names: frozenset[str]
    branches: frozenset[str]


def verify(repo_id: str, api: HfApi, revision: str | None = None, signer: Signer | None = None) -> dict[str, str]:
    """Download one repository and prove what it says. Returns what was proved, by name; it is printed as a table too.

    Args:
        signer: Who must have signed it, for whoever knows that from elsewhere.

    Raises:
        ReleaseError: It is not there, it is no release of this project, or something differs: the first thing, by its name.
    """
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        release = download(repo_id, api, revision, Path(scratch) / "files")
        with named(release):
            made = manifest.read(release.folder)
            result = dict(bound(release, made, signer))
            again, main = Path(scratch) / "again", not release.given
            result |= proof.proved(made, release.folder, again, release.client, main=main)
            result |= corrected(release, made, Path(scratch) / "first")
            result |= {"not proved": not_proved(made)}
    rows = [[what, says] for what, says in result.items()]
    console.table(f"{repo_id} at {release.commit[:12]}", ["checked", "and found"], rows)
    return result | {"revision": release.commit}


def not_proved(made: Manifest) -> str:
    """What a repository cannot show by itself."""
    kind = "fine-tuned model" if made.finetuned else made.type
    return proof.NOT_PROVED[kind] + ("" if made.signer else "; who made it: there is no signature")


@contextlib.contextmanager
def named(release: PublishedRelease) -> Generator[None]:
    """Say of which repository an error is, and hide where it was downloaded to."""
    try:
        yield
    except ReleaseError as error:
        what = error.what.replace(f"{release.folder}/", "").replace(str(release.folder), release.id)
        raise ReleaseError(what, where=f"{release.id} at {release.commit[:12]}", hint=error.hint) from error


def download(repo_id: str, api: HfApi, revision: str | None, folder: Path) -> PublishedRelease:
    """Fetch every file of a repository, without a token where it is public.

    Raises:
        ReleaseError: It is not there, for this token at least, or the Hub fails.
    """
    anonymous = HfApi(endpoint=api.endpoint, token=False)
    kinds: tuple[state.RepoType, ...] = ("model", "dataset")
    tries = [(client, kind) for client in (anonymous, api) for kind in kinds]
    with state.hub_errors(api, f"download {repo_id}"):
        for client, kind in tries:
            try:
                info = client.repo_info(repo_id, repo_type=kind, revision=revision)
            except RepositoryNotFoundError:
                continue
            commit = str(info.sha)
            refs = client.list_repo_refs(repo_id, repo_type=kind)
            message = _message(client, repo_id, kind, commit)
            client.snapshot_download(repo_id, repo_type=kind, revision=commit, local_dir=folder)
            tags = {ref.name: ref.target_commit for ref in refs.tags}
            names = frozenset(client.list_repo_files(repo_id, repo_type=kind, revision=commit))
            branches = frozenset(ref.name for ref in refs.branches)
            given = revision is not None
            return PublishedRelease(info.id, kind, commit, folder, tags, message, given, client, names, branches)
    hint = "correct the name, or log in with a token that may read it"
    raise ReleaseError("no such repository, or it is private", where=f"{api.endpoint}/{repo_id}", hint=hint)


def _message(client: HfApi, repo_id: str, kind: state.RepoType, commit: str) -> str:
    """What a commit says below its title; of one that merged a pull request, what the pull request's last commit says too."""
    made = client.list_repo_commits(repo_id, repo_type=kind, revision=commit)[0]
    if (number := merged_pull(made.title)) is None:
        return made.message
    with contextlib.suppress(RevisionNotFoundError):  # somebody removed it after the merge
        merged = client.list_repo_commits(repo_id, repo_type=kind, revision=reference(number))[0]
        return f"{made.message}\n{merged.message}"
    return made.message


def bound(release: PublishedRelease, made: Manifest, expected: Signer | None = None) -> Iterator[tuple[str, str]]:
    """The files as release.json names them, and release.json as tag and commit name it.

    Args:
        expected: Who must have signed it; whoever the repository itself names if left out.

    Raises:
        ReleaseError: They are not.
    """
    if (made.repository, made.type) != (release.id, release.type):
        raise ReleaseError(f"{manifest.FILE} is that of {made.type} {made.repository}")
    says = {
        "beside": "it lies beside what {file} names",
        "missing": "missing",
        "other": "not the file that {file} names",
    }
    for name, how in manifest.differences(made, release.folder):
        raise ReleaseError(f"{name}: {says[how].format(file=manifest.FILE)}")
    for name in sorted(release.names - made.files.keys() - {*made.beside, ".gitattributes"}):
        raise ReleaseError(f"{name}: {says['beside'].format(file=manifest.FILE)}")
    for name in made.files:
        if not checks.is_allowed(name, checks.ALLOWED[made.type]):
            raise ReleaseError(f"{name}: {checks.NOT_ALLOWED}")
        if form := formats.problem(release.folder / name):
            raise ReleaseError(f"{name}: {form}")
    size = sum(entry.bytes for entry in made.files.values())
    yield "files", f"{len(made.files)} of {size / 1e6:,.1f} MB, each as {manifest.FILE} names it, and none beside"
    tag = state.newest(made.version, release.tags)
    tagged = release.tags.get(tag or "")
    if tagged is None or made.version not in release.tags:
        raise ReleaseError(f"no tag {made.version}: the release was never finished")
    if alike := [name for name in release.branches if name in release.tags or state.revision(made.version, name)]:
        raise ReleaseError(f"a branch is called like the tag {min(alike)}")
    if tagged != release.commit and not release.given:
        raise ReleaseError(f"main is not what is tagged {tag} (at {tagged[:12]})")
    own = {name for name in release.tags if state.revision(made.version, name)} | {"main"}
    others = sorted((release.tags.keys() | release.branches) - own)
    yield (
        "tag",
        f"{made.version}{'' if tagged == release.commit else f' is at {tagged[:12]}, which is another revision'}"
        + (f"; not looked at: {', '.join(others)}" if others else ""),
    )
    if manifest.seal(release.folder) not in release.message.splitlines():
        raise ReleaseError(f"the commit's message does not name this {manifest.FILE}")
    yield "commit", f"its message has the sha256 of {manifest.FILE}"
    if expected and made.signer != expected:
        raise ReleaseError(f"signed by {made.signer or 'nobody'}, and {expected} was to sign it")
    if made.signer is None:
        yield "signature", "none: this release is not signed"
    elif line := signing.problem(release.folder, made.signer):
        raise ReleaseError(line)
    else:
        told = "as it should be" if expected else "compare that with what its makers publish"
        yield "signature", f"by {made.signer}: {told}"


def corrected(release: PublishedRelease, made: Manifest, scratch: Path) -> dict[str, str]:
    """Whether what is not at the version's own tag differs from it in the card alone; nothing is said of the tag itself.

    Raises:
        ReleaseError: More differs: under one version people would load two models.
    """
    commit = release.tags[made.version]
    if commit == release.commit:
        return {}
    with state.hub_errors(release.client, f"read {manifest.FILE} at {made.version}"):
        path = release.client.hf_hub_download(
            release.id, manifest.FILE, repo_type=release.type, revision=commit, local_dir=scratch
        )
    first = manifest.parse(Path(path).read_bytes(), f"{manifest.FILE} at {made.version}")
    names = {name for name in {*first.files, *made.files} if first.files.get(name) != made.files.get(name)}
    if others := sorted(names - cards.CARD):
        raise ReleaseError(f"{others[0]}: not what {made.version} released, of which this is another card")
    if first.signer not in (None, made.signer):
        raise ReleaseError(f"{made.version} is signed by {first.signer}, this card of it by {made.signer or 'nobody'}")
    return {"revision": f"of the card alone: every other file is as {made.version} released it"}
