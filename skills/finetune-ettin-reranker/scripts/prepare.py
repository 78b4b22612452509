# /// script
# requires-python = ">=3.11"
# dependencies = ["ettin-release[finetune]"]
# ///
"""Check somebody's own data and divide it: rows to train on, and two held-out sets of queries. The last line is JSON."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # until `run` says what was stopped, Ctrl-C ends this without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from release.console import print_json
from release.finetuning.script import run, smoke


def prepare(
    data: Annotated[Path, typer.Argument(help="A .jsonl, .parquet, .csv or .tsv file, or a folder in BEIR's form.")],
    output: Annotated[Path, typer.Option(help="The prepared folder, written whole or not at all.")] = Path("prepared"),
    test: Annotated[Path | None, typer.Option(help="Test data of your own; queries are held out otherwise.")] = None,
    negatives: Annotated[
        int, typer.Option(min=0, help="For judgements: documents that BM25 finds for each query.")
    ] = 0,
    relevant_from: Annotated[
        float | None, typer.Option(help="For scores: from which on a document is relevant.")
    ] = None,
    drop_leaks: Annotated[
        bool, typer.Option(help="Leave out rows that repeat a test query, instead of stopping.")
    ] = False,
    language: Annotated[
        str | None, typer.Option(help="Of the texts, for BM25: an ISO 639 code; English by default.")
    ] = None,
) -> None:
    """Check your data and divide it into rows to train on and two held-out sets of queries (dev and test)."""
    from release.finetuning import prepare as module

    about = module.prepare(
        data,
        output,
        test=test,
        negatives=negatives,
        relevant_from=relevant_from,
        drop_leaks=drop_leaks,
        language=language,
        smoke=smoke(),
    )
    print_json({"output": str(output), **asdict(about)})


if __name__ == "__main__":
    run(prepare)
