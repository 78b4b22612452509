"""Stand-ins of the training sources on the Hub, from the family's own declaration, and that declaration in small.

Every number of rows is divided by one scale, so that caps still cut, held-out rows are still held out and a mixture has all
of its configs. What each source marks is there: rows to drop, duplicates, a null text; and one row that cannot be scored.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from release.rehearsal.tables import Table, write
from release.rehearsal.text import passages
from release.spec import ConfigSpec, HubRetrievalSource, HubSource

SCALE = 100_000
LEAST_ROWS, LEAST_HELD_OUT, LEAST_SHARD = 8, 80, 100
SAMPLED = 4  # divides how many candidates of a query the cuts keep
QUERIES, CANDIDATES, POSITIVES = 1, 80, 1  # of a retrieval domain: more candidates than the first cut keeps
DOCSTRINGS = {"queries": 60, "documents": 200}  # at most, of what is made of the installed packages: it has no stand-in
LOCAL = ("files", "beir", "retrieval")  # kinds of sources that are read from this machine
LOW, HIGH = -12.0, 22.0  # the range of a teacher's logits


def scaled(text: str, scale: int = SCALE) -> str:
    """A declaration with every number of rows divided by `scale`; it goes on where the total is not the published one."""
    value = yaml.safe_load(text)
    value["shard_rows"] = max(LEAST_SHARD, value["shard_rows"] // scale)
    if "published" in value:
        value["published"]["otherwise"] = "go on"  # stand-ins give another number of rows
    templates = value.get("templates") or {}
    for config in value["configs"].values():
        if _kind(config, templates) in LOCAL:
            config.pop("cap", None)  # of what is on this machine `mix` takes few rows by itself
        elif config.get("rows"):
            config["rows"] = max(LEAST_ROWS, config["rows"] // scale)
        for key, least in (("cap", LEAST_ROWS), ("held_out", LEAST_HELD_OUT)):
            if key in config:
                config[key]["rows"] = min(config[key]["rows"], max(least, config[key]["rows"] // scale))
    for table in (*templates.values(), *value["configs"].values()):
        if cuts := table.get("sampling"):
            table["sampling"] = {key: _fewer(number) for key, number in cuts.items()}
    made = [config["candidates"] for config in value["configs"].values() if "candidates" in config]
    for table in (*made, *(value.get("evaluation") or {}).values()):
        table |= {key: min(table[key], most) for key, most in DOCSTRINGS.items()}
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _kind(config: dict[str, Any], templates: dict[str, Any]) -> str:
    """The kind of a config's source, its own or that of its template."""
    source = templates.get(config.get("template"), {}).get("source", {}) | config.get("source", {})
    return str(source.get("kind"))


def _fewer(number: int | list[int]) -> Any:
    return [_fewer(each) for each in number] if isinstance(number, list) else max(1, number // SAMPLED)


def write_source(folder: Path, configs: list[ConfigSpec]) -> Path:
    """One repository with the files of all its configs."""
    tables = []
    for config in configs:
        if isinstance(config.source, HubRetrievalSource):
            tables += _retrieval(config, config.source)
        else:
            assert isinstance(config.source, HubSource)
            path = f"{config.source.config}/{config.source.split}-00000-of-00001.parquet"
            tables.append(Table(config.source.config, config.source.split, path, _marked_rows(config)))
    order = ("documents", "queries", "scores", "scores_merged")
    tables.sort(key=lambda table: order.index(table.config) if table.config in order else -1)
    return write(folder, tables, license="cc-by-4.0")


def _marked_rows(config: ConfigSpec) -> pa.Table:
    """Pairs with labels and marks: as many good ones as the config's cap and more, or as are declared."""
    draw = random.Random(f"source {config.name}")
    good = (
        config.cap.rows + 20
        if config.cap
        else config.rows or LEAST_ROWS + (config.held_out.rows if config.held_out else 0)
    )
    texts = passages(f"source {config.name}", good + 8)
    rows = [
        {
            config.columns.query: each.question if draw.random() < 0.8 else texts[number - 1].question,
            config.columns.document: each.text,
            **({config.columns.label: draw.uniform(0, HIGH)} if config.columns.label else {}),
            **({config.filters.drop: False} if config.filters.drop else {}),
            **({config.filters.duplicate: None} if config.filters.duplicate else {}),
        }
        for number, each in enumerate(texts)
    ]
    marked = rows[good:]
    for row in marked[:3] if config.filters.drop else []:
        row[str(config.filters.drop)] = True
    for row in marked[3:6] if config.filters.duplicate else []:
        row[str(config.filters.duplicate)] = 0
    marked[6][config.columns.document] = None  # left out when it is read
    marked[7][config.columns.document] = " "  # set aside when it is scored
    draw.shuffle(rows)
    return pa.Table.from_pylist(rows, schema=_schema(config))


def _schema(config: ConfigSpec) -> pa.Schema:
    columns: list[tuple[str, Any]] = [(config.columns.query, pa.string()), (config.columns.document, pa.string())]
    optional = (
        (config.columns.label, pa.float32()),
        (config.filters.drop, pa.bool_()),
        (config.filters.duplicate, pa.int64()),
    )
    return pa.schema(columns + [(name, kind) for name, kind in optional if name])


def _retrieval(config: ConfigSpec, source: HubRetrievalSource) -> list[Table]:
    """One domain: its documents, its queries, and for each query scored candidates, the judged ones marked."""
    draw = random.Random(f"domain {source.domain}")
    texts = passages(f"domain {source.domain}", CANDIDATES)
    chosen = draw.sample(range(CANDIDATES), QUERIES)
    lists = []
    for number, document in enumerate(chosen):
        others = draw.sample([each for each in range(CANDIDATES) if each != document], CANDIDATES - 1)
        scores = sorted((draw.uniform(LOW, HIGH) for _ in range(CANDIDATES)), reverse=True)
        ids = [document, *others]
        lists.append({"query_id": number, "document_ids": ids, "scores": scores, "positive_ids": ids[:POSITIVES]})
    schema = [("query_id", pa.int64()), ("document_ids", pa.list_(pa.int64()))]
    schema += [("scores", pa.list_(pa.float32())), ("positive_ids", pa.list_(pa.int64()))]
    scored = pa.Table.from_pylist(lists, schema=pa.schema(schema))
    tables = {
        "documents": pa.table({"document_id": list(range(CANDIDATES)), "document": [each.text for each in texts]}),
        "queries": pa.table({"query_id": list(range(QUERIES)), "query": [texts[each].question for each in chosen]}),
        **{name: scored for name in dict.fromkeys(("scores", source.scores, "scores_merged"))},
    }
    return [
        Table(name, source.domain, f"{name}/{source.domain}-00000-of-00001.parquet", rows)
        for name, rows in tables.items()
    ]
