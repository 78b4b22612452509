"""BM25 as a first stage: by the language of the task, named in the run's revision, and never silent about nothing."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mteb
import numpy as np
import pytest

from release import family
from release.errors import ReleaseError
from release.evaluation import embedders, first_stage, retrievers, tasks
from release.rehearsal import models


def collection(folder: Path, documents: list[str], queries: list[str]) -> Path:
    """A BEIR folder in which query n is answered by document n."""
    folder.mkdir()
    for name, texts in (("corpus", documents), ("queries", queries)):
        rows = [json.dumps({"_id": f"{name[0]}{number}", "text": text}) for number, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    (folder / "qrels.tsv").write_text("".join(f"q{number}\tc{number}\t1\n" for number in range(len(queries))))
    return folder


def test_the_analyser_and_the_language_are_named_and_another_language_is_another_run(tmp_path: Path) -> None:
    english, german = first_stage.first_stage("bm25"), first_stage.first_stage("bm25", "de")
    assert "Snowball" in english.revision and "PyStemmer" in english.revision and "(en where" in english.revision
    assert english.slug != german.slug
    task = tasks.from_folder(collection(tmp_path / "c", ["Die Häuser", "Ein Garten"], ["ein Haus", "viele Gärten"]))
    assert first_stage.retrieve(german, task, tmp_path / "runs").ranking == {"q0": ["c0"], "q1": ["c1"]}


@pytest.mark.parametrize(
    ("languages", "wanted"),
    [
        (["eng-Latn"], "eng"),
        (["deu-Latn"], "deu"),
        (["eng-Latn", "deu-Latn"], None),
        ({"de": ["deu-Latn"], "fr": ["fra-Latn"]}, "deu"),
        (["und-Zyyy"], None),
        (["c++-Code"], "zxx"),
        (["go-Code", "eng-Latn"], None),
    ],
)
def test_mtebs_tasks_name_their_language(languages: object, wanted: str | None) -> None:
    assert retrievers.task_language(SimpleNamespace(eval_langs=languages), "de") == wanted


def test_a_first_stage_that_finds_nothing_for_most_queries_says_so_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents, queries = (
        ["open a file", "close a door", "read a book"],
        ["ouvrir un fichier", "fermer une porte", "book"],
    )
    task = tasks.from_folder(collection(tmp_path / "c", documents, queries))
    for _ in range(2):  # the second run is read from its file
        first_stage.retrieve(first_stage.first_stage("bm25"), task, tmp_path / "runs")
        assert "bm25 finds no document for 2 of 3 queries of c" in capsys.readouterr().err


def test_documents_of_stopwords_only_are_one_line_with_the_collection(tmp_path: Path) -> None:
    task = tasks.from_folder(collection(tmp_path / "c", ["the of and"] * 3, ["read a file"]))
    with pytest.raises(ReleaseError, match="no word in any of the 3 documents but stopwords; in c;"):
        first_stage.retrieve(first_stage.first_stage("bm25"), task, tmp_path / "runs")


ROOT = Path(__file__).resolve().parents[2]
ETTIN = family.load(ROOT / "recipes/ettin.toml")
PROMPTS = {  # what stands before a query and a document of a retrieval task, in mteb 2.26.24's registry or in the family
    "sentence-transformers/static-retrieval-mrl-en-v1": ("", ""),
    "sentence-transformers/all-MiniLM-L6-v2": ("", ""),
    "BAAI/bge-small-en-v1.5": ("Represent this sentence for searching relevant passages: ", ""),
    "nomic-ai/nomic-embed-text-v1.5": ("search_query: ", "search_document: "),
    "google/embeddinggemma-300m": ("task: search result | query: ", "title: none | text: "),
    "jinaai/jina-embeddings-v5-text-small-retrieval": ("Query: ", "Document: "),
}


def encoded(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str], Any]:
    """What the stand-in of an embedder really encodes for one query and one document, and its vectors."""
    from datasets import Dataset
    from mteb.types import PromptType
    from sentence_transformers import SentenceTransformer
    from torch.utils.data import DataLoader

    models.build(name, "embedder", folder)
    wrapper = embedders._loader(embedders.registered(name))
    monkeypatch.setattr(embedders, "_loader", lambda known: partial(_from, wrapper, folder))
    loaded = embedders.load(name, "c" * 40, ETTIN.model(name))
    assert {str(weight.dtype) for weight in loaded.model.parameters()} == {"torch.float32"}
    seen: list[list[str]] = []
    tokenize = SentenceTransformer.preprocess

    def watched(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        prompt = kwargs.get("prompt") or ""
        seen.append([f"{prompt}{text}" for text in inputs])
        return tokenize(self, inputs, *args, **kwargs)

    monkeypatch.setattr(SentenceTransformer, "preprocess", watched)
    about = mteb.get_task("SCIDOCS").metadata
    vectors = [
        loaded.encode(
            DataLoader(Dataset.from_list([{"text": text}])),
            task_metadata=about,
            hf_split="test",
            hf_subset="default",
            prompt_type=kind,
        )
        for text, kind in (("a question", PromptType.query), ("an answer", PromptType.document))
    ]
    return seen[0], seen[1], vectors


def _from(wrapper: Any, folder: Path, name: str, **options: Any) -> Any:
    """mteb's wrapper over the stand-in's folder; nomic's knows its model by the name."""
    loaded = wrapper(str(folder), **options)
    loaded.model_name = name
    return loaded


@pytest.mark.parametrize("name", ETTIN.evaluation.embedders)
def test_each_embedder_encodes_behind_its_registered_prompts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, document = PROMPTS[name]
    queries, documents, vectors = encoded(name, tmp_path / "stand-in", monkeypatch)
    assert (queries, documents) == ([f"{query}a question"], [f"{document}an answer"])
    length = np.linalg.norm(np.asarray(vectors[0]), axis=-1)
    if name.startswith("nomic"):  # its wrapper normalises, which its modules do not
        assert length == pytest.approx(1, abs=1e-5)


def test_a_first_stage_is_named_by_the_registrys_commit_and_all_that_is_special() -> None:
    stages = {name: first_stage.first_stage(name, "en", ETTIN.model(name)) for name in list(PROMPTS)[2:4]}
    bge, nomic = stages.values()
    assert bge.revision == f"{embedders.registered(bge.name).revision}, query '{PROMPTS[bge.name][0]}'"
    assert "query 'search_query: ', document 'search_document: ', NomicWrapper, without its own code" in nomic.revision
    other = first_stage.first_stage(bge.name, "en", family.ModelConfig(revision="a" * 40, prompts={"query": "q: "}))
    assert other.revision == f"{'a' * 40}, query 'q: '"
    assert len({bge.slug, nomic.slug, other.slug}) == 3


def test_a_reranker_on_the_hub_is_refused_by_its_settings_before_a_weight_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    classifier = {"architectures": ["BertForSequenceClassification"]}
    for name, files in (
        ("acme/new", {"config_sentence_transformers.json": {"model_type": "CrossEncoder"}, "modules.json": []}),
        ("acme/old", {"config.json": classifier}),
    ):
        snapshot = tmp_path / f"models--{name.replace('/', '--')}/snapshots/{'c' * 40}"
        snapshot.mkdir(parents=True)
        for file, value in files.items():
            (snapshot / file).write_text(json.dumps(value))
        with pytest.raises(ReleaseError, match="a reranker, whose one score"):
            embedders.load(name, "c" * 40, family.ModelConfig())
        with pytest.raises(ReleaseError, match="a reranker, whose one score"):
            embedders.load_folder(snapshot, "")
    (snapshot / "modules.json").write_text("[]")  # an embedder whose encoder was a classifier
    embedders.check_kind("acme/old", lambda file: snapshot / file)
