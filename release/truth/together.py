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
from release.results.training import TrainingRun
from release.truth import arithmetic
from release.truth.arithmetic import equal, must

CANDIDATES = (
    *("task", "task_revision", "dataset", "first_stage", "top_k", "queries", "pairs", "recall", "first_stage_ndcg"),
    *("oracle_ndcg", "in_domain"),
)
NANO = ("all_positives", "retrieved_positives")
HYPERPARAMETERS = {  # the trainer's name -> ours
    **{"learning_rate": "learning_rate", "num_train_epochs": "epochs", "seed": "seed", "optim": "optimizer"},
    "per_device_train_batch_size": "per_device_batch_size",
}


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
    stages, tasks = {row.first_stage for row in rows}, {(row.task, row.task_revision) for row in rows}
    yield from must(
        stages == set(subject.first_stages), "records/evaluate.json: subject.first_stages are not its rows'"
    )
    yield from must(tasks == {*subject.tasks.items()}, "records/evaluate.json: subject.tasks are not its rows'")
    yield from _nano(measured)
    yield from _teacher(measured)
    yield from _full_length(measured)
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
    yield from _logged(run)
    pairs = (run.steps - run.resumed_at) * trained.global_batch_size
    likely = arithmetic.is_rate(run.pairs_per_second, pairs, run.seconds)
    yield from must(likely, "records/run.json: pairs_per_second is not what its steps and seconds give")
    off, rest = run.examples - run.steps * trained.global_batch_size, trained.epochs * trained.global_batch_size
    yield from must(abs(off) < rest, "records/run.json: examples are not those of its steps")
    if len(run.nano) > len(run.checkpoints):
        before = run.nano[0].all_positives if trained.always_rerank_positives else run.nano[0].retrieved_positives
        yield from must(run.baseline == before, "records/run.json: baseline is not the figure before the first step")
    for name, own in HYPERPARAMETERS.items():
        said, right = (run.hyperparameters or {}).get(name), getattr(trained, own)
        yield from must(said in (None, right), f"records/run.json: hyperparameters.{name} is not its {own}")
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


def _nano(measured: CardRecords) -> Iterator[str]:
    """Every result on the nano sets is of the revision that the evaluation names, over one ranking of their own."""
    evaluate = measured.evaluate.measured
    teacher = evaluate.teacher.nano if evaluate.teacher else None
    results = [nano for nano in (evaluate.nano, teacher, *evaluate.nano_other_dtypes) if nano]
    for nano in results:
        named = measured.evaluate.subject.nano.get(nano.dataset) == nano.revision
        yield from must(named, "records/evaluate.json: a nano revision is not the one that its subject names")
        same = nano.base == results[0].base
        yield from must(same, "records/evaluate.json: nano base, of the sets' own ranking, is not the same for all")


def _teacher(measured: CardRecords) -> Iterator[str]:
    """The teacher's rows are of the same candidates."""
    result = measured.evaluate.measured
    if result.teacher:
        for key in CANDIDATES:
            mine, its = ([getattr(row, key) for row in rows] for rows in (result.tasks, result.teacher.tasks))
            yield from must(
                mine == its, f"records/evaluate.json: {key} is not the same of the model's rows and the teacher's"
            )


def _full_length(measured: CardRecords) -> Iterator[str]:
    for record in (measured.speed, *measured.further_speeds):
        full, best = record.measured.full_length, record.measured.best
        same = full is None or (
            full.name == best.name and full.batch <= best.batch and full.max_length > record.subject.max_length
        )
        yield from must(same, "records/speed.json: full_length is not the best configuration's, on longer pairs")


def _logged(run: TrainingRun) -> Iterator[str]:
    """Both figures of the nano sets, and the loss on held-out pairs, are those that the trainer logged at that step."""
    logged = {
        (entry["step"], key): value for entry in run.log_history for key, value in entry.items() if value is not None
    }
    stated = {(figures.step, f"eval_{key}_ndcg@10"): getattr(figures, key) for figures in run.nano for key in NANO}
    stated |= {(each.step, "eval_loss"): each.eval_loss for each in run.checkpoints}
    for (step, key), value in stated.items():
        told = value == logged.get((step, key), value)
        yield from must(told, f"records/run.json: {key} of step {step} is not what log_history has")
    steps = [figures.step for figures in run.nano]
    known = steps in ([each.step for each in run.checkpoints], [0, *(each.step for each in run.checkpoints)])
    yield from must(known, "records/run.json: nano has other steps than its checkpoints")


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
