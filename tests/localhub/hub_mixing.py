"""Mixing from a Hub, as a script: run by test_mix_hub.py. Publishes two small datasets and prints what mixing makes of them."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from huggingface_hub import HfApi

from release import family
from release.data import mix, score
from release.errors import ReleaseError
from release.hub import state
from tests.data.test_mix import ROOT, declared, retrieval, upstream

FILTERS = {
    "labels": "source",
    "columns": {"label": "similarity"},
    "filters": {"drop": "drop", "duplicate": "duplicate"},
}


def publish(api: HfApi, repo: str, configs: dict[str, str]) -> str:
    """Upload the folder named like the repository, with a card that declares its configs' files; gives the commit."""
    lines = [f"- config_name: {name}\n  data_files: [{{split: train, path: {path}}}]" for name, path in configs.items()]
    folder = Path(repo.replace("/", "-"))
    front = "\n".join(["license: cc-by-4.0", "configs:", *lines])
    (folder / "README.md").write_text(f"---\n{front}\n---\n", encoding="utf-8")
    api.create_repo(repo, repo_type="dataset", exist_ok=True)
    return api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=folder).oid


def refusal(action: Callable[[], Any]) -> str:
    """The one line that people see."""
    try:
        action()
    except ReleaseError as error:
        return str(error)
    return "nothing was refused"


def taken_from_the_hub(api: HfApi, facts: family.Family, repo: str) -> dict[str, Any]:
    """Publish a labelled mixture, and let a family take it as it is."""
    folder = Path(repo.replace("/", "-"))
    rows = {name: (f"{name}/train-*.parquet", count) for name, count in (("words", 70), ("more", 30))}
    for name, (_, count) in rows.items():
        (folder / name).mkdir(parents=True)
        labels = pa.array([float(row) for row in range(count)], pa.float32())
        texts = {"query": [f"{name} {row // 3}" for row in range(count)], "document": ["same"] * count}
        pq.write_table(pa.table(texts | {"label": labels}), folder / name / "train-00000-of-00001.parquet")
    old = publish(api, repo, {name: pattern for name, (pattern, _) in rows.items()})
    config = {"source": {"kind": "files", "path": "x"}, "license": "mit", "license_link": None, "rows": None}
    config |= {"columns": {"label": "label"}, "labels": "source", "overlaps": ["ArguAna"]}
    spec: dict[str, Any] = {"name": "n", "title": "t", "seed": 1, "shard_rows": 10, "published": {"rows": 100}}

    def declare(*names: str, **changes: Any) -> None:
        Path("declared.yaml").write_text(yaml.safe_dump(spec | changes | {"configs": dict.fromkeys(names, config)}))

    declare("words", "more")
    about = dataclasses.replace(facts.about, name="taken")
    data = dataclasses.replace(facts.data, mixture=repo, declaration=Path("declared.yaml"))
    taken = dataclasses.replace(facts, about=about, data=data)
    early = refusal(lambda: score.run(taken))
    first = mix.resolve(taken)
    words = folder / "words/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(words).set_column(2, "label", pa.array([1000.0] * 70, pa.float32())), words)
    publish(api, repo, {"words": rows["words"][0]})  # the newest commit has other labels, and one config less
    path = score.run(taken)
    assert path is not None
    manifest, again = json.loads(path.read_text(encoding="utf-8")), mix.resolve(taken)
    table = pq.read_table(path.parent / "words/train-00000-of-00001.parquet")
    declare("words", "more", published={"rows": 101})
    total = refusal(lambda: score.run(taken))
    declare("words")
    configs = refusal(lambda: score.run(taken))
    none = dataclasses.replace(taken, data=dataclasses.replace(data, mixture=f"{repo}-none"))
    return {
        "commit": old,
        "settled": [first, again],
        "manifest": manifest,
        "labels": table["label"].to_pylist(),
        "refused": {"early": early, "total": total, "configs": configs, "none": refusal(lambda: mix.resolve(none))},
        "repositories": [each.id for each in state.desired_repos(taken, "mini")],
    }


def main(namespace: str) -> dict[str, Any]:
    """Publish, mix, and mix wrongly."""
    os.chdir(tempfile.mkdtemp())
    api, facts = HfApi(), family.load(ROOT / "recipes/demo.toml")
    nothing = dataclasses.replace(facts.evaluation, collections=(), nano_sets=(), tasks=())
    facts = dataclasses.replace(facts, evaluation=nothing)
    pretraining, reranked = f"{namespace}/pretraining", f"{namespace}/reranked"
    for subset in ("agnews", "quora"):
        Path(f"{namespace}-pretraining/{subset}").mkdir(parents=True)
    for part, first in (("0", "one"), ("1", "two")):
        queries = [f"{first} {row}" for row in range(1000)]
        upstream(f"{namespace}-pretraining/agnews/part-{part}.parquet", query=queries)
    upstream(f"{namespace}-pretraining/quora/all.parquet")
    Path(f"{namespace}-pretraining/notes.csv").write_text("query,document\na,b\n", encoding="utf-8")
    files = {"agnews": "agnews/*.parquet", "quora": "quora/*.parquet", "notes": "notes.csv"}
    old = publish(api, pretraining, files)
    upstream(f"{namespace}-pretraining/agnews/part-1.parquet", 500)
    new = publish(api, pretraining, files)
    retrieval(f"{namespace}-reranked")
    api.create_repo(reranked, repo_type="dataset")
    (Path(f"{namespace}-reranked") / "README.md").write_text(
        "---\nconfigs:\n"
        + "\n".join(
            f"- config_name: {name}\n  data_files: [{{split: nq, path: {name}/nq-*.parquet}}]"
            for name in ("documents", "queries", "scores")
        )
        + "\n---\n",
        encoding="utf-8",
    )
    api.upload_folder(repo_id=reranked, repo_type="dataset", folder_path=f"{namespace}-reranked")

    def config(**changes: Any) -> dict[str, Any]:
        source = {"kind": "hf", "repository": pretraining, "config": "agnews", "split": "train", "revision": old}
        return FILTERS | {"source": source | changes}

    candidates = {"kind": "hf-retrieval", "repository": reranked, "domain": "nq", "scores": "scores", "revision": None}
    sampled = retrieval("local") | {"source": candidates}

    def mixed(**configs: dict[str, Any]) -> dict[str, Any]:
        path = mix.run(facts, declared(**configs))
        return json.loads(path.read_text(encoding="utf-8"))["configs"]

    def table(name: str) -> pa.Table:
        paths = sorted((facts.build / "data/pairs" / name).glob("train-*.parquet"))
        return pa.concat_tables([pq.read_table(file) for file in paths])

    unknown = {"license": "unknown"}
    made = mixed(pinned=config() | unknown, newest=config(revision=None), rerank_nq=sampled | unknown)
    from_hub, pinned = table("rerank_nq"), table("pinned")["query"].to_pylist()
    mixed(rerank_nq=retrieval("local"))
    return {
        "taken": taken_from_the_hub(api, facts, f"{namespace}/published"),
        "commits": [old, new],
        "revisions": {name: entry["revision"] for name, entry in made.items()},
        "rows": {name: [entry["rows_in"], sum(s["rows"] for s in entry["shards"])] for name, entry in made.items()},
        "dropped": made["pinned"]["dropped"],
        "licences": {name: [entry["license"], entry["license_note"]] for name, entry in made.items()},
        "first and last": [pinned[0], pinned[-1]],
        "same as local": from_hub.equals(table("rerank_nq")),
        "refused": {
            "revision": refusal(lambda: mixed(agnews=config(revision="0" * 40))),
            "repository": refusal(lambda: mixed(agnews=config(repository=f"{namespace}/none"))),
            "config": refusal(lambda: mixed(agnews=config(config="agnew"))),
            "split": refusal(lambda: mixed(agnews=config(split="test"))),
            "domain": refusal(lambda: mixed(rerank=sampled | {"source": candidates | {"domain": "fever"}})),
            "column": refusal(lambda: mixed(agnews=config() | {"columns": {"label": "score"}})),
            "format": refusal(lambda: mixed(agnews=config(config="notes"))),
        },
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
