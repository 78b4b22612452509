"""The folders that the repositories on the Hub will hold, byte for byte the same from the same inputs."""

from __future__ import annotations

from pathlib import Path

from release import options
from release.card import acceptance, beside, render
from release.errors import ReleaseError
from release.family import Family, load
from release.files import atomic_directory, link_or_copy, list_files, sha256_folder, write_atomic

RECORDS = (
    "run",
    "choice",
    "evaluate",
    "speed",
    "export",
)  # records/*.json of a model: where its card's numbers come from


def command(size: options.Size, family_file: options.Family = options.ETTIN) -> None:
    """Assemble the model's and the dataset's folder, and the collection, as the Hub will hold them."""
    family = load(family_file)
    for folder in (stage_dataset(family), stage_model(family, size)):
        files = list_files(folder)
        total = sum((folder / name).stat().st_size for name in files)
        print(f"{folder}: {len(files)} files, {total / 1e6:.1f} MB")


def model_repo(family: Family, size: str) -> Path:
    """Where a model's staged folder lies."""
    return family.folder(size) / "repo"


def dataset_repo(family: Family) -> Path:
    """Where the dataset's staged folder lies."""
    return family.build / "data/repo"


def stage_model(family: Family, size: str) -> Path:
    """Put `export/`, the card and the records into `<size>/repo/`; the collection goes to `<size>/collection.yaml`.

    Raises:
        ReleaseError: A record is missing or foreign, or `export/` is not what was compared with the trained model.
    """
    measured = acceptance.card_records(family, size)
    export = family.folder(size) / "export"
    if not export.is_dir() or sha256_folder(export) != measured.export.measured.sha256:
        what = "the exported model is missing, or is not the one that was compared with the trained model"
        raise ReleaseError(what, where=str(export), hint="make export")
    text = render.model_card(family, size, measured)
    with atomic_directory(model_repo(family, size)) as folder:
        for name in list_files(export):
            link_or_copy(export / name, folder / name)
        for kind in RECORDS:
            link_or_copy(family.folder(size) / "records" / f"{kind}.json", folder / "records" / f"{kind}.json")
        for path in acceptance.further_speed_files(family, size):
            link_or_copy(path, folder / path.relative_to(family.folder(size)))
        if shown := beside.read(family, size, measured):
            for name, file in beside.files(family, shown).items():
                link_or_copy(file, folder / name)
        write_atomic(folder / "README.md", text)
        write_atomic(family.folder(size) / "collection.yaml", render.collection_text(family, size, measured))
    return model_repo(family, size)


def stage_dataset(family: Family) -> Path:
    """Put the mixture's shards, its manifest, its record and its card into `data/repo/`.

    Raises:
        ReleaseError: The mixture is missing, or a shard is not the one that its manifest names.
    """
    data, manifest = acceptance.data_records(family)
    mixture = family.build / "data/mixture"
    text = render.dataset_card(family, data, manifest)
    with atomic_directory(dataset_repo(family)) as folder:
        for name in list_files(mixture):
            shard = name.endswith(".parquet") and not name.startswith(".")
            if shard or name == "manifest.json":
                link_or_copy(mixture / name, folder / name)
        link_or_copy(family.build / "records/data.json", folder / "records/data.json")
        write_atomic(folder / "README.md", text)
    return dataset_repo(family)
