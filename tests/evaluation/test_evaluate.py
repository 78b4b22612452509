"""Evaluation: a reranker that does nothing gains nothing, an oracle reaches the ceiling, and no number is measured twice."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import os
import random
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval

from release import family, records, results
from release.__main__ import main
from release.card import acceptance, render
from release.errors import ReleaseError
from release.evaluation import calibration, evaluate, first_stage, tasks
from release.evaluation.first_stage import FirstStage
from release.evaluation.rerankers import Pairs, Reranker
from release.evaluation.two_stage import Row, evaluate_task, means
from release.hub import verify
from tests import built
from tests.tiny import tiny_encoder, tiny_reranker

ROOT = Path(__file__).resolve().parents[2]
WORDS = [
    "red",
    "green",
    "blue",
    "gold",
    "iron",
    "salt",
    "wind",
    "rain",
    "snow",
    "leaf",
    "root",
    "seed",
    "bird",
    "fish",
    "wolf",
    "bear",
]
QUERIES, DOCUMENTS, TOP = 12, 60, 8


def make_collection(folder: Path) -> Path:
    """Documents of random words; a query's graded answers share its words, and one answer shares none: BM25 misses it."""
    draw = random.Random(3)
    corpus = [" ".join(draw.choices(WORDS, k=6)) + f" d{i}" for i in range(DOCUMENTS)] + [
        f"hidden h{i}" for i in range(QUERIES)
    ]
    names = [f"d{i}" for i in range(DOCUMENTS)] + [f"h{i}" for i in range(QUERIES)]
    queries = [" ".join(draw.sample(WORDS, 2)) for _ in range(QUERIES)]
    lines = ["query-id\tcorpus-id\tscore"]
    for number, query in enumerate(queries):
        near = [i for i in range(DOCUMENTS) if any(word in corpus[i].split() for word in query.split())]
        lines += [f"q{number}\t{names[i]}\t{1 + i % 2}" for i in draw.sample(near, 3)] + [f"q{number}\th{number}\t1"]
    folder.mkdir(parents=True)
    rows = [{"_id": name, "title": "", "text": text} for name, text in zip(names, corpus, strict=True)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": f"q{i}", "text": text}) for i, text in enumerate(queries))
    )
    (folder / "qrels.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_collection(tmp_path / "weather")


def judged(collection: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line in (collection / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, score = line.split("\t")
        qrels.setdefault(query, {})[document] = int(score)
    return qrels


def texts(collection: Path, name: str) -> dict[str, str]:
    rows = map(json.loads, (collection / f"{name}.jsonl").read_text().splitlines())
    return {row["text"]: row["_id"] for row in rows}


class Counting:
    """A reranker by a function of (query text, document text) that counts the pairs it was asked for."""

    def __init__(self, score: Callable[[str, str], float]) -> None:
        self.score, self.asked = score, 0

    def __call__(self, pairs: Any) -> np.ndarray:
        self.asked += len(pairs)
        return np.array([self.score(query, document) for query, document in pairs], np.float32)


def oracle(collection: Path) -> Counting:
    qrels, queries, corpus = judged(collection), texts(collection, "queries"), texts(collection, "corpus")
    return Counting(lambda query, document: float(qrels[queries[query]].get(corpus[document], 0)))


def measure(collection: Path, predict: Counting, cache: str = "kept", top_k: int = TOP, **facts: Any) -> Row:
    reranker = Reranker(**({"name": "r", "revision": "1"} | facts), predict=predict)
    stage = first_stage.first_stage("bm25")
    (row,) = evaluate_task(
        reranker, tasks.from_folder(collection), [stage], top_k=top_k, runs=Path("runs"), cache_dir=Path(cache)
    )
    return row


def ndcg(run: dict[str, dict[str, float]], qrels: dict[str, dict[str, int]]) -> float:
    """Mean NDCG@10 over all judged queries by trec_eval itself."""
    per_query = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut_10"}).evaluate(run)
    return float(np.mean([per_query[query]["ndcg_cut_10"] if query in per_query else 0.0 for query in qrels]))


def first_run(top_k: int = TOP) -> dict[str, dict[str, float]]:
    (path,) = Path().rglob("*_predictions.json")
    (subset,) = (value for key, value in json.loads(path.read_text()).items() if key != "mteb_model_meta")
    (run,) = subset.values()
    return {query: dict(list(scores.items())[:top_k]) for query, scores in run.items()}


def test_a_reranker_that_does_nothing_gains_exactly_nothing(collection: Path) -> None:
    row = measure(collection, Counting(lambda query, document: 1.5))
    result = row.result
    assert result.gain == 0 and not row.gains.any()
    assert (result.helped, result.hurt, result.unchanged) == (0, 0, QUERIES)
    assert result.first_stage_ndcg == pytest.approx(ndcg(first_run(), judged(collection)), abs=1e-9)


def test_an_oracle_reaches_the_ceiling_and_no_more(collection: Path) -> None:
    row = measure(collection, oracle(collection))
    qrels = judged(collection)
    best = {
        query: {name: float(qrels[query].get(name, 0)) for name in retrieved}
        for query, retrieved in first_run().items()
    }
    result = row.result
    assert result.reranked_ndcg == result.oracle_ndcg == pytest.approx(ndcg(best, qrels), abs=1e-9)
    assert result.first_stage_ndcg < result.oracle_ndcg < 1  # BM25 cannot find the hidden answers
    assert result.ci_low <= result.gain <= result.ci_high
    retrieved = sum(name in first_run()[query] for query, answers in qrels.items() for name in answers)
    assert result.recall == pytest.approx(retrieved / sum(map(len, qrels.values())))


def test_the_worst_order_hurts(collection: Path) -> None:
    best = oracle(collection)
    result = measure(collection, Counting(lambda query, document: -best.score(query, document))).result
    assert result.gain < 0 and result.hurt > result.helped == 0


def test_nothing_is_measured_twice_and_nothing_stale_is_reused(collection: Path) -> None:
    predict = Counting(lambda query, document: len(document) + 0.01 * len(query))
    once = measure(collection, predict)
    pairs = predict.asked
    again = measure(collection, predict)
    assert predict.asked == pairs and again.result == once.result and (again.gains == once.gains).all()
    for change in ({"revision": "2"}, {"dtype": "bfloat16"}, {"max_length": 7}, {"attention": "sdpa"}, {"top_k": 5}):
        before = predict.asked
        measure(collection, predict, **change)
        assert predict.asked > before, change
    before = predict.asked
    path = collection / "corpus.jsonl"
    path.write_text(path.read_text().replace("hidden h0", "found h0"))
    moved = measure(collection, predict)
    assert predict.asked > before and moved.result.task_revision != once.result.task_revision


def test_a_first_stage_runs_once_for_all_rerankers(collection: Path) -> None:
    loads = []
    plain = first_stage.first_stage("bm25")

    def load(folder: Path) -> Any:
        loads.append(1)
        return plain.load(folder)

    stage: FirstStage = dataclasses.replace(plain, load=load)
    for name in ("a", "b"):
        reranker = Reranker(name, "1", Counting(lambda query, document: 0.0))
        evaluate_task(
            reranker, tasks.from_folder(collection), [stage], top_k=TOP, runs=Path("runs"), cache_dir=Path(name)
        )
    assert loads == [1]


def test_killed_it_continues_behind_the_last_finished_row(collection: Path) -> None:
    folders = [collection, make_collection(Path("climate"))]
    path = Path("climate/corpus.jsonl")
    path.write_text(path.read_text().replace(" d1", " e1"))
    predict = Counting(lambda query, document: float(len(document)))

    def both(second: Callable[[Pairs], np.ndarray]) -> None:
        for folder, scores in zip(folders, (predict, second), strict=True):
            stage, task = first_stage.first_stage("bm25"), tasks.from_folder(folder)
            evaluate_task(
                Reranker("r", "1", scores), task, [stage], top_k=TOP, runs=Path("runs"), cache_dir=Path("kept")
            )

    def kill(pairs: Pairs) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it lives")

    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            both(kill)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    rows = {path: path.read_bytes() for path in Path("kept/rows").iterdir()}
    assert len(rows) == 1 and predict.asked == 0
    both(predict)
    assert 0 < predict.asked <= QUERIES * TOP  # the second collection only
    assert all(path.read_bytes() == content for path, content in rows.items())
    assert len(list(Path("kept/rows").iterdir())) == 2


def test_tasks_inside_and_outside_the_training_data_are_averaged_apart(collection: Path) -> None:
    row = measure(collection, oracle(collection))
    other = Row(dataclasses.replace(row.result, in_domain=False), -row.gains)
    averages = means([Row(dataclasses.replace(row.result, in_domain=True), row.gains), other])
    assert averages.in_domain is not None and averages.in_domain.gain == pytest.approx(row.gains.mean())
    assert averages.out_of_domain is not None and averages.out_of_domain.gain == pytest.approx(-row.gains.mean())
    assert averages.all.gain == pytest.approx(0)


def test_any_cross_encoder_on_any_folder(collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_reranker(tmp_path / "model", tiny_encoder(tmp_path / "encoder"))
    evaluate.command(model=str(folder), collection=collection, top_k=TOP, output=Path("result.json"))
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"first_stage", "reranked", "gain", "ci_low", "ci_high", "queries"} <= line.keys()
    assert line["queries"] == QUERIES and line["first_stage"] == pytest.approx(ndcg(first_run(), judged(collection)))
    record = json.loads(Path("result.json").read_text())
    assert record["model_sha256"] == records.model_hash(folder)
    assert record["subject"]["dtype"] in ("float32", "bfloat16") and record["subject"]["top_k"] == TOP


def test_what_is_no_collection_or_no_model_is_said_in_one_line(collection: Path, tmp_path: Path, encoder: Path) -> None:
    with pytest.raises(ReleaseError, match="ModernBertModel has no head that scores"):
        evaluate.command(model=str(encoder), collection=collection)
    with pytest.raises(ReleaseError, match="no collection"):
        evaluate.command(model="m", collection=tmp_path / "absent")
    (collection / "qrels.tsv").unlink()
    with pytest.raises(ReleaseError, match=r"no qrels\.tsv"):
        evaluate.command(model="m", collection=collection)
    with pytest.raises(ReleaseError, match="nothing to evaluate"):
        evaluate.command()


def test_wrong_usage_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--top-k", "0"], ["--top", "5"], ["--output"]):
        assert main(["evaluate", *words]) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") and line.endswith("hint: python -m release evaluate --help\n")
        assert line.count("\n") == 1
    assert main(["evaluat"]) == 2
    assert "No such command 'evaluat'" in capsys.readouterr().err


def test_only_the_familys_protocol_comes_onto_a_card(collection: Path) -> None:
    demo = family.load(ROOT / "recipes/demo.toml")
    folder = demo.build / "data/collections/docstrings"
    folder.parent.mkdir(parents=True)
    collection.rename(folder)
    measured, subject = built.evaluation(), built.evaluation_subject(demo)
    subject = dataclasses.replace(subject, tasks={"docstrings": tasks.from_folder(folder).revision})
    good = records.new(results.EVALUATE, family=demo.about.name, size="mini", measured=measured, subject=subject)
    where = Path("records/evaluate.json")
    acceptance.evaluation(good, demo, where)
    gpu = dataclasses.replace(good.machine, device="NVIDIA H100")
    fewer = dataclasses.replace(measured, tasks=measured.tasks[:1])
    deeper = tuple(dataclasses.replace(row, top_k=100) for row in measured.tasks)
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"measured": fewer}, "no evaluation of docstrings over sentence-transformers"),
        ({"measured": dataclasses.replace(measured, tasks=deeper)}, f"with top_k {demo.evaluation.top_k}"),
        ({"machine": gpu}, "made in float32, not bfloat16"),
        ({"subject": dataclasses.replace(subject, tasks={"docstrings": "0" * 40})}, "which moved"),
    )
    for change, says in changes:
        with pytest.raises(ReleaseError, match=says):
            acceptance.evaluation(dataclasses.replace(good, **change), demo, where)
    ettin = family.load(ROOT / "recipes/ettin.toml")
    timed, protocol = built.speed_result(), built.speed_subject(ettin)
    on_cpu = records.new(results.SPEED, family="ettin", measured=timed, subject=protocol)
    with pytest.raises(ReleaseError, match="speed was measured on CPU, but a card of this family shows"):
        acceptance.speed(on_cpu, ettin, where)


def test_calibration_finds_the_map_keeps_the_order_and_says_how_good_it_is() -> None:
    draw = np.random.default_rng(5)
    labels = draw.normal(0, 3, 4000)  # the teacher's logits
    scores = (4 * labels + 7).astype(np.float32)  # a model that says the same on another scale
    result = calibration.measure(scores, labels.astype(np.float32))
    assert result.temperature is not None and result.offset is not None and result.brier is not None
    assert result.temperature == pytest.approx(4, rel=1e-3) and result.offset == pytest.approx(7, rel=1e-2)
    assert result.brier < 1e-6 < result.brier_sigmoid
    assert sum(bin.pairs for bin in result.reliability) == result.pairs_measured == 2000
    mapped = calibration.sigmoid((np.sort(scores.astype(np.float64)) - result.offset) / result.temperature)
    assert (np.diff(mapped) >= 0).all() and mapped.min() >= 0 and mapped.max() <= 1
    upside_down = calibration.measure(-scores, labels.astype(np.float32))
    assert upside_down.temperature is None and upside_down.brier is None  # no falling map is offered


def test_the_cards_map_to_0_1_is_the_one_that_was_fitted(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = built.workspace(tmp_path, reranker, monkeypatch)
    text = render.model_card(demo, built.SIZE, acceptance.card_records(demo, built.SIZE))
    (snippet,) = (code for code in verify.SNIPPET.findall(text) if "zero_to_one" in code)
    names: dict[str, Any] = {}
    folder = demo.folder(built.SIZE) / "model"
    exec(snippet.replace(demo.model_id(built.SIZE), str(folder)), names)
    ranked = ast.literal_eval(
        re.sub(r"np\.float32\(([^)]*)\)", r"\1", capsys.readouterr().out.strip().splitlines()[-1])
    )
    model, fitted = names["model"], built.evaluation().calibration
    assert fitted is not None and fitted.temperature is not None and fitted.offset is not None
    raw = model.rank("how do I read a file line by line", names["documents"])
    assert [row["corpus_id"] for row in ranked] == [row["corpus_id"] for row in raw]
    expected = [(row["score"] - fitted.offset) / fitted.temperature for row in raw]
    assert [row["score"] for row in ranked] == pytest.approx(calibration.sigmoid(np.array(expected)), abs=1e-5)
