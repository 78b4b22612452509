"""What the libraries make of stand-ins on a Hub, as a script: run by test_on_a_hub.py, which gives it the Hub's folder."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from release import spec
from release.errors import ReleaseError
from release.evaluation import first_stage, rerankers, tasks
from release.family import load
from release.rehearsal import models, repositories, sources
from release.teachers.cross_encoder import CrossEncoderTeacher

ROOT = Path(__file__).resolve().parents[2]
COMPARED, OWN_CODE, PULLED = "acme/compared", "acme/own-code", "Qwen/Qwen3-Reranker-0.6B"


def refusal(source: str) -> list[str]:
    """How a reranker is refused: the class of the error, and its line."""
    try:
        rerankers.load(source)
    except ReleaseError as error:
        return [type(error).__name__, str(error)]
    return ["", "nothing was refused"]


def main(hub: Path) -> dict[str, Any]:
    """Put a small family's stand-ins on the Hub and read them."""
    os.chdir(ROOT)
    work = Path(tempfile.mkdtemp())
    family = load(Path("tests/rehearsal/small.toml"))
    declaration = work / "small.yaml"
    declaration.write_text(sources.scaled(family.data.declaration.read_text(encoding="utf-8")), encoding="utf-8")
    repos = repositories.stand_ins(family, spec.load(declaration), ["tiny"])
    api = HfApi()
    repositories.put(api, repos, repositories.build(repos, work / "stand-ins"), hub)
    facts: dict[str, Any] = {"repositories": [each.id for each in repos]}

    # The same name with other weights is another revision: of a compared model, and of the teacher.
    revisions, commits = [], []
    for weights in ("one", "two"):
        folder = models.build(f"bert {weights}", "compared", work / weights)
        api.create_repo(COMPARED, exist_ok=True)
        commits.append(api.upload_folder(repo_id=COMPARED, folder_path=folder).oid)
        revisions.append(rerankers.load(COMPARED).revision)
    facts |= {"commits": commits, "revisions": revisions}
    teacher = CrossEncoderTeacher(family.teacher.model, 512)
    facts["teacher"] = [teacher.identity["revision"], api.model_info(family.teacher.model).sha]

    # One that is documented at a pull request: it is read there, for the main branch has no modules.json.
    pulled_family = replace(family, evaluation=replace(family.evaluation, compared=(PULLED,), embedders=(), tasks=()))
    (pulled,) = (
        each for each in repositories.stand_ins(pulled_family, spec.load(declaration), ["tiny"]) if each.id == PULLED
    )
    repositories.put(api, [pulled], repositories.build([pulled], work / "pulled"), hub)
    loaded, main = rerankers.load(PULLED), api.model_info(PULLED)
    facts["pulled"] = [loaded.revision, api.model_info(PULLED, revision="refs/pr/11").sha, main.sha, loaded.form]

    # What cannot be run: code of its own (known, or found out), a causal model without modules.json, and one that is not there.
    api.delete_file("modules.json", family.teacher.model)
    api.create_repo(OWN_CODE)
    api.upload_folder(repo_id=OWN_CODE, folder_path=models.build("jinaai/jina-reranker-m0", "compared", work / "own"))
    names = ("jinaai/jina-reranker-m0", OWN_CODE, family.teacher.model, "acme/none")
    facts["refused"] = {name: refusal(name) for name in names}

    # mteb reads its own pinned commit, and an embedder that was loaded by its commit is known without the Hub.
    task = tasks.mteb_task("TRECCOVID")
    facts["task"] = [task.revision, len(task.split["corpus"])]
    embedder = family.evaluation.embedders[0]
    stage = first_stage.first_stage(embedder)
    stage.load(work)
    first_stage.HfApi = _NoHub  # ty: ignore[invalid-assignment]
    facts["embedder"] = [first_stage.first_stage(embedder).revision, stage.revision]
    return facts


class _NoHub:
    def model_info(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError("no Hub")


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
