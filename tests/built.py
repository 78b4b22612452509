"""A build folder as the earlier stages leave it: a tiny trained model, real text with labels, hand-made records."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from release import records, results
from release.engines import catalogue
from release.evaluation import queries
from release.export import checkpoint
from release.family import Family, load
from release.records import Record
from release.results.data import ConfigLabels, DataResult, DataSubject, LabelRange
from release.results.engines import CpuSpeed, EngineLatency, EngineResult, EnginesResult, EnginesSubject
from release.results.evaluation import (
    Calibration,
    EvaluationResult,
    EvaluationSubject,
    MeanResult,
    Means,
    NanoMeans,
    NanoResult,
    QueryScores,
    ScoredQueries,
    TaskResult,
    TeacherEvaluation,
)
from release.results.export import ExportResult, ExportSubject
from release.results.speed import (
    BatchSpeed,
    ConfigurationSpeed,
    EnergyPerPair,
    Latency,
    SpeedResult,
    SpeedSubject,
    TokenLengths,
)
from release.results.training import (
    Candidate,
    Candidates,
    Checkpoint,
    CheckpointChoice,
    ChoiceSubject,
    EnergyUse,
    NanoFigures,
    Parameters,
    RunSubject,
    TrainingRun,
)
from tests.shared import once

DEMO = Path(__file__).resolve().parent.parent / "recipes/demo.toml"
SIZE = "mini"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def family() -> Family:
    """The embedded family; its build folder is relative, so tests work in a folder of their own."""
    return load(DEMO)


def renamed(path: Path, name: str) -> Family:
    """The embedded family, written to `path` with another version, dataset and collection: a release of its own.

    Its texts hold what is no ASCII, and not in the first plane.
    """
    text = DEMO.read_text(encoding="utf-8")
    for old, new in (
        ('version = "v1"', f'version = "{name}"'),
        ('"docstring-reranker-data"', f'"docstring-data-{name}"'),
        ('"Docstring Rerankers"', f'"Docstring Rerankers 🔎 {name}"'),
        ('summary = "A small', 'summary = "🔎 A small'),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return load(path)


def docstrings() -> list[tuple[str, str]]:
    """Real pairs on every machine: (first line, rest) of the standard library's docstrings."""
    import argparse
    import pathlib
    import statistics
    import tarfile

    pairs = {}
    for module in (argparse, pathlib, statistics, tarfile):
        for name, value in [*inspect.getmembers(module), *inspect.getmembers(getattr(module, "TarFile", module))]:
            line, _, rest = (inspect.getdoc(value) or "").partition("\n")
            if callable(value) and line and not name.startswith("__"):
                pairs[line] = rest.strip() or name
    return sorted(pairs.items())


def write_mixture(data: Path) -> None:
    """`data/mixture` with one config of two splits, and its manifest; labels are word overlaps."""
    rows = docstrings()
    labels = [float(len(set(query.split()) & set(document.split()))) for query, document in rows]
    shards = []
    for split, part in (("train", slice(80, None)), ("validation", slice(0, 80))):
        path = data / "mixture/docstrings" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        columns: dict[str, Any] = {"query": [row[0] for row in rows[part]], "document": [row[1] for row in rows[part]]}
        columns["label"] = pa.array(labels[part], pa.float32())
        parquet.write_table(pa.table(columns), path)
        shard = {"name": path.name, "split": split, "rows": len(labels[part]), "bytes": path.stat().st_size}
        shard["bytes_in_memory"] = pa.table(columns).nbytes
        shards.append(shard | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    entry = {
        "source": {"kind": "docstrings"},
        "license": "other",
        "license_link": None,
        "license_note": "docstrings keep the licences of their packages",
        "cap": None,
        "overlaps_declared": [],
        "overlap": {"docstrings": {"queries": 1, "documents": 2, "query_share": 0.01, "document_share": 0.02}},
        "packages": {"numpy": "2.0.0"},
        "revision": "numpy 2.0.0",
        "rows_in": len(rows) + 3,
        "dropped": {"duplicate": 2},
        "quarantined": 1,
        "sample": {"query": rows[80][0], "document": rows[80][1][:300], "label": labels[80]},
        "label": {"min": min(labels), "max": max(labels), "mean": sum(labels) / len(labels)},
        "shards": shards,
    }
    manifest = {"name": "docstring-reranker-data", "title": "Docstrings", "overlap": "report"}
    manifest |= {"declaration": "docstring-reranker-data.yaml", "declaration_sha256": "d" * 64}
    manifest |= {"teacher": {"model": "bm25-minilm-hybrid", "template_sha256": "e" * 64, "max_length": 256}}
    manifest["configs"] = {"docstrings": entry}
    (data / "mixture/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def write_collection(folder: Path, longest: int = 200) -> None:
    """Docstrings in BEIR's form: each line's own text, cut at `longest` characters to be scored quickly, is its answer."""
    rows = [(line, text[:longest]) for line, text in docstrings()[:80]]
    folder.mkdir(parents=True)
    corpus = [json.dumps({"_id": f"d{index}", "title": "", "text": text}) for index, (_, text) in enumerate(rows)]
    queries = [json.dumps({"_id": f"q{index}", "text": text}) for index, (text, _) in enumerate(rows)]
    judged = ["query-id\tcorpus-id\tscore", *(f"q{index}\td{index}\t1" for index in range(len(rows)))]
    for name, lines in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels.tsv", judged)):
        (folder / name).write_text("\n".join(lines) + "\n")


def write_model(folder: Path, reranker: Path) -> str:
    """`<size>/model`, a copy of the tiny reranker; returns its hash."""
    shutil.copytree(reranker, folder / "model")
    return records.model_hash(folder / "model")


QUERIES, HELPED, HURT = 500, 123, 45


def scores(stage: str, first: float, gain: float, better: float) -> QueryScores:
    """Scores of 500 queries with these means: 123 gain `better`, 45 lose alike, the others stay as they were."""
    worse = (HELPED * better - QUERIES * gain) / HURT
    gains = [better] * HELPED + [-worse] * HURT + [0.0] * (QUERIES - HELPED - HURT)
    return QueryScores(
        task="docstrings",
        first_stage=stage,
        queries=tuple(f"q{index}" for index in range(QUERIES)),
        first_stage_ndcg=(first,) * QUERIES,
        reranked_ndcg=tuple(first + each for each in gains),
        oracle_ndcg=(0.91357,) * QUERIES,
        recall=(0.87531,) * QUERIES,
    )


SCORES = ScoredQueries(
    model=(scores("bm25", 0.57913, 0.02214, 0.23), scores(MINILM, 0.61234, -0.00323, 0.13)),
    teacher=(scores("bm25", 0.57913, 0.06408, 0.27), scores(MINILM, 0.61234, 0.03117, 0.17)),
)


def row(stage: str, first: float, reranked: float, low: float, high: float) -> TaskResult:
    """One row of the record "evaluate"."""
    return TaskResult(
        first_stage_ndcg=first,
        reranked_ndcg=reranked,
        oracle_ndcg=0.91357,
        gain=reranked - first,
        ci_low=low,
        ci_high=high,
        task="docstrings",
        task_revision="0" * 40,
        dataset=None,
        first_stage=stage,
        top_k=20,
        recall=0.87531,
        helped=HELPED,
        hurt=HURT,
        unchanged=QUERIES - HELPED - HURT,
        queries=QUERIES,
        pairs=10_000,
        pairs_scored=10_000,
        seconds=12.5,
        in_domain=False,
    )


@functools.cache
def measured_rows(who: str) -> tuple[tuple[TaskResult, ...], Means]:
    """The rows of "model" or "teacher", and the means over them, as `SCORES` gives them."""
    rows = []
    for each in getattr(SCORES, who):
        quality = queries.measures_of(each).quality()
        made = row(each.first_stage, quality.first_stage_ndcg, quality.reranked_ndcg, quality.ci_low, quality.ci_high)
        made = dataclasses.replace(made, gain=quality.gain, oracle_ndcg=quality.oracle_ndcg)
        rows.append(made)
    return tuple(rows), queries.means_of(rows, [queries.measures_of(each).gains for each in getattr(SCORES, who)])


def evaluation() -> EvaluationResult:
    """What was measured for the record "evaluate", with odd figures that are easy to find."""
    (rows, means), (taught, taught_means) = measured_rows("model"), measured_rows("teacher")
    nano = NanoResult(
        dataset="nano",
        revision="f" * 40,
        sets={"NanoDocstrings": 0.7123},
        mean=0.7123,
        base=0.5,
        protocol="100 candidates; NDCG@10 over the positives among them",
        always_rerank_positives=False,
        all_positives=NanoMeans(0.6281, {"NanoDocstrings": 0.6281}),
        retrieved_positives=NanoMeans(0.7123, {"NanoDocstrings": 0.7123}),
        in_domain=("NanoDocstrings",),
    )
    calibration = Calibration(
        target="sigmoid of the teacher's logit",
        temperature=0.813,
        offset=1.29,
        pairs_fitted=500,
        pairs_measured=501,
        brier=0.0321,
        brier_sigmoid=0.0987,
        brier_constant=0.0654,
        reliability=(),
    )
    teacher = TeacherEvaluation("bm25-minilm-hybrid", "stand-in", None, taught, taught_means, nano)
    return EvaluationResult(rows, means, 153_345, nano, teacher, calibration)


def speed_result(rate: float = 432.1, dtype: str = "float32") -> SpeedResult:
    """What was measured for the record "speed"."""
    best = ConfigurationSpeed(
        batch=64,
        pairs_per_second=rate,
        passes=(rate, rate, rate),
        name="fp32, unpadded" if dtype == "float32" else "bf16",
        dtype=dtype,
        scores_dtype="float32",
        attention="unpadded",
        padded=False,
        ours=True,
        peak_memory_mb=876.5,
        max_score_difference=0.0,
        batches=(BatchSpeed(64, rate, (rate, rate, rate), 876.5),),
        stopped="out of memory at 128 pairs",
    )
    slower = BatchSpeed(64, 0.62 * rate, (0.62 * rate,) * 3, 876.5)
    padded = {"name": f"{best.name}, padded", "attention": "sdpa", "padded": True, "ours": False}
    published = dataclasses.replace(best, **vars(slower), **padded, batches=(slower,))
    return SpeedResult(
        best=best,
        published=published,
        configurations=(published, best),
        skipped={},
        latency=(Latency(documents=100, p50_ms=149.6, p95_ms=194.7, repeats=20),),
        energy=EnergyPerPair(None, "not readable here"),
        lengths=TokenLengths(97.4, 80.0, 200.0, 250, 0.0, ()),
        pairs=2_048,
        full_length=None,
    )


def training_run(**changed: Any) -> TrainingRun:
    """What was measured for the record "run": the best checkpoint at step 493, the last at 617."""
    best, last = Checkpoint(493, 0.71234, 2.5), Checkpoint(617, 0.70917, 2.4)
    run = TrainingRun(
        steps=617,
        examples=39_488,
        seconds=283.4,
        resumed_at=0,
        pairs_per_second=139.3,
        loss_first=9.5,
        loss_last=2.5,
        eval_loss=2.4,
        baseline=0.5,
        checkpoints=(best, last),
        best=best,
        last=last,
        nano=(NanoFigures(0, 0.3, 0.5), NanoFigures(493, 0.6, 0.71234), NanoFigures(617, 0.59, 0.70917)),
        score=0.71234,
        released="best",
        log_history=({"step": 7, "loss": 9.5}, {"step": 490, "loss": 2.71}, {"step": 611, "loss": 2.5}),
        energy=EnergyUse(kwh=0.0617, co2_kg=0.0239),
        parameters=Parameters(encoder=149_056, head=4_289),
        hyperparameters={"learning_rate": 4e-4, "seed": 12},
    )
    return dataclasses.replace(run, **changed)


def run_subject(data: Path) -> RunSubject:
    """The subject of the record "run", trained on the mixture in `data`."""
    manifest = data / "manifest.json"
    return RunSubject(
        data=str(data),
        data_revision=hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else "d" * 64,
        data_rows=39_488,
        configs={"docstrings": 39_488},
        encoder="recipes/encoder",
        encoder_revision=None,
        encoder_sha256=None,
        learning_rate=4e-4,
        global_batch_size=64,
        loss="margin-mse",
        epochs=1,
        warmup=0.03,
        evaluations=1,
        seed=12,
        nano="nano",
        nano_sets=("NanoDocstrings",),
        always_rerank_positives=False,
        optimizer="adamw_torch",
        max_length=512,
        attention="unpadded",
        precision="bf16",
        processes=1,
        per_device_batch_size=64,
        smoke=False,
        teacher="bm25-minilm-hybrid",
    )


def choice() -> CheckpointChoice:
    """What was measured for the record "choice"."""
    best, last = (
        Candidate(493, 0.71234, 2.5, reranked_ndcg=0.60519),
        Candidate(617, 0.70917, 2.4, reranked_ndcg=0.60308),
    )
    return CheckpointChoice(Candidates(best, last), "best")


def evaluation_subject(family: Family, dtype: str = "float32") -> EvaluationSubject:
    """The subject of the record "evaluate" for the family's tasks, first stages and nano sets."""
    settings = family.evaluation
    return EvaluationSubject(
        model="model",
        dtype=dtype,
        max_length=512,
        attention="unpadded",
        top_k=settings.top_k,
        first_stages=dict.fromkeys(settings.embedders, "1" * 40),
        tasks=dict.fromkeys((*settings.tasks, *settings.collections), "0" * 40),
        nano={"nano": "f" * 40},
        mteb="2.26.24",
    )


def speed_subject(family: Family) -> SpeedSubject:
    """The subject of the record "speed", by the family's protocol."""
    return SpeedSubject(
        model="model",
        pairs=family.speed.pairs,
        pairs_sha256="a" * 64,
        max_length=family.speed.max_length,
        first_batch=family.speed.first_batch,
        passes=family.speed.passes,
        threads=2,
        cuda=None,
        driver=None,
        required_device=family.speed.device,
    )


def write_records(family: Family, sha256: str) -> None:
    """The records "data", "run", "choice", "evaluate" and "speed" of the embedded family's only size."""
    entry = json.loads((family.build / "data/mixture/manifest.json").read_text())["configs"]["docstrings"]
    rows = sum(shard["rows"] for shard in entry["shards"])
    labels = DataResult(
        rows, rows, 1.5, round(rows / 1.5, 1), {"docstrings": ConfigLabels(rows, LabelRange(**entry["label"]), 1)}
    )
    scored = queries.write(family.folder(SIZE) / "records", SCORES)
    evaluated = dataclasses.replace(evaluation(), queries_sha256=scored)
    subject = DataSubject({"model": "bm25-minilm-hybrid"}, "d" * 64)
    record = records.new(results.DATA, family=family.about.name, measured=labels, subject=subject)
    records.write(record, family.build / "records")
    about: dict[str, Any] = {"family": family.about.name, "size": SIZE, "model_sha256": sha256}
    chosen = ChoiceSubject("float32", family.evaluation.top_k, family.evaluation.embedders)
    for kind, measured, subject in (
        (results.RUN, training_run(), run_subject(family.build / "data/mixture")),
        (results.CHOICE, choice(), chosen),
        (results.EVALUATE, evaluated, evaluation_subject(family)),
        (results.SPEED, speed_result(), speed_subject(family)),
    ):
        record = records.new(kind, measured=measured, subject=subject, **about)
        records.write(record, family.folder(SIZE) / "records")


def write_engines(model_family: Family, export: Record[ExportResult, ExportSubject]) -> None:
    """The record "engines" of an export, as if every core engine had been run and was equal."""
    rows = tuple(
        EngineResult(
            name=engine.name,
            title=engine.title.replace("{version}", "7.7.7"),
            core=True,
            verdict="rounding" if engine.rounding else "option" if engine.option else "equal",
            reason=None,
            option=engine.option,
            max_score_difference=0.00000317,
            rank_agreement=0.99991,
            unequal=engine.unequal,
            default_difference=None,
            ndcg=0.61237 if engine.rounding else None,
            ndcg_change=-0.00023 if engine.rounding else None,
            versions=dict.fromkeys(engine.versions, "7.7.7"),
            language=engine.language,
            snippet=engine.snippet.strip(),
        )
        for engine in catalogue.engines(every=False)
        if engine.snippet  # others are only read
    )
    judged, speed = "docstrings, BM25's top 20 of 60 queries", CpuSpeed("onnxruntime", 987.6, 123.4, 256)
    waited = tuple(
        EngineLatency(name, 2, tuple(Latency(count, ms * count, ms * count * 1.07, 20) for count in (10, 100)))
        for name, ms in (("OpenVINO, bf16", 0.713), ("ONNX Runtime, fp32", 1.234))
    )
    result = EnginesResult(132, 29, (-4.12, 6.78), 0.000109, judged, rows, speed, waited)
    record = records.new(
        results.ENGINES,
        family=model_family.about.name,
        size=SIZE,
        model_sha256=export.model_sha256,
        measured=result,
        subject=EnginesSubject(export.measured.sha256),
    )
    records.write(record, model_family.folder(SIZE) / "records")


def write_comparison(found: Family, *, compared: int = 3, device: str = "NVIDIA H100 80GB HBM3") -> None:
    """Records of every size of `found`, of the teacher's speed, and of the first `compared` public rerankers.

    No model is beside them. All figures are made up and differ from each other, so that each is found where it belongs.
    """
    about: dict[str, Any] = {"family": found.about.name, "device": device}
    sizes = {size: (found.folder(size), size) for size in found.sizes}
    others = {name: (found.compared_folder(name), "") for name in found.evaluation.compared[:compared]}
    trained, evaluated = run_subject(found.build / "data/mixture"), evaluation_subject(found, "bfloat16")
    for number, (name, (folder, size)) in enumerate((sizes | others).items()):
        of = about | {"size": size, "model_sha256": hashlib.sha256(name.encode()).hexdigest()}
        if size:
            run = training_run(parameters=Parameters(encoder=17_000_001 * 2**number, head=66_305))
            records.write(records.new(results.RUN, measured=run, subject=trained, **of), folder / "records")
        measured = compared_evaluation(found, number, size)
        records.write(records.new(results.EVALUATE, measured=measured, subject=evaluated, **of), folder / "records")
        write_speed(found, folder, 8_001 / (number + 1), **of)
    write_speed(found, found.build / "teacher", 387.4, **about)


def write_speed(model_family: Family, folder: Path, rate: float, **about: Any) -> None:
    """The record "speed" with `rate` pairs per second as the best."""
    record = records.new(
        results.SPEED, measured=speed_result(rate, "bfloat16"), subject=speed_subject(model_family), **about
    )
    records.write(record, folder / "records")


def compared_evaluation(model_family: Family, number: int, size: str) -> EvaluationResult:
    """An evaluation whose figures depend on the model's place in the order."""
    settings = model_family.evaluation
    tasks = (*settings.tasks, *settings.collections)

    def mean(stage: int, gain: float) -> MeanResult:
        first = 0.34951 + 0.05017 * stage
        interval = (gain - 0.01003, gain + 0.01107)
        return MeanResult(first, first + gain, 0.9, gain, *interval, rows=60, queries=12_345)

    def means(level: float) -> Means:
        stages = {name: mean(index, level - 0.03 * index) for index, name in enumerate(settings.embedders)}
        return Means(mean(2, level), mean(2, level - 0.02), mean(2, level - 0.013), stages)

    rows = tuple(
        dataclasses.replace(row(stage, 0.5, 0.6, 0.05, 0.15), task=task, top_k=settings.top_k)
        for task in tasks
        for stage in settings.embedders
    )
    level = 0.10123 + 0.01371 * number if size else 0.15511 - 0.00713 * (number - len(model_family.sizes))
    score = 0.67461 + 0.00937 * number
    means_of_nano = [NanoMeans(each, dict.fromkeys(settings.nano_sets, each)) for each in (score + 0.11117, score)]
    nano = NanoResult(settings.nano, "f" * 40, dict.fromkeys(settings.nano_sets, score), score, 0.5, "100 candidates")
    nano = dataclasses.replace(nano, always_rerank_positives=False, dtype=settings.nano_dtype)
    nano = dataclasses.replace(nano, all_positives=means_of_nano[0], retrieved_positives=means_of_nano[1])
    other = dataclasses.replace(nano, sets={"Other": score})  # sets that the family does not name: not shown
    teacher = TeacherEvaluation(model_family.teacher.model, "cross-encoder", 1_543_714_305, rows, means(0.18037), other)
    return EvaluationResult(
        tasks=rows,
        means=means(level),
        parameters=150_000_007 * (number + 1),
        nano=nano,
        teacher=teacher if size else None,
        calibration=None,
    )


@functools.cache
def template(reranker: Path) -> Path:
    """A folder with everything up to the records; it takes seconds."""
    return once(reranker.parent, "built", lambda folder: write_template(folder, reranker))


def write_template(folder: Path, reranker: Path) -> None:
    """Fill `folder` as the stages up to the export leave it."""
    with contextlib.chdir(folder):
        model_family = family()
        write_mixture(model_family.build / "data")
        write_records(model_family, write_model(model_family.folder(SIZE), reranker))
        write_engines(model_family, checkpoint.export(model_family, SIZE))


def workspace(folder: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """A copy of the template as the working folder; returns the family whose build folder it holds."""
    shutil.copytree(template(reranker), folder, dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    return family()


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place, through a new file: staged folders share their files with the build folder."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.unlink()
    path.write_text(json.dumps(value), encoding="utf-8")


def measure_again(family: Family, kind: str, **changed: Any) -> None:
    """Write a record of the only size anew with other results, as a second measurement would."""
    folder = family.folder(SIZE) / "records"
    record = records.read(folder, results.KINDS[kind])
    records.write(dataclasses.replace(record, measured=dataclasses.replace(record.measured, **changed)), folder)
