"""The folders that the repositories on the Hub will hold, byte for byte the same from the same inputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from release import options
from release.card import acceptance, beside, croissant, eval_results, render
from release.card.acceptance import CardRecords
from release.console import say
from release.errors import ReleaseError
from release.evaluation import queries
from release.family import Family, described, load
from release.files import (
    atomic_directory,
    copy_file,
    list_files,
    sha256_file,
    sha256_hashes,
    write_atomic,
)
from release.truth import manifest, signing
from release.truth.manifest import Content, Manifest

RECORDS = (
    "run",
    "choice",
    "evaluate",
    "speed",
    "export",
    "engines",
)  # records/*.json of a model: where its card's numbers come from
MIXTURE = "records/mixture.json"  # in a model's repository: the manifest of the data that it was trained on
NOT_GIVEN = "not what its sources give, make stage"


def command(size: options.Size, family_file: options.Family = options.ETTIN) -> None:
    """Assemble the model's and the dataset's folder, and the collection, as the Hub will hold them."""
    family = load(family_file)
    own = [stage_dataset(family)] if family.data.mixture is None else []  # another one is published already
    for folder in (*own, stage_model(family, size)):
        files = list_files(folder)
        total = sum((folder / name).stat().st_size for name in files)
        say(f"{folder}: {len(files)} files, {total / 1e6:.1f} MB")


def model_repo(family: Family, size: str) -> Path:
    """Where a model's staged folder is."""
    return family.folder(size) / "repo"


def dataset_repo(family: Family) -> Path:
    """Where the dataset's staged folder is."""
    return family.build / "data/repo"


def stage_model(family: Family, size: str) -> Path:
    """Put `export/`, the card and the records into `<size>/repo/`; the collection goes to `<size>/collection.yaml`.

    Raises:
        ReleaseError: A record is missing or foreign, or `export/` is not what was compared with the trained model.
    """
    measured = acceptance.card_records(family, size)
    folder = write(model_contents(family, size, measured), model_repo(family, size))
    write_atomic(family.folder(size) / "collection.yaml", collection_text(family, size, measured))
    return folder


def stage_dataset(family: Family) -> Path:
    """Put the mixture's shards, its manifest, its record and its card into `data/repo/`.

    Raises:
        ReleaseError: The mixture is missing.
    """
    return write(dataset_contents(family), dataset_repo(family))


def model_contents(family: Family, size: str, measured: CardRecords) -> dict[str, Content]:
    """What a model's repository holds, by name: files of the build folder, and texts that are rendered.

    Raises:
        ReleaseError: A file is missing, or `export/` is not what was compared with the trained model.
    """
    folder = family.folder(size)
    export = folder / "export"
    hashes = {name: sha256_file(export / name) for name in list_files(export)}
    if not hashes or sha256_hashes(hashes) != measured.export.measured.sha256:
        what = "the exported model is missing, or is not the one that was compared with the trained model"
        raise ReleaseError(what, where=str(export), hint="make export")
    contents: dict[str, Content] = {name: export / name for name in hashes} | _sources(family)
    contents |= {f"records/{kind}.json": folder / f"records/{kind}.json" for kind in RECORDS}
    contents |= {f"records/{queries.FILE}": folder / "records" / queries.FILE}
    contents |= {MIXTURE: family.mixture_folder / "manifest.json"}
    contents |= {path.relative_to(folder).as_posix(): path for path in acceptance.further_speed_files(family, size)}
    if shown := beside.read(family, size, measured):
        contents |= beside.files(family, size, shown)
    contents |= eval_results.files(family, size, measured.evaluate)
    contents |= {"README.md": render.model_card(family, size, measured)}
    made = manifest.of(family, size, measured.all, contents, hashes)
    return contents | {manifest.FILE: manifest.text(made)}


def dataset_contents(family: Family) -> dict[str, Content]:
    """What the dataset's repository holds, by name.

    Raises:
        ReleaseError: The mixture or its record is missing.
    """
    data, declared = acceptance.data_records(family)
    mixture = family.mixture_folder
    shards = [name for name in list_files(mixture) if name.endswith(".parquet") and not name.startswith(".")]
    contents: dict[str, Content] = {name: mixture / name for name in (*shards, "manifest.json")}
    contents |= _sources(family, data=True)
    contents |= {croissant.FILE: croissant.text(family, data, declared)}
    contents |= {"README.md": render.dataset_card(family, data, declared)}
    return contents | {manifest.FILE: manifest.text(manifest.of(family, "", [data], contents))}


def _sources(family: Family, *, data: bool = False) -> dict[str, Content]:
    """What both repositories hold of the family, so that a card can be rendered again from its repository alone."""
    record = family.build / "records/data.json"
    return {manifest.FAMILY_FILE: described(family, data=data), "records/data.json": record}


def collection_text(family: Family, size: str, measured: CardRecords) -> str:
    """The collection as it is published with one size."""
    return render.collection_text(family, size, measured)


def write(contents: dict[str, Content], folder: Path) -> Path:
    """Let `folder` hold exactly `contents`, and the signature; nothing in it is shared with the files that they come from."""
    with atomic_directory(folder) as temporary:
        for name, content in contents.items():
            if isinstance(content, str):
                write_atomic(temporary / name, content)
            else:
                copy_file(content, temporary / name)
        if signer := given(contents).signer:
            signing.sign(temporary, signer, folder)
    return folder


def given(contents: dict[str, Content]) -> Manifest:
    """The manifest among contents."""
    text = contents[manifest.FILE]
    assert isinstance(text, str)
    return manifest.parse(text, manifest.FILE)


def differences(contents: dict[str, Content], folder: Path) -> Iterator[str]:
    """How `folder` differs from what its sources give now, byte by byte: one line per file."""
    made = given(contents)
    says = {"beside": "nothing gives this file", "missing": "required, and missing", "other": NOT_GIVEN}
    yield from (f"{name}: {NOT_GIVEN}" for name in list_files(folder) if (folder / name).is_symlink())
    yield from (f"{name}: {says[how]}" for name, how in manifest.differences(made, folder))
    path = folder / manifest.FILE
    if not path.is_file():
        yield f"{manifest.FILE}: {says['missing']}"
    elif path.read_bytes() != manifest.text(made).encode():
        yield f"{manifest.FILE}: {NOT_GIVEN}"
    elif made.signer and (line := signing.problem(folder, made.signer)):
        yield line
