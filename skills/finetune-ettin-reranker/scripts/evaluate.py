# /// script
# requires-python = ">=3.11"
# dependencies = ["ettin-release[finetune]"]
# ///
"""Measure any reranker on your own queries and candidates. The last line is a VERDICT against a baseline, or JSON without one."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # until `run` says what was stopped, Ctrl-C ends this without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from release.console import print_json, table
from release.finetuning.script import run, smoke

SMOKE_QUERIES = 10


def evaluate(
    model: Annotated[str, typer.Argument(help="A CrossEncoder: a folder or a Hub id.")],
    data: Annotated[Path, typer.Option(help="What prepare.py wrote, or a folder in BEIR's form.")] = Path("prepared"),
    baseline: Annotated[str | None, typer.Option(help="Another CrossEncoder on the same pairs.")] = None,
    retriever: Annotated[
        str, typer.Option(help="Finds the candidates: bm25, or an embedder's folder or Hub id.")
    ] = "bm25",
    run_file: Annotated[Path | None, typer.Option("--run", help="Your own candidates instead, in TREC's form.")] = None,
    top_k: Annotated[int, typer.Option(min=2, max=1000, help="Candidates of each query.")] = 20,
    language: Annotated[
        str | None, typer.Option(help="Of the texts, for bm25: an ISO 639 code; as prepared, or en.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Tokens of a pair; by default as in training.")] = None,
) -> None:
    """Measure NDCG@10 of a reranker over a first stage, with a 95 % interval; with --baseline against another model."""
    from release.finetuning import report
    from release.finetuning.evaluate import evaluate as measure

    with TemporaryDirectory() as runs:
        measured = measure(
            model,
            data,
            Path(runs),
            baseline=baseline,
            retriever=retriever,
            run=run_file,
            top_k=top_k,
            max_length=max_length,
            queries=SMOKE_QUERIES if smoke() else None,
            language=language,
        )
    rows = [report.row("against the first stage", measured.gain)]
    if measured.comparison:
        rows.append(report.row(f"against {baseline}", measured.comparison))
    table(f"NDCG@10 of {model}: {measured.description}", report.COLUMNS, rows)
    if measured.comparison:
        print(measured.comparison.line, flush=True)
    else:
        print_json({"model": model, "measured_on": measured.description, **asdict(measured.gain)})


if __name__ == "__main__":
    run(evaluate)
