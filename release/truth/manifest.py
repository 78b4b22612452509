"""`release.json`: what a repository holds, file by file, and what its numbers come from. Written when it is staged, read here.

Its own sha256 stands in the message of the release's tag and commits, so that whoever has the message can check all the rest.
The same sources give the same bytes: it holds no time, and no commit but those of the records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, with_config

from release import records
from release.errors import ReleaseError
from release.family import Family, Signer
from release.files import list_files, sha256_file
from release.names import FileName, HubName
from release.records import Record
from release.results.ranges import Sha256, Word
from release.truth import signing

FILE = "release.json"
FAMILY_FILE = "records/family.json"  # the tables of the family file, in every repository of a release
HUBS_OWN = (".gitattributes", ".cache/huggingface/")  # what a Hub, or its client, adds to a repository
Content = Path | str  # a file, or the text of one
Difference = Literal["beside", "missing", "other"]  # nobody names it; it is named and not there; it is another


@dataclass(frozen=True)
class FileEntry:
    """A file's size, in bytes, and its sha256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class FinetunedFrom:
    """What a fine-tuned model was made of, and the licence that its card names.

    Attributes:
        base: Hub id or folder of the base model; `base_revision` its commit, None for a folder; `base_sha256` is over its
            weights, configuration and tokenizer.
        data: The name of the data; `data_sha256` is over the rows that were trained on, the others over the sets of queries.
    """

    base: Word
    base_revision: str | None
    base_sha256: Sha256
    data: str
    data_sha256: Sha256
    test_sha256: Sha256
    dev_sha256: Sha256
    guard_sha256: Sha256
    license: str
    license_name: str | None
    license_link: str | None


@with_config(records.STRICT)
@dataclass(frozen=True)
class Manifest:
    """What release.json says.

    Attributes:
        repository, type: Which repository it describes; its organisation is the release's.
        family, size, version: Of the release; `size` is "" for the data, which every size shares, and both for a fine-tuned model.
        family_file: What the family file is called, whose tables are in records/family.json; "" for a fine-tuned model.
        commits: Of this project, at which the records were measured, without repetition; "" where there was none.
        versions: Package -> the versions with which the records were measured.
        rehearsal: Whether any of them was measured in a rehearsal.
        signing_key: The fingerprint of the key by which the repository is signed; `signing_identity` and `signing_provider`
            are who signed it by Sigstore. None of them where it is not signed.
        files: Every file but this one and the signature, by name.
        finetuned: Only of a fine-tuned model, which belongs to no family.
    """

    repository: str
    type: Literal["model", "dataset"]
    family: HubName | Literal[""]
    size: HubName | Literal[""]
    version: HubName
    family_file: FileName | Literal[""]
    commits: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]
    rehearsal: bool
    signing_key: str | None
    files: dict[str, FileEntry]
    signing_identity: str | None = None
    signing_provider: str | None = None
    finetuned: FinetunedFrom | None = None

    @property
    def signer(self) -> Signer | None:
        """Who signed the repository, None where nobody did."""
        return Signer.of(self.signing_key, self.signing_identity, self.signing_provider)

    @property
    def beside(self) -> tuple[str, ...]:
        """The files that lie beside what it names: itself, and the signature."""
        return (FILE, *signing.files(self.signer))


def of(
    family: Family,
    size: str,
    measured: Iterable[Record[Any, Any]],
    contents: dict[str, Content],
    known: dict[str, str] | None = None,
) -> Manifest:
    """The manifest of what a repository is to hold.

    Args:
        size: "" for the data.
        contents: By name in the repository.
        known: sha256 of files that were read already.
    """
    return Manifest(
        repository=family.model_id(size) if size else family.data_id,
        type="model" if size else "dataset",
        family=family.about.name,
        size=size,
        version=family.about.version,
        family_file=family.path.name,
        **_measured(measured),
        signing_key=family.about.signing_key,
        signing_identity=family.about.signing_identity,
        signing_provider=family.about.signing_provider,
        files=_entries(contents, known),
    )


def of_finetuned(
    repository: str,
    version: str,
    made_of: FinetunedFrom,
    measured: Iterable[Record[Any, Any]],
    contents: dict[str, Content],
    known: dict[str, str] | None = None,
) -> Manifest:
    """The same of a fine-tuned model, which nobody signs: its maker has no family file to say who would."""
    return Manifest(
        repository=repository,
        type="model",
        family="",
        size="",
        version=version,
        family_file="",
        **_measured(measured),
        signing_key=None,
        files=_entries(contents, known),
        finetuned=made_of,
    )


def _measured(measured: Iterable[Record[Any, Any]]) -> dict[str, Any]:
    """What the manifest says of where the records were measured."""
    all_records = list(measured)
    packages = sorted({name for record in all_records for name in record.versions})
    return {
        "commits": tuple(sorted({record.commit for record in all_records})),
        "versions": {
            name: tuple(sorted({record.versions[name] for record in all_records if name in record.versions}))
            for name in packages
        },
        "rehearsal": any(record.rehearsal for record in all_records),
    }


def _entries(contents: dict[str, Content], known: dict[str, str] | None) -> dict[str, FileEntry]:
    return {name: _entry(content, (known or {}).get(name)) for name, content in sorted(contents.items())}


def _entry(content: Content, sha256: str | None) -> FileEntry:
    if isinstance(content, str):
        data = content.encode()
        return FileEntry(len(data), hashlib.sha256(data).hexdigest())
    if content.is_symlink() or not content.is_file():
        what = "a link, where a file belongs" if content.is_symlink() else "a file that is released is missing"
        raise ReleaseError(what, where=str(content), hint="put the file itself there, or make stage")
    return FileEntry(content.stat().st_size, sha256 or sha256_file(content))


def text(manifest: Manifest) -> str:
    """The file's text; equal manifests give equal bytes."""
    value = asdict(manifest)
    for name in ("signing_identity", "signing_provider", "finetuned"):  # which older ones do not have
        if value[name] is None:
            del value[name]
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def parse(content: str | bytes, where: str) -> Manifest:
    """A manifest from the file's text.

    Raises:
        ReleaseError: It is damaged, or of another form.
    """
    try:
        return records.parse(Manifest, content)
    except (ValidationError, ValueError) as error:
        raise ReleaseError(f"damaged, or no {FILE} of this form", where=where, hint="make stage") from error


def read(folder: Path) -> Manifest:
    """The manifest of a staged or downloaded folder.

    Raises:
        ReleaseError: There is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        what = f"no {FILE}: released by somebody else, or before there was one, so that nothing says what it must hold"
        raise ReleaseError(what, where=str(folder))
    return parse(path.read_bytes(), str(path))


def hubs_own(name: str) -> bool:
    """Whether a file is one that a Hub, or its client, adds to a repository."""
    return name == HUBS_OWN[0] or name.startswith(HUBS_OWN[1])


def differences(manifest: Manifest, folder: Path) -> Iterator[tuple[str, Difference]]:
    """Every file of `folder` that is not as the manifest says, with what is wrong."""
    present = {name for name in list_files(folder) if not hubs_own(name)}
    for name in sorted({*manifest.files, *present} - {*manifest.beside}):
        if name not in manifest.files:
            yield name, "beside"
        elif name not in present:
            yield name, "missing"
        elif not _same(manifest.files[name], folder / name):
            yield name, "other"


def _same(entry: FileEntry, path: Path) -> bool:
    return path.stat().st_size == entry.bytes and sha256_file(path) == entry.sha256


def seal(folder: Path) -> str | None:
    """The line that binds a tag or a commit to a folder: the sha256 of its release.json; None where it has none."""
    path = folder / FILE
    return f"{FILE} sha256 {sha256_file(path)}" if path.is_file() else None
