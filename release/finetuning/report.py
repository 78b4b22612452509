"""What people see of a fine-tuning or an evaluation: a table each, then the line for programs."""

from __future__ import annotations

from release.console import table
from release.finetuning.finetune import Finetuned
from release.results.finetuning import PairedComparison

COLUMNS = ["queries", "", "first stage", "baseline", "score", "difference", "95 % interval"]


def row(name: str, one: PairedComparison) -> list[object]:
    """A comparison as a row of `COLUMNS`."""
    interval = f"{one.ci_low:+.4f} to {one.ci_high:+.4f}"
    return [name, one.queries, one.first_stage, one.baseline, one.score, f"{one.delta:+.4f}", interval]


def show(record: Finetuned) -> None:
    """A finished fine-tuning: test and guard set, the candidates, and the VERDICT as the last line."""
    result, subject = record.measured, record.subject
    rows = [
        row("test", result.test),
        row("test, without a merge", result.tuned),
        row(f"guard: {subject.guard}", result.guard),
    ]
    table(f"NDCG@10, top {subject.top_k} of {subject.first_stage}", COLUMNS, rows)
    marks = {result.ratio: "released", 0.0: "the base"}
    candidates = [
        [f"{one.ratio:g}", one.dev, one.guard, " ".join([marks.get(one.ratio, ""), "forgets" * one.forgets]).strip()]
        for one in result.candidates
    ]
    table("Share of the fine-tuned weights", ["share", "dev", "guard", ""], candidates)
    minutes = result.seconds / 60
    print(f"best step {result.best_step} of {result.steps}, {minutes:.1f} minutes of training, {subject.precision}")
    if result.test.below_first_stage:
        print(
            f"{subject.first_stage} alone orders the test queries better ({result.test.first_stage:.4f}) than this model"
        )
    print(result.test.line, flush=True)
