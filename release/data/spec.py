"""The declaration of a training mixture: datasets/*.yaml as frozen dataclasses, checked key by key without a network.

A config may name a template, whose keys it completes or overrides; `source` is merged key by key. null stands for
"unknown until fetched". datasets/README.md explains every key to people.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Hashable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import yaml

KINDS = {  # kind of source -> (required keys, further keys)
    "hf": ({"repository", "config", "split", "revision"}, set()),
    "hf-retrieval": ({"repository", "domain", "scores", "revision"}, set()),
    "files": ({"path"}, {"revision"}),
    "retrieval": ({"path", "domain", "scores"}, {"revision"}),
    "beir": ({"path"}, {"split", "revision"}),
    "docstrings": ({"revision"}, set()),
}


@dataclass(frozen=True)
class Source:
    """Where rows come from. Which keys a kind needs is said in `KINDS`; `path` is a file, a folder or a glob."""

    kind: str
    repository: str | None = None
    config: str | None = None
    split: str | None = None
    domain: str | None = None
    scores: str | None = None
    path: str | None = None
    revision: str | None = None

    @property
    def place(self) -> str:
        """The source in a few words, for messages and cards."""
        parts = [self.repository or self.path or self.kind, self.config or self.domain, self.split]
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Columns:
    """The source's names of the three columns; `label` is null where the teacher gives it."""

    query: str = "query"
    document: str = "document"
    label: str | None = None


@dataclass(frozen=True)
class Filters:
    """Columns that leave a row out: `drop` when true, `duplicate` when not null."""

    drop: str | None = None
    duplicate: str | None = None


@dataclass(frozen=True)
class Cap:
    """At most `rows` rows: `draw` says `seeded` (uniformly at random) or `first`."""

    rows: int
    draw: str


@dataclass(frozen=True)
class HeldOut:
    """The last `rows` rows go to `split` instead of `train`."""

    rows: int
    split: str


@dataclass(frozen=True)
class Sampling:
    """How a query's candidates are thinned: to `candidates`, then to `keep` (see release/data/sampling.py)."""

    candidates: int
    hardest: int
    keep: int
    head: int
    band: tuple[int, ...]


@dataclass(frozen=True)
class Candidates:
    """How a training query of the docstrings gets its documents: gold, `hard` from BM25's best `depth`, `random`."""

    queries: int
    documents: int
    hard: int
    depth: int
    random: int


@dataclass(frozen=True)
class Config:
    """One config of the dataset. `labels` is `source` (they come with the rows) or `teacher` (score.py makes them).

    `rows` is what upstream is known to give. `overlaps` names benchmark tasks whose text has the same origin, null where nobody
    knows; the share of near-duplicates that was measured stands in the manifest.
    """

    name: str
    source: Source
    license: str
    license_link: str | None
    labels: str
    rows: int | None
    overlaps: tuple[str, ...] | None
    license_note: str = ""
    columns: Columns = field(default_factory=Columns)
    filters: Filters = field(default_factory=Filters)
    cap: Cap | None = None
    held_out: HeldOut | None = None
    sampling: Sampling | None = None
    candidates: Candidates | None = None


@dataclass(frozen=True)
class Collection:
    """An evaluation collection made from held-out docstrings."""

    name: str
    queries: int
    documents: int


@dataclass(frozen=True)
class Nano:
    """A NanoBEIR set made from training-side docstrings that no training pair contains."""

    name: str
    queries: int
    documents: int
    candidates: int


@dataclass(frozen=True)
class Evaluation:
    """The evaluation sets that are made together with the mixture."""

    collection: Collection
    nano: Nano


@dataclass(frozen=True)
class Declaration:
    """One file under datasets/. `shard_rows` is the number of rows of a parquet shard."""

    path: Path
    name: str
    title: str
    seed: int
    shard_rows: int
    configs: dict[str, Config]
    evaluation: Evaluation | None = None


def load(path: Path) -> Declaration:
    """Read and check a declaration; nothing is fetched.

    Raises:
        ReleaseError: The file is missing or no YAML, a config occurs twice, or a key is unknown, missing or wrong; the
            message names the config and the key.
    """
    if not path.is_file():
        refuse(f"no declaration {path}", hint="[data] declaration in the family file names a file under datasets/")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        refuse(f"not a valid YAML file: {' '.join(str(error).split())}", where=str(path), hint="correct that line")
    top = _mapping(raw, str(path))
    templates = _mapping(top.pop("templates", {}), f"{path} templates")
    configs = {}
    for name, entry in _mapping(top.get("configs"), f"{path} configs").items():
        where = f"{path} config {name}"
        merged = _merged(_mapping(entry, where), templates, where)
        configs[name] = _consistent(_build(Config, {"name": name, **merged}, where), where)
    return _build(Declaration, top | {"configs": configs, "path": path}, str(path))


def refuse(what: str, *, where: str | None = None, hint: str) -> NoReturn:
    """Raise the project's error for people; imported late, so that recipes/ stands without release/."""
    from release.errors import ReleaseError

    raise ReleaseError(what, where=where, hint=hint)


class _Strict(yaml.SafeLoader):
    """A SafeLoader that refuses a key that occurs twice, where YAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(f"expected keys and values, found {type(value).__name__}", where=where, hint="indent the keys below it")
    return {str(key): entry for key, entry in value.items()}


def _merged(entry: dict[str, Any], templates: dict[str, Any], where: str) -> dict[str, Any]:
    name = entry.pop("template", None)
    if name is None:
        return entry
    if name not in templates:
        refuse(f"unknown template {name!r}", where=where, hint=f"templates: {', '.join(templates) or 'none declared'}")
    base = _mapping(templates[name], f"{where} template {name}")
    source = {**_mapping(base.get("source", {}), where), **_mapping(entry.get("source", {}), f"{where} source")}
    return base | entry | {"source": source}


def _build(kind: type, raw: Any, where: str) -> Any:
    """Build the dataclass `kind`; its annotations are the schema, a field without a default is a required key."""
    raw = _mapping(raw, where)
    hints = get_type_hints(kind)
    for key in raw:
        if key not in hints:
            close = difflib.get_close_matches(key, hints, n=1)
            refuse(
                f"unknown key {key!r}",
                where=where,
                hint=f"did you mean {close[0]!r}?" if close else f"known: {', '.join(sorted(hints))}",
            )
    for item in fields(kind):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in raw:
            refuse(f"missing key {item.name!r}", where=where, hint=f"add `{item.name}:` (null where it may be unknown)")
    return kind(**{key: _value(hints[key], value, f"{where}, key {key}") for key, value in raw.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Check one value against its annotation. Booleans are no integers here; a positive count must be positive."""
    options = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        origin = get_origin(option) or option
        if origin is dict and isinstance(value, dict):
            return value
        if origin is tuple and isinstance(value, list):
            return tuple(_value(get_args(option)[0], item, where) for item in value)
        if hasattr(origin, "__dataclass_fields__"):
            return value if isinstance(value, origin) else _build(origin, value, where)
        if origin is int and isinstance(value, int) and not isinstance(value, bool):
            if value < 0:
                refuse(f"expected a number from 0 on, found {value}", where=where, hint="correct it")
            return value
        if origin in (str, Path) and isinstance(value, origin):
            return value
    wanted = " or ".join(
        "null" if o is type(None) else getattr(get_origin(o) or o, "__name__", str(o)) for o in options
    )
    refuse(f"expected {wanted}, found {type(value).__name__} {value!r}", where=where, hint="correct it")


def _consistent(config: Config, where: str) -> Config:
    """What no annotation can say: keys that go together, and the few words that a value may be."""
    source, sampling = config.source, config.sampling
    _one_of(source.kind, set(KINDS), f"{where}, key source.kind")
    _one_of(config.labels, {"source", "teacher"}, f"{where}, key labels")
    required, further = KINDS[source.kind]
    given = {item.name for item in fields(source) if getattr(source, item.name) is not None} - {"kind"}
    for key in sorted(required - given - {"revision"}):
        refuse(f"missing key 'source.{key}'", where=where, hint=f"a source of kind {source.kind!r} needs it")
    for key in sorted(given - required - further):
        refuse(f"unknown key 'source.{key}'", where=where, hint=f"a source of kind {source.kind!r} has none")
    if not config.license.strip():
        refuse("empty licence", where=f"{where}, key license", hint="name it, or write `unknown`")
    if config.cap:
        _one_of(config.cap.draw, {"seeded", "first"}, f"{where}, key cap.draw")
    if (source.kind == "docstrings") != (config.candidates is not None):
        refuse("`candidates` and a source of kind 'docstrings' go together", where=where, hint="give both or neither")
    if (source.kind in ("hf-retrieval", "retrieval")) != (sampling is not None):
        refuse("`sampling` and a retrieval source go together", where=where, hint="give both or neither")
    if sampling:
        low, high = sampling.band if len(sampling.band) == 2 else (0, 0)
        if not sampling.head <= low < high or high - low < sampling.keep - sampling.head:
            refuse(
                f"band {list(sampling.band)} cannot give {sampling.keep - sampling.head} candidates below rank {sampling.head}",
                where=f"{where}, key sampling.band",
                hint="write band: [first rank, rank after the last]",
            )
    if config.labels == "source" and source.kind in ("hf", "files") and config.columns.label is None:
        refuse("labels come from the source, but no column is named", where=where, hint="add columns: {label: ...}")
    return config


def _one_of(value: str, known: set[str], where: str) -> None:
    if value not in known:
        close = difflib.get_close_matches(value, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(sorted(known))}"
        refuse(f"unknown value {value!r}", where=where, hint=hint)
