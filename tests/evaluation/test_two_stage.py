"""The benchmarks of a release through the real evaluators, on small local stand-ins: every figure as trec_eval has it."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mteb
import numpy as np
import pytest
import pytrec_eval

from release import family
from release.card import acceptance
from release.errors import ReleaseError
from release.evaluation import evaluate, tasks
from release.evaluation.evaluate import Evaluated
from release.family import Family
from release.results.evaluation import EvaluationResult, TeacherEvaluation
from tests import built
from tests.evaluation.test_evaluate import WORDS, ndcg
from tests.tiny import tiny_encoder, tiny_reranker

TASKS = ("ArguAna", "SCIDOCS")  # the first one leaves out the query's own text, the second does not
EMBEDDERS = ("embedders/wide", "embedders/narrow")
SETS = ("NanoWords", "NanoMore")
TOP, QUERIES, DOCUMENTS = 6, 8, 30
Texts = dict[str, str]
Judged = dict[str, dict[str, int]]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def texts(seed: int) -> tuple[Texts, Texts, Judged]:
    """Documents and queries of random words; the first query has the id and the text of a document."""
    draw = random.Random(seed)
    corpus = {f"d{i}": " ".join(draw.choices(WORDS, k=3 + i % 7)) for i in range(DOCUMENTS)}
    queries = {"d0": corpus["d0"]} | {f"q{i}": " ".join(draw.sample(WORDS, 3)) for i in range(1, QUERIES)}
    judged = {query: {name: 1 for name in draw.sample(sorted(corpus), 4) if name != query} for query in queries}
    return corpus, queries, judged


def write_dataset(folder: Path, configs: dict[str, tuple[str, list[dict[str, Any]]]]) -> None:
    """A local dataset: config -> (split, rows)."""
    folder.mkdir(parents=True, exist_ok=True)
    head = (folder / "README.md").read_text().removesuffix("---\n") if (folder / "README.md").exists() else ""
    known = head or "---\nconfigs:\n"
    for config, (split, rows) in configs.items():
        (folder / f"{config}-{split}.jsonl").write_text(lines(rows))
        known += f"- config_name: {config}\n  data_files:\n  - {{split: {split}, path: {config}-{split}.jsonl}}\n"
    (folder / "README.md").write_text(known + "---\n")


def write_task(folder: Path, seed: int) -> None:
    corpus, queries, judged = texts(seed)
    write_dataset(
        folder,
        {
            "corpus": ("test", [{"_id": key, "title": "", "text": text} for key, text in corpus.items()]),
            "queries": ("test", [{"_id": key, "text": text} for key, text in queries.items()]),
            "default": (
                "test",
                [{"query-id": q, "corpus-id": d, "score": 1} for q, relevant in judged.items() for d in relevant],
            ),
        },
    )


def nano_set(seed: int) -> tuple[Texts, Texts, Judged, dict[str, list[str]]]:
    """As `texts`, with candidates in some order: not all judged documents are among them, of the last query none."""
    corpus, queries, judged = texts(seed)
    draw = random.Random(seed)
    ranked = {query: draw.sample(sorted(corpus), 12) for query in queries}
    last = list(queries)[-1]
    ranked[last] = [name for name in ranked[last] if name not in judged[last]]
    return corpus, queries, judged, ranked


def write_nano(folder: Path) -> None:
    """NanoBEIR's form: four configs with a split for each set."""
    sets = {name: nano_set(seed) for seed, name in enumerate(SETS)}
    folder.mkdir()
    head = "---\nconfigs:\n"
    for config in ("corpus", "queries", "qrels", "bm25"):
        head += f"- config_name: {config}\n  data_files:\n"
        for name, (corpus, queries, judged, ranked) in sets.items():
            rows = {
                "corpus": [{"_id": key, "text": text} for key, text in corpus.items()],
                "queries": [{"_id": key, "text": text} for key, text in queries.items()],
                "qrels": [{"query-id": query, "corpus-id": key} for query, keys in judged.items() for key in keys],
                "bm25": [{"query-id": query, "corpus-ids": keys} for query, keys in ranked.items()],
            }[config]
            (folder / f"{config}-{name}.jsonl").write_text(lines(rows))
            head += f"  - {{split: {name}, path: {config}-{name}.jsonl}}\n"
    (folder / "README.md").write_text(head + "---\n")


def write_embedder(folder: Path, width: int) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    encoder = Transformer(str(tiny_encoder(folder.parent / f"encoder-{width}", hidden=width)))
    pooling = Pooling(encoder.get_embedding_dimension(), pooling_mode="mean")
    SentenceTransformer(modules=[encoder, pooling], device="cpu").save_pretrained(str(folder))


def point(patch: pytest.MonkeyPatch, name: str, folder: Path, revision: str) -> None:
    """Let mteb's own task read a local folder instead of the Hub's dataset."""
    kind = type(mteb.get_task(name))
    dataset = {"path": str(folder), "revision": revision}
    patch.setattr(kind, "metadata", kind.metadata.model_copy(update={"dataset": dataset}))


FAMILY = {
    'name = "docstring-reranker"': 'name = "tiny"',
    'model = "bm25-minilm-hybrid"': 'model = "teacher"',
    'kind = "stand-in"': 'kind = "cross-encoder"',
    'nano = "build/docstring-reranker/data/nano"': 'nano = "nano"',
    'nano_sets = ["NanoDocstrings"]': f"nano_sets = {json.dumps(SETS)}",
    "tasks = []": f"tasks = {json.dumps(TASKS)}",
    'collections = ["docstrings"]': "collections = []",
    'embedders = ["bm25", "sentence-transformers/all-MiniLM-L6-v2"]': f"embedders = {json.dumps(EMBEDDERS)}",
    "top_k = 20": f"top_k = {TOP}",
    'packaged_embedders = ["sentence-transformers/all-MiniLM-L6-v2"]': "packaged_embedders = []",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, reranker: Path) -> Path:
    """A folder with a family of one trained model, its teacher, two embedders, two tasks and the nano sets."""
    root = tmp_path_factory.mktemp("twostage")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        text = built.DEMO.read_text()
        for old, new in FAMILY.items():
            assert old in text
            text = text.replace(old, new)
        Path("family.toml").write_text(text)
        demo = family.load(Path("family.toml"))
        for seed, name in enumerate(TASKS):
            write_task(Path("tasks") / name, 10 + seed)
        write_nano(Path("nano"))
        for name, width in zip(EMBEDDERS, (64, 32), strict=True):
            write_embedder(root / name, width)
        tiny_reranker(root / "teacher", tiny_encoder(root / "encoder", hidden=32))
        built.write_model(demo.folder(built.SIZE), reranker)
        built.write_mixture(demo.build / "data")
        entry = {"overlaps_declared": ["SCIDOCS", SETS[1]]}
        built.edit(
            demo.build / "data/mixture/manifest.json",
            lambda value: value.update(teacher=None, in_domain=["SCIDOCS"], configs={"docstrings": entry}),
        )
    return root


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    monkeypatch.chdir(workspace)
    for name in TASKS:
        point(monkeypatch, name, workspace / "tasks" / name, "1" * 40)
    return family.load(Path("family.toml"))


@pytest.fixture(scope="module")
def measured(workspace: Path) -> Evaluated:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        for name in TASKS:
            point(patch, name, workspace / "tasks" / name, "1" * 40)
        return evaluate.evaluate_size(family.load(Path("family.toml")), built.SIZE)


def candidates(workspace: Path, embedder: str, name: str) -> dict[str, dict[str, float]]:
    """The nearest documents of each query by cosine, computed without mteb."""
    from sentence_transformers import SentenceTransformer

    corpus, queries, _ = texts(10 + TASKS.index(name))
    model = SentenceTransformer(str(workspace / embedder), device="cpu")
    left, right = (
        model.encode(list(part.values()), normalize_embeddings=True, show_progress_bar=False)
        for part in (queries, corpus)
    )
    run = {}
    for query, row in zip(queries, left @ right.T, strict=True):
        nearest = sorted(zip(corpus, row.tolist(), strict=True), key=lambda pair: -pair[1])[:TOP]
        run[query] = {key: score for key, score in nearest if name != "ArguAna" or key != query}
    return run


def rescored(
    model: Path, first_run: dict[str, dict[str, float]], corpus: Texts, queries: Texts
) -> dict[str, dict[str, float]]:
    from sentence_transformers import CrossEncoder

    scorer = CrossEncoder(str(model), device="cpu", max_length=256)
    pairs = [(query, key) for query, keys in first_run.items() for key in keys]
    scores = scorer.predict([(queries[query], corpus[key]) for query, key in pairs], show_progress_bar=False)
    result: dict[str, dict[str, float]] = {query: {} for query in first_run}
    for (query, key), score in zip(pairs, scores.tolist(), strict=True):
        result[query][key] = score
    return result


def part(record: Evaluated, who: str) -> EvaluationResult | TeacherEvaluation:
    """What was measured of the model, or of its teacher."""
    result = record.measured.teacher if who == "teacher" else record.measured
    assert result is not None
    return result


@pytest.mark.parametrize("who", ["model", "teacher"])
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_both_stages_of_an_mteb_task_are_as_trec_eval_has_them(
    who: str, name: str, embedder: str, workspace: Path, measured: Evaluated
) -> None:
    model = workspace / ("teacher" if who == "teacher" else f"build/tiny/{built.SIZE}/model")
    corpus, queries, judged = texts(10 + TASKS.index(name))
    first = candidates(workspace, embedder, name)
    run = rescored(model, first, corpus, queries)
    (row,) = (
        row
        for row in part(measured, who).tasks
        if (row.task, row.first_stage) == (name, embedder.removeprefix("embedders/"))
    )
    assert row.first_stage_ndcg == pytest.approx(ndcg(first, judged), abs=1e-9)
    assert row.reranked_ndcg == pytest.approx(ndcg(run, judged), abs=1e-9)
    ideal = {query: {key: float(judged[query].get(key, 0)) for key in keys} for query, keys in first.items()}
    assert row.oracle_ndcg == pytest.approx(ndcg(ideal, judged), abs=1e-9)
    shares = [len(judged[query].keys() & first[query].keys()) / len(judged[query]) for query in queries]
    assert row.recall == pytest.approx(np.mean(shares))
    per_query = [
        ndcg({query: run[query]}, {query: judged[query]}) - ndcg({query: first[query]}, {query: judged[query]})
        for query in queries
    ]
    assert row.gain == pytest.approx(np.mean(per_query), abs=1e-9)
    assert (row.helped, row.hurt) == (
        sum(gain > 1e-9 for gain in per_query),
        sum(gain < -1e-9 for gain in per_query),
    )


def test_no_embedder_gets_anothers_score(measured: Evaluated) -> None:
    for name in TASKS:
        scores = [row.reranked_ndcg for row in measured.measured.tasks if row.task == name]
        assert len(set(scores)) == len(EMBEDDERS)


def test_results_lie_in_the_layout_of_the_public_repository(workspace: Path, measured: Evaluated) -> None:
    """results/<organization>__<model>/<revision>/experiments/<what differs>/<task>.json, beside model_meta.json."""
    folder = (
        workspace
        / f"build/tiny/{built.SIZE}/evaluation/mteb/results/local__tiny-{built.SIZE}-v1/{measured.model_sha256[:40]}"
    )
    files = {path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in folder.rglob("*.json")}
    for row in measured.measured.tasks:
        (name,) = (
            path
            for path in files
            if path.endswith(f"/{row.task}.json") and path.startswith(f"experiments/first_stage_{row.first_stage}-")
        )
        assert f"top_k_{TOP}" in name
        (score,) = files[name]["scores"]["test"]
        assert score["main_score"] == pytest.approx(row.reranked_ndcg, abs=1e-5)
        assert files[name]["dataset_revision"] == row.task_revision == "1" * 40
    assert any(name.endswith("model_meta.json") for name in files)


def test_marks_and_means_follow_the_manifest_of_the_data(measured: Evaluated) -> None:
    result = measured.measured
    for mean, name in ((result.means.in_domain, "SCIDOCS"), (result.means.out_of_domain, "ArguAna")):
        rows = [row.reranked_ndcg for row in result.tasks if row.task == name]
        assert mean is not None and mean.reranked_ndcg == pytest.approx(np.mean(rows))
    assert {row.task for row in result.tasks if row.in_domain} == {"SCIDOCS"}
    teacher = result.teacher
    assert teacher is not None and teacher.name == "teacher"
    assert (teacher.parameters or 0) < (result.parameters or 0)
    assert teacher.means.all.rows == len(TASKS) * len(EMBEDDERS)
    assert result.calibration is not None and result.calibration.pairs_fitted == 40


@pytest.mark.parametrize("who", ["model", "teacher"])
def test_the_nano_sets_are_as_trec_eval_has_them(who: str, workspace: Path, measured: Evaluated) -> None:
    """Normalised over the positives among the candidates, as the recipe does: a query without any counts 0."""
    model = workspace / ("teacher" if who == "teacher" else f"build/tiny/{built.SIZE}/model")
    nano_result, expected, over_all = part(measured, who).nano, {}, {}
    assert nano_result is not None
    for seed, name in enumerate(SETS):
        corpus, queries, judged, ranked = nano_set(seed)
        run = rescored(model, {query: dict.fromkeys(keys, 0.0) for query, keys in ranked.items()}, corpus, queries)
        texts_judged = {query: {corpus[key] for key in judged[query]} for query in queries}
        among = {
            query: {key: 1 for key in keys if corpus[key] in texts_judged[query]} for query, keys in ranked.items()
        }
        scores = pytrec_eval.RelevanceEvaluator(
            {q: keys for q, keys in among.items() if keys}, {"ndcg_cut_10"}
        ).evaluate(run)
        expected[name] = sum(each["ndcg_cut_10"] for each in scores.values()) / QUERIES
        assert len(scores) < QUERIES
        every = {query: dict.fromkeys([*keys, *judged[query]], 0.0) for query, keys in ranked.items()}
        over_all[name] = ndcg(rescored(model, every, corpus, queries), judged)
    assert nano_result.all_positives is not None and nano_result.retrieved_positives is not None
    assert nano_result.all_positives.sets == pytest.approx(over_all, abs=1e-9)
    assert (nano_result.retrieved_positives.sets, nano_result.retrieved_positives.mean) == (
        nano_result.sets,
        nano_result.mean,
    )
    assert nano_result.always_rerank_positives is False and nano_result.all_positives.mean != pytest.approx(
        nano_result.mean
    )
    assert (nano_result.dtype, nano_result.in_domain) == ("float32", (SETS[1],))
    assert nano_result.sets == pytest.approx(expected, abs=1e-9)
    assert nano_result.mean == pytest.approx(np.mean(list(expected.values())), abs=1e-9)


def test_measured_again_nothing_is_scored_and_the_record_is_the_same(
    here: Family, measured: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    from release.evaluation import nano, reranking

    monkeypatch.setattr(reranking, "predict_sorted", lambda *_: pytest.fail("scored again"))
    monkeypatch.setattr(nano, "predict_sorted", lambda *_: pytest.fail("scored again"))
    again = evaluate.evaluate_size(here, built.SIZE)
    assert again.measured == measured.measured and again.subject == measured.subject


def test_a_task_that_moved_is_measured_again(
    here: Family, workspace: Path, measured: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    point(monkeypatch, "SCIDOCS", workspace / "tasks/SCIDOCS", "2" * 40)
    rows = here.folder(built.SIZE) / "evaluation/rows"
    before = set(rows.iterdir())
    again = evaluate.evaluate_size(here, built.SIZE)
    assert again.subject.tasks["SCIDOCS"] == "2" * 40
    assert len(set(rows.iterdir()) - before) == len(EMBEDDERS)


def test_tasks_that_cannot_be_had_are_one_clear_line(here: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    point(monkeypatch, "SCIDOCS", Path("/nowhere/scidocs"), "1" * 40)
    with pytest.raises(ReleaseError, match="the data of task SCIDOCS is not here and cannot be fetched"):
        tasks.mteb_task("SCIDOCS")
    with pytest.raises(ReleaseError, match="mteb has no task 'Scidoc'"):
        tasks.mteb_task("Scidoc")


def test_a_family_may_name_the_dtype_of_each_table(here: Family, workspace: Path, tmp_path: Path) -> None:
    text = Path("family.toml").read_text().replace("[speed]", 'nano_dtype = "bfloat16"\n\n[speed]', 1)
    path = tmp_path / "family.toml"
    path.write_text(text)
    evaluated = evaluate.evaluate_size(family.load(path), built.SIZE)
    result, teacher = evaluated.measured, evaluated.measured.teacher
    assert result.nano is not None and teacher is not None and evaluated.subject.dtype == "float32"
    (other,) = result.nano_other_dtypes
    assert (result.nano.dtype, other.dtype, teacher.nano.dtype) == ("bfloat16", "float32", "bfloat16")
    named = tuple(
        replace(row, first_stage=f"embedders/{row.first_stage}") for row in result.tasks
    )  # folders have no id
    evaluated = replace(evaluated, measured=replace(result, tasks=named))
    acceptance.evaluation(evaluated, family.load(path), path)
    with pytest.raises(ReleaseError, match="the nano sets were measured in bfloat16, not float32"):
        path.write_text(text.replace('nano_dtype = "bfloat16"', 'nano_dtype = "float32"'))
        acceptance.evaluation(evaluated, family.load(path), path)
    with pytest.raises(ReleaseError, match="the evaluation was made in float32, not bfloat16"):
        path.write_text(text.replace("nano_dtype", 'dtype = "bfloat16"\nnano_dtype'))
        acceptance.evaluation(evaluated, family.load(path), path)


def test_the_judged_queries_come_in_the_order_of_the_data() -> None:
    split = {
        "queries": {"id": ["b", "a", "c"]},
        "relevant_docs": {"a": {"d": 1}, "c": {}, "b": {"d": 1}, "x": {"d": 1}},
    }
    loaded: Any = SimpleNamespace(dataset={"default": {"test": split}})
    assert list(tasks.Task("task", "1", loaded).judgements) == ["b", "a"]
