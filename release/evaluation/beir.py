"""A folder in BEIR's form: its three files, its revision, its rows. It is read without mteb or torch."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from release.errors import ReleaseError
from release.files import sha256_file

FORM = "a folder in BEIR's form holds corpus.jsonl, queries.jsonl (either may end in .gz) and qrels.tsv"


def files(folder: Path) -> tuple[Path, Path, Path]:
    """The corpus, queries and judgements of a BEIR folder.

    Raises:
        ReleaseError: One of them is missing.
    """
    if not folder.is_dir():
        raise ReleaseError(f"no collection {folder}", hint=FORM)
    found = []
    for wanted in (
        ("corpus.jsonl", "corpus.jsonl.gz"),
        ("queries.jsonl", "queries.jsonl.gz"),
        ("qrels.tsv", "qrels/test.tsv"),
    ):
        files = [folder / name for name in wanted if (folder / name).is_file()]
        if not files:
            raise ReleaseError(f"no {' or '.join(wanted)}", where=str(folder), hint=FORM)
        found.append(files[0])
    return found[0], found[1], found[2]


def revision(folder: Path) -> str:
    """A hash over the three files of a BEIR folder: it moves whenever the collection does."""
    lines = "\n".join(sha256_file(path) for path in files(folder))
    return hashlib.sha256(lines.encode()).hexdigest()[:40]


def _open(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a plain or gzipped UTF-8 file, without empty ones."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise ReleaseError(f"cannot be read ({error})", where=str(path), hint=FORM) from error


def texts(path: Path) -> Iterator[tuple[str, str, str]]:
    """(id, title, text) of every row; of rows with the same id the first counts, and a warning says how many others."""
    seen: set[str] = set()
    repeated = 0
    for number, line in _open(path):
        try:
            row = json.loads(line)
            key, title, text = str(row["_id"]), row.get("title") or "", row["text"]
            if not isinstance(title, str) or not isinstance(text, str):
                raise ValueError("title or text is no string")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(
                f"damaged row ({type(error).__name__}: {error})",
                where=f"{path} row {number}",
                hint='one JSON object per line, {"_id": ..., "text": ...}',
            ) from error
        if key in seen:
            repeated += 1
            continue
        seen.add(key)
        yield key, title, text
    if repeated:
        print(f"warning: {path}: {repeated} rows left out, their _id was there before", file=sys.stderr)


def judgements(path: Path) -> dict[str, dict[str, int]]:
    """Query -> document -> relevance from `query document relevance` rows, with or without a heading."""
    found: dict[str, dict[str, int]] = {}
    for number, line in _open(path):
        words = line.rstrip("\n").split("\t")
        if len(words) == 4:  # TREC's own form has an unused second column
            words = [words[0], *words[2:]]
        try:
            query, document, level = words
            if number == 1 and not level.strip().lstrip("-").isdigit():
                continue
            found.setdefault(query, {})[document] = int(level)
        except ValueError as error:
            raise ReleaseError(
                "damaged judgement",
                where=f"{path} row {number}",
                hint="three columns between tabs: query, document, whole-number relevance",
            ) from error
    return found
