"""The repository of a fine-tuned model: what it holds, what must not be published of it, and what it proves by itself.

It is a release like a family's: release.json names every file, the scores of each query give every figure, and the card is rendered
again to the same bytes. What a family file says of other models stands in release.json itself: base, data, licence.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, RepoCard
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from release import records, results
from release.card import finetuned as cards
from release.card.finetuned import FinetunedRecords, FinetunedRelease
from release.errors import ReleaseError
from release.evaluation import queries
from release.export import checkpoint
from release.files import list_files, sha256_file, sha256_hashes
from release.hub import checks, stage, state
from release.truth import declared, finetuned, manifest
from release.truth.manifest import Content, FinetunedFrom, Manifest

KINDS = ("finetune", "export")  # records/*.json of the repository
REQUIRED = (*checks.MODEL_FILES, manifest.FILE, *(f"records/{kind}.json" for kind in KINDS), f"records/{queries.FILE}")


def repository(release: FinetunedRelease) -> state.DesiredRepo:
    """The repository as it should be."""
    return state.DesiredRepo(release.id, "model", release.folder, release.tag)


def contents(release: FinetunedRelease, measured: FinetunedRecords) -> dict[str, Content]:
    """What the repository holds, by name: files of the release's folder, and texts that are rendered.

    Raises:
        ReleaseError: A file is missing, or `export/` is not what was compared with the fine-tuned model.
    """
    export = release.output / "export"
    hashes = {name: sha256_file(export / name) for name in list_files(export)}
    if not hashes or sha256_hashes(hashes) != measured.export.measured.sha256:
        what = "the exported model is missing, or is not the one that was compared with the fine-tuned model"
        raise ReleaseError(what, where=str(export), hint="remove that folder, then publish again")
    given: dict[str, Content] = {name: export / name for name in hashes}
    given |= {
        f"records/{name}": release.output / "records" / name for name in (*map("{}.json".format, KINDS), queries.FILE)
    }
    given |= {"README.md": cards.card(release, measured)}
    made = manifest.of_finetuned(
        release.id, release.tag, _made_of(release, measured), (measured.finetune, measured.export), given, hashes
    )
    return given | {manifest.FILE: manifest.text(made)}


def _made_of(release: FinetunedRelease, measured: FinetunedRecords) -> FinetunedFrom:
    subject, scores = measured.finetune.subject, measured.scores
    return FinetunedFrom(
        base=subject.base,
        base_revision=subject.base_revision,
        base_sha256=subject.base_sha256,
        data=subject.data,
        data_sha256=subject.data_sha256,
        test_sha256=scores.test.sha256,
        dev_sha256=scores.dev.sha256,
        guard_sha256=scores.guard.sha256,
        license=release.license,
        license_name=release.license_name,
        license_link=release.license_link,
    )


def problems(release: FinetunedRelease, measured: FinetunedRecords) -> Iterator[str]:
    """What must not be published of a staged folder: one line each."""
    folder = release.folder
    yield from checks.folder_problems(folder, REQUIRED, checks.ALLOWED["model"])
    if all((folder / name).is_file() for name in checks.MODEL_FILES):
        yield from checkpoint.problems(folder)
        yield from checkpoint.changes(release.output / "model", folder)
    yield from checks.rehearsed(folder)
    yield from untrue(release, measured)
    yield from stage.differences(contents(release, measured), folder)


def untrue(release: FinetunedRelease, measured: FinetunedRecords) -> Iterator[str]:
    """Records that were edited, make no sense, or whose figures the scores of queries do not give."""
    for kind in KINDS:
        if not records.is_sealed(release.output / f"records/{kind}.json"):
            yield f"records/{kind}.json: edited since it was measured"
    yield from finetuned.problems(measured.finetune, measured.export, measured.scores)
    parameters = {"finetune.json: measured.parameters": measured.finetune.measured.parameters}
    yield from declared.exported(release.output / "export", measured.export.measured, parameters)


# --- What it proves by itself -----------------------------------------------------------------------------------------


def opened(made: Manifest, folder: Path, scratch: Path) -> tuple[FinetunedRelease, FinetunedRecords]:
    """A downloaded repository as if it were still to be staged, below `scratch`; what is rendered is left out.

    Raises:
        ReleaseError: A record is missing or of another model, or what release.json says cannot be.
    """
    assert made.finetuned is not None
    for name in made.files:
        if name != "README.md":
            target = scratch / (name if name.startswith("records/") else f"export/{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(folder / name)  # both are thrown away, and nobody writes to them
    licence = (made.finetuned.license, made.finetuned.license_name, made.finetuned.license_link)
    release = FinetunedRelease(scratch, made.repository, made.version, *licence)
    sha256 = records.read(scratch / "records", results.EXPORT).model_sha256
    return release, cards.read(scratch / "records", sha256)


def proved(release: FinetunedRelease, measured: FinetunedRecords) -> dict[str, str]:
    """Compute every figure again from the scores of each query. Returns what was proved, by name.

    Raises:
        ReleaseError: One is not what it should be.
    """
    for line in untrue(release, measured):
        raise ReleaseError(line)
    test, scores = measured.finetune.measured.test, measured.scores
    sets = ", ".join(f"{len(getattr(scores, name).first_stage):,} of {name}" for name in ("test", "dev", "guard"))
    return {
        "records": f"{len(KINDS)}, as they were written, in themselves and with each other possible",
        "figures": f"scores, differences and intervals computed again from those of each query: {sets}",
        "verdict": test.line.removeprefix("VERDICT: "),
    }


def based_on(made: FinetunedFrom, license: str | None, client: HfApi, scratch: Path) -> str:
    """Whether the base model on the Hub is the one that was fine-tuned, by the hashes that the Hub lists.

    Args:
        license: What the record says that the base's card names; None says nothing.

    Raises:
        ReleaseError: It is another one at that commit, or has no such commit, or its card names another licence.
    """
    if made.base_revision is None:
        return f"{made.base} was a folder: nothing says where it came from"
    base = state.DesiredRepo(made.base, "model", scratch, "")
    with state.hub_errors(client, f"list {made.base}"):
        try:
            files = state.tree(client, base, made.base_revision)
            hashes = {
                name: file.lfs.sha256 if file.lfs else _hash(client, base, name, made.base_revision)
                for name, file in files.items()
                if records.in_model_hash(name)
            }
            named = _license(client, base, made.base_revision) if license and "README.md" in files else license
        except RevisionNotFoundError as error:
            raise ReleaseError(f"the base model {made.base} has no commit {made.base_revision[:12]}") from error
        except RepositoryNotFoundError:
            return f"{made.base} is not there for this token"
    if records.model_hash_of(hashes) != made.base_sha256:
        raise ReleaseError(f"{made.base} at {made.base_revision[:12]} is not the model that was fine-tuned")
    if named != license:
        raise ReleaseError(f"the card of {made.base} names the licence {named}, and records/finetune.json {license}")
    return f"{made.base} at {made.base_revision[:12]}: {len(hashes)} files, which are the model that was fine-tuned"


def _license(client: HfApi, repo: state.DesiredRepo, revision: str) -> Any:
    """What the card of a repository names at a revision."""
    path = client.hf_hub_download(repo.id, "README.md", revision=revision, local_dir=repo.folder)
    return RepoCard.load(path, ignore_metadata_errors=True).data.to_dict().get("license")


def _hash(client: HfApi, repo: state.DesiredRepo, name: str, revision: str) -> str:
    """Of a small file, of which a Hub lists no sha256."""
    return sha256_file(Path(client.hf_hub_download(repo.id, name, revision=revision, local_dir=repo.folder)))
