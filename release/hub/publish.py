"""The steps of a plan, carried out. Only this module writes to a Hub.

A release is a dataset, a model and its place in the family's collection. Both repositories stay private until
`verify` has pulled them back; then they get the tag `<version>` (the family's, such as v1, the same that ends the
repository's name), become public and join the collection. The tag means finished: tagged content never
changes, and a correction is a new version. Every step looks first, so running again continues what was cut off.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from typing import Annotated, Any

import typer
from huggingface_hub import HfApi

from release import mode, options
from release.console import say
from release.errors import ReleaseError
from release.family import Family, load
from release.hub import checks, patience, plan
from release.hub.plan import PlanStep
from release.hub.state import (
    DesiredRepo,
    Endpoint,
    changed,
    connect,
    desired_repos,
    find_collection,
    hub_errors,
    remote_repo,
)

COMMIT_BYTES = 2 * 10**9  # what a push that is cut off may have to send again


def command(
    size: options.Size,
    family_file: options.Family = options.ETTIN,
    push: options.Push = False,
    endpoint: Endpoint = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite and delete what somebody else put there.")
    ] = False,
) -> None:
    """Show what publishing would do; with `--push` and an endpoint, upload privately (verify makes it public)."""
    family = load(family_file)
    family.size(size)
    if push:
        publish(family, size, endpoint, replace=replace)
    else:
        plan.show_diff(family, size, endpoint)


def publish(family: Family, size: str, endpoint: str | None, *, replace: bool = False) -> list[PlanStep]:
    """Upload what is missing, privately. Returns the steps that were taken.

    Raises:
        ReleaseError: No endpoint or token, something wrong with the staged folders, a finished release that would
            change, or a Hub that fails; running it again continues.
    """
    api = connect(endpoint)
    mode.check_endpoint(str(api.endpoint), mode.active())
    checks.raise_problems(family, size)
    steps = plan.diff(family, size, api, replace=replace)
    plan.show(steps, api.endpoint)
    return carry_out(api, [step for step in steps if step.phase == "push"])


def finish(family: Family, size: str, api: HfApi, commits: dict[str, str]) -> list[PlanStep]:
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
    carry_out(api, steps, lambda: _collect(api, family, content) if content else None)
    if steps:
        check_finished(desired_repos(family, size), api, commits)
        if left := plan.diff(family, size, api):
            what = f"{left[0].verb} {left[0].target}: the Hub said that it was done, and it is not"
            raise ReleaseError(what, where=str(api.endpoint), hint="run it again, it continues where it stopped")
    return steps


def check_finished(repos: list[DesiredRepo], api: HfApi, commits: dict[str, str]) -> None:
    """Read again, without a token, what people will load: main and the tag are the commit that was pulled back and compared.

    Raises:
        ReleaseError: One is not; what moved is named.
    """
    anonymous = HfApi(endpoint=api.endpoint, token=False)
    for repo in repos:
        with hub_errors(api, f"look at {repo.id} without a token"):
            main = anonymous.repo_info(repo.id, repo_type=repo.type).sha
            tags = {ref.name: ref.target_commit for ref in anonymous.list_repo_refs(repo.id, repo_type=repo.type).tags}
        for name, commit in (("main", main), (f"the tag {repo.tag}", tags.get(repo.tag))):
            if commit != commits[repo.id]:
                what = f"{name} of {repo.id} is at {str(commit)[:12]}, and {commits[repo.id][:12]} was verified"
                hint = "somebody else wrote there: bring it back to the verified commit"
                raise ReleaseError(what, where=str(api.endpoint), hint=hint)


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


def carry_out(api: HfApi, steps: list[PlanStep], collect: Callable[[], None] = lambda: None) -> list[PlanStep]:
    """Take steps in their order, naming each; `collect` brings the collection up to date, where there is one."""
    for step in steps:
        say(f"{step.verb} {step.target}: {step.detail}")
        doing = f"{step.verb} {step.target}"
        size = sum((step.repo.folder / name).stat().st_size for name in step.upload) if step.repo else 0
        with hub_errors(api, doing), patience.limited(doing, size):
            if step.repo is not None:
                _change_repo(api, step, step.repo)
            else:
                collect()
    return steps


def _change_repo(api: HfApi, step: PlanStep, repo: DesiredRepo) -> None:
    """One change, and a look whether it is there: an answer alone proves nothing."""
    match step.verb:
        case "create":
            api.create_repo(repo.id, repo_type=repo.type, private=True, exist_ok=True)
            done = remote_repo(api, repo).private
        case "upload" | "delete":
            _upload(api, repo, step)
            done = not any(changed(repo, remote_repo(api, repo)))
        case "make public":
            api.update_repo_settings(repo.id, repo_type=repo.type, private=False)
            done = not remote_repo(api, repo).private
        case "tag":
            api.create_tag(repo.id, repo_type=repo.type, tag=repo.tag, revision=step.commit, exist_ok=True)
            remote = remote_repo(api, repo)
            done = remote.tagged and remote.commit == step.commit
        case _:
            raise ValueError(step.verb)
    if not done:
        what = f"{step.verb} {repo.id}: the Hub says that it is done, and it is not so there"
        raise ReleaseError(what, where=str(api.endpoint), hint="look at it there, then run it again")


def _upload(api: HfApi, repo: DesiredRepo, step: PlanStep) -> None:
    """Commit by commit, so that a push that was cut off goes on after the last whole commit, whatever the transport keeps.

    Each comes after the commit that was seen last, so that of two who push at once the second is refused.
    """
    info = api.repo_info(repo.id, repo_type=repo.type)
    if not info.private:
        what = f"{repo.id} is public, before anything was verified"
        raise ReleaseError(what, where=str(api.endpoint), hint="make it private there, or choose another name")
    parent = step.commit or info.sha
    parts = commits_of({name: (repo.folder / name).stat().st_size for name in step.upload}) or [[]]
    for part in parts:
        commit = api.upload_folder(
            repo_id=repo.id,
            repo_type=repo.type,
            folder_path=repo.folder,
            commit_message=plan.commit_title(repo),
            allow_patterns=[glob.escape(name) for name in part],
            delete_patterns=[glob.escape(name) for name in step.delete] if step.delete and part is parts[-1] else None,
            parent_commit=parent,
        )
        parent = commit.oid


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
