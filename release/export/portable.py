"""What the JSON files of an export must say so that no reader needs luck: written by `write`, asserted by `problems`.

Every reader takes its settings from other keys: transformers 4 and vLLM from other names of frequencies and layers, Sentence
Transformers 3 from its own key of the activation, TEI and fastembed from other lengths. Each fact is therefore written under
every name that it goes by, always from the same value, and writing once more must change nothing.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from release.errors import ReleaseError
from release.files import write_json
from release.results.export import Architecture

IDENTITY = "torch.nn.modules.linear.Identity"
ACTIVATIONS = {  # torch's module -> its name in transformers
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Tanh": "tanh",
    IDENTITY: "linear",
}
REQUIREMENTS = {"sentence-transformers": ">=5.4", "transformers": ">=4.48"}  # read by Sentence Transformers 6 and newer
MODULES = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dense")

CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
BERT, SENTENCE = "sentence_bert_config.json", "config_sentence_transformers.json"
FILES = (CONFIG, TOKENIZER_CONFIG, BERT, SENTENCE)

# Keys that describe the build machine, or by which a reader would take another value than the one written beside them.
DROPPED = {
    CONFIG: {
        *("_name_or_path", "auto_map", "num_labels", "quantization_config", "rope_scaling", "rope_theta"),
        *("sliding_window", "torch_dtype", "sbert_ce_default_activation_function_kwargs"),
    },
    TOKENIZER_CONFIG: {
        *("auto_map", "backend", "is_local", "local_files_only", "max_length", "pad_to_multiple_of", "padding"),
        *("stride", "truncation", "truncation_strategy"),
    },
    BERT: set(),
    SENTENCE: set(),
}


def write(folder: Path) -> None:
    """Complete the JSON files of an export; each length becomes the least of those that are given.

    Raises:
        ReleaseError: The encoder cannot be expressed in the keys of older readers.
    """
    configs = _read(folder)
    limit = int(min(_lengths(configs).values()))
    for name, content in _expected(configs, limit, _modules(folder)).items():
        write_json(folder / name, content)
    _write_tokenizer(folder / TOKENIZER, limit)


def max_length(folder: Path) -> int:
    """The most tokens of a pair that the model reads: the least of the lengths that its files name."""
    return int(min(_lengths(_read(folder)).values()))


def architecture(folder: Path) -> Architecture:
    """The shape of an exported model, from its own files."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return Architecture(
        modules=tuple("Pooling (first token)" if kind == "Pooling" else kind for kind in MODULES),
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        local_attention=config["local_attention"],
        global_every=config["global_attn_every_n_layers"],
    )


def problems(folder: Path) -> Iterator[str]:
    """Every key by which some reader would get other scores than another, one line each: file, key, what is wrong."""
    try:
        yield from _problems(folder)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        yield f"not the files of an export ({type(error).__name__}: {error})"
    except ReleaseError as error:
        yield str(error)


def _problems(folder: Path) -> Iterator[str]:
    configs, modules = _read(folder), _modules(folder)
    lengths = _lengths(configs) | _tokenizer_length(folder / TOKENIZER)
    if len(set(lengths.values())) > 1:
        yield "lengths differ: " + ", ".join(f"{where} {value:.15g}" for where, value in lengths.items())
    yield from _module_problems(modules)
    for name, content in _expected(configs, int(statistics.mode(lengths.values())), modules).items():
        yield from (f"{name}: {line}" for line in _differences(configs[name], content))
    yield from (f"{TOKENIZER}: {line}" for line in _tokenizer_problems(folder, configs))


def _differences(config: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    lengths = {"max_position_embeddings", "model_max_length", "max_seq_length"}  # all of them are one line of their own
    for key in sorted((config.keys() | expected.keys()) - lengths):
        if key not in config:
            yield f"{key} is missing, it must be {json.dumps(expected[key])}"
        elif key not in expected:
            yield f"{key} must not be there"
        elif config[key] != expected[key]:
            yield f"{key} is {json.dumps(config[key])}, it must be {json.dumps(expected[key])}"


# --- What each file must say -------------------------------------------------------------------------------------------


def _expected(
    configs: dict[str, dict[str, Any]], limit: int, modules: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    remaining = {
        name: {key: value for key, value in configs[name].items() if key not in DROPPED[name]} for name in FILES
    }
    config, tokenizer, bert, sentence = (remaining[name] for name in FILES)
    return {
        CONFIG: config | _layers(config) | _head(modules) | {"max_position_embeddings": limit, "dtype": "float32"},
        TOKENIZER_CONFIG: tokenizer
        | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": limit}
        | {"model_input_names": ["input_ids", "attention_mask"], "padding_side": "right", "truncation_side": "right"},
        BERT: bert | {"max_seq_length": limit, "do_lower_case": False},
        SENTENCE: sentence
        | {"model_type": "CrossEncoder", "activation_fn": IDENTITY, "requirements": REQUIREMENTS}
        | {"prompts": {}, "default_prompt_name": None},  # which Sentence Transformers alone would put before a query
    }


def _layers(config: dict[str, Any]) -> dict[str, Any]:
    """Frequencies and kinds of layers under the names of transformers 4, without which it takes others, silently.

    Raises:
        ReleaseError: They have no such names: layers in no regular order, or frequencies that are scaled.
    """
    rope, layers = config["rope_parameters"], config["layer_types"]
    full = [index for index, kind in enumerate(layers) if kind == "full_attention"]
    every = full[1] if len(full) > 1 else len(layers)
    kinds = {"full_attention", "sliding_attention"}
    regular = [("sliding_attention" if index % every else "full_attention") for index in range(len(layers))]
    if full[:1] != [0] or layers != regular or len(layers) != config["num_hidden_layers"]:
        raise ReleaseError(f"{CONFIG}: layer_types is in no order that transformers 4 can read")
    if set(rope) != kinds or any(set(rope[kind]) != {"rope_type", "rope_theta"} for kind in kinds):
        raise ReleaseError(f"{CONFIG}: rope_parameters needs rope_type and rope_theta of both kinds of layers, alone")
    if any(rope[kind]["rope_type"] != "default" for kind in kinds):
        raise ReleaseError(f"{CONFIG}: rope_parameters is scaled, which transformers 4 cannot read")
    return {
        "global_attn_every_n_layers": every,
        "global_rope_theta": rope["full_attention"]["rope_theta"],
        "local_rope_theta": rope["sliding_attention"]["rope_theta"],
    }


def _head(modules: list[dict[str, Any]]) -> dict[str, Any]:
    """One raw score, whoever reads: the head's form, and no sigmoid under any of its names."""
    return {
        "architectures": ["ModernBertForSequenceClassification"],
        "model_type": "modernbert",
        "classifier_pooling": modules[1].get("pooling_mode"),
        "classifier_activation": ACTIVATIONS.get(modules[2].get("activation_function", ""), "unknown"),
        "classifier_bias": modules[2].get("bias"),
        "norm_bias": False,  # of the head's norm too: its bias is folded into the classifier's
        "norm_eps": 1e-5,
        "layer_norm_eps": 1e-5,  # vLLM and candle
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "problem_type": "regression",  # pipeline("text-classification") then gives raw scores
        "sentence_transformers": {"activation_fn": IDENTITY},  # Sentence Transformers 4 to 5.3, vLLM
        "sbert_ce_default_activation_function": IDENTITY,  # Sentence Transformers 3
    }


def _module_problems(modules: list[dict[str, Any]]) -> Iterator[str]:
    """A head that is not cls pooling, Dense, LayerNorm, Dense to one raw score."""
    kinds = tuple(module["kind"] for module in modules)
    if kinds != MODULES:
        yield f"modules.json: {' -> '.join(kinds)}, it must be {' -> '.join(MODULES)}"
        return
    _, pooling, dense, norm, scores = modules
    width = dense.get("in_features")
    expected = (
        (pooling, {"pooling_mode": "cls", "embedding_dimension": width}),
        (dense, {"out_features": width, "bias": False, "module_output_name": "sentence_embedding"}),
        (norm, {"dimension": width}),
        (scores, {"in_features": width, "out_features": 1, "bias": True, "activation_function": IDENTITY}),
        (scores, {"module_input_name": "sentence_embedding", "module_output_name": "scores"}),
    )
    for module, settings in expected:
        for key, value in settings.items():
            if module.get(key) != value:
                yield f"{module['path']}/config.json: {key} is {module.get(key)!r}, it must be {value!r}"
    if dense.get("activation_function") not in ACTIVATIONS:
        yield f"{dense['path']}/config.json: activation_function {dense.get('activation_function')!r} has no other name"


# --- The files ---------------------------------------------------------------------------------------------------------


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in FILES}


def _modules(folder: Path) -> list[dict[str, Any]]:
    """The configuration of each module of `modules.json`, with its `kind` and `path`."""
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    return [
        (json.loads((folder / module["path"] / "config.json").read_text(encoding="utf-8")) if module["path"] else {})
        | {"kind": module["type"].rsplit(".", 1)[-1], "path": module["path"]}
        for module in modules
    ]


def _lengths(configs: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Each length that a reader may cut at, by its file and key."""
    keys = {
        TOKENIZER_CONFIG: "model_max_length",
        CONFIG: "max_position_embeddings",
        BERT: "max_seq_length",
    }
    return {f"{file} {key}": configs[file].get(key) or math.inf for file, key in keys.items()}


def _tokenizer_length(path: Path) -> dict[str, float]:
    truncation = json.loads(path.read_text(encoding="utf-8")).get("truncation") or {}
    return {f"{path.name} truncation.max_length": truncation.get("max_length") or math.inf}


def _write_tokenizer(path: Path, limit: int) -> None:
    """Let whoever reads `tokenizer.json` alone cut pairs at the model's length, the longer text first, and pad nothing."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(limit, strategy="longest_first", stride=0, direction="right")
    tokenizer.no_padding()
    tokenizer.save(str(path))


def _tokenizer_problems(folder: Path, configs: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Another cut than the model was trained with, or special tokens that are not those of the configuration."""
    path, config, tokens = folder / TOKENIZER, configs[CONFIG], configs[TOKENIZER_CONFIG]
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in {"direction": "Right", "strategy": "LongestFirst", "stride": 0}.items():
        if (content.get("truncation") or {}).get(key) != value:
            yield f"truncation.{key} is not {value!r}"
    if content.get("padding") is not None:
        yield "padding is set"
    tokenizer = Tokenizer.from_file(str(path))
    special = {name: _special(tokenizer, tokens, f"{name}_token") for name in ("cls", "sep", "pad")}
    for name, number in special.items():
        if number is None or number != config.get(f"{name}_token_id", number):
            yield f"{name}_token {tokens.get(f'{name}_token')!r} has the id {number}, not {config.get(f'{name}_token_id')}"
    texts = [tokenizer.encode(text, add_special_tokens=False).ids for text in ("a", "b")]
    pair = [special["cls"], *texts[0], special["sep"], *texts[1], special["sep"]]
    if tokenizer.encode("a", "b").ids != pair:
        yield "a pair is not [CLS] query [SEP] document [SEP]"
    if tokenizer.get_vocab_size() > config["vocab_size"]:
        yield f"{tokenizer.get_vocab_size()} tokens, the model has {config['vocab_size']}"


def _special(tokenizer: Any, tokens: dict[str, Any], key: str) -> int | None:
    token = tokens.get(key)
    return tokenizer.token_to_id(token["content"] if isinstance(token, dict) else token or "")


def check_activation(folder: Path) -> None:
    """Refuse a model whose own scores are not raw logits: its export would give others.

    Raises:
        ReleaseError: It says another activation than Identity, or none.
    """
    path = folder / SENTENCE
    try:
        activation = str(json.loads(path.read_text(encoding="utf-8")).get("activation_fn"))
    except (OSError, ValueError, AttributeError) as error:
        raise ReleaseError(
            "no settings of Sentence Transformers", where=str(path), hint="save the model again"
        ) from error
    if activation != IDENTITY:
        what = f"its scores pass through {activation.rsplit('.', 1)[-1]}, an export gives raw logits"
        raise ReleaseError(what, where=str(path), hint=f'set "activation_fn" to "{IDENTITY}"')
