"""What is on a Hub beside what should be: the steps between them. Nothing here writes; release/hub/publish.py carries steps out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from release import options
from release.card import render
from release.console import say, wrapped
from release.errors import ReleaseError
from release.family import Family
from release.hub import cards, data, pull_requests
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
from release.hub.steps import PlanStep, Ways
from release.hub_commits import has_ours


def show_diff(
    family: Family,
    size: str,
    endpoint: str | None = None,
    *,
    what: options.Whole = "release",
    replace: bool = False,
    pull: bool = False,
) -> list[PlanStep]:
    """Print what is to be done on the given Hub, or on an empty one without any."""
    url = given_endpoint(endpoint)
    if what == "card" and not url:
        raise ReleaseError("WHAT=card corrects what was released on a Hub, and none is named", hint="set HF_ENDPOINT")
    api = connect(url, write=False) if url else None
    steps = diff(family, size, api, what=what, replace=replace)
    if pull:
        steps = pull_requests.steps([step for step in steps if step.phase == "push"], api)
    show(steps, url)
    return steps


def show(steps: list[PlanStep], endpoint: str | None) -> None:
    """Print steps."""
    say(f"Plan for {endpoint or 'an empty Hub (none was given)'}:" if steps else f"Nothing to do on {endpoint}.")
    for step in steps:
        print(*wrapped(f"{step.verb} {step.target}: {step.detail}", indent="  "), sep="\n")
        print(*(f"    {line}" for line in step.shown), sep="\n", end="\n" if step.shown else "")


def diff(
    family: Family, size: str, api: Any, *, what: options.Whole = "release", replace: bool = False
) -> list[PlanStep]:
    """Every step between what is on the Hub and the finished release, in order; as on an empty Hub if `api` is None.

    Args:
        what: The whole release, or its cards alone.

    Raises:
        ReleaseError: The release is finished and would change, or the name belongs to something else.
    """
    public: list[PlanStep] = []
    if what == "card":
        push, tags = cards.steps(desired_repos(family, size), api, Ways.of(family), replace=replace)
    else:
        repos, _ = data.to_release(family, size, api)
        push, public, tags = repo_steps(repos, api, Ways.of(family), replace=replace)
    return [*push, *tags, *public, *_collection_steps(family, size, api)]


def repo_steps(
    repos: list[DesiredRepo], api: Any, ways: Ways, *, replace: bool = False
) -> tuple[list[PlanStep], list[PlanStep], list[PlanStep]]:
    """What is to be pushed, made public and tagged of `repos`.

    What was verified is tagged while it is private, so that nothing is ever public and untagged. Data become public before
    the models that they made: then whole, verified and tagged, as `make release-data` leaves them.

    Args:
        ways: How to go on where that is refused.
        replace: Files that this project did not put there may be overwritten and deleted.

    Raises:
        ReleaseError: One is finished and would change, or the name belongs to something else.
    """
    pairs = [(repo, remote_repo(api, repo) if api else RemoteRepo()) for repo in repos]
    push = [step for repo, remote in pairs for step in _push_steps(api, repo, remote, ways, replace)]
    public = [
        PlanStep("finish", "make public", repo.id, "after verification", repo)
        for repo, remote in pairs
        if remote.private
    ]
    tags = [
        PlanStep("finish", "tag", repo.id, repo.tag, repo, commit=remote.commit, tag=repo.tag)
        for repo, remote in pairs
        if not remote.tagged
    ]
    return push, public, tags


def _push_steps(api: Any, repo: DesiredRepo, remote: RemoteRepo, ways: Ways, replace: bool) -> Iterable[PlanStep]:
    upload, delete = changed(repo, remote) if repo.folder.is_dir() else ([], [])
    if remote.moved:
        what = f"main of {repo.id} is not what is tagged {remote.tag}: {', '.join(remote.moved[:3])}"
        card = ways.card if cards.CARD.issuperset(remote.moved) else None
        hint = ways.hint(
            card and f"{card} makes main a revision of the card", "bring main back to the tag, for people load main"
        )
        raise ReleaseError(what, where=str(api.endpoint), hint=hint)
    foreign = _foreign(api, repo, remote, upload, delete)
    if foreign and not replace:
        what = f"{repo.id} holds what a release of {repo.tag} did not put there: {', '.join(foreign[:3])}"
        raise ReleaseError(what, where=str(api.endpoint), hint=ways.hint(ways.replace, "choose another name"))
    if remote.tagged and (upload or delete):
        hint = ways.hint(ways.another, "remove an embedded Hub, which can be begun anew")
        if ways.card and cards.CARD.issuperset(upload + delete):
            hint = f"{ways.card} corrects the card alone"
        what = f"{repo.id} {repo.tag} is finished, and {', '.join((upload + delete)[:3])} would change"
        raise ReleaseError(what, where=str(repo.folder), hint=hint)
    if remote.exists and not remote.private and not remote.tagged and (upload or delete):
        yield from _taken_back(api, repo, cards.CARD.issuperset(upload + delete), ways, replace)
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


def _taken_back(api: Any, repo: DesiredRepo, card: bool, ways: Ways, replace: bool) -> Iterable[PlanStep]:
    """What to do with a repository that is public, was never finished, and would change."""
    if not _was_ours(api, repo):
        what = f"{repo.id} is public already, and without the tag {repo.tag} it is no release of this project"
        raise ReleaseError(what, where=str(api.endpoint), hint=ways.another)
    if not replace:
        what = f"{repo.id} is public, was never verified, and would change"
        hint = ways.hint(
            f"{ways.card} corrects the card alone" if card and ways.card else None,
            f"{ways.replace} makes it private again until it is verified" if ways.replace else ways.another,
        )
        raise ReleaseError(what, where=str(api.endpoint), hint=hint)
    yield PlanStep("push", "make private", repo.id, "until it is verified", repo)


def _foreign(api: Any, repo: DesiredRepo, remote: RemoteRepo, upload: list[str], delete: list[str]) -> list[str]:
    """Files on a Hub that a push would delete, or overwrite though no release was ever pushed there."""
    overwritten = [name for name in upload if name in remote.files]
    if not remote.exists or remote.tagged or not (overwritten or delete):
        return []
    return delete if _was_ours(api, repo) else delete + overwritten


def _was_ours(api: Any, repo: DesiredRepo) -> bool:
    """Whether any commit of a repository is called as a release calls its own."""
    with hub_errors(api, f"look at the commits of {repo.id}"):
        return has_ours(api, repo.id, repo.type, repo.tag)


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
