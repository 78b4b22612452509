"""Whether each record makes sense by itself: sums, medians, the best of rows, dates, commits. One line per figure that cannot be.

That each number lies in its own range is seen when a record is read (release/results/ranges.py), one record beside the others
in together.py.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from release.card.acceptance import CardRecords
from release.evaluation.queries import EQUAL
from release.export import parity, quantize
from release.records import Record
from release.results.data import DataResult
from release.results.engines import ROUNDING, EnginesResult
from release.results.evaluation import Calibration, EvaluationResult, NanoResult, Quality, TaskResult
from release.results.export import ExportResult
from release.results.speed import BatchSpeed, ConfigurationSpeed, Latency, SpeedResult
from release.results.training import CheckpointChoice, TrainingRun
from release.truth import texts

FIRST = datetime(2025, 1, 1, tzinfo=UTC)  # no record is older than the project
SCORED_AGAIN = 0.01  # NDCG@10 between a checkpoint and the same weights, loaded and measured again in another precision
AHEAD = timedelta(minutes=10)  # how far clocks of two machines may be apart


def problems(measured: CardRecords) -> Iterator[str]:
    """Every figure of a size's records that cannot be; each line begins with the record and the key."""
    for kind in CHECKS:
        yield from of_record(kind, getattr(measured, kind), f"records/{kind}.json")
    for record in measured.further_speeds:
        yield from of_record("speed", record, f"records of speed on {record.machine.device}")


def of_record(kind: str, record: Record[Any, Any], name: str) -> Iterator[str]:
    """Every figure of one record that cannot be."""
    for lines in (CHECKS[kind](record.measured), origin(record), texts.problems(record)):
        yield from (f"{name}: {line}" for line in lines)


def origin(record: Record[Any, Any]) -> Iterator[str]:
    """What cannot be of when a record was measured, and on what."""
    try:
        created = datetime.fromisoformat(record.created)
    except ValueError:
        yield f"created: {record.created!r} is no time"
        return
    if created.tzinfo is None or not FIRST <= created <= datetime.now(UTC) + AHEAD:
        yield f"created: {record.created} cannot be"
    if record.commit and not re.fullmatch(r"[0-9a-f]{40}(\+changes)?", record.commit):
        yield f"commit: {record.commit!r} is none"
    if record.machine.cores < 1 or record.machine.memory_gib <= 0:
        yield "machine: without a core or memory"


def equal(key: str, stated: float, given: float, *, within: float = EQUAL) -> Iterator[str]:
    """A line where a stated figure is not the given one, which is relative to `within` above 1."""
    if not abs(stated - given) <= within * max(1.0, abs(given)):
        yield f"{key}: {stated:.6g}, and what it comes from gives {given:.6g}"


def is_rate(rate: float | None, things: int, seconds: float) -> bool:
    """Whether a rate is that of so many things in so many seconds; both numbers are rounded to a tenth."""
    return rate is None or abs(rate * seconds - things) <= 0.06 * (rate + seconds)


def must(holds: bool, line: str) -> Iterator[str]:
    """`line` where something does not hold."""
    if not holds:
        yield line


# --- One kind of record after the other --------------------------------------------------------------------------------


def _quality(key: str, quality: Quality) -> Iterator[str]:
    yield from equal(f"{key}.gain", quality.gain, quality.reranked_ndcg - quality.first_stage_ndcg)
    inside = quality.ci_low - EQUAL <= quality.gain <= quality.ci_high + EQUAL
    yield from must(inside, f"{key}: the interval from ci_low to ci_high leaves its own gain out")
    most = max(quality.first_stage_ndcg, quality.reranked_ndcg) <= quality.oracle_ndcg + EQUAL
    yield from must(most, f"{key}: better than a perfect order of the same candidates")


def _rows(key: str, rows: Sequence[TaskResult]) -> Iterator[str]:
    for index, row in enumerate(rows):
        at = f"{key}.{index}"
        yield from _quality(at, row)
        yield from equal(f"{at}.queries", row.queries, row.helped + row.hurt + row.unchanged)
        yield from must(row.pairs_scored <= row.pairs <= row.queries * row.top_k, f"{at}.pairs: more than there are")


def _nano(key: str, nano: NanoResult | None) -> Iterator[str]:
    if nano:
        yield from must(0 <= nano.base <= 1, f"{key}.base: no NDCG@10")
        yield from equal(f"{key}.mean", nano.mean, statistics.fmean(nano.sets.values()))
        figures = {True: nano.all_positives, False: nano.retrieved_positives}
        for figure in filter(None, figures.values()):
            yield from equal(f"{key}: a mean", figure.mean, statistics.fmean(figure.sets.values()))
        chosen = None if nano.always_rerank_positives is None else figures[nano.always_rerank_positives]
        same = chosen is None or chosen.sets == nano.sets
        yield from must(same, f"{key}.sets: not those that `always_rerank_positives` names")


def _evaluate(result: EvaluationResult) -> Iterator[str]:
    for who, tasks, means, nano in (
        ("", result.tasks, result.means, result.nano),
        *([("teacher.", t.tasks, t.means, t.nano)] if (t := result.teacher) else []),
    ):
        yield from _rows(f"{who}tasks", tasks)
        yield from _nano(f"{who}nano", nano)
        for name in ("all", "in_domain", "out_of_domain"):
            if mean := getattr(means, name):
                yield from _quality(f"{who}means.{name}", mean)
    if result.calibration:
        yield from _calibration(result.calibration)


def _calibration(result: Calibration) -> Iterator[str]:
    if result.temperature is None:
        return
    yield from must(result.temperature > 0, "calibration.temperature: a map that does not rise")
    if result.reliability:
        pairs = sum(each.pairs for each in result.reliability)
        yield from equal("calibration.pairs_measured", result.pairs_measured, pairs)
        bins = [int(min(each.predicted * 10, 9)) for each in result.reliability]
        yield from must(bins == sorted(set(bins)), "calibration.reliability: bins that are not in their order")


def _batch(key: str, speed: BatchSpeed) -> Iterator[str]:
    yield from must(bool(speed.passes) and min(speed.passes) > 0, f"{key}.passes: none, or one that took for ever")
    if speed.passes:
        yield from equal(f"{key}.pairs_per_second", speed.pairs_per_second, statistics.median(speed.passes))


def _configuration(key: str, speed: ConfigurationSpeed) -> Iterator[str]:
    yield from _batch(key, speed)
    for index, tried in enumerate(speed.batches):
        yield from _batch(f"{key}.batches.{index}", tried)
    fastest = max(speed.batches, key=lambda tried: tried.pairs_per_second, default=None)
    same = fastest and (fastest.batch, fastest.passes) == (speed.batch, speed.passes)
    yield from must(bool(same), f"{key}: not the best of the batches that were tried")
    passes = {len(tried.passes) for tried in speed.batches}
    yield from must(len(passes) <= 1, f"{key}.batches: not the same number of passes everywhere")


def _speed(result: SpeedResult) -> Iterator[str]:
    for index, speed in enumerate(result.configurations):
        yield from _configuration(f"configurations.{index}", speed)
    best = max(result.configurations, key=lambda speed: speed.pairs_per_second, default=None)
    yield from must(result.best == best, "best: not the fastest of its configurations")
    public = [speed for speed in result.configurations if not speed.ours]
    fastest = max(public, key=lambda speed: speed.pairs_per_second, default=None)
    yield from must(result.published == fastest, "published: not the fastest that needs public libraries only")
    yield from _latency("latency", result.latency)
    lengths = result.lengths
    yield from must(lengths.median <= lengths.p95 <= lengths.max, "lengths: not in their order")
    yield from must(lengths.mean <= lengths.max, "lengths.mean: above the longest")
    if lengths.histogram:
        yield from equal("pairs", result.pairs, sum(each.pairs for each in lengths.histogram))


def _latency(at: str, taken: Sequence[Latency]) -> Iterator[str]:
    for index, one in enumerate(taken):
        yield from must(0 < one.p50_ms <= one.p95_ms, f"{at}.{index}: the median is above the 95th percentile")


def _export(result: ExportResult) -> Iterator[str]:
    low, high = result.score_range
    yield from must(low < high, "score_range: every score is the same, or they are in the wrong order")
    names = {form.form for form in result.forms}
    yield from must(names == set(parity.SCORERS), f"forms: {', '.join(sorted(names))}, not {', '.join(parity.SCORERS)}")
    for index, form in enumerate(result.forms):
        within = form.max_score_difference <= form.tolerance
        yield from must(within, f"forms.{index}: a difference above its own tolerance")
    for name, narrow in (("int8", result.int8), ("fp16", result.fp16)):
        measured = narrow.measured
        yield from must(measured is not None or not narrow.released, f"{name}: released, and never measured")
        if measured:
            yield from equal(f"{name}.measured.change", measured.change, measured.ndcg - measured.float32_ndcg)
            inside = measured.ci_low - EQUAL <= measured.change <= measured.ci_high + EQUAL
            yield from must(inside, f"{name}.measured: the interval leaves its own change out")
            allowed = measured.change >= -quantize.ALLOWED
            yield from must(allowed or not narrow.released, f"{name}: released, and worse than is allowed")


def _engines(result: EnginesResult) -> Iterator[str]:
    low, high = result.score_range
    yield from must(low < high, "score_range: every score is the same, or they are in the wrong order")
    yield from must(result.cut <= result.pairs, "cut: more pairs than there are")
    for each in result.latency:
        yield from _latency(f"latency of {each.engine}", each.latency)
    for row in result.engines:
        difference, at = row.max_score_difference, f"engines.{row.name}"
        if row.verdict in ("equal", "option"):
            same = difference is not None and difference <= result.allowed
            yield from must(same, f"{at}: called equal, and its scores are not")
        elif row.verdict == "rounding":
            fine = row.ndcg_change is not None and row.ndcg_change >= -ROUNDING
            yield from must(fine, f"{at}: called rounded, and its NDCG@10 is worse than is allowed")
        else:
            yield from must(bool(row.reason), f"{at}: {row.verdict}, and no reason is given")


def _run(run: TrainingRun) -> Iterator[str]:
    steps = [each.step for each in run.checkpoints]
    yield from must(bool(steps) and steps == sorted(set(steps)), "checkpoints: not in the order of their steps")
    if not steps:
        return
    yield from must(run.last == run.checkpoints[-1], "last: not the last of the checkpoints")
    best = max(each.score for each in run.checkpoints)
    yield from must(run.best in run.checkpoints and run.best.score == best, "best: not the best of the checkpoints")
    yield from must(run.last.step == run.steps, "last: not the step at which the run ended")
    yield from must(run.resumed_at <= run.steps, "resumed_at: a step after the end of the run")
    yield from must(run.parameters.total > 0, "parameters: a model without any")
    yield from must(run.seconds > 0, "seconds: none")
    losses = [entry["loss"] for entry in run.log_history if entry.get("loss") is not None]
    logged = not losses or (run.loss_first, run.loss_last) == (losses[0], losses[-1])
    yield from must(logged, "loss_first, loss_last: not the first and the last loss of log_history")
    yield from must(run.eval_loss == run.last.eval_loss, "eval_loss: not that of the last checkpoint")
    measured = run.checkpoint(run.released).score
    again = abs(run.score - measured) <= SCORED_AGAIN
    yield from must(again, f"score: {run.score:.4f}, and the checkpoint that was saved has {measured:.4f}")


def _choice(choice: CheckpointChoice) -> Iterator[str]:
    best, last = choice.candidates.best, choice.candidates.last
    if best.step == last.step:
        yield from must(best == last, "candidates: one step, and two results")
    elif best.reranked_ndcg is None or last.reranked_ndcg is None:
        yield "candidates: two checkpoints, and not both were measured"
    else:
        better = "best" if best.reranked_ndcg >= last.reranked_ndcg else "last"
        yield from must(choice.released == better, f"released: {choice.released}, though the {better} one ranks better")


def _data(data: DataResult) -> Iterator[str]:
    yield from equal("rows", data.rows, sum(config.rows for config in data.configs.values()))
    yield from must(data.rows_scored_now <= data.rows, "rows_scored_now: more than there are")
    likely = is_rate(data.pairs_per_second, data.rows_scored_now, data.seconds)
    yield from must(likely, "pairs_per_second: not what its rows and seconds give")
    for name, config in data.configs.items():
        label = config.label
        yield from must(label.min <= label.mean <= label.max, f"configs.{name}.label: not in their order")


CHECKS: dict[str, Any] = {
    "data": _data,
    "run": _run,
    "choice": _choice,
    "evaluate": _evaluate,
    "speed": _speed,
    "export": _export,
    "engines": _engines,
}
