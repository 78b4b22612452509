"""The configurations of one CrossEncoder that the speed protocol compares: weights, attention, with or without padding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from release.errors import CannotRun
from release.evaluation import forms
from release.evaluation.rerankers import attention_of, check_dtype
from release.family import ModelConfig
from release.runtime.precision import has_fast_bf16, has_flash_attention

OURS = "unpadded"
AS_IT_IS = ModelConfig()


@dataclass(frozen=True)
class Configuration:
    """How a model is run.

    Attributes:
        attention: transformers' name, OURS for release/runtime/unpadded.py, or None for what transformers takes by itself:
            scaled dot product attention, or eager where an architecture has no other (DeBERTa), as for the published figures.
    """

    name: str
    dtype: str
    attention: str | None
    padded: bool

    @property
    def ours(self) -> bool:
        """Whether it needs code of this project."""
        return self.attention == OURS


@dataclass(frozen=True)
class Loaded:
    """A model set up in one configuration; `weights`, `scores` and `attention` are what it really has.

    `predict` takes pairs and a batch size and returns float32 scores of shape (pairs,).
    """

    configuration: Configuration
    model: Any
    predict: Callable[[list[tuple[str, str]], int], np.ndarray]
    weights: str
    scores: str
    attention: str


def candidates(device: str) -> tuple[list[Configuration], dict[str, str]]:
    """The configurations that this machine can run, slowest first, and why others are left out (name -> reason)."""
    plain = Configuration("fp32, padded (Sentence Transformers' default)", "float32", None, True)
    if device == "CPU":
        configurations = [plain, Configuration("fp32, unpadded", "float32", OURS, False)]
        half = Configuration("bf16, unpadded", "bfloat16", OURS, False)
        if has_fast_bf16("cpu"):
            return [*configurations, half], {}
        return configurations, {half.name: "this CPU has no bf16 instructions"}
    configurations = [plain, Configuration("bf16, padded", "bfloat16", None, True)]
    flash = [
        Configuration("bf16, flash attention 2, padded", "bfloat16", "flash_attention_2", True),
        Configuration("bf16, flash attention 2, unpadded", "bfloat16", "flash_attention_2", False),
    ]
    own = Configuration("bf16, unpadded", "bfloat16", OURS, False)
    if not has_flash_attention():
        reason = "neither flash-attn nor kernels is installed"
        return [*configurations, own], {configuration.name: reason for configuration in flash}
    return [*configurations, *flash, own], {}


def load(configuration: Configuration, source: str, max_length: int | None, how: ModelConfig = AS_IT_IS) -> Loaded:
    """Set up a model's folder or Hub id, and assert that its weights are of the type that the configuration names.

    Args:
        how: What the family says of this model: its commit, and whether code from there runs.

    Raises:
        CannotRun: No model there, or not one that runs so.
        ReleaseError: Its weights have another type.
    """
    from sentence_transformers import CrossEncoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"dtype": configuration.dtype}
    if configuration.attention and not configuration.ours:
        options["attn_implementation"] = configuration.attention
    limit = {"max_length": max_length} if max_length else {}
    try:
        where_from: dict[str, Any] = forms.where_from(source, how.revision, remote_code=how.remote_code)
        model = CrossEncoder(source, device=device, model_kwargs=options, **where_from, **limit)
        predict = _predict(configuration, model)
    except (OSError, ValueError) as error:
        raise CannotRun(str(error).strip().split("\n")[0], where=source, hint="leave this configuration out") from error
    model.activation_fn = torch.nn.Identity()  # scores are compared as they are, before any sigmoid
    check_dtype(model, configuration.dtype)
    return Loaded(configuration, model, predict, configuration.dtype, scores_dtype(model), attention_of(model))


def _predict(configuration: Configuration, model: Any) -> Callable[[list[tuple[str, str]], int], np.ndarray]:
    if configuration.ours:
        from release.runtime import unpadded

        unpadded.unpad(model)
        tokens = 0

        def budgeted(pairs: list[tuple[str, str]], batch: int) -> np.ndarray:
            nonlocal tokens
            tokens = tokens or mean_tokens(model, pairs[:256])
            return unpadded.predict(model, pairs, token_budget=batch * tokens)

        return budgeted
    if configuration.attention:
        model[0].unpad_inputs = not configuration.padded
    return lambda pairs, batch: model.predict(pairs, batch_size=batch, show_progress_bar=False)


def mean_tokens(model: Any, pairs: list[tuple[str, str]]) -> int:
    """Tokens of a pair on average, cut at the model's limit: what makes a batch of pairs a budget of tokens."""
    tokens = model.tokenizer([query for query, _ in pairs], [document for _, document in pairs])["input_ids"]
    limit = model.max_seq_length or max(map(len, tokens))
    return max(1, round(sum(min(len(ids), limit) for ids in tokens) / len(tokens)))


def scores_dtype(model: Any) -> str:
    """The type of the score tensor as the model gives it, before anything converts it."""
    with torch.inference_mode():
        features = model.preprocess([("a query", "a document"), ("another", "one more document")])
        features = {key: value.to(model.device) if hasattr(value, "to") else value for key, value in features.items()}
        return str(model(features)["scores"].dtype).removeprefix("torch.")
