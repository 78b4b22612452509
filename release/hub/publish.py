"""The steps of a plan, carried out. Only this module writes to a Hub.

A release is a dataset, a model and its place in the family's collection. Both repositories stay private until
`verify` has pulled them back; then they get the tag `<version>` (the family's, such as v1, the same that ends the
repository's name), become public and join the collection. The tag means finished: tagged content never
changes. A card is corrected by a further tag (release/hub/cards.py), anything else by a new version. Every step looks
first, so running again continues what was cut off.
"""

from __future__ import annotations

import glob
from collections.abc import Callable
from typing import Any

from huggingface_hub import HfApi

from release import mode, options
from release.card import acceptance
from release.console import print_hint, say
from release.errors import ReleaseError
from release.family import Family
from release.hub import checks, patience, plan, pull_requests
from release.hub.state import (
    DesiredRepo,
    RemoteRepo,
    changed,
    connect,
    desired_repos,
    find_collection,
    hub_errors,
    newest,
    remote_repo,
    tree,
)
from release.hub.steps import PlanStep, left_for_others, own
from release.hub_commits import commit_title
from release.truth import manifest

COMMIT_BYTES = 2 * 10**9  # what a push that is cut off may have to send again


def publish(family: Family, size: str, endpoint: str | None, *, replace: bool = False) -> list[PlanStep]:
    """Upload what is missing, privately. Returns the steps that were taken.

    Raises:
        ReleaseError: No endpoint or token, something wrong with the staged folders, a finished release that would
            change, or a Hub that fails; running it again continues.
    """
    api = connect_checked(family, size, endpoint)
    steps = own(plan.diff(family, size, api, replace=replace))
    plan.show(steps, api.endpoint)
    return carry_out(api, [step for step in steps if step.phase == "push"])


def connect_checked(family: Family, size: str, endpoint: str | None) -> HfApi:
    """The client of a Hub to write to, once nothing speaks against sending what is staged.

    Raises:
        ReleaseError: No endpoint or token, a rehearsal for a Hub that others reach, or something wrong with the staged folders.
    """
    api = connect(endpoint)
    mode.check_endpoint(str(api.endpoint), mode.active())
    checks.raise_problems(family, size)
    return api


def finish(family: Family, size: str, api: HfApi, commits: dict[str, str], *, saw: str | None = None) -> list[PlanStep]:
    """Make public, collect and tag what was verified. Returns the steps that were taken.

    Args:
        commits: Repository id -> the commit that was pulled back and compared.
        saw: What verification saw, in a line.

    Raises:
        ReleaseError: A repository moved since it was verified.
    """
    mode.check_endpoint(str(api.endpoint), mode.active())
    for line in checks.collection_unbound(family, size, acceptance.card_records(family, size)):
        raise ReleaseError(f"the collection is {line}", where=str(family.folder(size) / "collection.yaml"))
    check_commits(desired_repos(family, size), api, commits)
    return _finish(family, size, api, commits, saw=saw)


def correct(family: Family, size: str, api: HfApi, steps: list[PlanStep]) -> list[PlanStep]:
    """Push cards that were looked at, tag them as a revision of the same version, and bring the collection up to date.

    Args:
        steps: What `plan.diff` gave for the cards.

    Raises:
        ReleaseError: Somebody else wrote there in between, or the Hub fails; running it again continues.
    """
    pushed = carry_out(api, [step for step in steps if step.phase == "push"])
    if not steps:
        return []
    repos = desired_repos(family, size)
    commits = {repo.id: remote_repo(api, repo).head or "" for repo in repos}
    return [*pushed, *_finish(family, size, api, commits, what="card")]


def _finish(
    family: Family,
    size: str,
    api: HfApi,
    commits: dict[str, str],
    *,
    what: options.Whole = "release",
    saw: str | None = None,
) -> list[PlanStep]:
    """Take every step that is left, then read all of it again."""
    every = plan.diff(family, size, api, what=what)
    steps = own(every)
    if pending := [step for step in steps if step.phase == "push"]:
        raise ReleaseError(f"{pending[0].verb} {pending[0].target} is still to be done", hint="make publish")
    content = plan.staged_collection(family, size)
    carry_out(api, steps, lambda: _collect(api, family, content) if content else None, saw=saw)
    if steps:
        check_finished(desired_repos(family, size), api, commits)
        if left := own(plan.diff(family, size, api, what=what)):
            done = f"{left[0].verb} {left[0].target}: the Hub said that it was done, and it is not"
            raise ReleaseError(done, where=str(api.endpoint), hint="run it again, it continues where it stopped")
    for line in left_for_others(every):
        print_hint(f"left: {line}", "the same command with a token of somebody who may write collections")
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
        tag = newest(repo.tag, tags) or repo.tag
        for name, commit in (("main", main), (f"the tag {tag}", tags.get(tag))):
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
            raise ReleaseError(what, where=str(api.endpoint), hint="run it again: it is published and verified anew")


def carry_out(
    api: HfApi, steps: list[PlanStep], collect: Callable[[], None] = lambda: None, *, saw: str | None = None
) -> list[PlanStep]:
    """Take steps in their order, naming each.

    Args:
        collect: Brings the collection up to date, where there is one.
        saw: What verification saw, for the message of the tag.
    """
    for step in steps:
        say(f"{step.verb} {step.target}: {step.detail}")
        doing = f"{step.verb} {step.target}"
        size = sum((step.repo.folder / name).stat().st_size for name in step.upload) if step.repo else 0
        with hub_errors(api, doing), patience.limited(doing, size, hub=str(api.endpoint)):
            if step.repo is not None:
                _change_repo(api, step, step.repo, saw)
            else:
                collect()
    return steps


def tag_message(repo: DesiredRepo, saw: str | None) -> str | None:
    """What a tag says: the hash of release.json, and what verification saw; None for a folder without release.json."""
    lines = [manifest.seal(repo.folder), saw]
    return "\n".join(line for line in lines if line) or None


def _change_repo(api: HfApi, step: PlanStep, repo: DesiredRepo, saw: str | None) -> None:
    """One change, and a look whether it is there: an answer alone proves nothing."""
    match step.verb:
        case "create":
            api.create_repo(repo.id, repo_type=repo.type, private=True, exist_ok=True)
            done = remote_repo(api, repo).private
        case "make private":
            api.update_repo_settings(repo.id, repo_type=repo.type, private=True)
            done = remote_repo(api, repo).private
        case "upload" | "delete":
            _check_private(api, repo)
            _upload(api, repo, step)
            done = not any(changed(repo, remote_repo(api, repo)))
        case "correct" | "propose":
            if step.tag is None:  # no card of what is public already
                _check_private(api, repo)
            revision = _upload(api, repo, step)
            done = not any(changed(repo, RemoteRepo(files=tree(api, repo, revision))))
        case "make public":
            api.update_repo_settings(repo.id, repo_type=repo.type, private=False)
            done = not remote_repo(api, repo).private
        case "tag":
            api.create_tag(
                repo.id,
                repo_type=repo.type,
                tag=step.tag or repo.tag,
                revision=step.commit,
                tag_message=tag_message(repo, saw),
                exist_ok=True,
            )
            remote = remote_repo(api, repo)
            done = remote.tag == step.tag and remote.commit == step.commit
        case _:
            raise ValueError(step.verb)
    if not done:
        what = f"{step.verb} {repo.id}: the Hub says that it is done, and it is not so there"
        raise ReleaseError(what, where=str(api.endpoint), hint="look at it there, then run it again")


def _check_private(api: HfApi, repo: DesiredRepo) -> None:
    """Refuse to send the first byte of what was not verified to a public repository.

    Raises:
        ReleaseError: It is public.
    """
    if not api.repo_info(repo.id, repo_type=repo.type).private:
        what = f"{repo.id} is public, before anything was verified"
        raise ReleaseError(what, where=str(api.endpoint), hint="make it private there, or choose another name")


def _upload(api: HfApi, repo: DesiredRepo, step: PlanStep) -> str:
    """Commit by commit, so that a push that was cut off goes on after the last whole commit, whatever the transport keeps.

    Each comes after the commit that was seen last, so that of two who push at once the second is refused. Returns the
    revision that they went to: main, or a pull request, which the first commit opens where none is open.
    """
    parent = step.commit or api.repo_info(repo.id, repo_type=repo.type).sha
    parts = commits_of({name: (repo.folder / name).stat().st_size for name in step.upload}) or [[]]
    revision = pull_requests.reference(step.pull) if step.pull else None
    for part in parts:
        commit = api.upload_folder(
            repo_id=repo.id,
            repo_type=repo.type,
            folder_path=repo.folder,
            commit_message=commit_title(step.tag or repo.tag),
            commit_description=manifest.seal(repo.folder),
            allow_patterns=[glob.escape(name) for name in part],
            delete_patterns=[glob.escape(name) for name in step.delete] if step.delete and part is parts[-1] else None,
            revision=revision,
            create_pr=step.verb == "propose" and revision is None,
            parent_commit=parent,
        )
        parent = commit.oid
        if step.verb == "propose" and revision is None:
            revision = commit.pr_revision
    return revision or "main"


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
