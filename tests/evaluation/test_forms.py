"""How each compared model is run: the table in code and docs is one, and a model of another form is refused by its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from release import family
from release.errors import CannotRun
from release.evaluation import forms, rerankers
from release.rehearsal import models
from tests import built

ROOT = built.DEMO.parents[1]
ETTIN = ROOT / "recipes/ettin.toml"
ONE_OF_EACH = {
    "mixedbread-ai/mxbai-rerank-base-v2": ("Qwen2ForCausalLM, logit of 1 minus logit of 0, chat template ", 12),
    "zeroentropy/zerank-2-reranker": ("Qwen3ForCausalLM, logit of Yes, chat template ", 12),
    "cross-encoder/ms-marco-MiniLM-L4-v2": ("BertForSequenceClassification", 0),
}


def test_every_compared_model_of_the_family_has_its_form_in_code_and_docs() -> None:
    ettin = family.load(ETTIN)
    text = (ROOT / "recipes/README.md").read_text(encoding="utf-8")
    for name in (ettin.teacher.model, *ettin.evaluation.compared):
        form = forms.documented(name)
        assert form is not None, name
        how = f"{form.how}: {form.refused}" if form.refused else form.how
        assert f"| {name} | {f'`{form.revision}`' if form.revision else 'newest'} | {how} |" in text


def test_what_needs_code_of_its_own_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(CannotRun, match=r"code of its own.*jinaai/jina-reranker-m0"):
        rerankers.load("jinaai/jina-reranker-m0")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_stand_in_in_the_documented_form_is_described(name: str, tmp_path: Path) -> None:
    says, more = ONE_OF_EACH[name]
    reranker = rerankers.load(str(models.build(name, "compared", tmp_path / "model")))
    assert reranker.form is not None and reranker.form.startswith(says) and len(reranker.form) == len(says) + more
    forms.check(name, reranker.model)


def test_other_tokens_a_head_or_no_question_are_refused(tmp_path: Path) -> None:
    def load(name: str) -> Any:
        return rerankers.load(str(models.build(name, "compared", tmp_path / name))).model

    causal, classifier = load("mixedbread-ai/mxbai-rerank-base-v2"), load("cross-encoder/ms-marco-MiniLM-L4-v2")
    with pytest.raises(CannotRun, match=r"compares '1' and '0' here, and 'yes' and 'no' in its documented form"):
        forms.check("Qwen/Qwen3-Reranker-4B", causal)
    with pytest.raises(CannotRun, match=r"compares '1' and '0' here, and no tokens"):
        forms.check("BAAI/bge-reranker-base", causal)
    with pytest.raises(CannotRun, match=r"compares no tokens here, and 'Yes'"):
        forms.check("zeroentropy/zerank-2-reranker", classifier)
    causal.tokenizer.chat_template = None
    with pytest.raises(CannotRun, match="no chat template: nothing would be asked"):
        forms.check("mixedbread-ai/mxbai-rerank-base-v2", causal)
    forms.check("acme/unknown", causal)  # as its repository says
    assert forms.describe(causal).endswith(", no chat template")


def test_weights_that_are_in_no_file_or_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = models.build("BAAI/bge-reranker-base", "compared", tmp_path / "model")
    settings = (folder / "config.json").read_text()
    two = {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    (folder / "config.json").write_text(json.dumps(json.loads(settings) | two))
    with pytest.raises(CannotRun, match="no CrossEncoder there"):
        rerankers.load(str(folder))
    (folder / "config.json").write_text(settings)
    weights = load_file(folder / "model.safetensors")
    whole = {name: value for name, value in weights.items() if not name.startswith("classifier.")}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CannotRun, match=r"4 of its weights are in none of its files.*such as classifier\."):
        rerankers.load(str(folder))


def test_no_more_tokens_are_read_than_the_model_has_positions(tmp_path: Path) -> None:
    folder = models.build("cross-encoder/ms-marco-MiniLM-L4-v2", "compared", tmp_path / "model")
    assert rerankers.load(str(folder), max_length=8_192).max_length == 512
    assert rerankers.load(str(folder), max_length=64).max_length == 64
    assert rerankers.load(str(folder)).max_length == 512
