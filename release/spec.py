"""The declaration of a training mixture: datasets/*.yaml as frozen dataclasses, checked key by key without a network.

A config may name a template, whose keys it completes or overrides; `source` is merged key by key. null stands for
"unknown until fetched". datasets/README.md explains every key to people.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from yaml.constructor import ConstructorError

from release.errors import ReleaseError
from release.names import ConfigName, FileName, License, Line, MaybeLine, RepositoryId, SplitName, WebAddress
from release.schema import STRICT, MaybeRows, Pairs, Ranks, Rows, Seed, check_part, closest, parse, problem

HINT = "datasets/README.md explains every key"
NAMED = "a config is called as its key under configs: says"


# --- Where rows come from ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, config=STRICT)
class _Source:
    """What the kinds of sources share: how messages and the plan call them."""

    @property
    def label(self) -> str:
        """The source in a few words."""
        return " ".join(self._values)

    @property
    def origin(self) -> str:
        """Where it is: the repository or the path."""
        return self._values[0]

    @property
    def _values(self) -> list[str]:
        given = {name: value for name, value in asdict(self).items() if name != "revision" and value is not None}
        kind = given.pop("kind")
        return [*given.values()] or [kind]


@dataclass(frozen=True, config=STRICT)
class HubSource(_Source):
    """Parquet files of one config and split of a dataset on the Hub."""

    kind: Literal["hf"]
    repository: RepositoryId
    config: Line
    split: Line
    revision: Line | None = None


@dataclass(frozen=True, config=STRICT)
class HubRetrievalSource(_Source):
    """Documents, queries and scored candidates of one domain, in the configs `documents`, `queries` and `scores` on the Hub."""

    kind: Literal["hf-retrieval"]
    repository: RepositoryId
    domain: Line
    scores: Line
    revision: Line | None = None


@dataclass(frozen=True, config=STRICT)
class FileSource(_Source):
    """Parquet, CSV, TSV or JSONL files: `path` is a file, a folder or a glob."""

    kind: Literal["files"]
    path: Line
    revision: Line | None = None


@dataclass(frozen=True, config=STRICT)
class RetrievalSource(_Source):
    """The three tables of a retrieval source as local parquet: <path>/{documents,queries,<scores>}/<domain>[-NUMBER].parquet."""

    kind: Literal["retrieval"]
    path: Line
    domain: FileName
    scores: FileName
    revision: Line | None = None


@dataclass(frozen=True, config=STRICT)
class BeirSource(_Source):
    """A folder in BEIR's form; `split` names its judgements, such as `train`."""

    kind: Literal["beir"]
    path: Line
    split: FileName | None = None
    revision: Line | None = None


@dataclass(frozen=True, config=STRICT)
class DocstringSource(_Source):
    """Docstrings of the installed packages; their versions are the revision."""

    kind: Literal["docstrings"]
    revision: Line | None = None


SourceSpec = Annotated[
    HubSource | HubRetrievalSource | FileSource | RetrievalSource | BeirSource | DocstringSource,
    Field(discriminator="kind"),
]


# --- What becomes of them ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, config=STRICT)
class ColumnSpec:
    """The source's names of the three columns; `label` is null where the teacher gives it."""

    query: Line = "query"
    document: Line = "document"
    label: Line | None = None


@dataclass(frozen=True, config=STRICT)
class FilterSpec:
    """Columns that leave a row out: `drop` when true, `duplicate` when not null."""

    drop: Line | None = None
    duplicate: Line | None = None


@dataclass(frozen=True, config=STRICT)
class CapSpec:
    """At most `rows` rows: `draw` says `seeded` (uniformly at random) or `first`."""

    rows: Rows
    draw: Literal["seeded", "first"]


@dataclass(frozen=True, config=STRICT)
class HeldOutSpec:
    """The last `rows` rows go to `split` instead of `train`."""

    rows: Rows
    split: SplitName


@dataclass(frozen=True, config=STRICT)
class SamplingSpec:
    """How a query's candidates are sampled: to `candidates`, then to `keep` (see release/data/sampling.py).

    Of the second cut `head` are the best, and the others come from ranks `band` (first, end).
    """

    candidates: Pairs
    hardest: Ranks
    keep: Pairs
    head: Ranks
    band: tuple[Ranks, Ranks]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.band
        if self.head > self.keep or self.keep > self.candidates:
            what = f"head {self.head}, keep {self.keep} and candidates {self.candidates} do not ascend"
            raise problem(what, "head <= keep <= candidates")
        if not self.head <= low < high or high - low < self.keep - self.head:
            what = f"band {[low, high]} cannot give {self.keep - self.head} candidates below rank {self.head}"
            raise problem(what, "write band: [first rank, rank after the last]")
        return self


@dataclass(frozen=True, config=STRICT)
class CandidateSpec:
    """How a training query of the docstrings gets its documents: gold, `hard` from BM25's best `depth`, `random`."""

    queries: Rows
    documents: Rows
    hard: Ranks
    depth: Ranks
    random: Ranks

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.queries > self.documents or self.hard > self.depth:
            what = f"{self.queries} queries of {self.documents} documents, {self.hard} hard ones of {self.depth}"
            raise problem(what, "no more queries than documents, and hard <= depth")
        return self


@dataclass(frozen=True, config=STRICT)
class ConfigSpec:
    """One config of the dataset. `labels` is `source` (they come with the rows) or `teacher` (score.py makes them).

    `rows` is how many rows the published config is known to have, `queries` how many queries a retrieval source has. `overlaps`
    names benchmark tasks whose text has the same origin, null where nobody knows; the share of near-duplicates that was measured
    stands in the manifest.
    """

    name: ConfigName
    source: SourceSpec
    license: License
    license_link: WebAddress | None
    labels: Literal["source", "teacher"]
    rows: MaybeRows | None
    overlaps: tuple[Line, ...] | None
    license_note: MaybeLine = ""
    columns: ColumnSpec = field(default_factory=ColumnSpec)
    filters: FilterSpec = field(default_factory=FilterSpec)
    cap: CapSpec | None = None
    held_out: HeldOutSpec | None = None
    sampling: SamplingSpec | None = None
    candidates: CandidateSpec | None = None
    queries: Rows | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """What no annotation can say: keys that go together."""
        docstrings, tabular = self.source.kind == "docstrings", self.source.kind in ("hf", "files")
        if docstrings != (self.candidates is not None):
            raise problem("`candidates` and a source of kind 'docstrings' go together", "give both or neither")
        if (self.source.kind in ("hf-retrieval", "retrieval")) != (self.sampling is not None):
            raise problem("`sampling` and a retrieval source go together", "give both or neither")
        if self.queries and self.sampling is None:
            raise problem("`queries` is for a retrieval source, which has `sampling`", "remove it")
        if not tabular and (self.columns, self.filters) != (ColumnSpec(), FilterSpec()):
            raise problem(f"a source of kind {self.source.kind!r} has no columns to name", "remove columns and filters")
        if self.labels == "source" and tabular and self.columns.label is None:
            raise problem("labels come from the source, but no column is named", "add columns: {label: ...}")
        if self.labels == "source" and docstrings:
            raise problem("docstrings have no labels", "write labels: teacher")
        return self


@dataclass(frozen=True, config=STRICT)
class CollectionSpec:
    """An evaluation collection made from held-out docstrings."""

    name: FileName
    queries: Rows
    documents: Rows


@dataclass(frozen=True, config=STRICT)
class NanoSpec:
    """A NanoBEIR set made from training-side docstrings that no training pair contains; `name` is also its split."""

    name: SplitName
    queries: Rows
    documents: Rows
    candidates: Pairs


@dataclass(frozen=True, config=STRICT)
class EvaluationSpec:
    """The evaluation sets that are made together with the mixture."""

    collection: CollectionSpec
    nano: NanoSpec


@dataclass(frozen=True, config=STRICT)
class PublishedSpec:
    """The mixture that was published: `rows` of all splits `train`, `held_out` beside them.

    A mixture of another number of rows stops, or goes on where `otherwise` says so.
    """

    rows: Rows
    held_out: MaybeRows = 0
    otherwise: Literal["stop", "go on"] = "stop"


@dataclass(frozen=True, config=STRICT)
class NotesSpec:
    """What is known of how the published mixture was made, what is not, and what is assumed here instead: a sentence each."""

    known: tuple[Line, ...] = ()
    unknown: tuple[Line, ...] = ()
    assumed: tuple[Line, ...] = ()


@dataclass(frozen=True, config=STRICT)
class MixtureSpec:
    """One file under datasets/. `shard_rows` is the number of rows of a parquet shard."""

    path: Path
    name: FileName
    title: Line
    seed: Seed
    shard_rows: Annotated[int, Field(gt=0, le=10**8)]
    configs: dict[str, ConfigSpec]
    evaluation: EvaluationSpec | None = None
    published: PublishedSpec | None = None
    notes: NotesSpec = field(default_factory=NotesSpec)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.configs:
            raise problem("a mixture needs at least one config", "add one under configs:")
        if len({name.lower() for name in self.configs}) < len(self.configs):
            raise problem("two configs differ by upper and lower case only", "rename one: some disks take them for one")
        return self


# --- The file ---------------------------------------------------------------------------------------------------------


def load(path: Path) -> MixtureSpec:
    """Read and check a declaration; nothing is fetched.

    Raises:
        ReleaseError: The file is missing or no YAML, a config occurs twice, or a key is unknown, missing or wrong; the
            message names the config and the key.
    """
    if not path.is_file():
        raise ReleaseError(
            f"no declaration {path}", hint="[data] declaration in the family file names a file under datasets/"
        )
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        what = f"not a valid YAML file: {' '.join(str(error).split())[:300]}"
        raise ReleaseError(what, where=str(path), hint="correct that line") from error
    top = _mapping(raw, str(path))
    _given_by_place(top, "path", str(path), "the file is its own path")
    templates = _templates(top.pop("templates", {}), path)
    configs = _mapping(top.get("configs", {}), f"{path}, key configs")
    if configs:
        top["configs"] = {name: _merged(name, entry, templates, path) for name, entry in configs.items()}
    return parse(MixtureSpec, {**top, "path": str(path)}, str(path), hint=HINT)


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key that occurs twice, where YAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        what = f"expected keys and values, found {type(value).__name__}"
        raise ReleaseError(what, where=where, hint="indent the keys below it")
    if odd := [
        key for key in value if not isinstance(key, str)
    ]:  # YAML takes `no` for false, 010 for 8, 1_000 for 1000
        what = f"the key {odd[0]!r} is a {type(odd[0]).__name__}, not text"
        raise ReleaseError(what, where=where, hint="write names in quotes where YAML reads them as something else")
    return dict(value)


def _given_by_place(entry: dict[str, Any], key: str, where: str, hint: str) -> None:
    """Refuse a key whose value follows from where the entry stands: two configs with one name would be written over each other."""
    if key in entry:
        raise ReleaseError(f"unknown key {key!r}", where=where, hint=f"remove it: {hint}")


def _templates(raw: Any, path: Path) -> dict[str, dict[str, Any]]:
    """Every template, used or not, as far as it can be checked without the config that completes it."""
    templates = {}
    for name, template in _mapping(raw, f"{path}, key templates").items():
        where = f"{path}, key templates.{name}"
        templates[name] = entry = _mapping(template, where)
        _given_by_place(entry, "name", where, NAMED)
        entry["source"] = _mapping(entry.get("source", {}), f"{where}.source")
        check_part(ConfigSpec, entry, where, hint=HINT)
    return templates


def _merged(name: str, raw: Any, templates: dict[str, Any], path: Path) -> dict[str, Any]:
    """A config completed by its template, with its name."""
    where = f"{path}, key configs.{name}"
    entry = _mapping(raw, where)
    _given_by_place(entry, "name", where, NAMED)
    template = entry.pop("template", None)
    if template is None:
        return {"name": name, **entry}
    if not isinstance(template, str) or template not in templates:
        raise ReleaseError(f"unknown template {template!r}", where=where, hint=closest(str(template), templates))
    base = templates[template]
    source = {**base.get("source", {}), **_mapping(entry.get("source", {}), f"{where}.source")}
    return {"name": name, **base, **entry, "source": source}
