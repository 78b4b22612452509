"""An export says every fact under every name that some engine reads it by, and a change of any one of them is caught."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from release.errors import ReleaseError
from release.export import checkpoint, dual_root, portable
from tests import built

SIGMOID = "torch.nn.modules.activation.Sigmoid"


@pytest.fixture(scope="module")
def export(reranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of its own, which tests change and put back."""
    folder = tmp_path_factory.mktemp("portable") / "export"
    shutil.copytree(built.template(reranker) / built.family().folder(built.SIZE) / "export", folder)
    return folder


@pytest.fixture
def tampered(export: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the export whose files are links, so that it costs nothing: what is changed is written anew."""
    folder = tmp_path / "export"
    shutil.copytree(export, folder, copy_function=os.link)
    yield folder


def said(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_an_export_has_no_problem_and_says_each_fact_under_every_name(export: Path) -> None:
    assert list(checkpoint.problems(export)) == []
    config, rope = said(export, "config.json"), said(export, "config.json")["rope_parameters"]
    assert config["architectures"] == ["ModernBertForSequenceClassification"]
    assert config["global_rope_theta"] == rope["full_attention"]["rope_theta"]
    assert config["local_rope_theta"] == rope["sliding_attention"]["rope_theta"]
    assert config["global_attn_every_n_layers"] == 3
    assert config["problem_type"] == "regression"
    assert config["sbert_ce_default_activation_function"] == portable.IDENTITY
    assert config["sentence_transformers"] == {"activation_fn": portable.IDENTITY}
    tokenizer, sentence = said(export, "tokenizer_config.json"), said(export, "config_sentence_transformers.json")
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert not {"is_local", "local_files_only", "backend", "max_length", "stride"} & set(tokenizer)
    assert sentence["requirements"] == portable.REQUIREMENTS and sentence["activation_fn"] == portable.IDENTITY
    lengths = {
        tokenizer["model_max_length"],
        config["max_position_embeddings"],
        said(export, "sentence_bert_config.json")["max_seq_length"],
        said(export, "tokenizer.json")["truncation"]["max_length"],
    }
    assert lengths == {portable.max_length(export)}


def test_writing_the_settings_once_more_changes_nothing(tampered: Path) -> None:
    before = {name: said(tampered, name) for name in (*portable.FILES, "tokenizer.json")}
    portable.write(tampered)
    assert {name: said(tampered, name) for name in before} == before


def _set(file: str, *keys: str, to: Any) -> Callable[[Path], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return lambda folder: built.edit(folder / file, change)


def _drop(file: str, *keys: str) -> Callable[[Path], None]:
    return lambda folder: built.edit(folder / file, lambda content: [content.pop(key) for key in keys])


def _weights(file: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        state = load_file(folder / file)
        change(state)
        (folder / file).unlink()
        save_file(state, folder / file)

    return tamper


def _swap(folder: Path) -> None:
    built.edit(folder / "modules.json", lambda modules: modules.insert(2, modules.pop()))


def _ids(folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        ids = content["model"]["vocab"]
        ids["[CLS]"], ids["[SEP]"] = ids["[SEP]"], ids["[CLS]"]
        for token in content["added_tokens"]:
            token["id"] = ids[token["content"]]

    built.edit(folder / "tokenizer.json", change)


def _encoder_alone(folder: Path) -> None:
    import onnx_ir

    path = folder / "onnx/model.onnx"
    model = onnx_ir.load(path)
    del model.graph.outputs[0]
    path.unlink()
    onnx_ir.save(model, path)


def _cut_file(name: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(content[: len(content) // 2])

    return tamper


CONFIG, TOKENS, SENTENCE = "config.json", "tokenizer_config.json", "config_sentence_transformers.json"
PADDED = {"pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
TAMPERINGS: dict[str, tuple[Callable[[Path], None], str]] = {
    # what was found in engines
    "sigmoid for ST 4 and vLLM": (
        _set(CONFIG, "sentence_transformers", "activation_fn", to=SIGMOID),
        "config.json: sentence_transformers is",
    ),
    "sigmoid for ST 3": (
        _set(CONFIG, "sbert_ce_default_activation_function", to=SIGMOID),
        "config.json: sbert_ce_default_activation_function is",
    ),
    "sigmoid for ST 6": (_set(SENTENCE, "activation_fn", to=SIGMOID), "activation_fn is"),
    "sigmoid in the last module": (_set("4_Dense/config.json", "activation_function", to=SIGMOID), "4_Dense"),
    "no activation for ST 3": (_drop(CONFIG, "sbert_ce_default_activation_function"), "is missing"),
    "pipeline's sigmoid": (_drop(CONFIG, "problem_type"), "config.json: problem_type is missing"),
    "global theta of transformers 4": (
        _set(CONFIG, "global_rope_theta", to=10000.0),
        "config.json: global_rope_theta is",
    ),
    "local theta of transformers 5": (
        _set(CONFIG, "rope_parameters", "sliding_attention", "rope_theta", to=160000.0),
        "config.json: local_rope_theta is",
    ),
    "no keys of transformers 4": (
        _drop(CONFIG, "global_rope_theta", "local_rope_theta"),
        "global_rope_theta is missing",
    ),
    "no kinds of layers": (_drop(CONFIG, "global_attn_every_n_layers"), "global_attn_every_n_layers is missing"),
    "fastembed's length": (_set(TOKENS, "max_length", to=112), "tokenizer_config.json: max_length must not be there"),
    "a stride": (_set(TOKENS, "stride", to=16), "tokenizer_config.json: stride must not be there"),
    "the tokenizer's length": (_set(TOKENS, "model_max_length", to=128), "lengths differ: tokenizer_config.json"),
    "TEI's length": (_drop("sentence_bert_config.json", "max_seq_length"), "lengths differ"),
    "length of the positions": (_set(CONFIG, "max_position_embeddings", to=256), "lengths differ"),
    "length of tokenizer.json": (_set("tokenizer.json", "truncation", "max_length", to=64), "lengths differ"),
    "no requirements": (_drop(SENTENCE, "requirements"), "requirements is missing"),
    "a forgotten fold": (
        _weights("model.safetensors", lambda state: state["classifier.bias"].sub_(1e-4)),
        "the head is not the one of the modules",
    ),
    # and what nobody met yet
    "two labels": (_set(CONFIG, "id2label", to={"0": "LABEL_0", "1": "LABEL_1"}), "config.json: id2label is"),
    "mean pooling at the root": (_set(CONFIG, "classifier_pooling", to="mean"), "config.json: classifier_pooling is"),
    "mean pooling everywhere but in the graph": (
        lambda folder: [
            _set(CONFIG, "classifier_pooling", to="mean")(folder),
            _set("1_Pooling/config.json", "pooling_mode", to="mean")(folder),
        ],
        "onnx/model.onnx: what it pools is not what config.json says, mean",
    ),
    "mean pooling in the module": (_set("1_Pooling/config.json", "pooling_mode", to="mean"), 'must be "mean"'),
    "another activation": (_set(CONFIG, "classifier_activation", to="relu"), "config.json: classifier_activation is"),
    "another epsilon": (_set(CONFIG, "norm_eps", to=1e-12), "config.json: norm_eps is"),
    "a bare encoder": (_set(CONFIG, "architectures", to=["ModernBertModel"]), "config.json: architectures is"),
    "half the window": (_set(CONFIG, "sliding_window", to=8), "config.json: sliding_window must not be there"),
    "scaled frequencies": (
        _set(CONFIG, "rope_parameters", "full_attention", "rope_type", to="linear"),
        "rope_parameters is scaled",
    ),
    "layers in another order": (
        lambda folder: built.edit(folder / CONFIG, lambda config: config["layer_types"].reverse()),
        "layer_types is in no order|layer_types",
    ),
    "code of somebody": (_set(CONFIG, "auto_map", to={"AutoModel": "x.Y"}), "config.json: auto_map must not be there"),
    "a quantized claim": (_set(CONFIG, "quantization_config", to={}), "quantization_config must not be there"),
    "a 16-bit claim": (_set(CONFIG, "dtype", to="bfloat16"), "config.json: dtype is"),
    "a class of transformers 5": (_set(TOKENS, "tokenizer_class", to="TokenizersBackend"), "tokenizer_class is"),
    "token types": (
        _set(TOKENS, "model_input_names", to=["input_ids", "token_type_ids", "attention_mask"]),
        "model_input_names is",
    ),
    "cut on the left": (_set(TOKENS, "truncation_side", to="left"), "tokenizer_config.json: truncation_side is"),
    "padded on the left": (_set(TOKENS, "padding_side", to="left"), "tokenizer_config.json: padding_side is"),
    "cut on the left by tokenizer.json": (
        _set("tokenizer.json", "truncation", "direction", to="Left"),
        "tokenizer.json: truncation.direction",
    ),
    "only the document is cut": (
        _set("tokenizer.json", "truncation", "strategy", to="OnlySecond"),
        "tokenizer.json: truncation.strategy",
    ),
    "no template of pairs": (_set("tokenizer.json", "post_processor", to=None), "a pair is not"),
    "exchanged special tokens": (_ids, "has the id"),
    "another pad token": (_set(CONFIG, "pad_token_id", to=0), "tokenizer.json: pad_token"),
    "a prompt": (_set(SENTENCE, "default_prompt_name", to="query"), "default_prompt_name is"),
    "lower case": (_set("sentence_bert_config.json", "do_lower_case", to=True), "do_lower_case is"),
    "more about a module": (
        lambda folder: built.edit(folder / "modules.json", lambda modules: modules[0].update(kwargs=["task"])),
        "is no module of",
    ),
    "weights of another library": (_weights("model.safetensors", lambda _: None), "metadata is None, it must be"),
    "modules in another order": (_swap, "not the recipe's model|modules.json"),
    "another head in the root": (
        _weights("model.safetensors", lambda state: state["head.dense.weight"].mul_(1.0001)),
        "the head is not the one of the modules",
    ),
    "another head in the modules": (
        _weights("2_Dense/model.safetensors", lambda state: state["linear.weight"].neg_()),
        "the head is not the one of the modules",
    ),
    "a root without a head": (
        _weights("model.safetensors", lambda state: [state.pop(key) for key in list(state) if key.startswith("head.")]),
        "the head is not the one of the modules",
    ),
    "half the precision": (
        _weights("model.safetensors", lambda state: state.update({k: v.half() for k, v in state.items()})),
        "they must be in F32",
    ),
    "no number": (
        _weights("model.safetensors", lambda state: state["model.final_norm.weight"][0].fill_(float("nan"))),
        "model.final_norm.weight holds what is no number",
    ),
    "an encoder without its last layer": (
        _weights(
            "model.safetensors",
            lambda state: [state.pop(key) for key in list(state) if key.startswith("model.layers.2.")],
        ),
        "model.layers.2.attn.Wo.weight is missing",
    ),
    "an ONNX file of the encoder alone": (_encoder_alone, "onnx/model.onnx: .* not the whole pipeline"),
    # what one reader alone knows
    "a length in the configuration": (_set(CONFIG, "max_length", to=64), "config.json: max_length must not be there"),
    "compiled by transformers 4": (_set(CONFIG, "reference_compile", to=True), "reference_compile must not be there"),
    "another first token": (_set(CONFIG, "bos_token_id", to=0), "config.json: bos_token_id is"),
    "another last token": (_set(CONFIG, "eos_token_id", to=0), "config.json: eos_token_id is"),
    "a number for a truth": (_set(CONFIG, "classifier_bias", to=0), "config.json: classifier_bias is 0"),
    "a smaller vocabulary": (_set(CONFIG, "vocab_size", to=64), "tok_embeddings.weight is not of the shape"),
    "fewer layers": (
        lambda folder: built.edit(
            folder / CONFIG, lambda config: config.update(num_hidden_layers=2, layer_types=config["layer_types"][:2])
        ),
        "model.layers.2.attn.Wo.weight is no tensor of such a model",
    ),
    "wider layers": (_set(CONFIG, "intermediate_size", to=32), "mlp.Wi.weight is not of the shape"),
    "a tensor too many": (
        _weights("model.safetensors", lambda state: state.update({"model.decoder.bias": torch.zeros(2)})),
        "model.decoder.bias is no tensor of such a model",
    ),
    "twice the precision in a module": (
        _weights("2_Dense/model.safetensors", lambda state: state.update({k: v.double() for k, v in state.items()})),
        "2_Dense/model.safetensors: weights in F64",
    ),
    "lower case in the tokenizer": (_set(TOKENS, "do_lower_case", to=True), "do_lower_case must not be there"),
    "a blank before each text": (_set(TOKENS, "add_prefix_space", to=True), "add_prefix_space must not be there"),
    "special tokens as text": (_set(TOKENS, "split_special_tokens", to=True), "split_special_tokens must not be there"),
    "a word as a special token": (
        _set(TOKENS, "additional_special_tokens", to=["read"]),
        "additional_special_tokens must not be there",
    ),
    "a word as the mask": (_set(TOKENS, "mask_token", to="read"), "mask_token 'read' is none of its special tokens"),
    "a token that strips": (
        _set(TOKENS, "mask_token", to={"content": "[MASK]", "lstrip": True}),
        "tokenizer_config.json: mask_token is",
    ),
    "tokens added once more": (_set(TOKENS, "added_tokens_decoder", to={}), "added_tokens_decoder must not be there"),
    "no first token": (_set(TOKENS, "add_bos_token", to=False), "add_bos_token must not be there"),
    "padded by tokenizer.json": (
        _set("tokenizer.json", "padding", to={"strategy": {"Fixed": 8}, "direction": "Right"} | PADDED),
        "tokenizer.json: padding is set",
    ),
    "nothing cut by tokenizer.json": (_set("tokenizer.json", "truncation", to=None), "lengths differ"),
    "an overlap in tokenizer.json": (_set("tokenizer.json", "truncation", "stride", to=8), "truncation.stride"),
    "mean pooling for older readers": (
        _set("1_Pooling/config.json", "pooling_mode_mean_tokens", to=True),
        "1_Pooling/config.json: pooling_mode_mean_tokens must not be there",
    ),
    "a prompt left out of pooling": (_set("1_Pooling/config.json", "include_prompt", to=False), "include_prompt is"),
    "a bias in the head": (_set("2_Dense/config.json", "bias", to=True), "2_Dense/config.json: bias is"),
    "another activation in the module": (
        _set("2_Dense/config.json", "activation_function", to="torch.nn.modules.activation.ReLU"),
        "config.json: classifier_activation is",
    ),
    "a narrower norm": (_set("3_LayerNorm/config.json", "dimension", to=8), "3_LayerNorm/config.json: dimension is"),
    "two scores": (_set("4_Dense/config.json", "out_features", to=2), "4_Dense/config.json: out_features is"),
    "scores under another name": (
        _set("4_Dense/config.json", "module_output_name", to="logits"),
        "module_output_name is",
    ),
    "a module of somebody": (
        lambda folder: built.edit(folder / "modules.json", lambda modules: modules[3].update(type="x.LayerNorm")),
        "is no module of sentence_transformers in place 3",
    ),
    "biases that no weight is of": (_set(CONFIG, "mlp_bias", to=True), "config.json: mlp_bias is true"),
    "two modules of one name": (
        lambda folder: built.edit(folder / "modules.json", lambda modules: modules[3].update(name="2")),
        "is no module of sentence_transformers in place 3",
    ),
    "a module elsewhere": (
        lambda folder: built.edit(folder / "modules.json", lambda modules: modules[4].update(path="2_Dense")),
        "2_Dense/config.json: ",
    ),
    "arguments of a tokenizer": (
        _set("sentence_bert_config.json", "tokenizer_args", to={"padding_side": "left"}),
        "tokenizer_args must not be there",
    ),
    "prompts": (_set(SENTENCE, "prompts", to={"query": "query: "}), "prompts is"),
    "an embedder": (_set(SENTENCE, "model_type", to="SentenceTransformer"), "model_type is"),
    "older readers": (_set(SENTENCE, "requirements", to={"sentence-transformers": ">=2"}), "requirements is"),
    "half a file of weights": (_cut_file("model.safetensors"), "model.safetensors: not readable"),
    "half an ONNX file": (_cut_file("onnx/model.onnx"), "onnx/model.onnx: not readable"),
    "half a configuration": (_cut_file(CONFIG), "not the files of an export"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampered_export_is_caught_before_anything_is_published(tampered: Path, name: str) -> None:
    tamper, says = TAMPERINGS[name]
    tamper(tampered)
    lines = list(checkpoint.problems(tampered))
    pattern = re.compile(says)
    assert any(pattern.search(line) for line in lines), lines


def _rare(folder: Path) -> None:
    """One weight of the last word, which none of the compared pairs has."""
    _weights("model.safetensors", lambda state: state["model.embeddings.tok_embeddings.weight"][-1, 0].neg_())(folder)


def _rare_onnx(folder: Path) -> None:
    import onnx_ir

    path = folder / "onnx/model.onnx"
    model = onnx_ir.load(path)
    value = model.graph.initializers["model.embeddings.tok_embeddings.weight"]
    changed = value.const_value.numpy().copy()
    changed[-1, 0] *= -1
    value.const_value = onnx_ir.tensor(changed, name=value.name)
    path.unlink()
    onnx_ir.save(model, path, external_data="model.onnx_data")


def _both(folder: Path) -> None:
    """The same change in module and root, so that neither contradicts the other."""
    _weights("2_Dense/model.safetensors", lambda state: state["linear.weight"][0, 0].add_(1e-6))(folder)
    _weights("model.safetensors", lambda state: state["head.dense.weight"][0, 0].add_(1e-6))(folder)


def _theta(config: dict[str, Any]) -> None:
    config["global_rope_theta"] = config["rope_parameters"]["full_attention"]["rope_theta"] = 10000.0


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a rare word's weight": (_rare, "model.safetensors: model.embeddings.tok_embeddings.weight is not the trained"),
    "a rare word's weight in ONNX, beside the graph": (_rare_onnx, "onnx/model.onnx: model.embeddings.tok_embeddings"),
    "a head changed twice": (_both, "2_Dense/model.safetensors: not the trained model's"),
    "a tokenizer in lower case": (
        _set("tokenizer.json", "normalizer", to={"type": "Lowercase"}),
        "tokenizer.json: normalizer is not the trained model's",
    ),
    "words cut elsewhere": (_set("tokenizer.json", "pre_tokenizer", to={"type": "Whitespace"}), "pre_tokenizer is not"),
    "a rare word that is another": (
        lambda folder: built.edit(folder / "tokenizer.json", lambda content: content["added_tokens"].pop()),
        "added_tokens is not",
    ),
    "half the heads": (_set(CONFIG, "num_attention_heads", to=2), "config.json: num_attention_heads is not"),
    "another activation": (_set(CONFIG, "hidden_activation", to="relu"), "config.json: hidden_activation is not"),
    "another window": (_set(CONFIG, "local_attention", to=64), "config.json: local_attention is not"),
    "another theta under both names": (
        lambda folder: built.edit(folder / CONFIG, _theta),
        "config.json: rope_parameters is not the trained model's",
    ),
    "another length everywhere": (
        lambda folder: [
            _set(CONFIG, "max_position_embeddings", to=64)(folder),
            _set(TOKENS, "model_max_length", to=64)(folder),
            _set("sentence_bert_config.json", "max_seq_length", to=64)(folder),
            _set("tokenizer.json", "truncation", "max_length", to=64)(folder),
        ],
        "64 tokens are read, by the trained model",
    ),
    "a count that is no integer": (
        lambda folder: built.edit(
            folder / CONFIG, lambda config: config.update(vocab_size=float(config["vocab_size"]))
        ),
        "vocab_size is not",
    ),
    "another head everywhere": (
        _set("2_Dense/config.json", "activation_function", to="torch.nn.modules.activation.ReLU"),
        "modules.json: not the trained model's modules",
    ),
    "another task of the encoder": (
        _set("sentence_bert_config.json", "transformer_task", to="sequence-classification"),
        "sentence_bert_config.json: transformer_task is not",
    ),
    "words that are not decoded": (_set("tokenizer.json", "decoder", to=None), "decoder is not"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_no_score_of_a_few_pairs_shows_is_held_against_the_trained_model(
    reranker: Path, tampered: Path, name: str
) -> None:
    tamper, says = CHANGES[name]
    assert not [*checkpoint.changes(reranker, tampered)]
    tamper(tampered)
    lines = [*checkpoint.changes(reranker, tampered)]
    assert any(re.search(says, line) for line in lines), lines


def test_how_often_a_layer_sees_everything_stays_the_trained_models_where_one_layer_does(
    reranker: Path, tampered: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(reranker, tmp_path / "two-layers")  # of every third, as small encoders are in a rehearsal
    for folder in (model, tampered):
        _set(CONFIG, "global_attn_every_n_layers", to=3)(folder)
        _set(CONFIG, "num_hidden_layers", to=2)(folder)
        _set(CONFIG, "layer_types", to=["full_attention", "sliding_attention"])(folder)
    portable.write(tampered)
    assert said(tampered, CONFIG)["global_attn_every_n_layers"] == 3
    assert not [*portable.changed_settings(model, tampered)]


def test_what_a_model_leaves_to_transformers_is_written_out_for_other_readers(reranker: Path, tmp_path: Path) -> None:
    model, folder = shutil.copytree(reranker, tmp_path / "short"), tmp_path / "export"
    folder.mkdir()
    left = ("attention_bias", "global_attn_every_n_layers", "hidden_activation", "local_attention", "mlp_dropout")
    built.edit(model / CONFIG, lambda config: [config.pop(key, None) for key in left])
    dual_root.dual_root(model, folder)
    portable.write(folder)
    assert said(folder, CONFIG)["hidden_activation"] == "gelu" and said(folder, CONFIG)["local_attention"] == 128
    assert said(folder, CONFIG).keys() >= set(left) and not [*portable.problems(folder)]
    assert not [*portable.changed_settings(model, folder)]
    built.edit(model / CONFIG, lambda config: config.update(num_hidden_layers="two"))
    with pytest.raises(ReleaseError, match=r"config\.json: transformers cannot read it \("):
        portable.completed(said(model, CONFIG))


def test_a_model_whose_frequencies_older_readers_cannot_be_told_is_refused(reranker: Path, tmp_path: Path) -> None:
    model = shutil.copytree(reranker, tmp_path / "scaled")
    scaled = {"rope_type": "linear", "rope_theta": 160000.0, "factor": 2.0}
    built.edit(model / CONFIG, lambda config: config["rope_parameters"].update(full_attention=scaled))
    with pytest.raises(ReleaseError, match="rope_parameters"):
        checkpoint.export_any(str(model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config_sentence_transformers.json", "activation_fn", SIGMOID),
        ("config_sentence_transformers.json", "default_prompt_name", "query"),
        ("sentence_bert_config.json", "do_lower_case", True),
        ("tokenizer_config.json", "truncation_side", "left"),
    ],
)
def test_a_model_that_reads_or_scores_in_its_own_way_is_not_exported(
    reranker: Path, tmp_path: Path, file: str, key: str, value: Any
) -> None:
    portable.check_settings(reranker)
    model = shutil.copytree(reranker, tmp_path / "own", copy_function=os.link)
    _set(file, key, to=value)(model)
    with pytest.raises(ReleaseError, match=rf"{key} is {json.dumps(value)}.*{file}"):
        checkpoint.export_any(str(model), tmp_path / "out")
    assert not (tmp_path / "out").exists()
