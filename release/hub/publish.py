"""The steps of a plan, carried out. Only this module writes to a Hub.

A release is a dataset, a model and its place in the family's collection. Both repositories stay private until
`verify` has pulled them back; then they become public, join the collection, and last of all get the tag `<version>`
(the family's, such as v1, the same that ends the repository's name). The tag means finished: tagged content never
changes, and a correction is a new version. Every step looks first, so running again continues what was cut off.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from release import mode, options
from release.errors import ReleaseError
from release.family import Family, load
from release.hub import checks, plan
from release.hub.plan import Step
from release.hub.state import DesiredRepo, Endpoint, connect, desired_repos, find_collection, hub_errors, remote_repo

if TYPE_CHECKING:
    from huggingface_hub import HfApi


COMMIT_BYTES = 2 * 10**9  # what a push that is cut off may have to send again


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
        plan.show_diff(family, size, endpoint)


def publish(family: Family, size: str, endpoint: str | None) -> list[Step]:
    """Upload what is missing, privately. Returns the steps that were taken.

    Raises:
        ReleaseError: No endpoint or token, something wrong with the staged folders, a finished release that would
            change, or a Hub that fails; running it again continues.
    """
    api = connect(endpoint)
    mode.check_endpoint(str(api.endpoint), mode.active())
    checks.refuse_problems(family, size)
    steps = plan.diff(family, size, api)
    plan.show(steps, api.endpoint)
    return carry_out(api, [step for step in steps if step.phase == "push"])


def finish(family: Family, size: str, api: HfApi, commits: dict[str, str]) -> list[Step]:
    """Make public, collect and tag what was verified. Returns the steps that were taken.

    Args:
        commits: Repository id -> the commit that was pulled back and compared.

    Raises:
        ReleaseError: A repository moved since it was verified.
    """
    mode.check_endpoint(str(api.endpoint), mode.active())
    for line in checks.collection_unbound(family, size):
        raise ReleaseError(f"the collection is {line}", where=str(family.folder(size) / "collection.yaml"))
    check_commits(desired_repos(family, size), api, commits)
    steps = plan.diff(family, size, api)
    if pending := [step for step in steps if step.phase == "push"]:
        raise ReleaseError(f"{pending[0].verb} {pending[0].target} is still to be done", hint="make publish")
    content = plan.staged_collection(family, size)
    return carry_out(api, steps, lambda: _collect(api, family, content) if content else None)


def check_commits(repos: list[DesiredRepo], api: HfApi, commits: dict[str, str]) -> None:
    """Refuse to finish a repository that is not at the commit that was pulled back and compared.

    Raises:
        ReleaseError: It moved since.
    """
    for repo in repos:
        commit = remote_repo(api, repo).commit
        if commits.get(repo.id) != commit:
            what = f"{repo.id} is at {str(commit)[:12]}, not at the verified commit"
            raise ReleaseError(what, where=str(api.endpoint), hint="make publish, then make verify")


def carry_out(api: HfApi, steps: list[Step], collect: Callable[[], None] = lambda: None) -> list[Step]:
    """Take steps in their order, naming each; `collect` brings the collection up to date, where there is one."""
    for step in steps:
        print(f"{step.verb} {step.target}: {step.detail}", flush=True)
        with hub_errors(api, f"{step.verb} {step.target}"):
            if step.repo is not None:
                _change_repo(api, step, step.repo)
            else:
                collect()
    return steps


def _change_repo(api: HfApi, step: Step, repo: DesiredRepo) -> None:
    match step.verb:
        case "create":
            api.create_repo(repo.id, repo_type=repo.type, private=True, exist_ok=True)
        case "upload" | "delete":
            _upload(api, repo, step.upload, step.delete)
        case "make public":
            api.update_repo_settings(repo.id, repo_type=repo.type, private=False)
        case "tag":
            api.create_tag(repo.id, repo_type=repo.type, tag=repo.tag, revision=step.commit, exist_ok=True)
        case _:
            raise ValueError(step.verb)


def _upload(api: HfApi, repo: DesiredRepo, upload: Sequence[str], delete: Sequence[str]) -> None:
    """Commit by commit, so that a push that was cut off goes on after the last whole commit, whatever the transport keeps."""
    parts = commits_of({name: (repo.folder / name).stat().st_size for name in upload}) or [[]]
    for part in parts:
        api.upload_folder(
            repo_id=repo.id,
            repo_type=repo.type,
            folder_path=repo.folder,
            commit_message=f"Release {repo.tag}",
            allow_patterns=[glob.escape(name) for name in part],
            delete_patterns=list(delete) if delete and part is parts[-1] else None,
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
    for position, item in enumerate(plan.collection_order(family, collection)):
        if present[position] != item:
            api.update_collection_item(collection.slug, item, position=position)
            present.remove(item)
            present.insert(position, item)
