# /// script
# requires-python = ">=3.11"
# dependencies = ["ettin-release[finetune]"]
# ///
"""Fine-tune a released reranker on a prepared folder, measured before and after. The last line is the VERDICT."""

from __future__ import annotations

import signal

if __name__ == "__main__":  # until `run` says what was stopped, Ctrl-C ends this without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from pathlib import Path
from typing import Annotated, Literal

import typer

from release.finetuning.script import run, smoke


def finetune(
    base: Annotated[str, typer.Argument(help="The released reranker: a Hub id or a folder.")],
    data: Annotated[Path, typer.Option(help="The folder that prepare.py wrote.")] = Path("prepared"),
    output: Annotated[Path, typer.Option(help="Gets model/ and records/.")] = Path("tuned"),
    loss: Annotated[
        Literal["margin-mse", "mse", "info-nce", "bce"] | None,
        typer.Option(help="By default margin-mse for scores and info-nce for judgements."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, max=1, help="By default a tenth of the base's own.")
    ] = None,
    lora: Annotated[int | None, typer.Option(min=1, help="Train matrices of this rank instead of the encoder.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="The most that are made; it stops early.")] = 3,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="Rows of a step: by default 8 for info-nce, else 32.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=8, help="Tokens of a pair; by default as the base's training.")
    ] = None,
    retriever: Annotated[
        str, typer.Option(help="Finds the candidates: bm25, or an embedder's folder or Hub id.")
    ] = "bm25",
    top_k: Annotated[int, typer.Option(min=2, max=1000, help="Candidates of each held-out query.")] = 20,
    guard: Annotated[
        str | None, typer.Option(help="A BEIR folder or NanoBEIR's id; the embedded set by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the order of rows.")] = 12,
) -> None:
    """Fine-tune a released reranker: baseline, training with an early stop, the best checkpoint again, guard set, merges."""
    from release.finetuning import report
    from release.finetuning.finetune import FinetuneOptions
    from release.finetuning.finetune import finetune as tune

    options = FinetuneOptions(
        loss=loss,
        learning_rate=learning_rate,
        lora=lora,
        epochs=epochs,
        batch_size=batch_size,
        max_length=max_length,
        retriever=retriever,
        top_k=top_k,
        guard=guard,
        seed=seed,
        smoke=smoke(),
    )
    report.show(tune(base, data, output, options))


if __name__ == "__main__":
    run(finetune)
