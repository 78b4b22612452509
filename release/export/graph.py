"""`onnx/model.onnx`: the whole pipeline, head included, ids and mask in and `logits` out.

Beside the logits it gives what the head pools as `last_hidden_state`, at no cost: the encoder's answer for the first token, or for
every one where the head takes their mean. Sentence Transformers' `backend="onnx"` takes the file for a bare encoder, reads
that name, and goes on with the head's modules of the repository.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open

from release.export.dual_root import WEIGHTS
from release.export.portable import CONFIG

if TYPE_CHECKING:
    import torch

EXTERNAL_DATA = 1_900_000_000  # a protobuf file cannot pass 2 GiB: beyond this the ONNX weights are beside the graph
FILE = "onnx/model.onnx"
INPUTS, OUTPUTS = ["input_ids", "attention_mask"], ["logits", "last_hidden_state"]


def whole_onnx(folder: Path) -> Path:
    """Write `onnx/model.onnx`: ids and mask of any batch and length in; out logits (batch, 1) and what is pooled.

    What is pooled is (batch, 1, hidden), the first token, or (batch, length, hidden) for their mean.

    Large weights go to `onnx/model.onnx_data`, the name that transformers.js looks for. What the exporter notes
    about the Python files of this machine is removed.
    """
    import torch

    model = classifier(folder)
    model.forward = functools.partial(_outputs, model)
    example = torch.randint(5, model.config.vocab_size, (2, 16)), torch.ones(2, 16, dtype=torch.long)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", min=3)}
    program = torch.onnx.export(
        model,
        example,
        dynamo=True,
        verbose=False,
        input_names=INPUTS,
        output_names=OUTPUTS,
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
    )
    assert program is not None
    _forget_origin(program.model)
    path = folder / FILE
    path.parent.mkdir()
    save(program.model, path)
    return path


def save(model: Any, path: Path) -> None:
    """Write an ONNX model, with large weights beside it in a file of its name and `_data`."""
    import onnx_ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    onnx_ir.save(model, path, external_data=f"{path.name}_data" if size > EXTERNAL_DATA else None)


def classifier(folder: Path) -> Any:
    """The root checkpoint as a ModernBertForSequenceClassification that does no work of which the head sees nothing."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    if model.config.classifier_pooling == "cls":
        last = model.model.layers[-1]
        last.forward = functools.partial(_first_token, last)
    return model


def _first_token(
    layer: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
    **_: Any,
) -> torch.Tensor:
    """ModernBertEncoderLayer.forward for the last layer: only the first token is answered for, all that the head reads.

    The same numbers, for a fifth less work in a model of four layers.

    Returns:
        (batch, 1, hidden)
    """
    from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb, eager_attention_forward

    assert position_embeddings is not None
    attention = layer.attn
    parts = attention.Wqkv(layer.attn_norm(hidden_states)).unflatten(-1, (3, -1, attention.head_dim)).unbind(-3)
    query, key, value = (part.transpose(1, 2) for part in parts)
    query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
    mask = attention_mask if attention_mask is None else attention_mask[:, :, :1]
    attended, _ = eager_attention_forward(
        attention, query[:, :, :1], key, value, mask, scaling=attention.head_dim**-0.5
    )
    hidden = hidden_states[:, :1] + attention.Wo(attended.flatten(2))
    return hidden + layer.mlp(layer.mlp_norm(hidden))


def _outputs(model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """ModernBertForSequenceClassification.forward, with what it pools: the first token, or all of them."""
    hidden = model.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    pooled = hidden[:, 0]
    if model.config.classifier_pooling == "mean":
        seen = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * seen).sum(1) / seen.sum(1)
    return model.classifier(model.head(pooled)), hidden


def _forget_origin(model: Any) -> None:
    """Drop stack traces and other notes, which hold paths of this machine, from every part of an ONNX model."""
    model.metadata_props.clear()
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        graph.doc_string = None
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()


def problems(folder: Path) -> Iterator[str]:
    """A graph of `onnx/` that is not the whole pipeline for any batch and length, one line each."""
    import onnx_ir

    try:
        pooling = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["classifier_pooling"]
    except (OSError, ValueError, KeyError):
        pooling = None  # portable says so
    for path in sorted(folder.glob("onnx/*.onnx")):
        name = path.relative_to(folder).as_posix()
        try:
            model = onnx_ir.load(path)
        except Exception as error:  # protobuf's and onnx_ir's own kinds
            yield f"{name}: not readable ({type(error).__name__})"
            continue
        inputs, outputs = model.graph.inputs, model.graph.outputs
        names = [value.name for value in (*inputs, *outputs)]
        if names != INPUTS + OUTPUTS:
            needed = ", ".join(INPUTS + OUTPUTS)
            yield f"{name}: {', '.join(map(str, names))} instead of {needed}: not the whole pipeline"
        elif any(isinstance(size, int) for value in inputs for size in value.shape or ()):
            yield f"{name}: takes one batch or length only"
        elif pooling and (list(outputs[1].shape or ())[1:2] == [1]) != (pooling == "cls"):
            yield f"{name}: what it pools is not what {CONFIG} says, {pooling}"
        domains = {node.domain for node in model.graph.all_nodes()} - {"", "ai.onnx"}
        if path.name == Path(FILE).name and domains:
            yield f"{name}: operators of {', '.join(sorted(domains))}, which not every engine has"


def changed_weights(folder: Path) -> Iterator[str]:
    """Tensors of the root that `onnx/model.onnx` does not hold bit for bit, as they are or transposed."""
    import onnx_ir

    tensors = (value.const_value for value in onnx_ir.load(folder / FILE).graph.initializers.values())
    digests = {_digest(each.numpy()) for each in tensors if each is not None and each.dtype == onnx_ir.DataType.FLOAT}
    with safe_open(folder / WEIGHTS, "np") as root:
        for name in root.keys():  # noqa: SIM118 - no dict
            tensor = root.get_tensor(name)
            if not {_digest(tensor), _digest(tensor.T)} & digests:
                yield f"{FILE}: {name} is not the root's"


def _digest(tensor: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return tensor.shape, hashlib.sha256(np.ascontiguousarray(tensor).data).digest()
