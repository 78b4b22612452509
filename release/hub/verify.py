"""Pull a release back as its users will, and compare: the hash of every file, the scores of every form, the snippets.

What is loaded runs in processes of its own with an empty cache (pulled.py), so nothing that this machine remembers can help it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from release import console, options, records, results
from release.errors import ReleaseError
from release.export.pairs import Pair, sample_pairs
from release.family import Family, Signer, load
from release.hub import anywhere, checks, data, publish, pulled, state
from release.records import Record
from release.results.export import FormParity, PulledRepository, VerifyResult, VerifySubject

SNIPPET = re.compile(
    r"```python\n(.*?)```", re.DOTALL
)  # one whose fence says what it needs (a GPU, another model) is not run


def command(
    size: options.Size = "",
    family_file: options.Family = options.ETTIN,
    push: options.Push = False,
    endpoint: state.Endpoint = None,
    repo: Annotated[
        str, typer.Option(metavar="ID", help="Verify this repository, whoever released it, from its name alone.")
    ] = "",
    revision: Annotated[str | None, typer.Option(help="With --repo: another revision than the main branch.")] = None,
    key: Annotated[
        str | None, typer.Option(help="With --repo: the sha256 of the key that must have signed it.")
    ] = None,
    identity: Annotated[str | None, typer.Option(help="With --repo: who must have signed it by Sigstore.")] = None,
    identity_provider: Annotated[str | None, typer.Option(help="With --identity: who says who that is.")] = None,
) -> None:
    """Pull the published release back and compare it; with `--push`, make it public, collect it and tag it."""
    if bool(repo) == bool(size) or (revision and not repo) or (push and repo):
        raise typer.BadParameter("give either --size, for a release of your own, or --repo and perhaps --revision")
    signer = Signer.of(key, identity, identity_provider)
    if signer and (not repo or bool(key) == bool(identity) or bool(identity) != bool(identity_provider)):
        raise typer.BadParameter("give --key, or --identity and --identity-provider, with --repo")
    if repo:
        api = state.connect(endpoint, write=False)
        console.print_json(anywhere.verify(repo, api, revision, signer))
        return
    family = load(family_file)
    api = state.connect(endpoint)
    record = verified(family, size, api) or verify(family, size, api)
    result = record.measured
    rows = [[form.form, f"{form.max_score_difference:.1e}", f"{form.tolerance:.1e}"] for form in result.forms]
    console.table(f"{result.pairs} pairs scored from {api.endpoint}", ["form", "difference", "allowed"], rows)
    commits = {name: repo.commit for name, repo in result.repositories.items()}
    if push:
        publish.finish(family, size, api, commits, saw=saw(result))
    else:
        print("verified; --push makes it public and tags it")
    console.print_json({"endpoint": api.endpoint, "public": push, "commits": commits})


def saw(result: VerifyResult) -> str:
    """What verification saw, for the message of the tag."""
    forms = ", ".join(f"{form.form} {form.max_score_difference:.1e}" for form in result.forms)
    return f"pulled back: {result.pairs} pairs scored ({forms}), {result.snippets} snippets run"


def verified(family: Family, size: str, api: Any) -> Record[VerifyResult, VerifySubject] | None:
    """The record of a release that is public and tagged at the commits that were pulled back, so that nothing is left to do.

    Whatever is still to become public or tagged is verified now: a file on this disk is no proof that it was.
    """
    try:
        sha256 = records.model_hash(family.folder(size) / "model")
        record = records.read(family.folder(size) / "records", results.VERIFY, model_sha256=sha256)
    except ReleaseError:
        return None
    repos, known = data.to_release(family, size, api)
    for repo in repos:
        remote = state.remote_repo(api, repo)
        pulled = record.measured.repositories.get(repo.id)
        finished = remote.tagged and not remote.private
        if not finished or pulled is None or remote.commit != pulled.commit or any(state.changed(repo, remote)):
            return None
    return record if known is None or record.measured.repositories.get(known.id) == known.pulled else None


def verify(family: Family, size: str, api: Any) -> Record[VerifyResult, VerifySubject]:
    """Pull back, compare, run the cards' snippets, and write the record "verify".

    Raises:
        ReleaseError: Not published, or a file, a score or a snippet that differs; it stays private and untagged.
    """
    checks.raise_problems(family, size)
    folder = family.folder(size)
    sha256 = records.model_hash(folder / "model")
    (repos, known), pairs = data.to_release(family, size, api), sample_pairs(family)
    result = pulled_back(repos, family.model_id(size), folder / "export", pairs, api)
    if known:
        result = replace(result, repositories={known.id: known.pulled, **result.repositories})
    about: dict[str, Any] = {"family": family.about.name, "size": size, "model_sha256": sha256}
    record = records.new(results.VERIFY, measured=result, subject=VerifySubject(str(api.endpoint)), **about)
    records.write(record, folder / "records")
    return record


def pulled_back(
    repos: list[state.DesiredRepo], model: str | None, export: Path, pairs: list[Pair], api: Any
) -> VerifyResult:
    """Pull `repos` back and compare: every file with the staged one, every form of `model` with `export` on `pairs`.

    Data are compared by the hashes that the Hub lists: gigabytes of them are not pulled back. Without a model nothing is scored.

    Raises:
        ReleaseError: Not published, or a file, a score or a snippet that differs.
    """
    commits: dict[str, str] = {}
    for repo in repos:
        remote = state.remote_repo(api, repo)
        if remote.commit is None or not repo.folder.is_dir() or any(state.changed(repo, remote)):
            raise ReleaseError(
                f"{repo.id} is not there as it is staged",
                where=str(api.endpoint),
                hint="make publish PUSH=1, or merge its pull request first",
            )
        commits[repo.id] = remote.commit
    task = {
        "repositories": [{"id": repo.id, "type": repo.type, "commit": commits[repo.id]} for repo in repos],
        "model": model,
        "export": str(export.resolve()),
        "pairs": pairs,
        "snippets": [code for repo in repos for code in _snippets(repo.folder / "README.md")],
    }
    pulled_repos = {repo.id: _pulled(repo, commits[repo.id]) for repo in repos}
    forms = pulled.elsewhere(task, api, sum(repo.bytes for repo in pulled_repos.values()))
    return VerifyResult(
        repositories=pulled_repos,
        pairs=len(pairs),
        forms=tuple(FormParity(**form) for form in forms),
        snippets=len(task["snippets"]),
    )


def try_cards(repos: list[state.DesiredRepo], api: Any) -> None:
    """Run the snippets of staged cards against what is released on the Hub, before anybody sees these cards.

    Raises:
        ReleaseError: One fails, or prints nothing.
    """
    there = [(repo, state.remote_repo(api, repo)) for repo in repos]
    task = {
        "repositories": [{"id": repo.id, "type": repo.type, "commit": remote.commit} for repo, remote in there],
        "model": None,
        "snippets": [code for repo in repos for code in _snippets(repo.folder / "README.md")],
    }
    pulled.elsewhere(task, api, sum(file.size for _, remote in there for file in remote.files.values()))


def _snippets(card: Path) -> list[str]:
    return SNIPPET.findall(card.read_text(encoding="utf-8"))


def _pulled(repo: state.DesiredRepo, commit: str) -> PulledRepository:
    sizes = [(repo.folder / name).stat().st_size for name in repo.files]
    return PulledRepository(commit, files=len(sizes), bytes=sum(sizes))
