"""The released model as it is: its own head, raw logits, and what its family says of its training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import RepoCard, snapshot_download
from safetensors import safe_open
from sentence_transformers import CrossEncoder
from yaml import YAMLError

from release.errors import ReleaseError
from release.export.portable import MODULES
from release.family import load as load_family
from release.runtime.unpadded import predict, unpad
from release.shapes import published

SETTINGS = ["modules.json", "config*.json"]  # by which a repository is refused before its weights are fetched
NEEDED = ["README.md", "*.json", "*.safetensors", "*.model", "*.txt"]  # of a repository: not the ONNX files
FAMILY = Path("recipes/ettin.toml")
MAX_LENGTH = 512  # where no record says what a model was trained with
GENTLER = 10  # a finished model takes a tenth of the rate that it was trained with


@dataclass(frozen=True)
class BaseModel:
    """A released model on this machine.

    Attributes:
        name: Its Hub id, or its folder's name.
        folder: Where its files are.
        revision: Its commit, None for a folder.
        learning_rate: What it was trained with, None where neither its records nor the family say so.
        max_length: Tokens of a pair in its training, None where no record says so.
        license: What its card names, None where it names none.
    """

    name: str
    folder: Path
    revision: str | None
    learning_rate: float | None
    max_length: int | None
    license: str | None


def find(source: str) -> BaseModel:
    """The model in a folder, or on the Hub (from the cache where the Hub cannot be reached), checked before it is loaded.

    Raises:
        ReleaseError: It is not here, is not modular, or does not give raw logits.
    """
    folder, revision = (Path(source), None) if Path(source).is_dir() else _download(source, SETTINGS)
    _check_modules(folder, source)
    _check_activation(folder, source)
    if revision:
        folder, _ = _download(source, NEEDED, revision)
    trained = _trained_with(folder)
    rate = trained.get("learning_rate") or _family_rate(folder)
    name = source if revision else folder.resolve().name
    return BaseModel(name, folder, revision, rate, trained.get("max_length"), _license(folder))


def _download(source: str, files: list[str], revision: str | None = None) -> tuple[Path, str]:
    """The folder of a repository's commit (the newest if left out) with these files of it, and the commit."""
    try:
        folder = Path(snapshot_download(source, revision=revision, allow_patterns=files))
    except Exception as error:  # no network, no such repository, no access, a bad name: each has its own type
        what = f"no model {source!r} here, and it cannot be fetched ({type(error).__name__})"
        raise ReleaseError(what, hint="give the folder of a released model, or its id on the Hub") from error
    return folder, folder.name


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _check_modules(folder: Path, source: str) -> None:
    """Another shape would get a new head, whose scores look plausible and mean nothing."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        kinds = tuple(str(module["type"]).rsplit(".", 1)[-1] for module in modules)
    except OSError as error:
        what = "not a modular reranker (no modules.json): its head would be a new one with random weights"
        raise ReleaseError(what, where=source, hint="take a release of this project or an Ettin reranker") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError("its modules.json cannot be read", where=source, hint="download it again") from error
    if kinds != MODULES:
        what = f"not the family's reranker: {' -> '.join(kinds)} instead of {' -> '.join(MODULES)}"
        raise ReleaseError(what, where=source, hint="take a release of this project or an Ettin reranker")


def _check_activation(folder: Path, source: str) -> None:
    activation = str(_json(folder / "config_sentence_transformers.json").get("activation_fn") or "Sigmoid, the default")
    if not activation.endswith(".Identity"):
        what = f"its scores pass through {activation.rsplit('.', 1)[-1]}, instead of being raw logits, so high ones tie"
        hint = 'set "activation_fn" in config_sentence_transformers.json to torch.nn.modules.linear.Identity'
        raise ReleaseError(what, where=source, hint=hint)


def trained_length(source: str) -> int:
    """Tokens of a pair that a reranker read in its training, `MAX_LENGTH` where no record beside it says so.

    Raises:
        ReleaseError: It is not here and cannot be fetched.
    """
    folder = Path(source) if Path(source).is_dir() else _download(source, ["records/*.json"])[0]
    return _trained_with(folder).get("max_length") or MAX_LENGTH


def _trained_with(folder: Path) -> dict[str, Any]:
    """The subject of the release's record of its training; of a model that was fine-tuned already, that of its base."""
    paths = (folder / "records/run.json", folder / "records/finetune.json", folder.parent / "records/finetune.json")
    path, subject = next(
        ((path, value) for path in paths if isinstance(value := _json(path).get("subject"), dict)), (None, {})
    )
    rate, length = subject.get("family_learning_rate", subject.get("learning_rate")), subject.get("max_length")
    if not isinstance(rate, int | float | None) or not isinstance(length, int | None) or (length or 1) < 1:
        what = f"a learning rate of {rate!r} or a max_length of {length!r}, which are none"
        raise ReleaseError(what[:200], where=str(path), hint="download it again, or remove it and pass --learning-rate")
    return {"learning_rate": rate, "max_length": length}


def _license(folder: Path) -> str | None:
    try:
        named = RepoCard.load(folder / "README.md", ignore_metadata_errors=True).data.to_dict().get("license")
    except (OSError, ValueError, YAMLError):  # no card, or one that is damaged: then publish.py asks for a licence
        return None
    return named if isinstance(named, str) else None


def _family_rate(folder: Path) -> float | None:
    """The rate of the Ettin size whose encoder has this shape."""
    config = _json(folder / "config.json")
    shape = [config.get(key) for key in ("hidden_size", "num_hidden_layers", "intermediate_size")]
    for size in load_family(FAMILY).sizes.values():
        known = published()["encoders"].get(size.encoder, {})
        if shape == [known.get(key) for key in ("hidden_size", "num_hidden_layers", "intermediate_size")]:
            return size.learning_rate
    return None


def load(folder: Path) -> CrossEncoder:
    """The model in float32 with raw logits, its last layer in float32 under bf16 too, without padding.

    Raises:
        ReleaseError: A file of it is missing or damaged.
    """
    try:
        model = CrossEncoder(
            str(folder),
            activation_fn=torch.nn.Identity(),
            keep_in_fp32_modules=["4.linear"],
            model_kwargs={"dtype": torch.float32},
            local_files_only=True,
        )
    except Exception as error:  # weights, tokenizer and configuration each have errors of their own
        what = f"the model cannot be loaded ({' '.join(str(error).split())[:200]})"
        raise ReleaseError(what, where=str(folder), hint="download it again, whole") from error
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        raise ReleaseError("its weights are not all finite numbers", where=str(folder), hint="download it again")
    encoder: Any = model[0]
    if absent := encoder.model.state_dict().keys() - _stored(folder):
        what = f"{len(absent)} weights of its encoder are not in its files, such as {min(absent)}: they would be random ones"
        raise ReleaseError(what, where=str(folder), hint="take a release of this project or an Ettin reranker")
    if model.num_labels != 1:
        what = f"a reranker gives one score per pair, this model {model.num_labels}"
        raise ReleaseError(what, where=str(folder), hint="take a release of this project or an Ettin reranker")
    positions = encoder.model.config.max_position_embeddings
    if not isinstance(encoder.max_seq_length, int | None):
        what = f"max_seq_length is {encoder.max_seq_length!r}, no number of tokens"
        raise ReleaseError(what, where=f"{folder}/sentence_bert_config.json", hint="correct it, or download it again")
    encoder.max_seq_length = min(encoder.max_seq_length or positions, positions)
    return unpad(model)


def _stored(folder: Path) -> set[str]:
    """The encoder's weights that the files hold, by its own names: the root may be a sequence classifier's checkpoint."""
    names = {name for path in folder.glob("*.safetensors") for name in safe_open(path, "pt").keys()}  # noqa: SIM118
    return names | {name.removeprefix("model.") for name in names}


def scores(
    model: CrossEncoder, pairs: Sequence[tuple[str, str]], tokens: dict[int, dict[str, Any]] | None = None
) -> np.ndarray:
    """Raw logits of `pairs`, float32 of shape (pairs,); `tokens` spares the tokenizer where they are scored again.

    Raises:
        ReleaseError: One is not a finite number: the training has failed.
    """
    logits = predict(model, pairs, tokens=tokens)
    if not np.isfinite(logits).all():
        raise ReleaseError("the model gives scores that are not numbers", hint="train with a lower --learning-rate")
    return logits
