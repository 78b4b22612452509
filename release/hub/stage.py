"""The folders that the repositories on the Hub will hold, byte for byte the same from the same inputs."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path

from release import options
from release.card import acceptance, beside, croissant, eval_results, render
from release.console import say
from release.errors import ReleaseError
from release.evaluation import queries
from release.family import Family, load
from release.files import atomic_directory, copy_file, list_files, sha256_folder, write_atomic

Content = Path | str  # a file, or the text of one
RECORDS = (
    "run",
    "choice",
    "evaluate",
    "speed",
    "export",
    "engines",
)  # records/*.json of a model: where its card's numbers come from


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
    folder = write(model_contents(family, size), model_repo(family, size))
    write_atomic(family.folder(size) / "collection.yaml", collection_text(family, size))
    return folder


def stage_dataset(family: Family) -> Path:
    """Put the mixture's shards, its manifest, its record and its card into `data/repo/`.

    Raises:
        ReleaseError: The mixture is missing.
    """
    return write(dataset_contents(family), dataset_repo(family))


def model_contents(family: Family, size: str) -> dict[str, Content]:
    """What a model's repository holds, by name: files of the build folder, and texts that are rendered.

    Raises:
        ReleaseError: A record is missing or foreign, or `export/` is not what was compared with the trained model.
    """
    measured, folder = acceptance.card_records(family, size), family.folder(size)
    export = folder / "export"
    if not export.is_dir() or sha256_folder(export) != measured.export.measured.sha256:
        what = "the exported model is missing, or is not the one that was compared with the trained model"
        raise ReleaseError(what, where=str(export), hint="make export")
    contents: dict[str, Content] = {name: export / name for name in list_files(export)}
    contents |= {f"records/{kind}.json": folder / f"records/{kind}.json" for kind in RECORDS}
    contents[f"records/{queries.FILE}"] = folder / "records" / queries.FILE
    contents |= {path.relative_to(folder).as_posix(): path for path in acceptance.further_speed_files(family, size)}
    if shown := beside.read(family, size, measured):
        contents |= beside.files(family, size, shown)
    contents |= eval_results.files(family, size, measured.evaluate)
    return contents | {"README.md": render.model_card(family, size, measured)}


def dataset_contents(family: Family) -> dict[str, Content]:
    """What the dataset's repository holds, by name.

    Raises:
        ReleaseError: The mixture or its record is missing.
    """
    data, manifest = acceptance.data_records(family)
    mixture = family.mixture_folder
    shards = [name for name in list_files(mixture) if name.endswith(".parquet") and not name.startswith(".")]
    contents: dict[str, Content] = {name: mixture / name for name in (*shards, "manifest.json")}
    contents |= {"records/data.json": family.build / "records/data.json"}
    contents |= {croissant.FILE: croissant.text(family, data, manifest)}
    return contents | {"README.md": render.dataset_card(family, data, manifest)}


def collection_text(family: Family, size: str) -> str:
    """The collection as it is published with one size.

    Raises:
        ReleaseError: A record is missing or foreign.
    """
    return render.collection_text(family, size, acceptance.card_records(family, size))


def write(contents: dict[str, Content], folder: Path) -> Path:
    """Let `folder` hold exactly `contents`; nothing in it is shared with the files that they come from."""
    with atomic_directory(folder) as temporary:
        for name, content in contents.items():
            if isinstance(content, str):
                write_atomic(temporary / name, content)
            else:
                copy_file(content, temporary / name)
    return folder


def differences(contents: dict[str, Content], folder: Path) -> Iterator[str]:
    """How `folder` differs from what its sources give now, byte by byte: one line per file."""
    staged = list_files(folder)
    for name in sorted({*contents, *staged}):
        if name not in contents:
            yield f"{name}: nothing gives this file"
        elif name not in staged:
            yield f"{name}: required, and missing"
        elif not _same(contents[name], folder / name):
            yield f"{name}: not what its sources give, make stage"


def _same(content: Content, staged: Path) -> bool:
    if staged.is_symlink():
        return False
    if isinstance(content, str):
        return staged.read_bytes() == content.encode()
    filecmp.clear_cache()  # it goes by size and age, which an edit can leave as they were
    return not content.is_symlink() and content.is_file() and filecmp.cmp(content, staged, shallow=False)
