"""Everything that a family names on a Hub, as one list: preflight asks for it, and a rehearsal makes stand-ins of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from release.evaluation import forms
from release.family import Family
from release.files import resource
from release.spec import ConfigSpec, HubRetrievalSource, HubSource, MixtureSpec
from release.start_up import loading

Role = Literal["encoder", "teacher", "embedder", "compared", "nano", "task", "speed", "source", "mixture"]
READERS: dict[Role, tuple[str, ...]] = {  # the stages that read an object of a role, the first one first
    "source": ("mix",),
    "mixture": ("mix", "score"),
    "task": ("mix", "select", "evaluate"),
    "teacher": ("score", "evaluate"),
    "encoder": ("train",),
    "nano": ("train", "evaluate"),
    "embedder": ("select", "evaluate"),
    "speed": ("speed",),
    "compared": ("compare",),
}
NANO_CONFIGS = ("corpus", "queries", "qrels", "bm25")  # of NanoBEIR's form, each with a split for every set


@dataclass(frozen=True)
class HubObject:
    """A repository that a family names.

    Attributes:
        id, type: As the client takes them.
        role: What the family uses it for.
        revisions: The commits that are pinned, or a pull request; none where the newest commit is read.
        tables: (config, split) of a data set that are read; empty where nobody says.
        task: The mteb task whose data it is.
        configs: The configs of the mixture that come from it.
        read: Whether anything reads it: a compared model that cannot be run is only named.
    """

    id: str
    type: Literal["model", "dataset"]
    role: Role
    revisions: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    task: str = ""
    configs: tuple[ConfigSpec, ...] = ()
    read: bool = True

    @property
    def revision(self) -> str | None:
        """The one revision that is pinned; None where there is none, or several."""
        return self.revisions[0] if len(self.revisions) == 1 else None


def hub_objects(family: Family, mixture: MixtureSpec, sizes: Sequence[str]) -> list[HubObject]:
    """Every repository that a release of `sizes` and its comparison read; one with two roles stands here twice.

    What is in a folder of this machine is not on a Hub and not here.

    Raises:
        ReleaseError: mteb knows no task of that name.
    """
    data = _taken(family, mixture) if family.data.mixture else _sources(mixture)
    return [*_models(family, sizes), *_benchmarks(family), *data]


def _models(family: Family, sizes: Sequence[str]) -> Iterator[HubObject]:
    for size in sizes:
        if not resource(family.size(size).encoder).is_dir():
            yield HubObject(family.size(size).encoder, "model", "encoder")
    if family.teacher.kind == "cross-encoder" and not Path(family.teacher.model).is_dir():
        yield _reranker(family, family.teacher.model, "teacher")
    for name in family.evaluation.embedders:
        if "/" in name and name not in family.evaluation.packaged_embedders and not Path(name).is_dir():
            with loading():
                from release.evaluation import embedders  # mteb takes seconds
            commit = embedders.pinned(name, family.model(name))
            yield HubObject(name, "model", "embedder", (commit,) if commit else ())
    for name in family.evaluation.compared:
        yield _reranker(family, name, "compared")


def _reranker(family: Family, name: str, role: Role) -> HubObject:
    form, how = forms.documented(name), family.model(name)
    revision = how.revision or (form.revision if form else None)
    refused = form and form.refused and not how.remote_code
    return HubObject(name, "model", role, (revision,) if revision else (), read=not refused)


def _benchmarks(family: Family) -> Iterator[HubObject]:
    evaluation = family.evaluation
    if evaluation.nano.count("/") == 1 and not Path(evaluation.nano).is_dir():  # else mixing makes it in that folder
        tables = tuple((config, name) for config in NANO_CONFIGS for name in evaluation.nano_sets)
        yield HubObject(evaluation.nano, "dataset", "nano", tables=tables)
    for name in evaluation.tasks:
        yield _task(name)
    if "/" in family.speed.pairs:
        yield HubObject(family.speed.pairs, "dataset", "speed")


def _task(name: str) -> HubObject:
    with loading():
        from release.evaluation.tasks import known_task  # mteb takes seconds

    where = known_task(name).metadata.dataset
    return HubObject(str(where["path"]), "dataset", "task", (str(where["revision"]),), task=name)


def _taken(family: Family, mixture: MixtureSpec) -> Iterator[HubObject]:
    """A mixture that is taken as it is."""
    pinned = family.data.mixture_revision
    tables = tuple((name, "train") for name in mixture.configs)
    yield HubObject(str(family.data.mixture), "dataset", "mixture", (pinned,) if pinned else (), tables)


def _sources(mixture: MixtureSpec) -> Iterator[HubObject]:
    by_repository: dict[str, list[ConfigSpec]] = defaultdict(list)
    for config in mixture.configs.values():
        if isinstance(config.source, HubSource | HubRetrievalSource):
            by_repository[config.source.repository].append(config)
    for repository, configs in by_repository.items():
        pins = tuple(dict.fromkeys(config.source.revision for config in configs if config.source.revision))
        tables = dict.fromkeys(table for config in configs for table in tables_of(config))
        yield HubObject(repository, "dataset", "source", pins, tuple(tables), configs=tuple(configs))


def tables_of(config: ConfigSpec) -> list[tuple[str, str]]:
    """(config, split) of the data set on the Hub that a config of the mixture is read from."""
    match config.source:
        case HubSource() as source:
            return [(source.config, source.split)]
        case HubRetrievalSource() as source:
            return [(name, source.domain) for name in ("documents", "queries", source.scores)]
    return []
