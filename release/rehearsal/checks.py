"""What a rehearsal must have brought about, held against the family: repositories, records, cards, data, collection, comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from huggingface_hub import HfApi

from release import data_manifest, mode, records, results
from release.card import comparison
from release.errors import ReleaseError
from release.evaluation import forms
from release.family import Family
from release.files import sha256_file
from release.hub import stage
from release.hub.checks import split_card
from release.localhub import fsck
from release.rehearsal.workspace import Workspace
from release.results.training import CheckpointChoice
from release.spec import MixtureSpec

WRITTEN = ("records/*.json", "README.md", "manifest.json", "*.parquet", "*.safetensors", "*.onnx")


def check(
    family: Family,
    sizes: Sequence[str],
    declaration: MixtureSpec,
    workspace: Workspace,
    api: HfApi,
    others: Collection[str] = (),
) -> None:
    """Hold everything that came out against the family.

    Args:
        others: Repositories that were on the Hub before, some of them in the family's own organisation.

    Raises:
        ReleaseError: Something differs; every difference is a line.
    """
    with contextlib.chdir(workspace.work):
        faults = [
            *_repositories(family, sizes, api),
            *_unexpected(family, sizes, api, others),
            *_collection(family, sizes, declaration, api),
            *_data(family, declaration),
            *(line for size in sizes for line in _model(family, size)),
            *_comparison(family, sizes),
            *_checkpoints(family, sizes),
            *fsck(workspace.hub).problems,
        ]
    if faults:
        lines = "".join(f"\n  - {line}" for line in faults)
        raise ReleaseError(f"{len(faults)} check(s) failed: the result is not what the family says:{lines}")


def published(family: Family, sizes: Sequence[str], api: HfApi) -> list[str]:
    """The family's repositories that are public on the Hub, in the order in which they are published."""
    desired = [(family.data_id, "dataset"), *((family.model_id(size), "model") for size in sizes)]
    return [name for name, kind in desired if api.repo_exists(name, repo_type=kind)]


def _repositories(family: Family, sizes: Sequence[str], api: HfApi) -> Iterator[str]:
    """Public, at the tag, with the files that are staged."""
    folders = {family.data_id: ("dataset", stage.dataset_repo(family))}
    folders |= {family.model_id(size): ("model", stage.model_repo(family, size)) for size in sizes}
    for name, (kind, folder) in folders.items():
        if not api.repo_exists(name, repo_type=kind):
            yield f"{name}: it is not on the Hub"
            continue
        info = api.repo_info(name, repo_type=kind, files_metadata=False)
        tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(name, repo_type=kind).tags}
        if info.private:
            yield f"{name}: it is private"
        if tags != {family.about.version: info.sha}:
            yield f"{name}: its tags are {tags}, and main is at {info.sha}"
        files = {file for file in api.list_repo_files(name, repo_type=kind) if file != ".gitattributes"}
        staged = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        yield from (f"{name}: {file} is on one side only" for file in sorted(files ^ staged))


def _unexpected(family: Family, sizes: Sequence[str], api: HfApi, others: Collection[str]) -> Iterator[str]:
    """Nothing else was made in the family's organisation."""
    owner = family.about.organization
    there = {info.id for info in (*api.list_models(author=owner), *api.list_datasets(author=owner))}
    yield from (f"{name}: it was not requested" for name in sorted(there - {*published(family, sizes, api), *others}))


def _collection(family: Family, sizes: Sequence[str], declaration: MixtureSpec, api: HfApi) -> Iterator[str]:
    """One collection of the family's title: models by size, then the data, each with a note."""
    matching = [
        each for each in api.list_collections(owner=family.about.organization) if each.title == family.about.collection
    ]
    if len(matching) != 1:
        yield f"{len(matching)} collections are called {family.about.collection!r}"
        return
    items = api.get_collection(matching[0].slug).items
    order = [family.model_id(size) for size in family.sizes if size in sizes] + [family.data_id]
    if [item.item_id for item in items] != order:
        yield f"the collection holds {[item.item_id for item in items]}, not {order}"
    yield from (f"{item.item_id}: no note in the collection" for item in items if not item.note)
    by_teacher = any(config.labels == "teacher" for config in declaration.configs.values())
    for item in items:
        if item.item_id == family.data_id and ("labelled by" in (item.note or "")) != by_teacher:
            yield f"{item.item_id}: the collection is wrong about who gave the labels: {item.note!r}"


def _data(family: Family, declaration: MixtureSpec) -> Iterator[str]:
    """Every config, with the rows that its cap and its held-out split leave it."""
    folder = stage.dataset_repo(family)
    staged = data_manifest.find(folder)
    if staged is None:
        yield f"{folder / data_manifest.NAME}: not staged"
        return
    configs = staged["configs"]
    if configs.keys() != declaration.configs.keys():
        yield f"the data has the configs {sorted(configs.keys() ^ declaration.configs.keys())} more or less than declared"
    for name in configs.keys() & declaration.configs.keys():
        config, entry = declaration.configs[name], configs[name]
        splits = {shard["split"] for shard in entry["shards"]}
        expected = {"train"} | ({config.held_out.split} if config.held_out else set())
        if splits != expected:
            yield f"{name}: it has the splits {sorted(splits)}, not {sorted(expected)}"
        total = data_manifest.rows(entry) + entry["quarantined"]
        unreadable = sum(count for reason, count in entry["dropped"].items() if reason.startswith("empty "))
        if config.cap and not config.cap.rows - unreadable <= total <= config.cap.rows:
            yield f"{name}: {total} rows under a cap of {config.cap.rows}"
        if config.filters.drop and not {"drop", "duplicate", "no text"} <= entry["dropped"].keys():
            yield f"{name}: only {sorted(entry['dropped'])} were left out"
    front, body = split_card((folder / "README.md").read_text(encoding="utf-8"))
    named = {entry["config_name"] for entry in front["configs"]} - {"default"}
    if named != configs.keys():
        yield f"the data's card names other configs: {sorted(named ^ configs.keys())}"
    if mode.BANNER not in body:
        yield "the data's card does not say that it is a rehearsal"
    yield from (
        f"{name}: the licence is still unknown" for name, entry in configs.items() if entry["license"] == "unknown"
    )
    by_source = {config.labels == "source" for config in declaration.configs.values()}
    for said, expected in (("came with the source and are its own claim", True), ("### The teacher", False)):
        if (said in body) != (expected in by_source):
            yield f"the data's card is wrong about who gave the labels: {said!r}"


def _model(family: Family, size: str) -> Iterator[str]:
    """Records of a rehearsal with every table, and a card that shows them."""
    folder = stage.model_repo(family, size)
    for kind in stage.RECORDS:
        try:
            record: Any = records.read(folder / "records", results.KINDS[kind])
        except ReleaseError as error:
            yield str(error)
            continue
        if not record.rehearsal:
            yield f"{size}: the record {kind!r} does not say that it is a rehearsal"
        yield from (f"{size}: {line}" for line in _RESULTS.get(kind, lambda *_: ())(family, record.measured))
    if not (folder / "README.md").is_file():
        return
    front, body = split_card((folder / "README.md").read_text(encoding="utf-8"))
    shown = front["model-index"][0]["results"]
    expected = len(_measured_on(family)) * len(family.evaluation.embedders)
    metrics = sum(len(result["metrics"]) for result in shown)
    if metrics != expected:
        yield f"{size}: its card has {metrics} results in model-index, not {expected}"
    if mode.BANNER not in body:
        yield f"{size}: its card does not say that it is a rehearsal"
    section = body.partition("## Beside other rerankers")[2].partition("\n## ")[0]
    names = (family.model_name(size), family.teacher.model, *family.evaluation.compared)
    yield from (f"{size}: its card does not compare it with {name}" for name in names if name not in section)
    if "compare/speed-light.png" not in section or not (folder / "compare/speed-light.png").is_file():
        yield f"{size}: its card shows no plot"


def _measured_on(family: Family) -> tuple[str, ...]:
    return family.evaluation.tasks + family.evaluation.collections


def _trained(family: Family, run: Any) -> Iterator[str]:
    least = min(2, family.training.evaluations)
    if len(run.checkpoints) < least or run.steps < least:
        yield f"{run.steps} steps with {len(run.checkpoints)} evaluations"


def _evaluated(family: Family, result: Any) -> Iterator[str]:
    expected = {(task, stage) for task in _measured_on(family) for stage in family.evaluation.embedders}
    for name, rows in (("model", result.tasks), ("teacher", result.teacher.tasks)):
        if {(row.task, row.first_stage) for row in rows} != expected:
            yield f"the {name} was measured on {len(rows)} of {len(expected)} tasks and first stages"
    if result.teacher.revision is None:
        yield "nothing says which revision of the teacher was measured"
    if set(result.nano.sets) != set(family.evaluation.nano_sets):
        yield f"{len(result.nano.sets)} nano sets were measured"
    if result.calibration is None:
        yield "no calibration, although there are held-out rows"


_RESULTS = {"run": _trained, "evaluate": _evaluated}


def _comparison(family: Family, sizes: Sequence[str]) -> Iterator[str]:
    """Every size, the teacher and every compared reranker that can be run."""
    try:
        gathered = comparison.gather(family)
    except ReleaseError as error:
        yield str(error)
        return
    untimed = set() if family.teacher.kind == "cross-encoder" else {comparison.TEACHER}
    shown = {each.name for each in gathered.models if each.means and (each.pairs_per_second or each.role in untimed)}
    shown |= set(filter(_is_refused, family.evaluation.compared))
    page = family.build / "compare/index.html"
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    expected = {*map(family.model_name, sizes), family.teacher.model, *family.evaluation.compared}
    yield from (f"the comparison lacks {name}" for name in sorted(expected - shown))
    yield from (f"the family's page lacks {name}" for name in sorted(expected) if name not in text)
    for line in gathered.left_out:
        if not _is_refused(line.split()[0]):
            yield f"left out of the comparison: {line}"


def _is_refused(name: str) -> bool:
    """Whether a compared model is documented as one that is not run."""
    form = forms.documented(name)
    return bool(form and form.refused)


def _checkpoints(family: Family, sizes: Sequence[str]) -> Iterator[str]:
    """Where the best checkpoint was not the last one, both were measured, and the better one is released."""
    for size in sizes:
        choice = _choice(family, size)
        if choice is None or choice.candidates.best.step == choice.candidates.last.step:
            continue
        best, last = choice.candidates.best.reranked_ndcg, choice.candidates.last.reranked_ndcg
        if best is None or last is None:
            yield f"{size}: a checkpoint was chosen without measuring both"
        elif choice.released != ("best" if best >= last else "last"):
            yield f"{size}: the {choice.released} checkpoint is released, with {best} for the best and {last} for the last one"


def not_rehearsed(family: Family, sizes: Sequence[str], workspace: Workspace, most: int | None = None) -> list[str]:
    """What a release does and this rehearsal did not: the depth of large encoders, and what random weights decided by chance.

    Args:
        most: As in models.shape.
    """
    from release.rehearsal.models import shape  # torch takes seconds to import

    with contextlib.chdir(workspace.work):
        choices = [choice for size in sizes if (choice := _choice(family, size))]
    chosen = [each for each in choices if each.candidates.best.step != each.candidates.last.step]
    lines = [] if chosen else ["a choice between two checkpoints: the best one was the last one of every size"]
    for size in sizes:
        of_all, had = (shape(family.size(size).encoder, limit)["num_hidden_layers"] for limit in (None, most))
        if had < of_all:
            lines.append(f"the depth of {size}: its encoder had {had} of {of_all} layers, and every width in full")
    return lines


def _choice(family: Family, size: str) -> CheckpointChoice | None:
    """The record of a size's checkpoints, None where it has none yet."""
    try:
        return records.read(family.folder(size) / "records", results.CHOICE).measured
    except ReleaseError:
        return None


def state_of(workspace: Workspace) -> dict[str, str]:
    """The hash of every file that a stage writes."""
    build = workspace.work / "build"
    paths = sorted({path for pattern in WRITTEN for path in build.rglob(pattern) if path.is_file()})
    return {path.relative_to(build).as_posix(): sha256_file(path) for path in paths}


def unchanged(before: dict[str, str], after: dict[str, str]) -> None:
    """Refuse a second run that made anything again.

    Raises:
        ReleaseError: A file differs; up to three are named.
    """
    differ = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if differ:
        what = f"{len(differ)} file(s) changed although nothing was to be done: {', '.join(differ[:3])}"
        raise ReleaseError(what, hint="a stage that is done must not run again")
