"""The modular CrossEncoder with a sequence-classification checkpoint in its root, which every engine can read.

The LayerNorm's bias does not exist in that class. It folds away exactly, because only a linear layer follows it:
W @ (n * g + b) + c = W @ (n * g) + (W @ b + c).
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from release.errors import ReleaseError
from release.export.portable import (
    BERT,
    CONFIG,
    IDENTITY,
    MODULES,
    POOLING,
    SENTENCE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    completed,
)
from release.files import write_json

Tensors = dict[str, np.ndarray]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
COPIED = ("modules.json", CONFIG, SENTENCE, BERT, TOKENIZER, TOKENIZER_CONFIG)
METADATA = {"format": "pt"}  # without which, or with another, transformers reads no weights
ENCODER, HEAD = "model.", ("head.", "classifier.")  # how the root checkpoint's tensors begin


def dual_root(model: Path, folder: Path) -> None:
    """Write `model` to `folder` in float32 with a sequence-classification checkpoint in its root.

    Training saves float32 master weights, and so is the release; narrower weights are widened, which is exact.

    Args:
        model: A modular CrossEncoder, or an export of one: then its head is taken from its modules once more.

    Raises:
        ReleaseError: `model` is not Transformer, Pooling (cls or mean), Dense, LayerNorm, Dense on a ModernBERT encoder.
    """
    paths, config = module_paths(model), _json(model / CONFIG)
    biased = any(config.get(key) for key in ("norm_bias", "attention_bias", "mlp_bias"))
    if config.get("model_type") != "modernbert" or biased or config.get("norm_eps", 1e-5) != 1e-5:
        what = "the encoder is no ModernBERT without biases, its norms with epsilon 1e-5"
        raise ReleaseError(what, where=str(model), hint="only such an encoder can be exported")
    encoder = {name: tensor for name, tensor in _weights(model).items() if not name.startswith(HEAD)}
    state = {f"{ENCODER}{name.removeprefix(ENCODER)}": tensor for name, tensor in encoder.items()}
    modules = {path: _weights(model / path) for path in paths[2:]}
    state |= folded_head(*modules.values())
    for name in COPIED:
        if not (model / name).is_file():
            raise ReleaseError(f"no {name}", where=str(model), hint="save the model again, by a fast tokenizer")
        shutil.copyfile(model / name, folder / name)
    for path in paths[1:]:
        (folder / path).mkdir(parents=True)
        shutil.copyfile(model / path / CONFIG, folder / path / CONFIG)
    save_file(state, folder / WEIGHTS, metadata=METADATA)
    for path, tensors in modules.items():
        save_file(tensors, folder / path / WEIGHTS, metadata=METADATA)
    write_json(folder / CONFIG, completed(config))


def folded_head(dense: Tensors, norm: Tensors, scores: Tensors) -> Tensors:
    """The head's tensors under the names of ModernBertForSequenceClassification, the norm's bias folded away."""
    weight, shift = scores["linear.weight"], norm["norm.bias"]
    folded = scores["linear.bias"].astype(np.float64) + weight.astype(np.float64) @ shift.astype(np.float64)
    return {
        "head.dense.weight": dense["linear.weight"],
        "head.norm.weight": norm["norm.weight"],
        "classifier.weight": weight,
        "classifier.bias": folded.astype(np.float32),
    }


def weight_problems(folder: Path) -> Iterator[str]:
    """A root whose head is not the modules' own, or whose tensors are not those that its configuration names; needs no torch.

    The head's tensors are equal bit for bit, but for the folded bias, which each machine adds up in its own order.
    """
    try:
        paths = module_paths(folder)[2:]
        kinds = {file: _kinds(folder / file) for file in (WEIGHTS, *(f"{path}/{WEIGHTS}" for path in paths))}
        if others := {file: kind for file, kind in kinds.items() if kind != {"F32"}}:
            yield from (
                f"{file}: weights in {', '.join(sorted(kind))}, they must be in F32" for file, kind in others.items()
            )
            return
        expected = folded_head(*(load_file(folder / path / WEIGHTS) for path in paths))
        shapes = _shapes(_json(folder / CONFIG)) | {name: [*tensor.shape] for name, tensor in expected.items()}
        with safe_open(folder / WEIGHTS, "np") as root:
            names = set(root.keys())
            if not expected.keys() <= names or not all(
                _equal(root.get_tensor(name), tensor, rounded=name == "classifier.bias")
                for name, tensor in expected.items()
            ):
                yield f"{WEIGHTS}: the head is not the one of the modules"
            for name in sorted(names ^ shapes.keys()):
                yield f"{WEIGHTS}: {name} {'is missing' if name in shapes else 'is no tensor of such a model'}"
            for name in sorted(names & shapes.keys()):
                if root.get_slice(name).get_shape() != shapes[name]:
                    yield f"{WEIGHTS}: {name} is not of the shape {shapes[name]}"
            if root.metadata() != METADATA:
                yield f"{WEIGHTS}: metadata is {root.metadata()}, it must be {METADATA}"
            broken = [name for name in sorted(names) if not np.isfinite(root.get_tensor(name)).all()]
            yield from (f"{WEIGHTS}: {name} holds what is no number" for name in broken[:3])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, ReleaseError) as error:
        yield f"{WEIGHTS}: not readable ({error})"


def _equal(tensor: np.ndarray, other: np.ndarray, *, rounded: bool = False) -> bool:
    same = tensor.shape == other.shape
    return same and bool(np.allclose(tensor, other, rtol=1e-6, atol=1e-7) if rounded else np.array_equal(tensor, other))


def _shapes(config: dict[str, Any]) -> dict[str, list[int]]:
    """Every tensor of a ModernBERT encoder without biases, by its name in the root."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    of_a_layer = {"attn.Wqkv": [3 * width, width], "attn.Wo": [width, width], "mlp.Wi": [2 * inner, width]}
    of_a_layer |= {"mlp.Wo": [width, inner], "attn_norm": [width], "mlp_norm": [width]}
    layers = {
        f"{ENCODER}layers.{number}.{name}.weight": shape
        for number in range(config["num_hidden_layers"])
        for name, shape in of_a_layer.items()
        if (number, name) != (0, "attn_norm")  # which is the identity
    }
    ends = {
        "embeddings.tok_embeddings": [config["vocab_size"], width],
        "embeddings.norm": [width],
        "final_norm": [width],
    }
    return layers | {f"{ENCODER}{name}.weight": shape for name, shape in ends.items()}


def count_parameters(folder: Path) -> tuple[int, int]:
    """The weights of an export, by the heads of its files: those of the encoder, and those of the modules that score."""
    encoder, *scoring = (
        sum(
            math.prod(shape)
            for name, shape in _stored_shapes(folder / path / WEIGHTS).items()
            if name.startswith(begin)
        )
        for path, begin in (("", ENCODER), *((path, "") for path in module_paths(folder)[2:]))
    )
    return encoder, sum(scoring)


def _stored_shapes(file: Path) -> dict[str, list[int]]:
    with safe_open(file, "np") as tensors:
        return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118 - no dict


def changed_weights(model: Path, folder: Path) -> Iterator[str]:
    """Encoder tensors of an export that are not the trained model's, bit for bit, and the modules' whose file is another."""
    given = {f"{ENCODER}{name.removeprefix(ENCODER)}": tensor for name, tensor in _weights(model).items()}
    with safe_open(folder / WEIGHTS, "np") as root:
        for name in sorted(name for name in root.keys() if name.startswith(ENCODER)):  # noqa: SIM118 - no dict
            if name not in given or not _equal(root.get_tensor(name), given[name]):
                yield f"{WEIGHTS}: {name} is not the trained model's"
    for path in module_paths(model)[2:]:
        own, trained = _weights(folder / path), _weights(model / path)
        if own.keys() != trained.keys() or not all(_equal(own[name], trained[name]) for name in own):
            yield f"{path}/{WEIGHTS}: not the trained model's"


def module_paths(model: Path) -> list[str]:
    """The folders of the five modules.

    Raises:
        ReleaseError: `model` is no folder of the recipe's modular CrossEncoder.
    """
    file = model / "modules.json"
    if not file.is_file():
        what = "not a modular CrossEncoder (no modules.json)"
        raise ReleaseError(what, where=str(model), hint="make train, or the folder of such a model")
    modules = _json(file)
    try:
        kinds = tuple(str(module["type"]).rsplit(".", 1)[-1] for module in modules)
        paths = [str(module["path"]) for module in modules]
    except (KeyError, TypeError) as error:
        raise ReleaseError("not a list of modules", where=str(file), hint="save the model again") from error
    shape = " -> ".join(kinds) or "no modules"
    if kinds == MODULES and not paths[0]:
        pooling = _json(model / paths[1] / CONFIG).get("pooling_mode")
        scores = _json(model / paths[4] / CONFIG).get("activation_function")
        if pooling in [*POOLING] and scores == IDENTITY:
            return paths
        shape += f", pooling {pooling}, {scores}"
    hint = f"only {' -> '.join(MODULES)} is exported, pooling {' or '.join(POOLING)}, its score not activated"
    raise ReleaseError(f"not the recipe's model: {shape}", where=str(file), hint=hint)


def _weights(folder: Path) -> Tensors:
    """The tensors of WEIGHTS or, without it, of the files that its index names, as transformers reads them: nothing beside them."""
    names = {WEIGHTS}
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        names = set(_json(folder / INDEX).get("weight_map", {}).values())
    files = [folder / name for name in sorted(names)]
    if not files or not all(file.is_file() for file in files):
        raise ReleaseError("no weights (model.safetensors)", where=str(folder), hint="save the model as safetensors")
    try:
        return {name: tensor for file in files for name, tensor in _widened(file).items()}
    except SafetensorError as error:
        raise ReleaseError(
            f"weights cannot be read ({error})", where=str(folder), hint="save the model again"
        ) from error


def _widened(file: Path) -> Tensors:
    """The tensors of a file in float32; narrower ones, of which NumPy has no bf16, are read by torch."""
    if _kinds(file) == {"F32"}:
        return load_file(file)
    from safetensors.torch import load_file as load_torch  # seconds, that only a narrower model takes

    return {name: tensor.float().numpy() for name, tensor in load_torch(file).items()}


def _kinds(file: Path) -> set[str]:
    """The types of a file's tensors."""
    with safe_open(file, "np") as tensors:
        return {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - no dict


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReleaseError(f"cannot be read ({error})", where=str(path), hint="save the model again") from error
