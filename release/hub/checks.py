"""What must not be published: every problem of a staged folder at once, one line each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatch, fnmatchcase
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import RepoCard

from release import data_manifest, mode, options, records, results
from release.card import acceptance, render
from release.card.acceptance import CardRecords
from release.console import say
from release.errors import ReleaseError
from release.evaluation import queries
from release.export import checkpoint, graph, quantize
from release.family import Family, load
from release.files import list_files, sha256_file
from release.hub import formats, leaks, stage
from release.names import hub_licenses
from release.truth import arithmetic, declared, manifest, signing, together

MODEL_FILES = (  # of every released reranker, beside its records
    *("README.md", "config.json", "model.safetensors", "modules.json", "tokenizer.json", "tokenizer_config.json"),
    *("config_sentence_transformers.json", "1_Pooling/config.json", "onnx/model.onnx"),
    *(
        f"{module}/{name}"
        for module in ("2_Dense", "3_LayerNorm", "4_Dense")
        for name in ("config.json", "model.safetensors")
    ),
)
OWN = (manifest.FILE, manifest.FAMILY_FILE, "records/data.json")  # of every repository of a release
REQUIRED = {
    "model": (*MODEL_FILES, *OWN, stage.MIXTURE, *(f"records/{kind}.json" for kind in stage.RECORDS)),
    "dataset": ("README.md", data_manifest.NAME, "croissant.json", *OWN),
}
ALLOWED = {  # anything else, pickles above all, is refused
    "model": (
        *MODEL_FILES,  # by name: some reader would take another JSON file for settings, or weights for an adapter's
        "sentence_bert_config.json",
        manifest.FILE,
        "records/*.json",
        *signing.FILES,
        *(f"{file}{data}" for file in (graph.FILE, *quantize.FILES.values()) for data in ("", "_data")),
        "compare/*.png",
        ".eval_results/*.yaml",
    ),
    "dataset": ("README.md", "*.json", *signing.FILES, "*/*.parquet"),
}
NOT_ALLOWED = "not a kind of file that is published"
LINK = re.compile(r"\]\(([^)\s]+)\)")
HUB_CALL = re.compile(r"(?:CrossEncoder|from_pretrained|snapshot_download|load_dataset)\(\s*\"([^\"]+)\"")


def command(size: options.Size, family_file: options.Family = options.ETTIN) -> None:
    """Refuse staged folders that must not be published; every problem is a line."""
    lines = problems(load(family_file), size)
    for line in lines:
        say(line)
    if lines:
        raise ReleaseError(f"{len(lines)} problem(s) in what would be published", hint="fix them, then make stage")
    print("nothing wrong with the staged folders")


def raise_problems(family: Family, size: str) -> None:
    """Raise the first problem of the staged folders, if there is one.

    Raises:
        ReleaseError: It names the problem, and how many there are.
    """
    if lines := problems(family, size):
        raise ReleaseError(f"{len(lines)} problem(s), the first: {lines[0]}", hint="make stage names all of them")


def problems(family: Family, size: str) -> list[str]:
    """Every problem of the staged model, dataset and collection of one size."""
    model, dataset = stage.model_repo(family, size), stage.dataset_repo(family)
    lines = []
    try:
        measured = acceptance.card_records(family, size)
    except ReleaseError as error:
        measured = None
        lines.append(f"{family.folder(size)}: {error}")
    for kind, folder in (("dataset", dataset), ("model", model))[1 if family.data.mixture else 0 :]:
        if not folder.is_dir():
            lines.append(f"{folder}: not staged, make stage")
            continue
        lines += [f"{folder}/{line}" for line in folder_problems(folder, REQUIRED[kind], ALLOWED[kind])]
        lines += [f"{folder}/{line}" for line in _card(kind, folder, family, size)]
        lines += [f"{folder}/{line}" for line in rehearsed(folder)]
    if model.is_dir():
        sha256 = measured.run.model_sha256 if measured else records.model_hash(family.folder(size) / "model")
        lines += [f"{model}/{line}" for line in _records(model, family, size, sha256)]
        if all((model / name).is_file() for name in MODEL_FILES):  # what is missing was said above
            try:
                lines += [f"{model}/{line}" for line in checkpoint.problems(model)]
                trained = family.folder(size) / "model"
                lines += [f"{model}/{line}" for line in checkpoint.changes(trained, model)] if trained.is_dir() else []
            except ModuleNotFoundError:  # nothing is wrong with the files: the command line names the extra
                raise
            except Exception as error:  # tokenizers raises no other for a vocabulary that was edited
                lines.append(f"{model}: cannot be read ({' '.join(str(error).split())[:160]})")
    if dataset.is_dir() and not family.data.mixture:
        lines += [f"{dataset}/{line}" for line in shards(dataset)]
    lines += _collection(family.folder(size) / "collection.yaml")
    if measured:
        lines += untrue(family, size, measured)
        lines += [*_unbound(family, size, measured, lines)]
    return lines


def data_problems(family: Family) -> list[str]:
    """Every problem of the staged dataset alone."""
    folder = stage.dataset_repo(family)
    if not folder.is_dir():
        return [f"{folder}: not staged, make stage"]
    lines = [
        *folder_problems(folder, REQUIRED["dataset"], ALLOWED["dataset"]),
        *_card("dataset", folder, family, next(iter(family.sizes))),
        *rehearsed(folder),
        *shards(folder, texts=True),
        *data_untrue(family),
        *stage.differences(stage.dataset_contents(family), folder),
    ]
    return [f"{folder}/{line}" for line in dict.fromkeys(lines)]


def untrue(family: Family, size: str, measured: CardRecords) -> Iterator[str]:
    """Records that were edited, make no sense, contradict family or export, or whose figures the scores of queries do not give."""
    folder = family.folder(size)
    paths = [folder / f"records/{kind}.json" for kind in stage.RECORDS]
    for path in (*paths, *acceptance.further_speed_files(family, size), family.build / "records/data.json"):
        if not records.is_sealed(path):
            yield f"{path}: edited since it was measured, {records.remake_hint(path.stem)}"
    for lines in (
        arithmetic.problems(measured),
        together.problems(measured),
        declared.problems(family, size, measured),
    ):
        yield from (f"{folder}/{line}" for line in lines)
    try:
        scores = queries.read(folder / "records", measured.evaluate.measured)
    except ReleaseError as error:
        yield f"{folder}: {error}"
        return
    yield from (
        f"{folder}/records/evaluate.json: {line}" for line in queries.problems(measured.evaluate.measured, scores)
    )


def data_untrue(family: Family) -> Iterator[str]:
    """A record of the data that was edited, makes no sense, or contradicts the manifest or the family file."""
    path = family.build / "records/data.json"
    if not records.is_sealed(path):
        yield f"records/data.json: edited since it was measured, {records.remake_hint('data')}"
    record, named = acceptance.data_records(family)
    yield from together.of_data(record, named)
    yield from declared.of_data(family, record, named)


def _unbound(family: Family, size: str, measured: CardRecords, named: list[str]) -> Iterator[str]:
    """What is staged and is not, byte for byte, what family, records, export and templates give now, less what was named."""
    repos = (
        (stage.dataset_repo(family), lambda: stage.dataset_contents(family)),
        (stage.model_repo(family, size), lambda: stage.model_contents(family, size, measured)),
    )
    for folder, contents in repos:
        if not folder.is_dir():
            continue
        try:
            different = list(stage.differences(contents(), folder))
        except ReleaseError as error:
            yield f"{folder}: its sources cannot be read again: {error}"
            continue
        for line in different:
            if not any(each.startswith(f"{folder}/{line.split(': ')[0]}: ") for each in named):
                yield f"{folder}/{line}"
    path = family.folder(size) / "collection.yaml"
    if not any(each.startswith(f"{path}: ") for each in named):
        yield from (f"{path}: {line}" for line in collection_unbound(family, size, measured))


def collection_unbound(family: Family, size: str, measured: CardRecords) -> Iterator[str]:
    """Whether the staged collection is what family and records give now."""
    path = family.folder(size) / "collection.yaml"
    try:
        given = stage.collection_text(family, size, measured)
    except ReleaseError as error:
        yield f"its sources cannot be read again: {error}"
        return
    if not path.is_file():
        yield "not staged, make stage"
    elif path.read_bytes() != given.encode():
        yield "not what its sources give, make stage"


def is_allowed(name: str, allowed: Iterable[str]) -> bool:
    """Whether a file of this name is published, by patterns in which the case counts."""
    return any(fnmatchcase(name, pattern) for pattern in allowed)


def folder_problems(folder: Path, required: Iterable[str], allowed: Iterable[str]) -> Iterator[str]:
    """Files that are missing, not allowed, empty, or that hold a secret or a path of this machine."""
    names = list_files(folder)
    for name in required:
        if name not in names:
            yield f"{name}: required, and missing"
    for name in names:
        file = folder / name
        if not is_allowed(name, allowed):
            yield f"{name}: {NOT_ALLOWED}"
        elif file.stat().st_size == 0:
            yield f"{name}: empty"
        elif (form := formats.problem(file)) and not name.endswith(".parquet"):  # the manifest knows shards better
            yield f"{name}: {form}"
        elif not form:
            yield from (f"{name}: {line}" for line in leaks.in_file(file))


def _card(kind: str, folder: Path, family: Family, size: str) -> Iterator[str]:
    """Front matter that the Hub would refuse, and links or ids that lead nowhere."""
    readme = folder / "README.md"
    if not readme.is_file():
        return
    text = readme.read_text(encoding="utf-8")
    try:
        front, body = split_card(text)
    except ReleaseError as error:
        yield f"README.md: {error.what}"
        return
    yield from (f"README.md: {line}" for line in _front(kind, front, folder, family))
    yield from (f"README.md: {line}" for line in _links(body, folder, family, size))
    own = family.model_id(size) if kind == "model" else family.data_id
    for called in HUB_CALL.findall(body):
        if called != own:
            yield f"README.md: the usage loads {called}, this is {own}"


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """The front matter, as a mapping, and the body of a card.

    Raises:
        ReleaseError: There is none, or it is no YAML mapping.
    """
    if not text.startswith("---\n"):
        raise ReleaseError("no front matter between two lines of ---")
    try:
        card = RepoCard(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ReleaseError(f"front matter is no YAML ({' '.join(str(error).split())})") from error
    return card.data.to_dict(), card.text


def _front(kind: str, front: dict[str, Any], folder: Path, family: Family) -> Iterator[str]:
    if front.get("license") not in hub_licenses():
        yield f"licence {front.get('license')!r} is not one that the Hub knows"
    if front.get("license") == "other" and not (front.get("license_name") and front.get("license_link")):
        yield "licence `other` needs license_name and license_link"
    if not front.get("language"):
        yield "no language"
    if kind == "model":
        for key, value in {"pipeline_tag": "text-ranking", "library_name": "sentence-transformers"}.items():
            if front.get(key) != value:
                yield f"{key} is {front.get(key)!r}, it must be {value!r}"
        if front.get("datasets") != [family.data_id]:
            yield f"datasets is {front.get('datasets')!r}, it must name {family.data_id}"
        if not front.get("model-index"):
            yield "no model-index"
    for config in front.get("configs", []):
        for entry in config["data_files"]:
            if not any(fnmatch(name, entry["path"]) for name in list_files(folder)):
                yield f"config {config['config_name']}: no file matches {entry['path']}"


def _links(body: str, folder: Path, family: Family, size: str) -> Iterator[str]:
    """Links to files of the folder, and to repositories of the family (`/org/name`, `/datasets/org/name`)."""
    own = {f"/{family.model_id(size)}", f"/datasets/{family.data_id}", f"/{family.about.organization}"}
    for target in LINK.findall(re.sub(r"```.*?```", "", body, flags=re.DOTALL)):
        if target.startswith("/") and target not in own:
            yield f"a link to {target}, which is not of this family"
        elif not re.match(r"https?://|/|#", target) and not (folder / target).exists():
            yield f"a link to {target}, which is not in the folder"


def _records(folder: Path, family: Family, size: str, sha256: str) -> Iterator[str]:
    """Records that belong to another model (`sha256`), size or family."""
    for kind in stage.RECORDS:
        try:
            record = records.read(folder / "records", results.KINDS[kind], model_sha256=sha256)
        except ReleaseError as error:
            yield f"records/{kind}.json: {error.what}"
            continue
        if (record.family, record.size) != (family.about.name, size):
            yield f"records/{kind}.json: measured on {record.family} {record.size}"


def rehearsed(folder: Path) -> Iterator[str]:
    """Records of a rehearsal, unless this is one."""
    for path in sorted((folder / "records").glob("*.json")) if not mode.active() else []:
        with suppress(ValueError, AttributeError):  # no record: `folder_problems` says so
            if json.loads(path.read_bytes()).get("rehearsal"):
                yield f"records/{path.name}: measured in a rehearsal"


def shards(folder: Path, *, texts: bool = False) -> Iterator[str]:
    """Shards that are not what the manifest names; where each is, figures of the manifest that they do not give.

    Args:
        texts: Read the texts too, whose figures are their memory and the first row: some four minutes for 35 GB.
    """
    from release.data import labelled  # pyarrow, which a model does not need

    staged = data_manifest.find(folder)
    if staged is None:
        yield f"{data_manifest.NAME}: not readable"
        return
    try:
        wrong = [*_other_shards(folder, staged)]
        yield from wrong or [f"{data_manifest.NAME}: {line}" for line in labelled.problems(folder, staged, texts=texts)]
    except (KeyError, TypeError, AttributeError) as error:  # a manifest that somebody edited
        yield f"{data_manifest.NAME}: lacks what a manifest has ({type(error).__name__}: {error})"


def _other_shards(folder: Path, staged: dict[str, Any]) -> Iterator[str]:
    known = {name: shard["sha256"] for name, shard in data_manifest.shards(staged).items()}
    names = {name for name in list_files(folder) if name.endswith(".parquet")}
    for name in sorted(names | known.keys()):
        if name not in names or (folder / name).is_symlink() or known.get(name) != sha256_file(folder / name):
            yield f"{name}: not the shard that the manifest names, make score"
        elif form := formats.problem(folder / name):
            yield f"{name}: {form}"


def _collection(path: Path) -> Iterator[str]:
    """Texts that are longer than the Hub takes."""
    if not path.is_file():
        yield f"{path}: not staged, make stage"
        return
    try:
        content = render.collection(path.read_text(encoding="utf-8"))
        texts = {"title": content["title"], "description": content["description"]}
        texts |= {f"note of {item['id']}": item["note"] for item in content["items"]}
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:  # a file that somebody edited
        yield f"{path}: no collection ({type(error).__name__}), make stage"
        return
    for name, text in texts.items():
        limit = {"title": 60, "description": 150}.get(name, 500)
        yield from (f"{path}: the {name} {line}" for line in leaks.in_text(text))
        if len(text) > limit:
            yield f"{path}: the {name} has {len(text)} characters, the Hub takes {limit}"
