"""What a card shows, drawn from records: rows of tables and sentences, still as numbers where a filter formats them."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from release import figures
from release.family import Family
from release.records import Record

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


def encoder(run: Record) -> str:
    """What the model was trained from."""
    name = str(run.subject["encoder"])
    return link(name) if is_hub_id(name) else f"the project's own small ModernBERT, `{name}`"


def results(evaluate: Record) -> list[dict[str, Any]]:
    """One row per task and first stage, in the record's order."""
    teachers = {(row["task"], row["first_stage"]): row for row in evaluate.measured["teacher"] or []}
    rows = []
    for row in evaluate.measured["tasks"]:
        measured, found = row["ndcg@10"], teachers.get((row["task"], row["first_stage"]))
        low, high = measured["ci_low"], measured["ci_high"]
        rows.append(
            {
                **{key: row[key] for key in ("task", "top_k", "queries", "in_domain", "helped", "hurt")},
                **{key: measured[key] for key in ("reranked", "gain", "oracle")},
                "stage": row["first_stage"],
                "alone": measured["first_stage"],
                "interval": figures.interval(low, high),
                "verdict": figures.verdict(low, high),
                "words": figures.verdict_in_words(low, high),
                "recall": row[f"recall@{row['top_k']}"],
                "teacher": figures.score(found["ndcg@10"]["reranked"]) if found else figures.MISSING,
                "dataset": row.get("dataset") or "",
            }
        )
    return rows


def means(evaluate: Record) -> list[dict[str, Any]]:
    """One row per first stage: the mean over the tasks."""
    stages = evaluate.measured["mean"]["first_stages"]
    return [
        {**row, "name": name, "interval": figures.interval(row["ci_low"], row["ci_high"])}
        for name, row in stages.items()
    ]


def tally(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many rows show a gain, a loss, or neither."""
    return {"gain": 0, "loss": 0, "undecided": 0} | Counter(row["verdict"] for row in rows)


def headline(evaluate: Record) -> dict[str, str]:
    """The result in one line and its meaning in another, from the mean over all rows."""
    rows, mean = evaluate.measured["tasks"], evaluate.measured["mean"]["all"]
    tasks, stages = (list(dict.fromkeys(row[key] for row in rows)) for key in ("task", "first_stage"))
    over = tasks[0] if len(tasks) == 1 else f"{len(tasks)} tasks"
    behind = figures.listing(stages) if len(stages) <= 2 else f"{len(stages)} first stages"
    queries = rows[0]["queries"] if len(tasks) == 1 else mean["queries"]
    depth = figures.listing(sorted({f"top {row['top_k']}" for row in rows}))
    line = (
        f"NDCG@10 {figures.score(mean['first_stage'])} → {figures.score(mean['reranked'])} "
        f"({figures.signed(mean['gain'])}, 95 % interval {figures.interval(mean['ci_low'], mean['ci_high'])}) "
        f"on {over}, {depth} of {behind}, {figures.count(queries)} queries."
    )
    return {"line": line, "words": figures.verdict_in_words(mean["ci_low"], mean["ci_high"])}


def device(record: Record) -> str:
    """The hardware of a measurement, for a sentence."""
    machine = record.machine
    if machine["device"] == "CPU":
        return f"a CPU ({machine['cpu']}, {machine['cores']} core{'s' if machine['cores'] != 1 else ''})"
    return f"one {machine['device']}"


def data(manifest: dict[str, Any]) -> dict[str, Any]:
    """The training data, largest config first: rows, files, sources, licences, label ranges and overlaps."""
    configs = [_config(name, entry) for name, entry in manifest["configs"].items()]
    configs.sort(key=lambda row: (-row["rows"], row["name"]))
    return {
        "configs": configs,
        "rows": sum(row["rows"] for row in configs),
        "bytes": sum(row["bytes"] for row in configs),
    }


def _config(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    splits = {
        split: f"{name}/{split}-*.parquet" for split in dict.fromkeys(shard["split"] for shard in entry["shards"])
    }
    return {
        "name": name,
        "rows": sum(shard["rows"] for shard in entry["shards"]),
        "bytes": sum(shard["bytes"] for shard in entry["shards"]),
        "splits": {split: sum(s["rows"] for s in entry["shards"] if s["split"] == split) for split in splits},
        "data_files": [{"split": split, "path": path} for split, path in splits.items()],
        "source": _source(entry["source"]),
        "packages": entry.get("packages", {}),
        "license": _license(entry),
        "cap": entry["cap"],
        "label": entry["label"],
        "overlaps": _overlaps(entry),
    }


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


def _overlaps(entry: dict[str, Any]) -> str:
    """What is known of a config's overlap with evaluation texts: declared by origin, near-duplicates as measured."""
    declared = entry["overlaps_declared"]
    words = (
        [] if declared is None else [f"same origin as {figures.listing(declared)}"] if declared else ["none declared"]
    )
    for task, found in entry["overlap"].items():
        share = figures.share(found["query_share"]), figures.share(found["document_share"])
        words.append(f"{share[0]} of queries and {share[1]} of documents repeat one of {task}")
    return "; ".join(words) or "not known"


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows."""
    limits = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
    limits += ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))
    return next((word for limit, word in limits if rows < limit), "1B<n<10B")
