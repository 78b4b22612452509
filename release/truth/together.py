"""Whether the records of a size fit each other, and the manifest of the data. One line per figure that cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from release import data_manifest
from release.card.acceptance import CardRecords
from release.export import parity
from release.records import Record
from release.results.data import DataResult, DataSubject
from release.truth import arithmetic
from release.truth.arithmetic import equal, must


def problems(measured: CardRecords) -> Iterator[str]:
    run, choice, evaluate = measured.run.measured, measured.choice.measured, measured.evaluate.measured
    for name in ("best", "last"):
        mine, its = choice.candidate(name), run.checkpoint(name)
        same = (mine.step, mine.score, mine.eval_loss) == (its.step, its.score, its.eval_loss)
        yield from must(same, f"records/choice.json: candidates.{name} is not that of the training")
    yield from must(choice.released == run.released, "records/choice.json: released is not what the training keeps")
    ndcg, dtype = choice.candidate(choice.released).reranked_ndcg, measured.choice.subject.dtype
    if ndcg is not None and dtype == measured.evaluate.subject.dtype:
        yield from equal(f"records/choice.json: candidates.{choice.released}", ndcg, evaluate.means.all.reranked_ndcg)
    if evaluate.parameters is not None:
        yield from equal("records/evaluate.json: parameters", evaluate.parameters, run.parameters.total)
    engines, export = measured.engines, measured.export
    allowed = parity.allowed(export.measured.score_range, export.rehearsal)
    for index, form in enumerate(export.measured.forms):
        yield from equal(f"records/export.json: forms.{index}.tolerance", form.tolerance, allowed)
    allowed = parity.allowed(engines.measured.score_range, engines.rehearsal)
    within = 0.01 * allowed
    yield from equal("records/engines.json: allowed", engines.measured.allowed, allowed, within=within)
    yield from _subjects(measured)
    created = {kind: getattr(measured, kind).created for kind in ("run", "choice", "evaluate", "speed", "export")}
    for kind, when in created.items():
        yield from must(when >= created["run"], f"records/{kind}.json: created before the model was trained")


def _subjects(measured: CardRecords) -> Iterator[str]:
    rows, subject = measured.evaluate.measured.tasks, measured.evaluate.subject
    stages, tasks = {row.first_stage for row in rows}, {row.task: row.task_revision for row in rows}
    yield from must(
        stages == set(subject.first_stages), "records/evaluate.json: subject.first_stages are not its rows'"
    )
    yield from must(tasks == subject.tasks, "records/evaluate.json: subject.tasks are not its rows'")
    passes = {len(speed.passes) for speed in measured.speed.measured.configurations}
    yield from must(passes <= {measured.speed.subject.passes}, "records/speed.json: not the passes of its protocol")
    trained = measured.run.subject
    figures = {figure.step: figure for figure in measured.run.measured.nano}
    for each in measured.run.measured.checkpoints:
        figure = figures.get(each.step)
        rule = figure and (figure.all_positives if trained.always_rerank_positives else figure.retrieved_positives)
        told = rule in (None, each.score)
        yield from must(told, f"records/run.json: the score of step {each.step} is not the figure that its rule names")
    run = measured.run.measured
    pairs = (run.steps - run.resumed_at) * trained.global_batch_size
    if run.pairs_per_second is not None:  # which is rounded to a tenth, as the seconds are
        off = abs(run.pairs_per_second * run.seconds - pairs)
        likely = off <= 0.06 * (run.pairs_per_second + run.seconds)
        yield from must(likely, "records/run.json: pairs_per_second is not what its steps and seconds give")
    off, rest = run.examples - run.steps * trained.global_batch_size, trained.epochs * trained.global_batch_size
    yield from must(abs(off) < rest, "records/run.json: examples are not those of its steps")
    if len(run.nano) > len(run.checkpoints):
        before = run.nano[0].all_positives if trained.always_rerank_positives else run.nano[0].retrieved_positives
        yield from must(run.baseline == before, "records/run.json: baseline is not the figure before the first step")
    rate = (run.hyperparameters or {}).get("learning_rate", trained.learning_rate)
    yield from must(rate == trained.learning_rate, "records/run.json: two learning rates")
    length, read = measured.export.measured.max_length, measured.evaluate.subject.max_length
    yield from must(read == length, f"records/evaluate.json: read {read} tokens, and the export reads {length}")
    yield from must(
        trained.max_length == length, f"records/run.json: trained with {trained.max_length} tokens, not {length}"
    )
    yield from must(
        subject.model == measured.speed.subject.model, "records/speed.json: not the model of the evaluation"
    )
    yield from equal("records/run.json: data_rows", trained.data_rows, sum(trained.configs.values()))
    yield from _labels(measured.data.measured, measured.manifest)


def of_data(record: Record[DataResult, DataSubject], manifest: dict[str, Any]) -> Iterator[str]:
    """What cannot be of a data set without its models: its record by itself, and beside the manifest of its shards."""
    yield from arithmetic.of_record("data", record, "records/data.json")
    yield from _labels(record.measured, manifest)


def _labels(data: DataResult, manifest: dict[str, Any]) -> Iterator[str]:
    configs = manifest["configs"]
    rows = {name: data_manifest.rows(entry) for name, entry in configs.items()}
    labelled = {name: config.rows for name, config in data.configs.items()}
    yield from must(rows == labelled, "records/data.json: configs are not the shards of the manifest")
    for name, entry in configs.items():
        if name in labelled:
            config, label = data.configs[name], {key: entry["label"][key] for key in ("min", "mean", "max")}
            at = f"records/data.json: configs.{name}"
            yield from must(dataclasses.asdict(config.label) == label, f"{at}.label is not the manifest's")
            yield from must(config.quarantined == entry["quarantined"], f"{at}.quarantined is not the manifest's")
        left = entry["rows_in"] - sum(entry["dropped"].values()) - entry["quarantined"]
        yield from must(left == rows[name], f"manifest.json: {name}: rows_in without what was dropped are not its rows")
        cap = entry["cap"]
        yield from must(cap is None or rows[name] <= cap["rows"], f"manifest.json: {name}: more rows than its cap")
