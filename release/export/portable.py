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
# The oldest versions of which `make engines ALL=1` has an equal row; Sentence Transformers 6 and newer read it.
REQUIREMENTS = {"sentence-transformers": ">=4.1.0", "transformers": ">=4.48.3"}
LIBRARY = "sentence_transformers."
MODULES = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dense")
POOLING = {"cls": "first token", "mean": "mean of all tokens"}  # what ModernBertForSequenceClassification has too

CONFIG, TOKENIZER, TOKENIZER_CONFIG = "config.json", "tokenizer.json", "tokenizer_config.json"
BERT, SENTENCE = "sentence_bert_config.json", "config_sentence_transformers.json"
FILES = (CONFIG, TOKENIZER_CONFIG, BERT, SENTENCE)

# What is kept of each file, beside what every export says. No reader needs another key, or it is of the build machine, or
# by it a reader would take another value than the one written beside it.
KEPT = {
    CONFIG: {
        *(
            "attention_bias",
            "attention_dropout",
            "classifier_dropout",
            "cls_token_id",
            "decoder_bias",
            "deterministic_flash_attn",
        ),
        *("embedding_dropout", "hidden_activation", "hidden_size", "initializer_cutoff_factor", "initializer_range"),
        *("intermediate_size", "layer_types", "local_attention", "mlp_bias", "mlp_dropout", "num_attention_heads"),
        *("num_hidden_layers", "pad_token_id", "rope_parameters", "sep_token_id", "sparse_pred_ignore_index"),
        *("sparse_prediction", "tie_word_embeddings", "transformers_version", "use_cache", "vocab_size"),
    },
    TOKENIZER_CONFIG: {"bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token"},
    BERT: {"modality_config", "module_output_name", "transformer_task"},
    SENTENCE: {"__version__", "keep_in_fp32_modules"},
}


# What transformers has its own names or defaults for: a model has it in one form or not at all, an export in every form.
RENAMED = {"global_attn_every_n_layers", "global_rope_theta", "layer_types", "local_rope_theta", "rope_parameters"}
LEFT_OUT = {
    "cls_token_id",
    "pad_token_id",
    "sep_token_id",
    "transformers_version",
}  # whose defaults are another model's


# What an export says whatever the model says: file -> key -> what the model may say, and what an export says.
READ: dict[str, dict[str, tuple[tuple[str | None, ...], str | None]]] = {
    SENTENCE: {"activation_fn": ((IDENTITY,), IDENTITY), "default_prompt_name": ((None,), None)},
    BERT: {"do_lower_case": ((None,), None)},
    TOKENIZER_CONFIG: {key: ((None, "right"), "right") for key in ("padding_side", "truncation_side")},
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


def completed(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of ModernBERT as transformers reads it: with the values that it leaves to defaults, in today's names.

    Raises:
        ReleaseError: transformers cannot read it.
    """
    from transformers import ModernBertConfig

    try:
        read = ModernBertConfig(**config).to_dict()
    except Exception as error:  # each check of its own has its own type
        what = " ".join(str(error).split())[:200]
        raise ReleaseError(f"{CONFIG}: transformers cannot read it ({what})") from error
    kept = {key: read[key] for key in KEPT[CONFIG] & read.keys() - LEFT_OUT}
    return kept | config | {key: read[key] for key in RENAMED & read.keys()}


def max_length(folder: Path) -> int:
    """The most tokens of a pair that the model reads: the least of the lengths that its files name."""
    return int(min(_lengths(_read(folder)).values()))


def architecture(folder: Path) -> Architecture:
    """The shape of an exported model, from its own files."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    pooling = f"Pooling ({POOLING[config['classifier_pooling']]})"
    return Architecture(
        modules=tuple(pooling if kind == "Pooling" else kind for kind in MODULES),
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
    yield from _module_problems(modules, configs[CONFIG])
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
        elif (said := json.dumps(config[key], sort_keys=True)) != (right := json.dumps(expected[key], sort_keys=True)):
            yield f"{key} is {said}, it must be {right}"


# --- What each file must say -------------------------------------------------------------------------------------------


def _expected(
    configs: dict[str, dict[str, Any]], limit: int, modules: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    remaining = {name: {key: value for key, value in configs[name].items() if key in KEPT[name]} for name in FILES}
    config, tokenizer, bert, sentence = (remaining[name] for name in FILES)
    tokenizer = {key: token["content"] if isinstance(token, dict) else token for key, token in tokenizer.items()}
    return {
        CONFIG: config
        | _layers(configs[CONFIG])
        | _head(modules)
        | {key: False for key in ("attention_bias", "mlp_bias") if key in config}  # there is none in the weights
        | {"max_position_embeddings": limit, "dtype": "float32"}
        | {"bos_token_id": config.get("cls_token_id"), "eos_token_id": config.get("sep_token_id")},  # llama.cpp
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
    # With one layer that sees everything, any number from the count of layers up says the same: the model's own is kept.
    every = full[1] if len(full) > 1 else max(config.get("global_attn_every_n_layers") or 0, len(layers))
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


def _module_problems(modules: list[dict[str, Any]], config: dict[str, Any]) -> Iterator[str]:
    """A head that is not pooling, Dense, LayerNorm, Dense to one raw score, or with a key that says anything else."""
    kinds = tuple(module["kind"] for module in modules)
    if kinds != MODULES:
        yield f"modules.json: {' -> '.join(kinds)}, it must be {' -> '.join(MODULES)}"
        return
    width, activation = config["hidden_size"], modules[2].get("activation_function")
    pooling = modules[1].get("pooling_mode")
    one, many = "sentence_embedding", {"module_input_name": "sentence_embedding"}
    expected = (
        {
            "embedding_dimension": width,
            "pooling_mode": pooling if pooling in POOLING else "cls",
            "include_prompt": True,
        },
        {"in_features": width, "out_features": width, "bias": False, "activation_function": activation}
        | many
        | {"module_output_name": one},
        {"dimension": width},
        {"in_features": width, "out_features": 1, "bias": True, "activation_function": IDENTITY}
        | many
        | {"module_output_name": "scores"},
    )
    for module, settings in zip(modules[1:], expected, strict=True):
        said = {key: value for key, value in module.items() if key not in ("kind", "path")}
        yield from (f"{module['path']}/{CONFIG}: {line}" for line in _differences(said, settings))
    if activation not in ACTIVATIONS:
        yield f"{modules[2]['path']}/{CONFIG}: activation_function {activation!r} has no other name"


# --- The files ---------------------------------------------------------------------------------------------------------


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in FILES}


def _modules(folder: Path) -> list[dict[str, Any]]:
    """The configuration of each module of `modules.json`, with its `kind` and `path`.

    Raises:
        ReleaseError: A module of another library, or one whose name or place is another's.
    """
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    for number, module in enumerate(modules):
        place = {"idx": number, "name": str(number)}
        kind_and_path = {key: str(module[key]) for key in ("type", "path")}
        if module != place | kind_and_path or not module["type"].startswith(LIBRARY):
            raise ReleaseError(f"modules.json: {module} is no module of {LIBRARY[:-1]} in place {number}")
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
    declared = {token["content"] for token in content["added_tokens"] if token["special"]}
    for key in sorted(KEPT[TOKENIZER_CONFIG] & tokens.keys()):
        if tokens[key] not in declared:
            yield f"{key} {tokens[key]!r} is none of its special tokens"
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


def changed_settings(model: Path, folder: Path) -> Iterator[str]:
    """Whatever an export says otherwise than the trained model, of what no reader needs under another name or value."""
    given, own = _read(model), _read(folder)
    given[CONFIG] = completed(given[CONFIG])
    given[CONFIG] |= _layers(given[CONFIG])
    for name in FILES:
        for key in sorted(KEPT[name] | (RENAMED if name == CONFIG else set())):
            value = given[name].get(key)
            if name == TOKENIZER_CONFIG and isinstance(value, dict):
                value = value["content"]
            if json.dumps(own[name].get(key), sort_keys=True) != json.dumps(value, sort_keys=True):  # 8 is not 8.0
                yield f"{name}: {key} is not the trained model's"
    if _modules(folder) != _modules(model):
        yield "modules.json: not the trained model's modules"
    if max_length(folder) != max_length(model):
        yield f"{max_length(folder)} tokens are read, by the trained model {max_length(model)}"


def tokenizer_problems(model: Path, folder: Path) -> Iterator[str]:
    """Whatever an export's tokenizer does otherwise than the trained model's, but for cutting and padding."""
    own, given = (json.loads((path / TOKENIZER).read_text(encoding="utf-8")) for path in (folder, model))
    for key in sorted((own.keys() | given.keys()) - {"truncation", "padding"}):
        if own.get(key) != given.get(key):
            yield f"{TOKENIZER}: {key} is not the trained model's"


def _special(tokenizer: Any, tokens: dict[str, Any], key: str) -> int | None:
    return tokenizer.token_to_id(tokens.get(key) or "")


def check_settings(folder: Path) -> None:
    """Refuse a model whose own scores are not raw logits, or that reads a pair in its own way: its export would give others.

    Raises:
        ReleaseError: A setting of `READ` is another.
    """
    for name, settings in READ.items():
        path = folder / name
        try:
            said = {key: json.loads(path.read_text(encoding="utf-8")).get(key) or None for key in settings}
        except (OSError, ValueError, AttributeError) as error:
            raise ReleaseError("no such settings", where=str(path), hint="save the model again") from error
        for key, (others, value) in settings.items():
            if said[key] not in others:
                what = f"{key} is {json.dumps(said[key])}, by which its scores are not those that an export gives"
                raise ReleaseError(
                    what, where=str(path), hint=f"set it to {json.dumps(value)}, if that is how it was trained"
                )
