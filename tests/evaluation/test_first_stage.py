"""BM25 as a first stage: by the language of the task, named in the run's revision, and never silent about nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from release.errors import ReleaseError
from release.evaluation import first_stage, retrievers, tasks


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
