"""Stand-ins of everything that a family names load with the libraries that load the published ones, and are odd where those are."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from release import spec
from release.evaluation import embedders
from release.family import Family, load
from release.hub_objects import hub_objects
from release.rehearsal import benchmarks, models, repositories, sources
from release.spec import MixtureSpec

ETTIN = Path("recipes/ettin.toml")
FAMILY = replace(load(ETTIN), data=replace(load(ETTIN).data, mixture=None, mixture_revision=None))
PAIRS = [("who built the mill", "The mill was built in 1620 by Ada Barlow."), ("how high is it", "Nothing is known.")]
RUNS = [name for name in FAMILY.evaluation.compared if name != "jinaai/jina-reranker-m0"]


@pytest.fixture(scope="module")
def declaration(tmp_path_factory: pytest.TempPathFactory) -> MixtureSpec:
    """The family's mixture in small."""
    path = tmp_path_factory.mktemp("declaration") / "small.yaml"
    path.write_text(sources.scaled(FAMILY.data.declaration.read_text(encoding="utf-8")), encoding="utf-8")
    return spec.load(path)


# --- Models -----------------------------------------------------------------------------------------------------------


def test_an_encoder_has_its_true_shape_and_the_keys_of_both_generations(tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    name = FAMILY.size("17m").encoder
    folder = models.build(name, "encoder", tmp_path)
    assert sum(weight.numel() for weight in AutoModel.from_pretrained(folder).parameters()) == 16_797_440
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["ModernBertForMaskedLM"]
    assert {"rope_parameters", "global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"} <= config.keys()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(tokenizer("a mill", "of stone")["input_ids"])[0] == "[CLS]"
    assert tokenizer.decode(tokenizer("Übung", add_special_tokens=False)["input_ids"]) == "Übung"  # bytes of any text


def test_a_large_encoder_may_have_fewer_layers_and_nothing_else() -> None:
    name = "jhu-clsp/ettin-encoder-1b"
    whole, cut = models.shape(name), models.shape(name, 70_000_000)
    assert (whole["num_hidden_layers"], cut["num_hidden_layers"]) == (28, models.LEAST_LAYERS)
    assert whole | {"num_hidden_layers": 4} == cut
    assert models.shape("jhu-clsp/ettin-encoder-68m", 70_000_000) == models.shape("jhu-clsp/ettin-encoder-68m")
    assert models.shape("jhu-clsp/ettin-encoder-150m", 80_000_000)["num_hidden_layers"] == 8


def test_the_same_name_gives_the_same_weights_and_another_name_others(tmp_path: Path) -> None:
    folders = {
        subfolder: models.build(name, "embedder", tmp_path / subfolder)
        for subfolder, name in (("one", "a/b"), ("again", "a/b"), ("other", "a/c"))
    }
    one, again, other = ((folder / "model.safetensors").read_bytes() for folder in folders.values())
    assert one == again != other


@pytest.mark.parametrize("name", FAMILY.evaluation.embedders)
def test_every_embedder_loads_in_its_own_form(name: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(models.build(name, "embedder", tmp_path)), device="cpu")
    first, second = model.encode([text for pair in PAIRS for text in pair])[:2]
    assert (first != second).any()
    kinds = [type(module).__name__ for module in model]
    pooling = {"BAAI": "cls", "jinaai": "lasttoken"}.get(name.split("/")[0], "mean")
    if "static" in name:
        assert kinds == ["StaticEmbedding"]
    else:
        assert model[1].pooling_mode == pooling
    assert kinds.count("Dense") == (2 if "gemma" in name else 0)
    prompts = {"google/embeddinggemma-300m": "task: search result | query: ", "jinaai": "Query: "}
    assert (model.prompts.get("query") or None) == prompts.get(name, prompts.get(name.split("/")[0]))


@pytest.mark.parametrize("name", [FAMILY.teacher.model, *RUNS])
def test_every_reranker_gives_one_score_per_pair_in_its_own_form(name: str, tmp_path: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder

    folder = models.build(name, "compared", tmp_path)
    model = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    scores = model.predict(PAIRS)
    assert scores.shape == (2,)
    assert scores[0] != scores[1]
    answers = {"Qwen/": ["yes", "no"], "zeroentropy/": ["Yes"], "mixedbread-ai/mxbai-rerank-large-v2": ["1", "0"]}
    for start, tokens in answers.items():
        if name.startswith(start):
            ids = [model[-1].true_token_id, model[-1].false_token_id][: len(tokens)]
            assert model.tokenizer.convert_ids_to_tokens(ids) == tokens
            assert "document" in model.tokenizer.chat_template


def test_what_needs_code_of_its_own_cannot_be_run(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    folder = models.build("jinaai/jina-reranker-m0", "compared", tmp_path)
    with pytest.raises(ValueError, match="Qwen2VLConfig"):
        CrossEncoder(str(folder), device="cpu")


def test_a_reranker_without_fast_attention_is_timed_with_eager_attention(tmp_path: Path) -> None:
    from release.speed import configurations

    folder = models.build("mixedbread-ai/mxbai-rerank-base-v1", "compared", tmp_path)
    default = configurations.candidates("CPU")[0][0]
    loaded = configurations.load(default, str(folder), 128)
    assert (default.attention, loaded.attention) == (None, "eager")
    assert len(loaded.predict(PAIRS, 2)) == 2


def test_a_model_that_no_pattern_fits_has_the_form_of_its_role() -> None:
    assert models.form_of("acme/new-reranker", "compared") == "bert-reranker"
    assert models.form_of("acme/new-embedder", "embedder") == "bert-embedder"


def test_every_form_is_built_for_somebody() -> None:
    named = [(FAMILY.teacher.model, "teacher"), *((name, "embedder") for name in FAMILY.evaluation.embedders)]
    named += [(name, "compared") for name in FAMILY.evaluation.compared]
    assert {models.form_of(name, role) for name, role in named} == set(models.FORMS)  # ty: ignore[invalid-argument-type]


# --- Benchmarks -------------------------------------------------------------------------------------------------------


def test_the_nano_sets_are_read_by_the_evaluator_of_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderNanoBEIREvaluator

    folder = benchmarks.nano(tmp_path / "nano", FAMILY.evaluation.nano_sets)
    names = [name.removeprefix("Nano").lower() for name in FAMILY.evaluation.nano_sets]
    evaluator = CrossEncoderNanoBEIREvaluator(names, dataset_id=str(folder), always_rerank_positives=False)
    assert len(evaluator.evaluators) == 13
    for each in evaluator.evaluators:
        assert len(each.samples) == benchmarks.NANO_QUERIES
        assert all(len(sample["documents"]) == benchmarks.NANO_CANDIDATES for sample in each.samples)
    reached = [sample["positive"][0] in sample["documents"] for each in evaluator.evaluators for sample in each.samples]
    assert sum(reached) / len(reached) > 0.7  # words find most answers, and there is something left to rerank


def mteb_task(name: str, folder: Path) -> Any:
    """The task as mteb's own loader reads it, from a local folder instead of the Hub."""
    import mteb

    from release.evaluation import tasks

    task: Any = copy.copy(mteb.get_task(name))
    where = {**task.metadata.dataset, "path": str(benchmarks.mteb_data(folder, name))}
    task.metadata = task.metadata.model_copy(update={"dataset": where})
    return tasks.from_mteb(task)


@pytest.mark.parametrize("name", FAMILY.evaluation.tasks)
def test_every_task_is_read_by_mteb_with_what_is_odd_about_it(name: str, tmp_path: Path) -> None:
    task = mteb_task(name, tmp_path / name)
    documents = {row["id"]: row for row in task.split["corpus"]}
    queries = dict(zip(task.split["queries"]["id"], task.split["queries"]["text"], strict=True))
    levels = {level for judged in task.judgements.values() for level in judged.values()}
    assert len(queries) == benchmarks.QUERIES
    assert all(document in documents for judged in task.judgements.values() for document in judged)
    assert (queries.keys() <= documents.keys()) == (name == "ArguAna")
    assert any(not row["text"] for row in documents.values()) == (name in ("FiQA2018", "TRECCOVID"))
    assert all(not row["title"] for row in documents.values()) == (name == "FiQA2018")
    assert (-1 in levels) == (name == "TRECCOVID")
    assert (0 in levels) == (name in ("TRECCOVID", "SCIDOCS"))


def test_the_pairs_for_speed_are_two_columns_some_longer_than_is_read(tmp_path: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset(str(benchmarks.question_pairs(tmp_path)), split="train[:200000]")
    assert rows.column_names == ["query", "answer"]
    words = sorted(len(answer.split()) for answer in rows["answer"])
    assert words[len(words) // 2] < 100
    assert words[-1] > 512


# --- Training data ----------------------------------------------------------------------------------------------------


def test_a_scaled_declaration_differs_in_numbers_of_rows_only(declaration: MixtureSpec) -> None:
    whole = yaml.safe_load(FAMILY.data.declaration.read_text(encoding="utf-8"))
    small = yaml.safe_load(declaration.path.read_text(encoding="utf-8"))
    assert small["configs"]["amazon_reviews"]["cap"] == {"rows": 5_000_000 // sources.SCALE, "draw": "seeded"}
    assert small["configs"]["quora"]["held_out"]["rows"] < whole["configs"]["quora"]["held_out"]["rows"]

    def without_rows(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: without_rows(entry)
                for key, entry in value.items()
                if key not in ("rows", "shard_rows", "otherwise", "sampling")
            }
        return value

    assert without_rows(small) == without_rows(whole)


def test_of_docstrings_which_have_no_stand_in_few_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "few.yaml"
    path.write_text(sources.scaled(Path("datasets/docstring-reranker-data.yaml").read_text(encoding="utf-8")))
    small = spec.load(path)
    plan, made = small.configs["docstrings"].candidates, small.evaluation
    assert plan is not None and made is not None
    assert {(each.queries, each.documents) for each in (plan, made.collection)} == {(60, 200)}
    assert (made.nano.queries, made.nano.documents) == (40, 200)


def test_of_files_which_have_no_stand_in_a_rehearsal_needs_no_cap_and_fewer_are_held_out(tmp_path: Path) -> None:
    config = {"source": {"kind": "files", "path": "rows.jsonl"}, "rows": 9_000, "labels": "teacher", "overlaps": []}
    config |= {"license": "mit", "license_link": None, "cap": {"rows": 5_000, "draw": "first"}}
    held_out = {"many": 400, "few": 3}
    configs = {name: config | {"held_out": {"rows": rows, "split": "dev"}} for name, rows in held_out.items()}
    path = tmp_path / "files.yaml"
    path.write_text(
        sources.scaled(yaml.safe_dump({"name": "n", "title": "t", "seed": 1, "shard_rows": 900, "configs": configs}))
    )
    small = spec.load(path).configs
    assert {name: (each.cap, each.held_out and each.held_out.rows) for name, each in small.items()} == {
        "many": (None, sources.LEAST_HELD_OUT),
        "few": (None, 3),
    }


def test_the_sources_have_every_config_with_marks_and_more_rows_than_the_cap(
    declaration: MixtureSpec, tmp_path: Path
) -> None:
    from datasets import get_dataset_config_names, load_dataset

    objects = hub_objects(FAMILY, declaration, [])
    configs_by_id = {each.id: list(each.configs) for each in objects if each.role == "source"}
    assert sum(map(len, configs_by_id.values())) == len(declaration.configs) == 39
    (plain, configs), (retrieval, domains) = sorted(configs_by_id.items(), key=lambda item: -len(item[1]))
    folder = sources.write_source(tmp_path / "plain", configs)
    assert set(get_dataset_config_names(str(folder))) == {config.source.config for config in configs}  # ty: ignore
    rows = load_dataset(str(folder), "amazon_reviews", split="train")
    assert rows.column_names == ["query", "document", "similarity", "drop", "duplicate"]
    marked = sum(row["drop"] or row["duplicate"] is not None or row["document"] is None for row in rows)
    cap = declaration.configs["amazon_reviews"].cap
    assert cap is not None
    assert len(rows) - marked > cap.rows
    folder = sources.write_source(tmp_path / "retrieval", domains)
    assert set(get_dataset_config_names(str(folder))) == {"documents", "queries", "scores", "scores_merged"}
    lists = load_dataset(str(folder), "scores", split="fever")
    sampling = domains[0].sampling
    assert sampling is not None
    assert len(lists[0]["document_ids"]) == len(lists[0]["scores"]) > sampling.candidates
    assert retrieval != plain


# --- All of it --------------------------------------------------------------------------------------------------------


def test_a_family_of_two_sizes_needs_39_repositories_fifteen_of_them_at_a_commit(declaration: MixtureSpec) -> None:
    import mteb

    repos = repositories.stand_ins(FAMILY, declaration, ["17m", "32m"])
    assert len({each.id for each in repos}) == len(repos) == 39
    pinned = {each.id: each.commit for each in repos if each.commit}
    tasks = [mteb.get_task(name).metadata.dataset for name in FAMILY.evaluation.tasks]
    registry = {name: embedders.registered(name) for name in FAMILY.evaluation.embedders}
    known = {name: meta.revision for name, meta in registry.items() if meta}
    assert pinned == {task["path"]: task["revision"] for task in tasks} | known
    assert len(known) == 5  # jina v5 "-retrieval" is not in mteb's registry
    roles = {role: sum(each.role == role for each in repos) for role in ("encoder", "embedder", "compared", "source")}
    assert roles == {"encoder": 2, "embedder": 6, "compared": 16, "source": 2}


def test_stand_ins_are_kept_until_the_family_asks_for_others(declaration: MixtureSpec, tmp_path: Path) -> None:
    def of(family: Family) -> list[repositories.StandIn]:
        return [each for each in repositories.stand_ins(family, declaration, []) if "NanoBEIR" in each.id]

    (first,) = repositories.build(of(FAMILY), tmp_path).values()
    written = (first / "README.md").stat().st_mtime_ns
    (again,) = repositories.build(of(FAMILY), tmp_path).values()
    assert (again, (again / "README.md").stat().st_mtime_ns) == (first, written)
    fewer = replace(FAMILY, evaluation=replace(FAMILY.evaluation, nano_sets=FAMILY.evaluation.nano_sets[:2]))
    (other,) = repositories.build(of(fewer), tmp_path).values()
    assert not first.exists()
    assert "NanoTouche2020" not in (other / "README.md").read_text()


def test_a_family_without_a_hub_needs_nothing(declaration: MixtureSpec) -> None:
    local: Family = load(Path("recipes/demo.toml"))
    evaluation = replace(local.evaluation, compared=(), embedders=("bm25",))
    local = replace(local, evaluation=evaluation)
    nothing = replace(declaration, configs={"docstrings": declaration.configs["quora"]})
    ids = {each.id for each in repositories.stand_ins(local, nothing, [])}
    assert "mixedbread-ai/mxbai-rerank-large-v2" not in ids
