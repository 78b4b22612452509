"""The verbs `plan`, `publish` and `release-data`: which change to a Hub is meant, looked at or carried out."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from huggingface_hub import HfApi

from release import mode, options
from release.console import print_hint, print_json, say, table, wrapped
from release.errors import ReleaseError
from release.family import Family, load
from release.hub import cards, checks, committed, data, plan, publish, pull_requests, regression, stage, verify
from release.hub.state import DesiredRepo, Endpoint, connect, data_repo, desired_repos, given_endpoint
from release.hub.steps import PlanStep, Ways, own
from release.preflight.check import left_elsewhere, missing, to_run
from release.stages import STAGES

Replace = Annotated[bool, typer.Option("--replace", help="Overwrite and delete what somebody else put there.")]


def plan_command(
    size: options.Size,
    family_file: options.Family = options.ETTIN,
    what: options.What = "release",
    pull: options.Pull = False,
    previous: options.Previous = None,
) -> None:
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
        url = given_endpoint(None)
        regression.check(family, size, connect(url, write=False) if url else None, previous, refuse=False)
        plan.show_diff(family, size, what=what, pull=pull)
        return
    print("would publish, private until verified, then tagged:")
    if family.data.mixture is None:
        say(f"  dataset {family.data_id}")
    say(f"  model {family.model_id(size)}")
    say(f"  collection {family.about.collection!r} of {family.about.organization}")
    say(f"their files are known once `make stage SIZE={size} FAMILY={family.path}` has run")
    if left:
        _print_left(family, size, left)


def _print_left(family: Family, size: str, left: list[str]) -> None:
    """What a release still needs, as the last lines: nothing has failed, so the exit status is 0."""
    what = f"SIZE={size} FAMILY={family.path}"
    first, *rest = left
    print(*wrapped(f"left for another machine, then for here: make {', make '.join(left)}"), sep="\n")
    machine = f"a machine with {family.speed.device}" if first == "speed" else "that machine"
    there = f"on {machine}, with a copy of {family.folder(size)}: make {first} {what}"
    here = f"then here, with what that made there: make release {what}"
    for line in (there, here) if rest else (there,):
        print(*wrapped(line, indent="  "), sep="\n")


def command(
    size: options.Size,
    family_file: options.Family = options.ETTIN,
    push: options.Push = False,
    endpoint: Endpoint = None,
    replace: Replace = False,
    what: options.What = "release",
    pull: options.Pull = False,
    previous: options.Previous = None,
) -> None:
    """Show what publishing would do; with `--push` and an endpoint, upload privately (verify makes it public)."""
    family = load(family_file)
    family.size(size)
    if pull and not push:
        raise ReleaseError("a pull request is opened with PUSH=1 only", hint="make plan PR=1 shows what it would hold")
    if push and (url := given_endpoint(endpoint)):
        committed.check([repo.folder for repo in desired_repos(family, size)], url)
    if push and what == "release":
        regression.check(family, size, connect(endpoint), previous)
    if not push:
        plan.show_diff(family, size, endpoint, what=what, replace=replace)
    elif pull:
        print_json(propose(family, size, endpoint, what=what, replace=replace))
    elif what == "card":
        correct_cards(family, size, endpoint, replace=replace)
    else:
        publish.publish(family, size, endpoint, replace=replace)


def propose(
    family: Family, size: str, endpoint: str | None, *, what: options.Whole = "release", replace: bool = False
) -> dict[str, Any]:
    """Open one pull request per repository with what is staged, or add to the open one. Returns their numbers.

    Raises:
        ReleaseError: As `publish` and `correct_cards`; running it again continues.
    """
    api = publish.connect_checked(family, size, endpoint)
    steps = own(plan.diff(family, size, api, what=what, replace=replace))
    push = [step for step in steps if step.phase == "push"]
    steps = pull_requests.steps(push, api)
    plan.show(steps, str(api.endpoint))
    if what == "card" and steps:
        verify.try_cards(desired_repos(family, size), api)
    publish.carry_out(api, steps)
    repos = {step.repo.id: step.repo for step in push if step.repo}
    numbers = {name: pull_requests.find(api, repo) for name, repo in repos.items()}
    for name, number in numbers.items():
        say(f"{name}: pull request #{number} waits for a person to merge it; then make publish PUSH=1 goes on")
    return {"endpoint": str(api.endpoint), "pull_requests": numbers}


def correct_cards(family: Family, size: str, endpoint: str | None, *, replace: bool = False) -> list[PlanStep]:
    """Make the staged cards a further revision of what is released. Returns the steps that were taken.

    The new snippets are run against the released model before anybody sees them.

    Raises:
        ReleaseError: Nothing was released, more than the cards would change, or a snippet fails; then nothing is sent.
    """
    api = publish.connect_checked(family, size, endpoint)
    steps = own(plan.diff(family, size, api, what="card", replace=replace))
    plan.show(steps, api.endpoint)
    if any(step.verb == "correct" for step in steps):
        verify.try_cards(desired_repos(family, size), api)
    return publish.correct(family, size, api, steps)


def data_command(
    family_file: options.Family = options.ETTIN,
    push: options.Push = False,
    endpoint: Endpoint = None,
    replace: Replace = False,
    what: options.What = "release",
) -> None:
    """Release the family's data set on its own: upload, compare by hashes, tag, make public; without `--push` show it."""
    family = load(family_file)
    repo = data_repo(family)
    if repo is None:
        foreign = f"the data of this family are {family.data_id}, which is published already"
        raise ReleaseError(foreign, where=str(family.path), hint="there is nothing to release")
    if push and (url := given_endpoint(endpoint)):
        committed.check([family.build], url)
    if push:
        print_json(release_data(family, repo, connect(endpoint), what=what, replace=replace))
    elif (url := given_endpoint(endpoint)) or what == "release":
        stage.stage_dataset(family)
        push_steps, tags, public = _data_steps(family, repo, connect(url, write=False) if url else None, what, replace)
        plan.show([*push_steps, *tags, *public], url)
    else:
        raise ReleaseError("WHAT=card corrects what was released on a Hub, and none is named", hint="set HF_ENDPOINT")


def release_data(
    family: Family, repo: DesiredRepo, api: HfApi, *, what: options.Whole = "release", replace: bool = False
) -> dict[str, Any]:
    """Upload the data privately, compare what is there by its hashes, tag it, make it public. Returns what is public then.

    Raises:
        ReleaseError: Something wrong with the data, a finished release that would change, or a Hub that fails.
    """
    mode.check_endpoint(str(api.endpoint), mode.active())
    stage.stage_dataset(family)
    if lines := checks.data_problems(family):
        raise ReleaseError(f"{len(lines)} problem(s), the first: {lines[0]}", hint="correct them, then run it again")
    steps, tags, public = _data_steps(family, repo, api, what, replace)
    plan.show(own([*steps, *tags, *public]), str(api.endpoint))
    if what == "card" and steps:
        verify.try_cards([repo], api)
    publish.carry_out(api, steps)
    if what == "release" and (tags or public):
        commits = verify.pulled_back([repo], None, repo.folder, [], api).repositories
        publish.check_commits([repo], api, {name: pulled.commit for name, pulled in commits.items()})
    _, tags, public = _data_steps(family, repo, api, what, replace)
    publish.carry_out(api, [*tags, *public])
    released = data.released(family, api)
    if released is None:
        raise ReleaseError(f"{repo.id} is not public and tagged", where=str(api.endpoint), hint="run it again")
    publish.check_finished([repo], api, {repo.id: released.pulled.commit})
    return {"endpoint": str(api.endpoint), "dataset": repo.id, **vars(released.pulled)}


def _data_steps(
    family: Family, repo: DesiredRepo, api: HfApi | None, what: options.Whole, replace: bool
) -> tuple[list[PlanStep], list[PlanStep], list[PlanStep]]:
    """What is to be pushed, tagged and made public."""
    ways = Ways.of(family, "release-data")
    if what == "card":
        return *cards.steps([repo], api, ways, replace=replace), []
    push, public, tags = plan.repo_steps([repo], api, ways, replace=replace)
    return push, tags, public
