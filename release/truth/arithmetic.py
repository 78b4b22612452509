"""Whether records make sense: sums, medians, the best of its rows, dates, commits. One line per figure that cannot be.

That each number lies in its own range is seen when a record is read (release/results/ranges.py).
"""

from __future__ import annotations

import dataclasses
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
from release.results.engines import EnginesResult
from release.results.evaluation import Calibration, EvaluationResult, NanoResult, Quality, TaskResult
from release.results.export import ExportResult
from release.results.finetuning import PairedComparison
from release.results.speed import BatchSpeed, ConfigurationSpeed, SpeedResult
from release.results.training import CheckpointChoice, TrainingRun

FIRST = datetime(2025, 1, 1, tzinfo=UTC)  # no record is older than the project
SCORED_AGAIN = 0.01  # NDCG@10 between a checkpoint and the same weights, loaded and measured again in another precision
AHEAD = timedelta(minutes=10)  # how far clocks of two machines may be apart


def problems(measured: CardRecords) -> Iterator[str]:
    """Every figure of a size's records that cannot be; each line begins with the record and the key."""
    parts = {kind: getattr(measured, kind) for kind in CHECKS}
    for kind, record in parts.items():
        checks = (CHECKS[kind](record.measured), _origin(record))
        yield from (f"records/{kind}.json: {line}" for lines in checks for line in lines)
    for record in measured.further_speeds:
        checks = (_speed(record.measured), _origin(record))
        yield from (f"records of speed on {record.machine.device}: {line}" for lines in checks for line in lines)
    yield from _together(measured)


def _origin(record: Record[Any, Any]) -> Iterator[str]:
    """When it was measured, and on what."""
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


def _equal(key: str, stated: float, given: float, *, within: float = EQUAL) -> Iterator[str]:
    if not abs(stated - given) <= within * max(1.0, abs(given)):
        yield f"{key}: {stated:.6g}, and what it comes from gives {given:.6g}"


def _must(holds: bool, line: str) -> Iterator[str]:
    if not holds:
        yield line


# --- One kind of record after the other --------------------------------------------------------------------------------


def _quality(key: str, quality: Quality) -> Iterator[str]:
    yield from _equal(f"{key}.gain", quality.gain, quality.reranked_ndcg - quality.first_stage_ndcg)
    inside = quality.ci_low - EQUAL <= quality.gain <= quality.ci_high + EQUAL
    yield from _must(inside, f"{key}: the interval from ci_low to ci_high leaves its own gain out")
    most = max(quality.first_stage_ndcg, quality.reranked_ndcg) <= quality.oracle_ndcg + EQUAL
    yield from _must(most, f"{key}: better than a perfect order of the same candidates")


def paired(key: str, compared: PairedComparison) -> Iterator[str]:
    """What cannot be of a fine-tuned model beside its base."""
    yield from _equal(f"{key}.delta", compared.delta, compared.score - compared.baseline)
    inside = compared.ci_low - EQUAL <= compared.delta <= compared.ci_high + EQUAL
    yield from _must(inside, f"{key}: the interval from ci_low to ci_high leaves its own delta out")


def _rows(key: str, rows: Sequence[TaskResult]) -> Iterator[str]:
    for index, row in enumerate(rows):
        at = f"{key}.{index}"
        yield from _quality(at, row)
        yield from _equal(f"{at}.queries", row.queries, row.helped + row.hurt + row.unchanged)
        yield from _must(row.pairs_scored <= row.pairs <= row.queries * row.top_k, f"{at}.pairs: more than there are")


def _nano(key: str, nano: NanoResult | None) -> Iterator[str]:
    if nano:
        yield from _must(0 <= nano.base <= 1, f"{key}.base: no NDCG@10")
        yield from _equal(f"{key}.mean", nano.mean, statistics.fmean(nano.sets.values()))
        figures = {True: nano.all_positives, False: nano.retrieved_positives}
        for figure in filter(None, figures.values()):
            yield from _equal(f"{key}: a mean", figure.mean, statistics.fmean(figure.sets.values()))
        chosen = None if nano.always_rerank_positives is None else figures[nano.always_rerank_positives]
        same = chosen is None or chosen.sets == nano.sets
        yield from _must(same, f"{key}.sets: not those that `always_rerank_positives` names")


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
    yield from _must(result.temperature > 0, "calibration.temperature: a map that does not rise")
    if result.reliability:
        pairs = sum(each.pairs for each in result.reliability)
        yield from _equal("calibration.pairs_measured", result.pairs_measured, pairs)
        bins = [int(min(each.predicted * 10, 9)) for each in result.reliability]
        yield from _must(bins == sorted(set(bins)), "calibration.reliability: bins that are not in their order")


def _batch(key: str, speed: BatchSpeed) -> Iterator[str]:
    yield from _must(bool(speed.passes) and min(speed.passes) > 0, f"{key}.passes: none, or one that took for ever")
    if speed.passes:
        yield from _equal(f"{key}.pairs_per_second", speed.pairs_per_second, statistics.median(speed.passes))


def _configuration(key: str, speed: ConfigurationSpeed) -> Iterator[str]:
    yield from _batch(key, speed)
    for index, tried in enumerate(speed.batches):
        yield from _batch(f"{key}.batches.{index}", tried)
    fastest = max(speed.batches, key=lambda tried: tried.pairs_per_second, default=None)
    same = fastest and (fastest.batch, fastest.passes) == (speed.batch, speed.passes)
    yield from _must(bool(same), f"{key}: not the best of the batches that were tried")
    passes = {len(tried.passes) for tried in speed.batches}
    yield from _must(len(passes) <= 1, f"{key}.batches: not the same number of passes everywhere")


def _speed(result: SpeedResult) -> Iterator[str]:
    for index, speed in enumerate(result.configurations):
        yield from _configuration(f"configurations.{index}", speed)
    best = max(result.configurations, key=lambda speed: speed.pairs_per_second, default=None)
    yield from _must(result.best == best, "best: not the fastest of its configurations")
    public = [speed for speed in result.configurations if not speed.ours]
    fastest = max(public, key=lambda speed: speed.pairs_per_second, default=None)
    yield from _must(result.published == fastest, "published: not the fastest that needs public libraries only")
    for index, latency in enumerate(result.latency):
        yield from _must(
            0 < latency.p50_ms <= latency.p95_ms, f"latency.{index}: the median is above the 95th percentile"
        )
    lengths = result.lengths
    yield from _must(lengths.median <= lengths.p95 <= lengths.max, "lengths: not in their order")
    yield from _must(lengths.mean <= lengths.max, "lengths.mean: above the longest")
    if lengths.histogram:
        yield from _equal("pairs", result.pairs, sum(each.pairs for each in lengths.histogram))


def _export(result: ExportResult) -> Iterator[str]:
    low, high = result.score_range
    yield from _must(low < high, "score_range: every score is the same, or they are in the wrong order")
    names = {form.form for form in result.forms}
    yield from _must(
        names == set(parity.SCORERS), f"forms: {', '.join(sorted(names))}, not {', '.join(parity.SCORERS)}"
    )
    for index, form in enumerate(result.forms):
        within = form.max_score_difference <= form.tolerance
        yield from _must(within, f"forms.{index}: a difference above its own tolerance")
    for name, narrow in (("int8", result.int8), ("fp16", result.fp16)):
        measured = narrow.measured
        yield from _must(measured is not None or not narrow.released, f"{name}: released, and never measured")
        if measured:
            yield from _equal(f"{name}.measured.change", measured.change, measured.ndcg - measured.float32_ndcg)
            inside = measured.ci_low - EQUAL <= measured.change <= measured.ci_high + EQUAL
            yield from _must(inside, f"{name}.measured: the interval leaves its own change out")
            allowed = measured.change >= -quantize.ALLOWED
            yield from _must(allowed or not narrow.released, f"{name}: released, and worse than is allowed")


def _engines(result: EnginesResult) -> Iterator[str]:
    low, high = result.score_range
    yield from _must(low < high, "score_range: every score is the same, or they are in the wrong order")
    yield from _must(result.cut <= result.pairs, "cut: more pairs than there are")
    for row in result.engines:
        difference, at = row.max_score_difference, f"engines.{row.name}"
        if row.verdict in ("equal", "option"):
            same = difference is not None and difference <= result.allowed
            yield from _must(same, f"{at}: called equal, and its scores are not")
        elif row.verdict == "rounding":
            fine = row.ndcg_change is not None and row.ndcg_change >= -quantize.ALLOWED
            yield from _must(fine, f"{at}: called rounded, and its NDCG@10 is worse than is allowed")
        else:
            yield from _must(bool(row.reason), f"{at}: {row.verdict}, and no reason is given")


def _run(run: TrainingRun) -> Iterator[str]:
    steps = [each.step for each in run.checkpoints]
    yield from _must(bool(steps) and steps == sorted(set(steps)), "checkpoints: not in the order of their steps")
    if not steps:
        return
    yield from _must(run.last == run.checkpoints[-1], "last: not the last of the checkpoints")
    best = max(each.score for each in run.checkpoints)
    yield from _must(run.best in run.checkpoints and run.best.score == best, "best: not the best of the checkpoints")
    yield from _must(run.last.step == run.steps, "last: not the step at which the run ended")
    yield from _must(run.resumed_at <= run.steps, "resumed_at: a step after the end of the run")
    yield from _must(run.parameters.total > 0, "parameters: a model without any")
    yield from _must(run.seconds > 0, "seconds: none")
    losses = [entry["loss"] for entry in run.log_history if entry.get("loss") is not None]
    logged = not losses or (run.loss_first, run.loss_last) == (losses[0], losses[-1])
    yield from _must(logged, "loss_first, loss_last: not the first and the last loss of log_history")
    yield from _must(run.eval_loss == run.last.eval_loss, "eval_loss: not that of the last checkpoint")
    measured = run.checkpoint(run.released).score
    again = abs(run.score - measured) <= SCORED_AGAIN
    yield from _must(again, f"score: {run.score:.4f}, and the checkpoint that was saved has {measured:.4f}")


def _choice(choice: CheckpointChoice) -> Iterator[str]:
    best, last = choice.candidates.best, choice.candidates.last
    if best.step == last.step:
        yield from _must(best == last, "candidates: one step, and two results")
    elif best.reranked_ndcg is None or last.reranked_ndcg is None:
        yield "candidates: two checkpoints, and not both were measured"
    else:
        better = "best" if best.reranked_ndcg >= last.reranked_ndcg else "last"
        yield from _must(
            choice.released == better, f"released: {choice.released}, though the {better} one ranks better"
        )


def _data(data: DataResult) -> Iterator[str]:
    yield from _equal("rows", data.rows, sum(config.rows for config in data.configs.values()))
    yield from _must(data.rows_scored_now <= data.rows, "rows_scored_now: more than there are")
    for name, config in data.configs.items():
        label = config.label
        yield from _must(label.min <= label.mean <= label.max, f"configs.{name}.label: not in their order")


CHECKS: dict[str, Any] = {
    "data": _data,
    "run": _run,
    "choice": _choice,
    "evaluate": _evaluate,
    "speed": _speed,
    "export": _export,
    "engines": _engines,
}


# --- One record against the others -------------------------------------------------------------------------------------


def _together(measured: CardRecords) -> Iterator[str]:
    run, choice, evaluate = measured.run.measured, measured.choice.measured, measured.evaluate.measured
    for name in ("best", "last"):
        mine, its = choice.candidate(name), run.checkpoint(name)
        same = (mine.step, mine.score, mine.eval_loss) == (its.step, its.score, its.eval_loss)
        yield from _must(same, f"records/choice.json: candidates.{name} is not that of the training")
    yield from _must(choice.released == run.released, "records/choice.json: released is not what the training keeps")
    ndcg, dtype = choice.candidate(choice.released).reranked_ndcg, measured.choice.subject.dtype
    if ndcg is not None and dtype == measured.evaluate.subject.dtype:
        yield from _equal(f"records/choice.json: candidates.{choice.released}", ndcg, evaluate.means.all.reranked_ndcg)
    if evaluate.parameters is not None:
        yield from _equal("records/evaluate.json: parameters", evaluate.parameters, run.parameters.total)
    engines, export = measured.engines, measured.export
    allowed = parity.allowed(export.measured.score_range, export.rehearsal)
    for index, form in enumerate(export.measured.forms):
        yield from _equal(f"records/export.json: forms.{index}.tolerance", form.tolerance, allowed)
    allowed = parity.allowed(engines.measured.score_range, engines.rehearsal)
    within = 0.01 * allowed
    yield from _equal("records/engines.json: allowed", engines.measured.allowed, allowed, within=within)
    yield from _subjects(measured)
    created = {kind: getattr(measured, kind).created for kind in ("run", "choice", "evaluate", "speed", "export")}
    for kind, when in created.items():
        yield from _must(when >= created["run"], f"records/{kind}.json: created before the model was trained")


def _subjects(measured: CardRecords) -> Iterator[str]:
    rows, subject = measured.evaluate.measured.tasks, measured.evaluate.subject
    stages, tasks = {row.first_stage for row in rows}, {row.task: row.task_revision for row in rows}
    yield from _must(
        stages == set(subject.first_stages), "records/evaluate.json: subject.first_stages are not its rows'"
    )
    yield from _must(tasks == subject.tasks, "records/evaluate.json: subject.tasks are not its rows'")
    passes = {len(speed.passes) for speed in measured.speed.measured.configurations}
    yield from _must(passes <= {measured.speed.subject.passes}, "records/speed.json: not the passes of its protocol")
    trained, manifest = measured.run.subject, measured.manifest["configs"]
    figures = {figure.step: figure for figure in measured.run.measured.nano}
    for each in measured.run.measured.checkpoints:
        figure = figures.get(each.step)
        rule = figure and (figure.all_positives if trained.always_rerank_positives else figure.retrieved_positives)
        told = rule in (None, each.score)
        yield from _must(told, f"records/run.json: the score of step {each.step} is not the figure that its rule names")
    run = measured.run.measured
    pairs = (run.steps - run.resumed_at) * trained.global_batch_size
    if run.pairs_per_second is not None:  # which is rounded to a tenth, as the seconds are
        off = abs(run.pairs_per_second * run.seconds - pairs)
        likely = off <= 0.06 * (run.pairs_per_second + run.seconds)
        yield from _must(likely, "records/run.json: pairs_per_second is not what its steps and seconds give")
    off, rest = run.examples - run.steps * trained.global_batch_size, trained.epochs * trained.global_batch_size
    yield from _must(abs(off) < rest, "records/run.json: examples are not those of its steps")
    if len(run.nano) > len(run.checkpoints):
        before = run.nano[0].all_positives if trained.always_rerank_positives else run.nano[0].retrieved_positives
        yield from _must(run.baseline == before, "records/run.json: baseline is not the figure before the first step")
    rate = (run.hyperparameters or {}).get("learning_rate", trained.learning_rate)
    yield from _must(rate == trained.learning_rate, "records/run.json: two learning rates")
    length, read = measured.export.measured.max_length, measured.evaluate.subject.max_length
    yield from _must(read == length, f"records/evaluate.json: read {read} tokens, and the export reads {length}")
    yield from _must(
        trained.max_length == length, f"records/run.json: trained with {trained.max_length} tokens, not {length}"
    )
    yield from _must(
        subject.model == measured.speed.subject.model, "records/speed.json: not the model of the evaluation"
    )
    yield from _equal("records/run.json: data_rows", trained.data_rows, sum(trained.configs.values()))
    shards = {name: sum(shard["rows"] for shard in entry["shards"]) for name, entry in manifest.items()}
    labelled = {name: config.rows for name, config in measured.data.measured.configs.items()}
    yield from _must(shards == labelled, "records/data.json: configs are not the shards of the manifest")
    for name, entry in manifest.items():
        label = measured.data.measured.configs[name].label if name in labelled else None
        same = label is None or dataclasses.asdict(label) == {
            key: entry["label"][key] for key in ("min", "mean", "max")
        }
        yield from _must(same, f"records/data.json: configs.{name}.label is not the manifest's")
