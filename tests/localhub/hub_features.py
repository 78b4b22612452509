"""What a person does less often with the real client, as a script: run by test_features.py.

Prints one JSON object: what each step gave, or "ErrorName: message" where the client raised.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session
from huggingface_hub.errors import HfHubHTTPError

from tests.localhub.hub_client import attempt

CARD = "---\nlicense: mit\npipeline_tag: text-ranking\ntags:\n- {tag}\n---\n# hi\n"


def main(namespace: str, other_token: str, *names: str) -> dict[str, Any]:
    """The groups of steps in `names`; `other_token` is that of an account which does not belong to `namespace`."""
    work = Path(tempfile.mkdtemp())
    return {name: globals()[name](HfApi(), HfApi(token=other_token), namespace, work) for name in names}


def ids(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """Ids without a namespace, in another case, and the beginnings of commit ids."""
    from transformers import AutoConfig  # a second, which the other groups need not wait for

    repo = f"{namespace}/ids"
    api.create_repo(repo)
    first = api.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="a.txt").oid
    api.upload_file(repo_id=repo, path_or_fileobj=b"2", path_in_repo="a.txt")
    shouted = repo.upper()
    api.upload_file(repo_id=shouted, path_or_fileobj=b"3", path_in_repo="b.txt")
    return {
        "info": attempt(lambda: api.model_info("typo")),
        "tree": attempt(lambda: list(api.list_repo_tree("typo"))),
        "file": attempt(lambda: api.hf_hub_download("typo", "config.json")),
        "dataset": attempt(lambda: api.dataset_info("typo")),
        "config": attempt(lambda: AutoConfig.from_pretrained("typo")),
        "other case": [api.model_info(shouted).id, Path(api.hf_hub_download(shouted, "b.txt")).read_text()],
        "other case again": attempt(lambda: api.create_repo(shouted[: len(namespace)].lower() + "/IDS")),
        "short": [
            api.model_info(repo, revision=first[:7]).sha == first,
            Path(api.hf_hub_download(repo, "a.txt", revision=first[:12])).read_text(),
            attempt(lambda: api.model_info(repo, revision="0" * 7)),
            attempt(lambda: api.model_info(repo, revision=first[:6])),
        ],
    }


def moves(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """A repo that is moved: its old id still reads and writes."""
    old, new, weights = f"{namespace}/old", f"{namespace}/new", os.urandom(200_000)
    (work / "moved").mkdir()
    (work / "moved/model.safetensors").write_bytes(weights)
    api.create_repo(old, private=True)
    api.upload_folder(repo_id=old, folder_path=work / "moved")
    (work / "moved/more.safetensors").write_bytes(weights[::-1])
    api.move_repo(old, new)
    facts = {"id": api.model_info(old).id, "file": Path(api.hf_hub_download(old, "model.safetensors")).read_bytes()}
    facts["file"] = facts["file"] == weights
    facts["snapshot"] = sorted(path.name for path in Path(api.snapshot_download(old)).iterdir())
    facts["written"] = api.upload_folder(repo_id=old, folder_path=work / "moved").oid == api.model_info(new).sha
    api.create_tag(old, tag="v1.0")
    facts["tagged"] = [ref.name for ref in api.list_repo_refs(new).tags]
    facts["stranger"] = [attempt(lambda id=id: other.model_info(id)) for id in (old, f"{namespace}/never")]
    api.create_repo(f"{namespace}/taken")
    facts["taken"] = attempt(lambda: api.move_repo(new, f"{namespace}/taken"))
    facts["not mine"] = attempt(lambda: api.move_repo(new, "other/new"))
    facts["deleted by its old id"] = attempt(lambda: api.delete_repo(old))
    api.create_repo(old)
    facts["old id is free"] = [api.model_info(old).id, api.model_info(new).id]
    api.move_repo(new, f"{namespace}/New")
    facts["case changed"] = api.model_info(f"{namespace}/New").id
    return facts


def history(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """Commits as HTML, and a folder that is deleted without saying that it is one."""
    repo = f"{namespace}/history"
    api.create_repo(repo)
    files = [CommitOperationAdd(name, b"x") for name in ("a/1.txt", "a/b/2.txt", "c.txt")]
    api.create_commit(repo, files, commit_message="<b>add</b>", commit_description="a & b")
    api.create_commit(repo, [CommitOperationDelete("a")], commit_message="delete")
    commit = api.list_repo_commits(repo, formatted=True)[1]
    return {
        "formatted": [commit.title, commit.formatted_title, commit.formatted_message],
        "plain": api.list_repo_commits(repo)[1].formatted_title,
        "files": api.list_repo_files(repo),
    }


def ignored(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """Files that .gitignore names are not sent."""
    repo, folder = f"{namespace}/ignored", work / "ignored"
    (folder / "logs").mkdir(parents=True)
    (folder / ".gitignore").write_text("# secrets\n!\n.env\nlogs/\n*.bin\n!keep.bin\n/root.txt\n")
    for name in (".env", "logs/a.txt", "a.bin", "keep.bin", "root.txt", "a.txt"):
        (folder / name).write_text(name)
    api.create_repo(repo)
    api.upload_folder(repo_id=repo, folder_path=folder)
    first = api.list_repo_files(repo)
    (folder / ".gitignore").unlink()
    (folder / "b.bin").write_text("b")
    (folder / "b.txt").write_text("b")
    api.upload_folder(repo_id=repo, folder_path=folder)
    return {"first": first, "then": api.list_repo_files(repo)}


def listings(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """Lists by tag, with chosen fields, and of what an organisation keeps."""
    for name in ("list-a", "list-b"):
        api.create_repo(f"{namespace}/{name}", private=name.endswith("b"))
        card = CARD.format(tag=name).encode()
        api.upload_file(repo_id=f"{namespace}/{name}", path_or_fileobj=card, path_in_repo="README.md")
    api.upload_file(repo_id=f"{namespace}/list-a", path_or_fileobj=b"x" * 1000, path_in_repo="new.bin")

    def ids_of(**options: Any) -> list[str]:
        return [model.id for model in api.list_models(author=namespace, search="list-", **options)]

    expanded = next(iter(api.list_models(author=namespace, search="list-a", expand=["gated", "sha"])))
    info = api.model_info(f"{namespace}/list-a", expand=["pipeline_tag"])
    mine = {repo.id: (repo.type, repo.visibility, repo.storage) for repo in api.list_user_repos(namespace=namespace)}
    return {
        "task": ids_of(filter="text-ranking"),
        "tags": ids_of(filter=["license:mit", "list-b"]),
        "no such tag": ids_of(filter=["license:mit", "none"]),
        "limit": ids_of(limit=1),
        "last modified": ids_of(sort="last_modified"),
        "other author": [model.id for model in api.list_models(author=namespace.upper(), search="list-a")],
        "expanded": [expanded.gated, bool(expanded.sha), expanded.card_data, expanded.private],
        "expanded info": [info.pipeline_tag, info.sha],
        "storage": [mine[f"{namespace}/list-a"], mine[f"{namespace}/list-b"]],
        "own": [repo.id for repo in api.list_user_repos()],
        "not mine": attempt(lambda: list(other.list_user_repos(namespace=namespace))),
    }


def gated(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """A gated repo: everybody sees it, and who was accepted downloads from it."""
    repo, nobody = f"{namespace}/gated", HfApi(token=False)
    api.create_repo(repo)
    files = [CommitOperationAdd("a.txt", b"small"), CommitOperationAdd("b.bin", os.urandom(5000))]
    api.create_commit(repo, files, commit_message="x")
    api.update_repo_settings(repo, gated="manual")

    def download(who: HfApi, name: str = "a.txt") -> Any:
        # A new cache each time: what was downloaded once may be read for ever.
        return attempt(lambda: Path(who.hf_hub_download(repo, name, cache_dir=tempfile.mkdtemp())).stat().st_size)

    def ask() -> str:
        url = f"{api.endpoint}/{repo}/ask-access"
        return get_session().post(url, headers={"Authorization": f"Bearer {other.token}"}).json()["status"]

    facts: dict[str, Any] = {"info": other.model_info(repo).gated, "tree": len(list(other.list_repo_tree(repo)))}
    facts["refused"] = [download(other), download(other, "b.bin"), download(nobody)]
    facts["check"] = [attempt(lambda: other.auth_check(repo)), attempt(lambda: api.auth_check(repo))]
    facts["member"] = download(api, "b.bin")
    facts["listed"] = [
        [model.id for model in api.list_models(author=namespace, search="gated", gated=value)]
        for value in (True, False)
    ]
    facts["asked"] = [ask(), ask(), download(other)]
    facts["pending"] = [request.username for request in api.list_pending_access_requests(repo)]
    facts["may not decide"] = attempt(lambda: other.accept_access_request(repo, "bob"))
    api.accept_access_request(repo, "bob")
    facts["accepted"] = [download(other), download(other, "b.bin")]
    facts["again"] = attempt(lambda: api.accept_access_request(repo, "bob"))
    api.reject_access_request(repo, "bob", rejection_reason="changed my mind")
    facts["rejected"] = [download(other), [request.username for request in api.list_rejected_access_requests(repo)]]
    api.grant_access(repo, "bob")
    facts["granted"] = [download(other), attempt(lambda: api.grant_access(repo, "bob"))]
    facts["unknown user"] = attempt(lambda: api.grant_access(repo, "nobody"))
    api.cancel_access_request(repo, "bob")
    api.update_repo_settings(repo, gated="auto")
    facts["auto"] = [download(other), ask()]
    api.update_repo_settings(repo, gated=False)
    facts["open"] = [download(nobody), api.model_info(repo).gated, attempt(lambda: api.grant_access(repo, "bob"))]
    return facts


def pulls(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """Pull requests by somebody who does not belong to the namespace."""
    repo, folder = f"{namespace}/pulls", work / "pulls"
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(os.urandom(50_000))
    api.create_repo(repo)
    before = api.model_info(repo).sha
    first = other.create_pull_request(repo, title="Weights", description="better ones")
    other.upload_folder(repo_id=repo, folder_path=folder, revision=first.git_reference)
    second = other.create_commit(
        repo, [CommitOperationAdd("b.bin", os.urandom(4000))], commit_message="two", create_pr=True
    )
    third = other.upload_folder(repo_id=repo, folder_path=folder, create_pr=True, commit_message="three")
    theirs = api.create_pull_request(repo, title="Mine")
    file = [CommitOperationAdd("c.txt", b"c")]

    def commit_to(revision: str) -> Any:
        return attempt(lambda: other.create_commit(repo, file, commit_message="x", revision=revision).oid)

    facts = {"opened": [second.pr_revision, third.pr_revision], "main stays": api.model_info(repo).sha == before}
    facts["refused"] = [commit_to("main"), commit_to(theirs.git_reference)]
    facts["may not merge"] = attempt(lambda: other.merge_pull_request(repo, 1))
    api.merge_pull_request(repo, 1)
    facts["merged"] = api.list_repo_files(repo)
    facts["merged is closed to its author"] = commit_to(first.git_reference)
    facts["closed"] = other.change_discussion_status(repo, 2, new_status="closed").new_status

    def numbers(**options: Any) -> list[int]:
        return sorted(pull.num for pull in api.get_repo_discussions(repo, **options))

    facts["by author"] = [numbers(author="bob"), numbers(author="alice")]
    facts["by status"] = [numbers(discussion_status=status) for status in ("open", "closed", "all")]
    facts["by type"] = [numbers(discussion_type=name) for name in ("pull_request", "discussion")]
    api.update_repo_settings(repo, private=True)
    facts["private"] = attempt(lambda: other.create_pull_request(repo, title="x"))
    return facts


def collections(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """A collection's theme."""
    slug = api.create_collection("Themes", namespace=namespace).slug
    api.update_collection_metadata(slug, theme="pink", description="d")
    api.update_collection_metadata(slug, title="Colours")
    changed = api.get_collection(slug)
    refused = attempt(lambda: api.update_collection_metadata(slug, theme="plaid"))
    api.delete_collection(slug)
    return {"changed": [changed.title, changed.description, changed.theme], "refused": refused}


def refusals(api: HfApi, other: HfApi, namespace: str, work: Path) -> dict[str, Any]:
    """Summaries of megabytes, and the id of a request that failed."""
    repo = f"{namespace}/refusals"
    api.create_repo(repo)
    file = [CommitOperationAdd("x.txt", b"x")]
    long = "x" * 15_000_000
    facts: dict[str, Any] = {
        "summary": attempt(lambda: api.create_commit(repo, file, commit_message=long).oid)[:300],
        "description": attempt(lambda: api.create_commit(repo, file, commit_message="x", commit_description=long).oid)[
            :300
        ],
        "title": attempt(lambda: api.create_pull_request(repo, title="x" * 100_000).num)[:300],
        "fits": bool(api.create_commit(repo, file, commit_message="x" * 1000).oid),
    }
    try:
        api.model_info(f"{namespace}/none")
    except HfHubHTTPError as error:
        facts["request id"] = [error.request_id, str(error)]
    return facts


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
