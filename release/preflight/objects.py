"""Whether all that a family names can be fetched: the Hub is asked for its metadata, and nothing is fetched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

from release import hub_access
from release.errors import ReleaseError
from release.family import Family
from release.files import resource
from release.hub_access import Reason
from release.hub_objects import READERS, HubObject, tables_of
from release.preflight.lack import Lack
from release.spec import BeirSource, ConfigSpec, FileSource, MixtureSpec, RetrievalSource

THREADS, SECONDS = 16, 10  # questions at a time, and how long each may take
WEIGHTS = (".safetensors", ".bin", ".pt")


@dataclass
class Answers:
    """What the Hub said.

    Attributes:
        lacks: What is missing.
        fetched: Folder -> bytes that are still to be fetched into it, or made of what is fetched.
        encoder: Bytes of the encoder's weights, 0 where nobody says.
    """

    lacks: list[Lack] = field(default_factory=list)
    fetched: defaultdict[Path, float] = field(default_factory=lambda: defaultdict(float))
    encoder: float = 0.0


def ask(family: Family, objects: Sequence[HubObject], stages: set[str]) -> Answers:
    """Ask for every object that one of `stages` reads, all at once.

    What is the same for all of them (no network, a token that is not valid) is said once.
    """

    def question(each: HubObject) -> tuple[Reason | None, list[Lack], float]:
        return _ask(api, each, stages)

    api, answers = HfApi(), Answers()
    needed = [each for each in objects if each.read and _stage(each, stages)]
    with ThreadPoolExecutor(THREADS) as pool:
        replies = list(zip(needed, pool.map(question, needed), strict=True))
    for kind in ("token", "offline", "unreachable"):
        same = [(each, why) for each, (why, *_) in replies if why is not None and why.kind == kind]
        if same:
            names = list(dict.fromkeys(each.id for each, _ in same))
            first, reason = min((_order(_stage(each, stages)), why) for each, why in same)
            what = f"{reason.what}, and {len(same)} objects that the family names are not here: {_some(names)}"
            answers.lacks.append(Lack(what, reason.hint, first[1]))
    for each, (why, lacks, size) in replies:
        answers.lacks += lacks
        if why is not None and why.kind not in ("token", "offline", "unreachable"):
            answers.lacks.append(Lack(f"no {each.role} {each.id!r}: {why.what}", why.hint, _stage(each, stages)))
        folder = family.build if each.role == "source" else Path(constants.HF_HUB_CACHE)
        answers.fetched[folder] += 0 if is_cached(each) else size
        answers.encoder += size if each.role == "encoder" else 0
    return answers


def _order(stage: str) -> tuple[int, str]:
    known = [name for names in READERS.values() for name in names]
    return known.index(stage), stage


def _stage(each: HubObject, stages: set[str]) -> str:
    """The first of `stages` that reads the object; "" if none does."""
    return next((stage for stage in READERS[each.role] if stage in stages), "")


def _some(names: list[str], most: int = 3) -> str:
    """The first names, and how many others there are."""
    others = len(names) - most
    return ", ".join(names[:most]) + (f" and {others} more" if others > 0 else "")


def _ask(api: Any, each: HubObject, stages: set[str]) -> tuple[Reason | None, list[Lack], float]:
    """Why it cannot be fetched, which of its tables are missing, and the bytes that are to be fetched of it."""
    if is_cached(each):
        return None, [], _bytes_in(snapshot(each))
    try:
        for revision in each.revisions or (None,):
            info = api.repo_info(each.id, repo_type=each.type, revision=revision, timeout=SECONDS, files_metadata=True)
        if info.gated:
            api.auth_check(each.id, repo_type=each.type)
    except Exception as error:  # the client and the network have many
        if (why := hub_access.reason(error, each.id)) is None:
            raise
        if each.type == "dataset" and each.role != "source" and why.kind in ("offline", "unreachable"):
            why = None if _has_snapshot(each) else why
        return why, [], 0.0
    files = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    declared = _declared(info)
    lacks = [
        Lack(f"no {each.role} {each.id!r}: {what}", _table_hint(each, declared), _stage(each, stages))
        for table in each.tables
        if declared and (what := _missing_table(table, declared, files))
    ]
    return None, lacks[:3], _size(each, files, declared)


def is_cached(each: HubObject) -> bool:
    """Whether the revision of a model that is read is in the client's cache with its weights."""
    return each.type == "model" and _bytes_in(snapshot(each)) > 0


def snapshot(each: HubObject) -> Path | None:
    """The folder of the client's cache that holds the revision of a model that is read; None without one."""
    marks = (try_to_load_from_cache(each.id, name, revision=each.revision) for name in ("modules.json", "config.json"))
    return next((Path(path).parent for path in marks if isinstance(path, str)), None)


def _bytes_in(folder: Path | None) -> float:
    """Of the weights in a model's folder."""
    files = folder.rglob("*") if folder else ()
    return float(sum(file.stat().st_size for file in files if file.suffix in WEIGHTS))


def _has_snapshot(each: HubObject) -> bool:
    snapshots = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=each.id, repo_type=each.type), "snapshots")
    return any((snapshots / (each.revision or "*")).parent.glob(f"{each.revision or '*'}/*"))


# --- Tables of a data set ---------------------------------------------------------------------------------------------

Patterns = dict[str, dict[str, list[str]]]  # config -> split -> patterns of its files


def _declared(info: Any) -> Patterns:
    """The configs that a data set's card declares; empty where it leaves them to the names of its files."""
    card = getattr(info, "card_data", None)
    configs = card.to_dict().get("configs") if card is not None else None
    patterns: Patterns = {}
    for config in configs if isinstance(configs, list) else ():
        given = config.get("data_files") if isinstance(config, dict) else None
        if isinstance(given, str) or (isinstance(given, list) and all(isinstance(part, str) for part in given)):
            given = [{"split": "train", "path": given}]
        if not isinstance(given, list):
            return {}
        splits = patterns.setdefault(str(config.get("config_name", "default")), {})
        for part in given:
            paths = part.get("path", ())
            splits[str(part.get("split", "train"))] = [paths] if isinstance(paths, str) else list(paths)
    return patterns


def _missing_table(table: tuple[str, str], declared: Patterns, files: dict[str, int]) -> str | None:
    config, split = table
    if config not in declared:
        return f"it has no config {config!r}"
    if split not in declared[config]:
        return f"config {config!r} has no split {split!r}"
    patterns = declared[config][split]
    if not any(_fits(name, patterns) for name in files):
        return f"config {config!r} names the files {', '.join(patterns)}, and there are none"
    return None


def _fits(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _table_hint(each: HubObject, declared: Patterns) -> str:
    known = ", ".join(list(declared)[:12]) + (", ..." if len(declared) > 12 else "")
    where = {"source": "the declaration", "nano": "[evaluation] nano_sets"}.get(each.role, "the family file")
    return f"correct {where}; it has the configs {known}"


def _size(each: HubObject, files: dict[str, int], declared: Patterns) -> float:
    """Bytes that will be here: a model's weights, a benchmark, or the pairs and then the labelled mixture of a source.

    Of a source at least: candidates of retrieval, which are sampled, count nothing.
    """
    if each.type == "model":
        safe = sum(size for name, size in files.items() if name.endswith(".safetensors") and "/" not in name)
        return safe or sum(size for name, size in files.items() if name.endswith(WEIGHTS) and "/" not in name)
    if each.role != "source":
        return sum(files.values())
    total = 0.0
    for config in each.configs:
        if config.source.kind != "hf":
            continue
        for name, split in tables_of(config):
            patterns = declared.get(name, {}).get(split, [])
            size = sum(amount for file, amount in files.items() if _fits(file, patterns))
            share = min(1.0, config.cap.rows / config.rows) if config.cap and config.rows else 1.0
            total += 2 * size * share
    return total


# --- Folders of this machine ------------------------------------------------------------------------------------------


def local(family: Family, mixture: MixtureSpec, size: str, stages: set[str]) -> list[Lack]:
    """Sources in files that are not here, an encoder in a folder that holds none, and names of what nobody wrote."""
    lacks = []
    if "mix" in stages:
        if family.data.mixture is None and family.data.validation not in mixture.configs:
            hint = f"[data] validation names a config: {', '.join(mixture.configs)}"
            lacks.append(Lack(f"no config {family.data.validation!r} in {mixture.path}", hint, "mix"))
        for config in mixture.configs.values():
            if isinstance(config.source, FileSource | RetrievalSource | BeirSource) and not _is_here(config):
                what = f"no source {config.source.origin!r} of config {config.name}"
                lacks.append(Lack(what, f"correct source.path in {mixture.path}", "mix"))
    encoder = resource(family.size(size).encoder)
    if "train" in stages and encoder.is_dir() and not (encoder / "config.json").is_file():
        lacks.append(Lack(f"no encoder in {encoder}", "name a saved model's folder in [sizes]", "train"))
    for name in family.card.citations:
        if "card" in stages and not (file := resource(f"cards/citations/{name}.bib")).is_file():
            lacks.append(
                Lack(f"no citation {name!r}", f"[card] citations names files: add {file}, or correct it", "card")
            )
    return lacks


def _is_here(config: ConfigSpec) -> bool:
    path = config.source.origin
    return Path(path).exists() or any(
        Path().glob(path) if not Path(path).is_absolute() else Path("/").glob(path.lstrip("/"))
    )


def problem(error: ReleaseError, stage: str) -> Lack:
    """An error in what the family names, as something that is missing."""
    return Lack(error.what, error.hint or "", stage)
