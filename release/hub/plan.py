"""What is on a Hub beside what should be: the steps between them. Nothing here writes; release/hub/publish.py carries steps out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from release import options
from release.card import render
from release.console import print_hint, say, table, wrapped
from release.errors import ReleaseError
from release.family import Family, load
from release.hub.state import (
    DesiredRepo,
    RemoteRepo,
    changed,
    connect,
    desired_repos,
    find_collection,
    given_endpoint,
    hub_errors,
    remote_repo,
)
from release.preflight.check import left_elsewhere, missing, to_run
from release.stages import STAGES


@dataclass(frozen=True)
class PlanStep:
    """One change on a Hub.

    Attributes:
        phase: `push` (before verification, private) or `finish` (after it).
        verb, target, detail: What is done, for people.
        repo: Whose change it is, None for the collection's.
        upload, delete: Files of the repository.
        commit: What is tagged, or what a push comes after; None for a repository that is still to be created.
    """

    phase: Literal["push", "finish"]
    verb: str
    target: str
    detail: str
    repo: DesiredRepo | None = field(default=None, repr=False)
    upload: tuple[str, ...] = field(default=(), repr=False)
    delete: tuple[str, ...] = field(default=(), repr=False)
    commit: str | None = field(default=None, repr=False)


def command(size: options.Size, family_file: options.Family = options.ETTIN) -> None:
    """Print which stages a release would run and what it would publish; nothing is run or written."""
    family = load(family_file)
    open_stages = to_run(family, size)
    rows = [
        [stage.name, "to run" if stage.name in open_stages else "done", stage.description]
        for stage in STAGES
        if stage.file(family.build, size)
    ]
    table(f"{family.model_id(size)}: stages", ["make", "state", "makes"], rows)
    for lack in missing(family, size, compare=False):
        print_hint(f"missing here: {lack.what}", lack.hint)
    left = [stage.name for stage in STAGES if stage.name in left_elsewhere(family, size) & open_stages]
    if not left and (family.folder(size) / "repo/README.md").is_file():
        show_diff(family, size)
        return
    print("would publish, private until verified, then tagged:")
    if family.data.mixture is None:
        say(f"  dataset {family.data_id}")
    say(f"  model {family.model_id(size)}")
    say(f"  collection {family.about.collection!r} of {family.about.organization}")
    say(f"their files are known once `make stage SIZE={size}` has run")
    if left:
        print_left(family, size, left)


def print_left(family: Family, size: str, left: list[str]) -> None:
    """What a release still needs, as the last lines: nothing has failed, so the exit status is 0."""
    what = f"SIZE={size} FAMILY={family.path}"
    first, *rest = left
    print(*wrapped(f"left for another machine, then for here: make {', make '.join(left)}"), sep="\n")
    machine = f"a machine with {family.speed.device}" if first == "speed" else "that machine"
    there = f"on {machine}, with a copy of {family.folder(size)}: make {first} {what}"
    here = f"then here, with what that made there: make release {what}"
    for line in (there, here) if rest else (there,):
        print(*wrapped(line, indent="  "), sep="\n")


def commit_title(repo: DesiredRepo) -> str:
    """What commits of a release are called, by which its repository is known again."""
    return f"Release {repo.tag}"


def show_diff(family: Family, size: str, endpoint: str | None = None) -> list[PlanStep]:
    """Print what is to be done on the given Hub, or on an empty one without any."""
    url = given_endpoint(endpoint)
    steps = diff(family, size, connect(url, write=False) if url else None)
    show(steps, url)
    return steps


def show(steps: list[PlanStep], endpoint: str | None) -> None:
    """Print steps."""
    say(f"Plan for {endpoint or 'an empty Hub (none was given)'}:" if steps else f"Nothing to do on {endpoint}.")
    for step in steps:
        print(*wrapped(f"{step.verb} {step.target}: {step.detail}", indent="  "), sep="\n")


def diff(family: Family, size: str, api: Any, *, replace: bool = False) -> list[PlanStep]:
    """Every step between what is on the Hub and the finished release, in order; as on an empty Hub if `api` is None.

    Raises:
        ReleaseError: The release is finished and would change, or the name belongs to something else.
    """
    push, public, tags = repo_steps(desired_repos(family, size), api, str(family.path), replace=replace)
    return [*push, *tags, *public, *_collection_steps(family, size, api)]


def repo_steps(
    repos: list[DesiredRepo], api: Any, source: str, *, replace: bool = False
) -> tuple[list[PlanStep], list[PlanStep], list[PlanStep]]:
    """What is to be pushed, made public and tagged of `repos`; `source` is where their names and version come from.

    What was verified is tagged while it is private, so that nothing is ever public and untagged. Models become public before
    their data, which is never public alone.

    Args:
        replace: Files that this project did not put there may be overwritten and deleted.

    Raises:
        ReleaseError: One is finished and would change, or the name belongs to something else.
    """
    pairs = [(repo, remote_repo(api, repo) if api else RemoteRepo()) for repo in repos]
    push = [step for repo, remote in pairs for step in _push_steps(api, repo, remote, source, replace)]
    public = [
        PlanStep("finish", "make public", repo.id, "after verification", repo)
        for repo, remote in reversed(pairs)
        if remote.private
    ]
    tags = [
        PlanStep("finish", "tag", repo.id, repo.tag, repo, commit=remote.commit)
        for repo, remote in pairs
        if not remote.tagged
    ]
    return push, public, tags


def _push_steps(api: Any, repo: DesiredRepo, remote: RemoteRepo, source: str, replace: bool) -> Iterable[PlanStep]:
    upload, delete = changed(repo, remote) if repo.folder.is_dir() else ([], [])
    if remote.moved:
        what = f"main of {repo.id} is not what is tagged {repo.tag}: {', '.join(remote.moved[:3])}"
        raise ReleaseError(what, where=str(api.endpoint), hint="bring main back to the tag, for people load main")
    if not replace and (foreign := _foreign(api, repo, remote, upload, delete)):
        what = f"{repo.id} holds what this project did not put there: {', '.join(foreign[:3])}"
        raise ReleaseError(what, where=str(api.endpoint), hint="choose another name, or make publish REPLACE=1")
    if remote.tagged and (upload or delete):
        hint = f"raise `version` in {source}; an embedded Hub can also be removed and begun anew"
        what = f"{repo.id} {repo.tag} is finished, and {', '.join((upload + delete)[:3])} would change"
        raise ReleaseError(what, where=str(repo.folder), hint=hint)
    if remote.exists and not remote.private and not remote.tagged and (upload or delete):
        what = f"{repo.id} is public already, and without the tag {repo.tag} it is no release of this project"
        raise ReleaseError(what, where=str(api.endpoint), hint=f"choose another name or version in {source}")
    if not remote.exists:
        yield PlanStep("push", "create", repo.id, f"{repo.type}, private", repo)
    if not repo.folder.is_dir():
        if not remote.tagged:
            yield PlanStep("push", "upload", repo.id, "not staged yet: make stage", repo)
    elif upload:
        size = sum((repo.folder / name).stat().st_size for name in upload)
        detail = f"{len(upload)} files of {size:,} bytes" + (f", delete {len(delete)}" if delete else "")
        yield PlanStep("push", "upload", repo.id, detail, repo, tuple(upload), tuple(delete), remote.commit)
    elif delete:
        yield PlanStep("push", "delete", repo.id, f"{len(delete)} files", repo, (), tuple(delete), remote.commit)


def _foreign(api: Any, repo: DesiredRepo, remote: RemoteRepo, upload: list[str], delete: list[str]) -> list[str]:
    """Files on a Hub that a push would delete, or overwrite though no release was ever pushed there."""
    overwritten = [name for name in upload if name in remote.files]
    if not remote.exists or remote.tagged or not (overwritten or delete):
        return []
    with hub_errors(api, f"look at the commits of {repo.id}"):
        titles = {commit.title for commit in api.list_repo_commits(repo.id, repo_type=repo.type)}
    return delete if commit_title(repo) in titles else delete + overwritten


def _collection_steps(family: Family, size: str, api: Any) -> Iterable[PlanStep]:
    """Steps that bring the family's collection to the staged title, description, items, notes and order."""
    content = staged_collection(family, size)
    if content is None:
        yield PlanStep("finish", "collect", family.about.collection, "not staged yet: make stage")
        return
    collection = find_collection(api, family) if api else None
    if collection is None:
        items = ", ".join(item["id"] for item in content["items"])
        yield PlanStep("finish", "create", content["title"], f"collection with {items}")
        return
    steps = [*_item_steps(content, collection)]
    if (collection.description or "") != content["description"]:
        steps.insert(0, PlanStep("finish", "describe", content["title"], content["description"]))
    if not steps and collection_order(family, collection) != [item.item_object_id for item in collection.items]:
        steps.append(PlanStep("finish", "order", content["title"], "items by size, the data last"))
    yield from steps


def _item_steps(content: dict[str, Any], collection: Any) -> Iterable[PlanStep]:
    present = {(item.item_type, item.item_id): item for item in collection.items}
    for item in content["items"]:
        known = present.get((item["type"], item["id"]))
        if known is None:
            yield PlanStep("finish", "collect", item["id"], f"in {content['title']}")
        elif (known.note or "") != item["note"]:
            yield PlanStep("finish", "note", item["id"], f"in {content['title']}")


def staged_collection(family: Family, size: str) -> dict[str, Any] | None:
    """Title, description and items of the collection as they are staged, None if they are not."""
    path = family.folder(size) / "collection.yaml"
    return render.collection(path.read_text(encoding="utf-8")) if path.is_file() else None


def collection_order(family: Family, collection: Any) -> list[str]:
    """Item ids in their order: models by size, then the data, then whatever people added."""
    known = [*(family.model_id(size) for size in family.sizes), family.data_id]
    rank = {name: position for position, name in enumerate(known)}
    return [
        item.item_object_id for item in sorted(collection.items, key=lambda item: rank.get(item.item_id, len(known)))
    ]
