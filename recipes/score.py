"""From pairs to a labelled mixture: `python -m recipes.score --family recipes/demo.toml`.

Every shard of build/<family>/data/pairs gets the teacher's raw logits as `label` and is written whole: finished shards
are the checkpoint: after a kill the same command goes on with the next one. Shards made by another teacher, revision,
template, dtype or length are refused, never mixed in. A row that no teacher can read is set aside with its reason.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recipes import shards
from recipes.declare import refuse

if TYPE_CHECKING:
    from release.family import Family

LONGEST = 200_000  # characters: beyond this a document is no document but an accident


class Teacher(Protocol):
    """What labels pairs: `identity` is all that decides a score."""

    identity: dict[str, Any]

    def predict(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        """Raw logits, float32 of shape (len(pairs),)."""
        ...


class CrossEncoderTeacher:
    """Any CrossEncoder as a teacher: raw logits, and for a causal one the tokens "1" and "0" asserted."""

    def __init__(self, model: str, max_length: int) -> None:
        import torch
        from sentence_transformers import CrossEncoder

        try:
            self.model = CrossEncoder(model, max_length=max_length, activation_fn=torch.nn.Identity())
        except (OSError, ValueError) as error:
            what = f"cannot load the teacher ({str(error).strip().splitlines()[0][:200]})"
            refuse(what, where=model, mend="connect to the Hub once, or name a local folder in [teacher]")
        first, last = self.model[0], self.model[-1]
        if hasattr(last, "true_token_id"):  # without modules.json it would silently be "yes" and "no"
            found = self.model.tokenizer.convert_ids_to_tokens([last.true_token_id, last.false_token_id])
            if found != ["1", "0"]:
                refuse(f"the teacher compares the tokens {found}, not '1' and '0'", where=model, mend="check its files")
        template = str(getattr(self.model.tokenizer, "chat_template", None))
        self.identity = {
            "model": model,
            "kind": "cross-encoder",
            "revision": str(getattr(first.model.config, "_commit_hash", None) or Path(model).resolve().name),
            "template_sha256": hashlib.sha256(template.encode()).hexdigest(),
            "dtype": str(next(first.parameters()).dtype).removeprefix("torch."),
            "max_length": max_length,
        }

    def predict(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        """`predict` sorts by length over all it is given: it gets a whole shard."""
        return np.asarray(self.model.predict(pairs, show_progress_bar=False), np.float32)


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, run, and print errors for people as one line."""
    from release.errors import ReleaseError
    from release.family import load

    parser = argparse.ArgumentParser(prog="python -m recipes.score", description=__doc__.splitlines()[0])
    parser.add_argument("--family", type=Path, required=True, help="a family file, such as recipes/demo.toml")
    words = parser.parse_args(argv)
    try:
        run(load(words.family))
    except ReleaseError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: stopped by hand; to mend it: run the same command again, finished shards are kept")


def run(family: Family, teacher: Teacher | None = None) -> Path:
    """Label all pairs of the family and write the mixture, its manifest and the record `data`; returns the manifest.

    Raises:
        ReleaseError: No pairs, no teacher, labels that are no numbers, or a mixture that another teacher began.
    """
    from release import records
    from release.console import Bar
    from release.files import only_one, write_json

    pairs, mixture = family.build / "data/pairs", family.build / "data/mixture"
    manifest = _read(pairs / "manifest.json")
    files = [(name, shard["name"]) for name, entry in manifest["configs"].items() for shard in entry["shards"]]
    with only_one(family.build / "data"):
        teacher = teacher or load_teacher(family, pairs)
        _claim(mixture, teacher.identity, manifest)
        started, made = time.monotonic(), 0
        with Bar("score: pairs", sum(entry_rows(entry) for entry in manifest["configs"].values())) as bar:
            for name, shard in files:
                rows = pq.read_metadata(pairs / name / shard).num_rows
                if not _finished(mixture / name / shard):
                    score_shard(teacher, pairs / name / shard, mixture / name)
                    made += rows
                bar.advance(rows)
        seconds = time.monotonic() - started
        for name, entry in manifest["configs"].items():
            manifest["configs"][name] = entry | _labelled(mixture / name, [shard["name"] for shard in entry["shards"]])
        manifest |= {"teacher": teacher.identity, "in_domain": _in_domain(manifest, family)}
        path = write_json(mixture / "manifest.json", manifest)
    measured = {"rows": sum(entry_rows(entry) for entry in manifest["configs"].values()), "rows_scored_now": made}
    measured |= {"seconds": round(seconds, 1), "pairs_per_second": round(made / seconds, 1) if made else None}
    measured["configs"] = {
        name: {"rows": entry_rows(entry), "label": entry["label"], "quarantined": entry["quarantined"]}
        for name, entry in manifest["configs"].items()
    }
    subject = {"teacher": teacher.identity, "declaration_sha256": manifest.get("declaration_sha256")}
    record = records.new("data", family=family.about.name, measured=measured, subject=subject)
    records.write(record, family.build / "records")
    print(f"score: {measured['rows']:,} labelled pairs ({made:,} now) -> {mixture}")
    return path


def load_teacher(family: Family, pairs: Path) -> Teacher:
    """The family's teacher; the stand-in counts its document frequencies in the training documents."""
    if family.teacher.kind != "stand-in":
        return CrossEncoderTeacher(family.teacher.model, family.teacher.max_length)
    from recipes.standin import HybridStandIn, Statistics

    return HybridStandIn(Statistics.of(training_documents(pairs)), max_length=family.teacher.max_length)


def training_documents(folder: Path) -> Iterable[str]:
    """Every document of the training split, config by config, in the order of the rows."""
    for file in sorted(folder.glob("*/train-*.parquet")):
        yield from pq.read_table(file, columns=["document"])["document"].to_pylist()


def entry_rows(entry: dict[str, Any]) -> int:
    """The rows of one config in a manifest, over all its splits."""
    return sum(shard["rows"] for shard in entry["shards"])


def score_shard(teacher: Teacher, source: Path, folder: Path) -> None:
    """Label one shard; poisoned rows go to `<shard>.quarantine.jsonl` beside it.

    Raises:
        ReleaseError: The teacher gives too few scores, NaN or infinity; the shard is not written.
    """
    from release.files import write_atomic

    table = pq.read_table(source)
    texts = list(zip(table["query"].to_pylist(), table["document"].to_pylist(), strict=True))
    reasons = [poison(query, document) for query, document in texts]
    keep = [row for row, reason in enumerate(reasons) if reason is None]
    scores = teacher.predict([texts[row] for row in keep]) if keep else np.zeros(0, np.float32)
    if len(scores) != len(keep):
        refuse(
            f"the teacher gave {len(scores)} scores for {len(keep)} pairs", where=str(source), mend="mend the teacher"
        )
    if not np.isfinite(scores).all():
        row = keep[int(np.flatnonzero(~np.isfinite(scores))[0])]
        refuse("the teacher gave a score that is not a number", where=f"{source} row {row}", mend="mend the teacher")
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"row": row, "reason": reason}) + "\n" for row, reason in enumerate(reasons) if reason]
    write_atomic(folder / f"{source.stem}.quarantine.jsonl", "".join(lines))
    label = pa.array(scores, pa.float32())
    shards.write_table(folder / source.name, table.take(pa.array(keep, pa.int64())).append_column("label", label))


def poison(query: str | None, document: str | None) -> str | None:
    """Why a row cannot be scored, or None. A lone surrogate, for one, reaches no tokenizer."""
    for name, text in (("query", query), ("document", document)):
        if not text or not text.strip():
            return f"empty {name}"
        if len(text) > LONGEST:
            return f"{name} of {len(text)} characters"
        try:
            text.encode()
        except UnicodeEncodeError:
            return f"invalid unicode in the {name}"
    return None


def _claim(mixture: Path, identity: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Say whose labels and which pairs the folder holds; another teacher's or other pairs' shards are not continued."""
    from release.files import write_json

    path = mixture / "teacher.json"
    wanted = {"teacher": identity, "pairs": {name: entry["key"] for name, entry in manifest["configs"].items()}}
    if path.is_file() and (found := _read(path)) != wanted:
        both = {**found.get("teacher", {}), **identity}
        differs = [key for key in sorted(both) if found.get("teacher", {}).get(key) != identity.get(key)]
        what = f"the mixture was begun with another {', '.join(differs) or 'set of pairs'}"
        refuse(what, where=str(mixture), mend=f"remove {mixture} and run again")
    write_json(path, wanted)


def _finished(path: Path) -> bool:
    return path.is_file() and path.with_name(f"{path.stem}.quarantine.jsonl").is_file()


def _labelled(folder: Path, names: list[str]) -> dict[str, Any]:
    """What the manifest says of one config's labelled shards: files, range of the labels, rows set aside."""
    found = [shards.describe(folder / name).as_dict() for name in names]
    labels = np.concatenate([pq.read_table(folder / name, columns=["label"])["label"].to_numpy() for name in names])
    quarantined = sum(len((folder / f"{Path(name).stem}.quarantine.jsonl").read_text().splitlines()) for name in names)
    if not len(labels):
        refuse("every row was set aside", where=str(folder), mend="look into its quarantine files")
    figures: dict[str, Callable[[np.ndarray], Any]] = {"min": np.min, "mean": np.mean, "max": np.max}
    label = {key: round(float(measure(labels.astype(np.float64))), 4) for key, measure in figures.items()}
    return {"shards": found, "label": label, "quarantined": quarantined}


def _in_domain(manifest: dict[str, Any], family: Family) -> list[str]:
    """The family's tasks that a config declares to be of the same origin."""
    tasks = {*family.evaluation.tasks, *family.evaluation.collections}
    declared = {task for entry in manifest["configs"].values() for task in entry.get("overlaps_declared") or []}
    return sorted(tasks & declared)


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        refuse("no readable manifest of pairs", where=str(path), mend="make mix")


if __name__ == "__main__":
    main()
