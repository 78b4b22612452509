"""Verify a released repository on any machine, with nothing but its name: files, tag, records, every figure, and the card.

No model is loaded and no torch is needed: that its scores are the same is what `make verify` shows before anything is public.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from release import console, records, results
from release.card import acceptance, beside
from release.errors import ReleaseError
from release.family import Family, of
from release.files import list_files
from release.hub import cards, checks, data, stage, state
from release.truth import manifest, signing
from release.truth.manifest import Manifest

RENDERED = ("README.md", "croissant.json", ".eval_results/")  # what is made anew, and compared


@dataclasses.dataclass(frozen=True)
class PublishedRelease:
    """A repository on a Hub as it was downloaded: the commit, the folder, and the tag's commit and the message of its commit.

    Attributes:
        given: Whether a revision was asked for; else it is the main branch, which people load.
        client: The one that may read it.
    """

    id: str
    type: state.RepoType
    commit: str
    folder: Path
    tags: dict[str, str]
    message: str
    given: bool
    client: HfApi


def verify(repo_id: str, api: HfApi, revision: str | None = None) -> dict[str, str]:
    """Download one repository and prove what it says. Returns what was proved, by name; it is printed as a table too.

    Raises:
        ReleaseError: It is not there, it is no release of this project, or something differs: the first thing, by its name.
    """
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        release = download(repo_id, api, revision, Path(scratch) / "files")
        with named(release):
            made = manifest.read(release.folder)
            result = dict(bound(release, made))
            result |= proved(made, release.folder, Path(scratch) / "again", release.client)
            result |= corrected(release, made, Path(scratch) / "first")
    rows = [[what, says] for what, says in result.items()]
    console.table(f"{repo_id} at {release.commit[:12]}", ["checked", "and found"], rows)
    return result | {"revision": release.commit}


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
            message = client.list_repo_commits(repo_id, repo_type=kind, revision=commit)[0].message
            client.snapshot_download(repo_id, repo_type=kind, revision=commit, local_dir=folder)
            tags = {ref.name: ref.target_commit for ref in refs.tags}
            return PublishedRelease(info.id, kind, commit, folder, tags, message, revision is not None, client)
    hint = "correct the name, or log in with a token that may read it"
    raise ReleaseError("no such repository, or it is private", where=f"{api.endpoint}/{repo_id}", hint=hint)


def bound(release: PublishedRelease, made: Manifest) -> Iterator[tuple[str, str]]:
    """The files as release.json names them, and release.json as tag and commit name it.

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
    size = sum(entry.bytes for entry in made.files.values())
    yield "files", f"{len(made.files)} of {size / 1e6:,.1f} MB, each as {manifest.FILE} names it, and none beside"
    tag = state.newest(made.version, release.tags)
    tagged = release.tags.get(tag or "")
    if tagged is None or made.version not in release.tags:
        raise ReleaseError(f"no tag {made.version}: the release was never finished")
    if tagged != release.commit and not release.given:
        raise ReleaseError(f"main is not what is tagged {tag} (at {tagged[:12]})")
    yield (
        "tag",
        f"{made.version}{'' if tagged == release.commit else f' is at {tagged[:12]}, which is another revision'}",
    )
    if manifest.seal(release.folder) not in release.message.splitlines():
        raise ReleaseError(f"the commit's message does not name this {manifest.FILE}")
    yield "commit", f"its message has the sha256 of {manifest.FILE}"
    if made.signing_key is None:
        yield "signature", "none: this release is not signed"
    elif line := signing.problem(release.folder, made.signing_key):
        raise ReleaseError(line)
    else:
        yield "signature", f"by the key {made.signing_key}: compare it with the one that its makers publish"


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
    if first.signing_key not in (None, made.signing_key):
        raise ReleaseError(f"{made.version} is signed by another key than this card of it")
    return {"revision": f"of the card alone: every other file is as {made.version} released it"}


def proved(made: Manifest, folder: Path, scratch: Path, client: HfApi | None = None) -> dict[str, str]:
    """Compute every figure again and render the card again, in a build folder that is made of the repository.

    Args:
        client: Lists the data that a model was trained on; without one nothing is said of them.

    Raises:
        ReleaseError: A record, a figure or the card is not what it should be.
    """
    lay_out(made, folder, scratch)
    with contextlib.chdir(scratch):
        tables = json.loads((folder / manifest.FAMILY_FILE).read_text(encoding="utf-8"))
        family = of(tables, Path("recipes") / made.family_file)
        organization = made.repository.split("/")[0]  # which ORG may have changed
        family = dataclasses.replace(family, about=dataclasses.replace(family.about, organization=organization))
        if made.repository != (family.model_id(made.size) if made.size else family.data_id):
            raise ReleaseError(f"{manifest.FAMILY_FILE} is not the family file of {made.repository}")
        if not made.size:
            return _data(family, folder)
        return _model(family, made, folder) | (_trained_on(family, made, client) if client else {})


def _model(family: Family, made: Manifest, folder: Path) -> dict[str, str]:
    exported = records.read(family.folder(made.size) / "records", results.EXPORT)
    measured = acceptance.card_records(family, made.size, exported.model_sha256)
    for line in checks.untrue(family, made.size, measured):
        raise ReleaseError(line.replace(f"{family.folder(made.size)}/", ""))
    _same(stage.model_contents(family, made.size, measured), folder, made)
    rows = measured.evaluate.measured.tasks
    return {
        "records": f"{len(measured.all)}, as they were written, in themselves and with each other possible",
        "figures": f"{len(rows)} rows and their means, gains and intervals computed again from the scores of each query",
        "weights": "those that were compared with the trained model in every form",
        "card": f"{(folder / 'README.md').stat().st_size:,} bytes, rendered again to the same",
    }


def _trained_on(family: Family, made: Manifest, client: HfApi) -> dict[str, str]:
    """Whether the family's data on the Hub are those that the model's own manifest of them names.

    Raises:
        ReleaseError: They are others, or were never finished.
    """
    if family.data.mixture:
        return {}
    repo = state.DesiredRepo(family.data_id, "dataset", family.mixture_folder, made.version)
    with state.hub_errors(client, f"list {repo.id}"):
        try:
            files = state.tree(client, repo, made.version)
        except RepositoryNotFoundError:
            return {"data": f"{repo.id} is not there for this token"}
        except RevisionNotFoundError as error:
            raise ReleaseError(f"{repo.id} has no tag {made.version}: the data were never finished") from error
    for name in data.listing_problems(family, files):
        raise ReleaseError(f"{name} of {repo.id} {made.version} is not what this model was trained on")
    return {"data": f"{repo.id} {made.version}: {len(files)} files, the shards by the hashes that the model names"}


def _data(family: Family, folder: Path) -> dict[str, str]:
    for name in checks.shards(folder):
        raise ReleaseError(name)
    if not records.is_sealed(family.build / "records/data.json"):
        raise ReleaseError("records/data.json: edited since it was measured")
    _same(stage.dataset_contents(family), folder, manifest.read(folder))
    return {
        "records": "1, as it was written",
        "card": f"{(folder / 'README.md').stat().st_size:,} bytes, rendered again to the same",
    }


def lay_out(made: Manifest, folder: Path, scratch: Path) -> None:
    """Make the build folder from which a repository could have been staged; what is rendered is left out."""
    build = scratch / "build" / made.family
    own = build / made.size if made.size else build / "data/mixture"
    moved = {
        "records/data.json": build / "records/data.json",
        stage.MIXTURE: build / "data/mixture/manifest.json",
        f"records/{beside.FILE}": own / "compare" / beside.FILE,
    }
    for name in made.files:
        if name.startswith(RENDERED):
            continue
        kept = not made.size or name.startswith(("records/", "compare/"))
        target = moved.get(name) or (own / name if kept else own / "export" / name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(folder / name)  # both are thrown away, and nobody writes to them


def _same(contents: dict[str, manifest.Content], folder: Path, made: Manifest) -> None:
    """Whether what the repository's own sources give is what it holds.

    Raises:
        ReleaseError: A file differs; of a text the first line that does.
    """
    present = {name for name in list_files(folder) if not name.startswith(manifest.HUBS_OWN)}
    if left := present - contents.keys() - {*made.beside}:
        raise ReleaseError(f"{min(left)}: nothing in the repository gives this file")
    for name, content in contents.items():
        published = folder / name
        if not published.is_file():
            raise ReleaseError(f"{name}: its sources give it, and it is not there")
        if isinstance(content, str) and content.encode() != published.read_bytes():
            old, new = published.read_text(encoding="utf-8").splitlines(), content.splitlines()
            changes = [line for line in difflib.unified_diff(new, old, lineterm="", n=0) if line[:1] == "+"]
            shown = next((line[1:].strip() for line in changes[1:]), "a line is missing")
            commits = ", ".join(commit[:12] for commit in made.commits) or "unknown"
            hint = f"another version of this project renders other texts: the records are of commit {commits}"
            raise ReleaseError(f"{name}: not what its records give, first: {shown[:120]!r}", hint=hint)
