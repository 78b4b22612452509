"""From the trained model to the folder that every engine loads with the same scores.

The folder `export/` is the modular CrossEncoder, and its root checkpoint is a
`ModernBertForSequenceClassification`, so that Sentence Transformers (which reads modules.json) and all that knows
sequence classification give the same scores; `onnx/model.onnx` is the whole pipeline with the output `logits`. Each
form is compared with the trained model on real pairs before the folder appears.

The LayerNorm's bias does not exist in that class. It folds away exactly, because only a linear layer follows it:
W @ (n * g + b) + c = W @ (n * g) + (W @ b + c).
"""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release import console, options, records, results
from release.errors import ReleaseError
from release.export import parity, quantize
from release.family import Family, load
from release.files import atomic_directory, sha256_folder, write_json
from release.records import Record
from release.results.export import ExportedForm, ExportResult, ExportSubject

if TYPE_CHECKING:
    import torch

FILES = {
    "CrossEncoder": "modules.json",
    "AutoModelForSequenceClassification": "model.safetensors",
    "ONNX": "onnx/model.onnx",
}
MODULES = ("Transformer", "Pooling", "Dense", "LayerNorm", "Dense")
EXTERNAL_DATA = 1_900_000_000  # a protobuf file cannot pass 2 GiB: beyond this the ONNX weights lie beside the graph


def command(size: options.Size, family_file: options.Family = options.ETTIN) -> None:
    """Export one trained model in every form and compare each with it."""
    result = export(load(family_file), size).measured
    rows = [
        [form.form, form.file, form.bytes, f"{form.max_score_difference:.1e}", f"{form.tolerance:.1e}"]
        for form in result.forms
    ]
    title = f"Scores of {result.pairs} pairs against the trained model"
    console.table(title, ["form", "file", "bytes of weights", "largest difference", "allowed"], rows)
    int8 = result.int8
    if int8.released and int8.measured:
        print(f"int8: {int8.measured.bytes} bytes, NDCG@10 {int8.measured.change:+.4f} ({int8.measured.collection})")
    else:
        print(f"no int8: {int8.reason}")
    console.print_json(asdict(result))


def export(family: Family, size: str) -> Record[ExportResult, ExportSubject]:
    """Make `<size>/export/` from `<size>/model/`, compare, and write the record "export".

    Raises:
        ReleaseError: No model, another shape than the recipe's, no pairs, or a form whose scores differ; then the
            earlier export, if any, stays as it was.
    """
    model = family.folder(size) / "model"
    digest = records.model_hash(model)
    pairs = parity.sample_pairs(family)
    with parity.quiet(), atomic_directory(family.folder(size) / "export") as folder:
        dual_root(model, folder)
        make_portable(folder)
        whole_onnx(folder)
        scores, forms = compare(model, folder, pairs)
        result = ExportResult(
            pairs=len(pairs),
            score_range=(min(scores), max(scores)),
            max_length=max_length(folder),
            forms=forms,
            int8=quantize.add_int8(family, folder),
            sha256=sha256_folder(folder),
        )
    record = records.new(
        results.EXPORT,
        family=family.about.name,
        size=size,
        model_sha256=digest,
        measured=result,
        subject=ExportSubject(dtype="float32", pairs=family.data.validation),
    )
    records.write(record, family.folder(size) / "records")
    return record


def dual_root(model: Path, folder: Path) -> None:
    """Write `model` to `folder` in float32 with a sequence-classification checkpoint in its root.

    Training saves float32 master weights, and so is the release; narrower weights are widened, which is exact.

    Raises:
        ReleaseError: `model` is not Transformer, Pooling(cls), Dense, LayerNorm, Dense on a ModernBERT encoder.
    """
    from safetensors.torch import save_file

    paths, config = _module_paths(model), json.loads((model / "config.json").read_text(encoding="utf-8"))
    state = {f"model.{name}": tensor for name, tensor in _weights(model).items()}
    state |= _head(*(_weights(model / path) for path in paths[2:]), config)
    skipped = shutil.ignore_patterns("README.md", "model*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth")
    shutil.copytree(model, folder, ignore=skipped, dirs_exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    for path in paths[2:]:
        save_file(_weights(model / path), folder / path / "model.safetensors", metadata={"format": "pt"})
    config |= {"architectures": ["ModernBertForSequenceClassification"], "dtype": "float32"}
    config |= {"classifier_pooling": "cls", "classifier_activation": "gelu", "classifier_bias": False}
    config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    write_json(folder / "config.json", config)


def _module_paths(model: Path) -> list[str]:
    file = model / "modules.json"
    if not file.is_file():
        raise ReleaseError("not a modular CrossEncoder (no modules.json)", where=str(model), hint="make train")
    modules = json.loads(file.read_text(encoding="utf-8"))
    kinds = tuple(module["type"].rsplit(".", 1)[-1] for module in modules)
    pooling = json.loads((model / modules[1]["path"] / "config.json").read_text(encoding="utf-8"))
    if kinds != MODULES or pooling.get("pooling_mode") != "cls":
        modules_found = f"{' -> '.join(kinds)}, pooling {pooling.get('pooling_mode')}"
        raise ReleaseError(f"not the recipe's model: {modules_found}", where=str(file), hint="make train")
    return [module["path"] for module in modules]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    files = sorted(folder.glob("model*.safetensors"))
    return {name: tensor.float() for file in files for name, tensor in load_file(file).items()}


def _head(
    dense: dict[str, torch.Tensor],
    norm: dict[str, torch.Tensor],
    scores: dict[str, torch.Tensor],
    config: dict[str, Any],
) -> dict[str, torch.Tensor]:
    """The head's tensors under the names of ModernBertForSequenceClassification, the norm's bias folded away."""
    if config.get("model_type") != "modernbert" or config["norm_bias"] or config["norm_eps"] != 1e-5:
        raise ReleaseError("the encoder is no ModernBERT with norms without bias and epsilon 1e-5", hint="make train")
    weight, shift = scores["linear.weight"], norm["norm.bias"]
    folded = scores["linear.bias"].double() + weight.double() @ shift.double()
    return {
        "head.dense.weight": dense["linear.weight"],
        "head.norm.weight": norm["norm.weight"],
        "classifier.weight": weight,
        "classifier.bias": folded.float(),
    }


def make_portable(folder: Path) -> None:
    """Let older readers load `folder` with the same scores, and forget how the build machine was set up.

    transformers 4 knows neither this tokenizer class nor `rope_parameters` (without its own keys it falls back to other
    frequencies and other scores, silently); "local" flags of the tokenizer tell of the build, not of the model.
    """
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokenizer = {
        key: value for key, value in tokenizer.items() if key not in {"is_local", "local_files_only", "backend"}
    }
    write_json(folder / "tokenizer_config.json", tokenizer | {"tokenizer_class": "PreTrainedTokenizerFast"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    if rope := config.get("rope_parameters"):
        config["global_rope_theta"] = rope["full_attention"]["rope_theta"]
        config["local_rope_theta"] = rope["sliding_attention"]["rope_theta"]
    if layers := config.get("layer_types"):
        full = [index for index, kind in enumerate(layers) if kind == "full_attention"]
        config["global_attn_every_n_layers"] = full[1] - full[0] if len(full) > 1 else len(layers)
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity"}
    write_json(folder / "config.json", config)


def whole_onnx(folder: Path) -> Path:
    """Write `onnx/model.onnx`: ids and mask of any batch and length in, `logits` (batch, 1) out.

    Large weights go to `onnx/model.onnx_data`, the name that transformers.js looks for. What the exporter notes
    about the Python files of this machine is removed.
    """
    import onnx_ir
    import torch

    model = classifier(folder)
    model.forward = functools.partial(_logits, model.forward)
    example = torch.randint(5, model.config.vocab_size, (2, 16)), torch.ones(2, 16, dtype=torch.long)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", min=3)}
    program = torch.onnx.export(
        model,
        example,
        dynamo=True,
        verbose=False,
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
    )
    assert program is not None
    _forget_origin(program.model)
    path = folder / "onnx/model.onnx"
    path.parent.mkdir()
    size = sum(parameter.nbytes for parameter in model.parameters())
    onnx_ir.save(program.model, path, external_data="model.onnx_data" if size > EXTERNAL_DATA else None)
    return path


def classifier(folder: Path) -> Any:
    """The root checkpoint as a ModernBertForSequenceClassification that does no work of which the head sees nothing."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
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


def _logits(forward: Callable[..., Any], input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    return forward(input_ids=input_ids, attention_mask=attention_mask).logits


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


def compare(model: Path, folder: Path, pairs: Sequence[parity.Pair]) -> tuple[list[float], tuple[ExportedForm, ...]]:
    """Score `pairs` with the trained model and with each form of `folder`, all in float32 on the CPU.

    Returns:
        The trained model's scores, and every form.

    Raises:
        ReleaseError: A form differs by more than its tolerance; the form and the difference are named.
    """
    reference = parity.cross_encoder(str(model), pairs)
    forms = tuple(
        ExportedForm(**asdict(each), file=FILES[each.form], bytes=_bytes(folder, each.form))
        for each in parity.differences(reference, str(folder), pairs)
    )
    return reference, forms


def _bytes(folder: Path, form: str) -> int:
    """What a user of one form downloads in weights."""
    patterns = {"CrossEncoder": "**/*.safetensors", "ONNX": "onnx/model.onnx*"}
    return sum(file.stat().st_size for file in folder.glob(patterns.get(form, "*.safetensors")))


def max_length(folder: Path) -> int:
    """The most tokens of a pair that the model reads: the tokenizer's limit or the position table's, the lower one."""
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(min(tokenizer.get("model_max_length", math.inf), config["max_position_embeddings"]))
