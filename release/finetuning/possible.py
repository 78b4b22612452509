"""Whether the record of a fine-tuning makes sense: its comparisons, its candidates, and which of them it says was released."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from release.evaluation.queries import EQUAL
from release.export import parity
from release.records import Record
from release.results.export import ExportResult, ExportSubject
from release.results.finetuning import FinetuneResult, FinetuneSubject, PairedComparison
from release.truth import arithmetic
from release.truth.arithmetic import equal, must


def problems(
    record: Record[FinetuneResult, FinetuneSubject], export: Record[ExportResult, ExportSubject]
) -> Iterator[str]:
    """Every figure of a fine-tuned model's records that cannot be."""
    result, subject = record.measured, record.subject
    lines = (*_paired(result), *_released(result), *_history(result), *_declared(result, subject))
    yield from (f"records/finetune.json: {line}" for line in (*lines, *arithmetic.origin(record)))
    yield from arithmetic.of_record("export", export, "records/export.json")
    low, high = export.measured.score_range
    allowed = parity.allowed((low, high), export.rehearsal)
    for index, form in enumerate(export.measured.forms):
        yield from equal(f"records/export.json: forms.{index}.tolerance", form.tolerance, allowed)
    later = datetime.fromisoformat(export.created) >= datetime.fromisoformat(record.created)
    yield from must(later, "records/export.json: created before the model was trained")


def _paired(result: FinetuneResult) -> Iterator[str]:
    for name in ("test", "guard", "tuned"):
        compared: PairedComparison = getattr(result, name)
        yield from equal(f"{name}.delta", compared.delta, compared.score - compared.baseline)
        inside = compared.ci_low - EQUAL <= compared.delta <= compared.ci_high + EQUAL
        yield from must(inside, f"{name}: the interval from ci_low to ci_high leaves its own delta out")
    if result.ratio == 1:
        yield from must(result.tuned == result.test, "tuned: not the test of the model that was released unmerged")
    for key in ("baseline", "first_stage", "queries"):
        yield from equal(f"tuned.{key}", getattr(result.tuned, key), getattr(result.test, key))


def _released(result: FinetuneResult) -> Iterator[str]:
    """The rows of candidates beside what they are of: the base, the best checkpoint, the released one."""
    from release.finetuning.candidates import choose  # sentence_transformers

    rows = {one.ratio: one for one in result.candidates}
    if len(rows) != len(result.candidates) or not {0.0, 1.0, result.ratio} <= rows.keys():
        yield "candidates: not each once, with the base, the fine-tuned model and the released one"
        return
    yield from must(result.ratio == choose(result.candidates), "ratio: not that of the best candidate on `dev`")
    base, released = rows[0.0], rows[result.ratio]
    yield from equal("candidates: guard of the base", base.guard, result.guard.baseline)
    yield from equal("candidates: guard of the released one", released.guard, result.guard.score)
    same = released.forgets == (result.guard.ci_high < 0)
    yield from must(same, "candidates: whether the released one forgets is not what the guard set's interval says")
    history = dict(result.dev_history)
    yield from equal("candidates: dev of the base", base.dev, history.get(0, base.dev))
    if result.best_step in history:
        yield from equal("candidates: dev of the fine-tuned model", rows[1.0].dev, history[result.best_step])


def _history(result: FinetuneResult) -> Iterator[str]:
    steps = [step for step, _ in result.dev_history]
    yield from must(steps[:1] == [0] and steps == sorted(set(steps)), "dev_history: not in the order of its steps")
    later = {step: score for step, score in result.dev_history if step}
    best = later.get(result.best_step)
    yield from must(best is not None and best == max(later.values()), "best_step: not the best of dev_history")
    yield from must(not later or max(later) <= result.steps, "steps: fewer than were evaluated")
    yield from must(result.seconds > 0 and result.parameters > 0, "seconds or parameters: none")


def _declared(result: FinetuneResult, subject: FinetuneSubject) -> Iterator[str]:
    measured = result.test.queries == subject.test or (subject.smoke and result.test.queries < subject.test)
    yield from must(measured, "test.queries: not the held-out queries")
    most = subject.epochs * -(-result.examples // subject.batch_size)
    yield from must(result.steps <= most, "steps: more than its rows and epochs give")
