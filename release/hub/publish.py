"""What is on a Hub beside what should be: a plan, and the steps that carry it out. Only this module writes to a Hub.

A release is a dataset, a model and its place in the family's collection. Both repositories stay private until
`verify` has pulled them back; then they become public, join the collection, and last of all get the tag `<version>`
(the family's, such as v1, the same that ends the repository's name). The tag means finished: tagged content never
changes, and a correction is a new version. Every step looks first, so running again continues what was cut off.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from release import options
from release.card import render
from release.errors import ReleaseError
from release.family import Family, load
from release.hub import checks
from release.hub.state import (
    DesiredRepo,
    Endpoint,
    RemoteRepo,
    changed,
    connect,
    desired_repos,
    find_collection,
    given_endpoint,
    hub_errors,
    remote_repo,
)
from release.rehearsal import mode

if TYPE_CHECKING:
    from huggingface_hub import HfApi


COMMIT_BYTES = 2 * 10**9  # what a push that is cut off may have to send again


@dataclass(frozen=True)
class Step:
    """One change on a Hub: `phase` is `push` (before verification, private) or `finish` (after it)."""

    phase: Literal["push", "finish"]
    verb: str
    target: str
    detail: str
    run: Callable[[], object] = field(repr=False, compare=False)


def command(
    size: options.Size,
    family_file: options.Family = options.ETTIN,
    push: options.Push = False,
    endpoint: Endpoint = None,
) -> None:
    """Show what publishing would do; with `--push` and an endpoint, upload privately (verify makes it public)."""
    family = load(family_file)
    family.size(size)
    if push:
        publish(family, size, endpoint)
    else:
        show_plan(family, size, endpoint)


def show_plan(family: Family, size: str, endpoint: str | None = None) -> list[Step]:
    """Print what is to be done on the given Hub, or on an empty one without any; nothing is changed."""
    url = given_endpoint(endpoint)
    steps = plan(family, size, connect(url, write=False) if url else None)
    show(steps, url)
    return steps


def plan(family: Family, size: str, api: Any) -> list[Step]:
    """Every step between what is on the Hub and the finished release, in order; as on an empty Hub if `api` is None.

    Raises:
        ReleaseError: The release is finished and would change, or the name belongs to something else.
    """
    pairs = [(repo, remote_repo(api, repo) if api else RemoteRepo()) for repo in desired_repos(family, size)]
    push = [step for repo, remote in pairs for step in _push_steps(api, repo, remote, family)]
    finish = [step for repo, remote in pairs for step in _public_steps(api, repo, remote)]
    finish += collection_steps(family, size, api)
    finish += [
        Step("finish", "tag", repo.id, repo.tag, lambda repo=repo, remote=remote: _tag(api, repo, remote))
        for repo, remote in pairs
        if not remote.tagged
    ]
    return push + finish


def _push_steps(api: Any, repo: DesiredRepo, remote: RemoteRepo, family: Family) -> Iterable[Step]:
    upload, delete = changed(repo, remote) if repo.folder.is_dir() else ([], [])
    if remote.tagged and (upload or delete):
        hint = f"raise `version` in {family.path}; an embedded Hub can also be removed and begun anew"
        what = f"{repo.id} {repo.tag} is finished, and {', '.join((upload + delete)[:3])} would change"
        raise ReleaseError(what, where=str(repo.folder), hint=hint)
    if remote.exists and not remote.private and not remote.tagged and (upload or delete):
        what = f"{repo.id} is public already, and without the tag {repo.tag} it is no release of this project"
        raise ReleaseError(what, where=str(api.endpoint), hint=f"choose another name or version in {family.path}")
    if not remote.exists:
        yield Step("push", "create", repo.id, f"{repo.type}, private", lambda: _create(api, repo))
    if not repo.folder.is_dir():
        if not remote.tagged:
            yield Step("push", "upload", repo.id, "not staged yet: make stage", lambda: None)
    elif upload:
        size = sum((repo.folder / name).stat().st_size for name in upload)
        detail = f"{len(upload)} files of {size:,} bytes" + (f", delete {len(delete)}" if delete else "")
        yield Step("push", "upload", repo.id, detail, lambda: _upload(api, repo, upload, delete))
    elif delete:
        yield Step("push", "delete", repo.id, f"{len(delete)} files", lambda: _upload(api, repo, [], delete))


def _public_steps(api: Any, repo: DesiredRepo, remote: RemoteRepo) -> Iterable[Step]:
    if remote.private:
        run = lambda: api.update_repo_settings(repo.id, repo_type=repo.type, private=False)  # noqa: E731
        yield Step("finish", "make public", repo.id, "after verification", run)


def _create(api: HfApi, repo: DesiredRepo) -> None:
    api.create_repo(repo.id, repo_type=repo.type, private=True, exist_ok=True)


def _upload(api: HfApi, repo: DesiredRepo, upload: list[str], delete: list[str]) -> None:
    """Commit by commit, so that a push that was cut off goes on after the last whole commit, whatever the transport keeps."""
    parts = commits_of({name: (repo.folder / name).stat().st_size for name in upload}) or [[]]
    for part in parts:
        api.upload_folder(
            repo_id=repo.id,
            repo_type=repo.type,
            folder_path=repo.folder,
            commit_message=f"Release {repo.tag}",
            allow_patterns=[glob.escape(name) for name in part],
            delete_patterns=delete if delete and part is parts[-1] else None,
        )


def commits_of(sizes: dict[str, int]) -> list[list[str]]:
    """Files (name -> bytes) in runs of at most COMMIT_BYTES, or of one file that is larger; what describes them comes last."""
    parts: list[list[str]] = []
    left = 0
    for name in sorted(sizes, key=lambda name: (not name.endswith((".parquet", ".safetensors")), name)):
        if not parts or sizes[name] > left:
            parts.append([])
            left = COMMIT_BYTES
        parts[-1].append(name)
        left -= sizes[name]
    return parts


def _tag(api: HfApi, repo: DesiredRepo, remote: RemoteRepo) -> None:
    api.create_tag(repo.id, repo_type=repo.type, tag=repo.tag, revision=remote.commit, exist_ok=True)


def collection_steps(family: Family, size: str, api: Any) -> list[Step]:
    """Steps that bring the family's collection to the staged title, description, items, notes and order."""
    path = family.folder(size) / "collection.yaml"
    if not path.is_file():
        return [Step("finish", "collect", family.about.collection, "not staged yet: make stage", lambda: None)]
    content = render.collection(path.read_text(encoding="utf-8"))
    collection = find_collection(api, family) if api else None
    steps = []
    if collection is None:
        items = ", ".join(item["id"] for item in content["items"])
        steps.append(("create", content["title"], f"collection with {items}"))
    else:
        if (collection.description or "") != content["description"]:
            steps.append(("describe", content["title"], content["description"]))
        present = {(item.item_type, item.item_id): item for item in collection.items}
        for item in content["items"]:
            known = present.get((item["type"], item["id"]))
            if known is None:
                steps.append(("collect", item["id"], f"in {content['title']}"))
            elif (known.note or "") != item["note"]:
                steps.append(("note", item["id"], f"in {content['title']}"))
        if not steps and _order(family, collection) != [item.item_object_id for item in collection.items]:
            steps.append(("order", content["title"], "items by size, the data last"))
    return [Step("finish", *step, lambda: _collect(api, family, content)) for step in steps]


def _order(family: Family, collection: Any) -> list[str]:
    """Item ids in their order: models by size, then the data, then whatever people added."""
    known = [*(family.model_id(size) for size in family.sizes), family.data_id]
    rank = {name: position for position, name in enumerate(known)}
    return [
        item.item_object_id for item in sorted(collection.items, key=lambda item: rank.get(item.item_id, len(known)))
    ]


def _collect(api: HfApi, family: Family, content: dict[str, Any]) -> None:
    """Bring the whole collection up to date; doing it again changes nothing."""
    collection = find_collection(api, family)
    if collection is None:
        collection = api.create_collection(
            content["title"], namespace=family.about.organization, description=content["description"], exists_ok=True
        )
    if (collection.description or "") != content["description"]:
        api.update_collection_metadata(collection.slug, description=content["description"])
    for item in content["items"]:
        known = next(
            (each for each in collection.items if (each.item_type, each.item_id) == (item["type"], item["id"])), None
        )
        if known is None:
            api.add_collection_item(collection.slug, item["id"], item["type"], note=item["note"], exists_ok=True)
        elif (known.note or "") != item["note"]:
            api.update_collection_item(collection.slug, known.item_object_id, note=item["note"])
    collection = api.get_collection(collection.slug)
    present = [item.item_object_id for item in collection.items]
    for position, item in enumerate(_order(family, collection)):
        if present[position] != item:
            api.update_collection_item(collection.slug, item, position=position)
            present.remove(item)
            present.insert(position, item)


def show(steps: list[Step], endpoint: str | None) -> None:
    """Print a plan."""
    print(f"Plan for {endpoint or 'an empty Hub (none was given)'}:" if steps else f"Nothing to do on {endpoint}.")
    for step in steps:
        print(f"  {step.verb:<12} {step.target}: {step.detail}")


def publish(family: Family, size: str, endpoint: str | None) -> list[Step]:
    """Upload what is missing, privately. Returns the steps that were taken.

    Raises:
        ReleaseError: No endpoint or token, something wrong with the staged folders, a finished release that would
            change, or a Hub that fails; running it again continues.
    """
    api = connect(endpoint)
    mode.check_endpoint(str(api.endpoint), mode.active())
    if problems := checks.problems(family, size):
        raise ReleaseError(f"{len(problems)} problem(s), the first: {problems[0]}", hint="make check names all of them")
    steps = plan(family, size, api)
    show(steps, api.endpoint)
    return carry_out(api, [step for step in steps if step.phase == "push"])


def finish(family: Family, size: str, api: HfApi, commits: dict[str, str]) -> list[Step]:
    """Make public, collect and tag what was verified. Returns the steps that were taken.

    Args:
        commits: Repository id -> the commit that was pulled back and compared.

    Raises:
        ReleaseError: A repository moved since it was verified.
    """
    mode.check_endpoint(str(api.endpoint), mode.active())
    for repo in desired_repos(family, size):
        commit = remote_repo(api, repo).commit
        if commits.get(repo.id) != commit:
            what = f"{repo.id} is at {str(commit)[:12]}, not at the verified commit"
            raise ReleaseError(what, where=str(api.endpoint), hint="make publish, then make verify")
    steps = plan(family, size, api)
    if pending := [step for step in steps if step.phase == "push"]:
        raise ReleaseError(f"{pending[0].verb} {pending[0].target} is still to be done", hint="make publish")
    return carry_out(api, steps)


def carry_out(api: HfApi, steps: list[Step]) -> list[Step]:
    """Run steps in order, naming each."""
    for step in steps:
        print(f"{step.verb} {step.target}: {step.detail}", flush=True)
        with hub_errors(api, f"{step.verb} {step.target}"):
            step.run()
    return steps
