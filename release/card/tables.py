"""What a card shows, drawn from records: rows of tables and sentences, still as numbers where a filter formats them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from release.card import formatting
from release.family import Family
from release.records import Machine
from release.results.evaluation import EvaluationResult, TaskResult

_LOCAL = ("build/", "recipes/", "datasets/", "./", "../", "/", "~")


def is_hub_id(name: str) -> bool:
    """Whether `name` is `owner/name` on a Hub; the project's own folders look alike and are known by their roots."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", name)) and not name.startswith(_LOCAL)


def link(name: str) -> str:
    """A model's name for a sentence, linked where it is a Hub id."""
    return f"[{name}](https://huggingface.co/{name})" if is_hub_id(name) else f"`{name}`"


def teacher(family: Family, *, linked: bool) -> str:
    """The teacher's name; one that is no trained reranker is called a stand-in wherever it is named."""
    name = link(family.teacher.model) if linked else family.teacher.model
    return f"the stand-in {name}" if is_stand_in(family) else name


def is_stand_in(family: Family) -> bool:
    """Whether the teacher is no trained reranker."""
    return family.teacher.kind != "cross-encoder"


def base_model(encoder: str) -> str:
    """What the model was trained from, for a sentence."""
    return link(encoder) if is_hub_id(encoder) else f"the project's own small ModernBERT, `{encoder}`"


@dataclass(frozen=True)
class ResultRow:
    """One row of the table of results: a task over a first stage, and the teacher's NDCG@10 on the same candidates."""

    result: TaskResult
    teacher_ndcg: float | None


def results(evaluate: EvaluationResult) -> list[ResultRow]:
    """One row per task and first stage, in the record's order."""
    rows = evaluate.teacher.tasks if evaluate.teacher else ()
    teacher = {(row.task, row.first_stage): row.reranked_ndcg for row in rows}
    return [ResultRow(row, teacher.get((row.task, row.first_stage))) for row in evaluate.tasks]


def tally(evaluate: EvaluationResult) -> dict[str, int]:
    """How many rows show a gain, a loss, or neither."""
    return {"gain": 0, "loss": 0, "undecided": 0} | Counter(map(formatting.verdict, evaluate.tasks))


def headline(evaluate: EvaluationResult) -> str:
    """The result in one line, from the mean over all rows."""
    rows, mean = evaluate.tasks, evaluate.means.all
    tasks, stages = list(dict.fromkeys(row.task for row in rows)), list(dict.fromkeys(row.first_stage for row in rows))
    over = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
    first_stages = formatting.listing(stages) if len(stages) <= 2 else f"{len(stages)} first stages"
    queries = rows[0].queries if len(tasks) == 1 else mean.queries
    depth = formatting.listing(sorted({f"top {row.top_k}" for row in rows}))
    return (
        f"NDCG@10 {formatting.score(mean.first_stage_ndcg)} → {formatting.score(mean.reranked_ndcg)} "
        f"({formatting.signed(mean.gain)}, 95 % interval {formatting.interval(mean)}) "
        f"on {over}, {depth} of {first_stages}, {formatting.count(queries)} queries."
    )


def device(machine: Machine) -> str:
    """The hardware of a measurement, for a sentence."""
    if machine.device == "CPU":
        return f"a CPU ({machine.cpu}, {machine.cores} core{'s' if machine.cores != 1 else ''})"
    return f"one {machine.device}"


LEFT_OUT = {  # the manifest's reasons, for people
    "drop": "marked by the source",
    "duplicate": "duplicates",
    "no text": "without text",
    "repeated pair": "repeated pairs",
    "repeated pair with another label": "repeated pairs with another label",
    "not sampled": "not sampled",
    "overlap": "repeated an evaluation text",
    "cap": "over the cap",
    "empty query": "with an empty query",
    "empty document": "with an empty document",
    "query too long": "with an endless query",
    "document too long": "with an endless document",
    "invalid unicode in the query": "with a query that is no text",
    "invalid unicode in the document": "with a document that is no text",
    "quarantined": "unreadable for the teacher",
    **{f"empty {name}": f"with an empty {name}" for name in ("query", "document")},
    **{f"{name} too long": f"with a {name} that is too long" for name in ("query", "document")},
    **{f"invalid unicode in the {name}": f"with invalid unicode in the {name}" for name in ("query", "document")},
}


def data(manifest: dict[str, Any]) -> dict[str, Any]:
    """The training data, largest config first: rows, files, sources, licences, label ranges and overlaps.

    `asked` and `given` are the configs whose labels are the teacher's, and those whose labels came with their source.
    """
    configs = [_config(name, entry) for name, entry in manifest["configs"].items()]
    configs.sort(key=lambda row: (-row["rows"], row["name"]))
    overlaps = [entry["overlap"] for entry in manifest["configs"].values()]
    return {
        "configs": configs,
        "asked": [row["name"] for row in configs if row["labels"] != "source"],
        "given": [row["name"] for row in configs if row["labels"] == "source"],
        "commit": manifest["revision"] if manifest.get("mixture") else None,  # of a mixture that was taken from the Hub
        "rows": sum(row["rows"] for row in configs),
        "bytes": sum(row["bytes"] for row in configs),
        "splits": list(dict.fromkeys(split for row in configs for split in row["splits"])),
        "teacher": {key.replace("_", " "): value for key, value in (manifest["teacher"] or {}).items()},
        "overlap": manifest["overlap"],
        "overlaps": [row for name, entry in manifest["configs"].items() for row in _overlaps(name, entry)],
        "compared_with": sorted({task for overlap in overlaps for task in overlap or {}}),
    }


def _config(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    shards = entry["shards"]
    splits = {
        split: sum(s["rows"] for s in shards if s["split"] == split)
        for split in dict.fromkeys(s["split"] for s in shards)
    }
    dropped = entry["dropped"] | {"quarantined": entry["quarantined"]}
    revision = str(entry["revision"])
    return {
        "name": name,
        "rows": sum(shard["rows"] for shard in shards),
        "bytes": sum(shard["bytes"] for shard in shards),
        "splits": splits,
        "source": _source(entry["source"]),
        "revision": revision[:12] if re.fullmatch(r"[0-9a-f]{40,64}", revision) else "",
        "packages": entry.get("packages", {}),
        "license": _license(entry),
        "cap": entry["cap"],
        "label": entry["label"],
        "labels": entry.get("labels", "teacher"),
        "sample": entry.get("sample"),
        "coarse": entry.get("labels_on_bf16_grid", False),
        "rows_in": entry["rows_in"],
        "left_out": "; ".join(f"{count:,} {LEFT_OUT[reason]}" for reason, count in dropped.items() if count) or "none",
    }


def configs(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """`configs` of the front matter: `default`, which is all of them together, and each under its own name."""
    named = {name: entry["shards"] for name, entry in manifest["configs"].items()}
    every = {"*": [shard for shards in named.values() for shard in shards]}
    return [
        {
            "config_name": "default" if folder == "*" else folder,
            "data_files": [
                {"split": split, "path": f"{folder}/{split}-*.parquet"}
                for split in dict.fromkeys(shard["split"] for shard in shards)
            ],
        }
        for folder, shards in (every | named).items()
    ]


def dataset_info(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """`dataset_info` of the front matter, summed over the shards that the manifest names."""
    named = {name: entry["shards"] for name, entry in manifest["configs"].items()}
    every = {"default": [shard for shards in named.values() for shard in shards]}
    columns = {"query": "string", "document": "string", "label": "float32"}
    info = []
    for name, shards in (every | named).items():
        splits = [
            {
                "name": split,
                "num_bytes": sum(shard["bytes_in_memory"] for shard in shards if shard["split"] == split),
                "num_examples": sum(shard["rows"] for shard in shards if shard["split"] == split),
            }
            for split in dict.fromkeys(shard["split"] for shard in shards)
        ]
        info.append(
            {
                "config_name": name,
                "features": [{"name": column, "dtype": kind} for column, kind in columns.items()],
                "splits": splits,
                "download_size": sum(shard["bytes"] for shard in shards),
                "dataset_size": sum(split["num_bytes"] for split in splits),
            }
        )
    return info


def _source(source: dict[str, Any]) -> str:
    """Where a config's rows come from, linked where it is a dataset on the Hub."""
    if repository := source.get("repository"):
        part = source.get("config") or source.get("domain") or ""
        return f"[{repository}](https://huggingface.co/datasets/{repository}) {part}".strip()
    return "docstrings of installed packages" if source["kind"] == "docstrings" else "local files"


def _license(entry: dict[str, Any]) -> str:
    text = {"unknown": "unknown", "other": "each its own"}.get(entry["license"], entry["license"])
    if entry.get("license_link"):
        text = f"[{text}]({entry['license_link']})"
    return f"{text}: {entry['license_note']}" if entry.get("license_note") else text


def _overlaps(name: str, entry: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per evaluation set that a config shares its origin or any text with."""
    declared, measured = entry["overlaps_declared"] or [], entry["overlap"] or {}
    repeated = [task for task, overlap in measured.items() if overlap["queries"] or overlap["documents"]]
    rows = []
    for task in dict.fromkeys([*declared, *repeated]):
        shares = {
            key: formatting.share(measured[task][f"{key}_share"]) if task in measured else formatting.MISSING
            for key in ("query", "document")
        }
        rows.append({"config": name, "task": task, "declared": task in declared, **shares})
    return rows


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows."""
    limits = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
    limits += ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))
    return next((word for limit, word in limits if rows < limit), "1B<n<10B")
