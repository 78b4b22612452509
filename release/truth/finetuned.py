"""Whether the records of a fine-tuned model make sense, and whether the scores of each query give their figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from release.errors import ReleaseError
from release.evaluation import paired
from release.evaluation.queries import EQUAL
from release.export import parity
from release.records import Record
from release.results.export import ExportResult, ExportSubject
from release.results.finetuning import FinetuneResult, FinetuneScores, FinetuneSubject, PairedComparison
from release.truth import arithmetic
from release.truth.arithmetic import equal, must


def problems(
    record: Record[FinetuneResult, FinetuneSubject],
    export: Record[ExportResult, ExportSubject],
    scores: FinetuneScores,
) -> Iterator[str]:
    """Every figure of a fine-tuned model's records that cannot be, or that its queries do not give."""
    result, subject = record.measured, record.subject
    lines = (*_paired(result), *_released(result), *_history(result), *_declared(result, subject))
    lines = (*lines, *_given(result, scores), *_sizes(subject, scores))
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
    rows = {one.ratio: one for one in result.candidates}
    if len(rows) != len(result.candidates) or not {0.0, 1.0, result.ratio} <= rows.keys():
        yield "candidates: not each once, with the base, the fine-tuned model and the released one"
        return
    yield from must(result.ratio == paired.choose(result.candidates), "ratio: not that of the best candidate on `dev`")
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


def _given(result: FinetuneResult, scores: FinetuneScores) -> Iterator[str]:
    """Every comparison and candidate again, from NDCG@10 of each query."""
    try:
        compared: dict[str, tuple[Any, Any]] = {
            "test": (result.test, paired.of_share(scores.test, result.ratio)),
            "guard": (result.guard, paired.of_share(scores.guard, result.ratio)),
            "tuned": (result.tuned, paired.of_share(scores.test, 1.0)),
        }
        candidates = paired.candidates(scores.dev, scores.guard)
    except ReleaseError as error:
        yield f"queries.json: {error.what}"
        return
    if scores.test.models.keys() != {paired.BASE, paired.share(1.0), paired.share(result.ratio)}:
        yield "queries.json: test: scores of other models than the base, the fine-tuned and the released one"
    if [one.ratio for one in candidates] != [one.ratio for one in result.candidates]:
        yield "candidates: not those that there are scores of queries for"
        return
    compared |= {f"candidates.{i}": each for i, each in enumerate(zip(result.candidates, candidates, strict=True))}
    for key, (stated, given) in compared.items():
        for name, value in asdict(given).items():
            if abs((says := getattr(stated, name)) - value) > EQUAL:
                yield f"{key}.{name}: {says:.6g}, and its queries give {value:.6g}"


def _sizes(subject: FinetuneSubject, scores: FinetuneScores) -> Iterator[str]:
    """Whether there are scores of as many queries as were held out."""
    for name, queries in (("dev", subject.dev), ("test", subject.test)):
        scored = len(getattr(scores, name).first_stage)
        yield from must(scored == queries or (subject.smoke and scored < queries), f"{name}: not its held-out queries")
