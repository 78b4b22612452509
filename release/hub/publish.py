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
    Actual,
    Endpoint,
    Wanted,
    actual,
    changed,
    connect,
    find_collection,
    hub_errors,
    named,
    wanted,
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
    family: options.Family = options.ETTIN,
    push: options.Push = False,
    endpoint: Endpoint = None,
) -> None:
    """Show what publishing would do; with `--push` and an endpoint, upload privately (verify makes it public)."""
    facts = load(family)
    facts.size(size)
    if push:
        publish(facts, size, endpoint)
    else:
        show_plan(facts, size, endpoint)


def show_plan(family: Family, size: str, endpoint: str | None = None) -> list[Step]:
    """Print what is to be done on the named Hub, or on an empty one if none is named; nothing is changed."""
    url = named(endpoint)
    steps = plan(family, size, connect(url, write=False) if url else None)
    show(steps, url)
    return steps


def plan(family: Family, size: str, api: Any) -> list[Step]:
    """Every step between what is on the Hub and the finished release, in order; as on an empty Hub if `api` is None.

    Raises:
        ReleaseError: The release is finished and would change, or the name belongs to something else.
    """
    repos = [repo for repo in wanted(family, size)]
    found = [actual(api, repo) if api else Actual() for repo in repos]
    push = [step for repo, state in zip(repos, found, strict=True) for step in _push_steps(api, repo, state, family)]
    finish = [step for repo, state in zip(repos, found, strict=True) for step in _public_steps(api, repo, state)]
    finish += collection_steps(family, size, api)
    finish += [
        Step("finish", "tag", repo.id, repo.tag, lambda repo=repo, state=state: _tag(api, repo, state))
        for repo, state in zip(repos, found, strict=True)
        if not state.tagged
    ]
    return push + finish


def _push_steps(api: Any, repo: Wanted, found: Actual, family: Family) -> Iterable[Step]:
    upload, delete = changed(repo, found) if repo.folder.is_dir() else ([], [])
    if found.tagged and (upload or delete):
        hint = f"raise `version` in {family.path}; an embedded Hub can also be removed and begun anew"
        what = f"{repo.id} {repo.tag} is finished, and {', '.join((upload + delete)[:3])} would change"
        raise ReleaseError(what, where=str(repo.folder), hint=hint)
    if found.exists and not found.private and not found.tagged and (upload or delete):
        what = f"{repo.id} is public already, and without the tag {repo.tag} it is no release of this project"
        raise ReleaseError(what, where=str(api.endpoint), hint=f"choose another name or version in {family.path}")
    if not found.exists:
        yield Step("push", "create", repo.id, f"{repo.type}, private", lambda: _create(api, repo))
    if not repo.folder.is_dir():
        if not found.tagged:
            yield Step("push", "upload", repo.id, "not staged yet: make stage", lambda: None)
    elif upload:
        size = sum((repo.folder / name).stat().st_size for name in upload)
        detail = f"{len(upload)} files of {size:,} bytes" + (f", delete {len(delete)}" if delete else "")
        yield Step("push", "upload", repo.id, detail, lambda: _upload(api, repo, upload, delete))
    elif delete:
        yield Step("push", "delete", repo.id, f"{len(delete)} files", lambda: _upload(api, repo, [], delete))


def _public_steps(api: Any, repo: Wanted, found: Actual) -> Iterable[Step]:
    if found.private:
        run = lambda: api.update_repo_settings(repo.id, repo_type=repo.type, private=False)  # noqa: E731
        yield Step("finish", "make public", repo.id, "after verification", run)


def _create(api: HfApi, repo: Wanted) -> None:
    api.create_repo(repo.id, repo_type=repo.type, private=True, exist_ok=True)


def _upload(api: HfApi, repo: Wanted, upload: list[str], delete: list[str]) -> None:
    """Commit by commit, so that a push that was cut off goes on behind the last whole commit, whatever the transport keeps."""
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
    room = 0
    for name in sorted(sizes, key=lambda name: (not name.endswith((".parquet", ".safetensors")), name)):
        if not parts or sizes[name] > room:
            parts.append([])
            room = COMMIT_BYTES
        parts[-1].append(name)
        room -= sizes[name]
    return parts


def _tag(api: HfApi, repo: Wanted, found: Actual) -> None:
    api.create_tag(repo.id, repo_type=repo.type, tag=repo.tag, revision=found.commit, exist_ok=True)


def collection_steps(family: Family, size: str, api: Any) -> list[Step]:
    """Steps that bring the family's collection to the staged title, description, items, notes and order."""
    path = family.folder(size) / "collection.yaml"
    if not path.is_file():
        return [Step("finish", "collect", family.about.collection, "not staged yet: make stage", lambda: None)]
    content = render.collection(path.read_text(encoding="utf-8"))
    found = find_collection(api, family) if api else None
    steps = []
    if found is None:
        items = ", ".join(item["id"] for item in content["items"])
        steps.append(("create", content["title"], f"collection with {items}"))
    else:
        if (found.description or "") != content["description"]:
            steps.append(("describe", content["title"], content["description"]))
        present = {(item.item_type, item.item_id): item for item in found.items}
        for item in content["items"]:
            known = present.get((item["type"], item["id"]))
            if known is None:
                steps.append(("collect", item["id"], f"in {content['title']}"))
            elif (known.note or "") != item["note"]:
                steps.append(("note", item["id"], f"in {content['title']}"))
        if not steps and _order(family, found) != [item.item_object_id for item in found.items]:
            steps.append(("order", content["title"], "items by size, the data last"))
    return [Step("finish", *step, lambda: _collect(api, family, content)) for step in steps]


def _order(family: Family, found: Any) -> list[str]:
    """Item ids as they should stand: models by size, then the data, then whatever people added."""
    known = [*(family.model_id(size) for size in family.sizes), family.data_id]
    rank = {name: place for place, name in enumerate(known)}
    return [item.item_object_id for item in sorted(found.items, key=lambda item: rank.get(item.item_id, len(known)))]


def _collect(api: HfApi, family: Family, content: dict[str, Any]) -> None:
    """Bring the whole collection up to date; doing it again changes nothing."""
    found = find_collection(api, family)
    if found is None:
        found = api.create_collection(
            content["title"], namespace=family.about.organization, description=content["description"], exists_ok=True
        )
    if (found.description or "") != content["description"]:
        api.update_collection_metadata(found.slug, description=content["description"])
    for item in content["items"]:
        known = next(
            (each for each in found.items if (each.item_type, each.item_id) == (item["type"], item["id"])), None
        )
        if known is None:
            api.add_collection_item(found.slug, item["id"], item["type"], note=item["note"], exists_ok=True)
        elif (known.note or "") != item["note"]:
            api.update_collection_item(found.slug, known.item_object_id, note=item["note"])
    found = api.get_collection(found.slug)
    present = [item.item_object_id for item in found.items]
    for position, item in enumerate(_order(family, found)):
        if present[position] != item:
            api.update_collection_item(found.slug, item, position=position)
            present.remove(item)
            present.insert(position, item)


def show(steps: list[Step], endpoint: str | None) -> None:
    """Print a plan."""
    print(f"Plan for {endpoint or 'an empty Hub (none was named)'}:" if steps else f"Nothing to do on {endpoint}.")
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
    if found := checks.problems(family, size):
        raise ReleaseError(f"{len(found)} problem(s), the first: {found[0]}", hint="make check names all of them")
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
    for repo in wanted(family, size):
        commit = actual(api, repo).commit
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
