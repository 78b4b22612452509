"""Models of the published shapes with random weights, and pairs as long as questions with their Wikipedia passages.

Nothing is downloaded: the shapes are in release/shapes.toml, the tokenizer is the embedded encoder's, and the text
is drawn word by word. Speed and memory do not depend on what the weights or the words are. torch, transformers and
sentence-transformers are enough to import this file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from torch import nn
from transformers import ModernBertConfig, ModernBertForSequenceClassification, ModernBertModel

from release.shapes import shape as encoder_shape

ROOT = Path(__file__).resolve().parent.parent
ENCODER = ROOT / "recipes/encoder"  # its tokenizer, and a folder that Sentence Transformers can load
MAX_LENGTH = 512  # tokens of a pair that the speed protocol reads
PUBLISHED = {"17m": 7517, "32m": 6602, "68m": 4913, "150m": 3237, "400m": 1738, "1b": 928}  # pairs/s on one H100
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "local_attention": 32,
    "global_attn_every_n_layers": 3,
}
# Tokens of a question, and of a passage (log-normal: mean and deviation of the logarithm), measured with MiniLM's
# tokenizer on the 12,697 questions of BoolQ and their Wikipedia passages; the pairs have 133 tokens on average.
QUESTION, PASSAGE = (9.4, 1.6), (4.64, 0.583)


@dataclass(frozen=True)
class Shape:
    """A size of the family: its encoder's configuration, the recipe's global batch in pairs, and the published pairs/s."""

    name: str
    config: ModernBertConfig
    batch: int
    published: int | None = None


def published_shapes() -> dict[str, Shape]:
    """The six sizes of recipes/ettin.toml, the smallest first."""
    sizes = tomllib.loads((ROOT / "recipes/ettin.toml").read_text(encoding="utf-8"))["sizes"]
    return {
        name: Shape(name, encoder_shape(size["encoder"]), size["global_batch_size"], PUBLISHED[name])
        for name, size in sizes.items()
    }


def tiny_shapes() -> dict[str, Shape]:
    """Two shapes that a CPU gets through in no time, for the tests of what is measured on a GPU."""
    return {
        "tiny": Shape("tiny", ModernBertConfig(**TINY), 16),
        "small": Shape("small", ModernBertConfig(**TINY | {"hidden_size": 128}), 8),
    }


def question_pairs(count: int, seed: int = 12) -> list[tuple[str, str]]:
    """Pairs of random common words, one token each, as long as questions with their passages."""
    from transformers import AutoTokenizer

    draw = np.random.default_rng(seed)
    vocabulary = AutoTokenizer.from_pretrained(ENCODER).get_vocab()
    words = np.array(sorted(token for token in vocabulary if token.isascii() and token.isalpha()))
    questions = np.maximum(draw.normal(*QUESTION, count).round(), 2).astype(int)
    passages = np.clip(draw.lognormal(*PASSAGE, count).round(), 4, 4 * MAX_LENGTH).astype(int)
    return [
        (" ".join(draw.choice(words, question)), " ".join(draw.choice(words, passage)))
        for question, passage in zip(questions, passages, strict=True)
    ]


def mean_tokens(pairs: list[tuple[str, str]]) -> float:
    """Tokens of a pair on average, cut at `MAX_LENGTH`: every word is one, and three separate query and document."""
    return float(np.mean([min(3 + len(query.split()) + len(text.split()), MAX_LENGTH) for query, text in pairs]))


def modular(shape: Shape, device: str, seed: int = 12) -> CrossEncoder:
    """The recipe's model with random weights, made where it will run: float32, padded, attention by torch's sdpa."""
    transformer = Transformer(str(ENCODER), model_kwargs={"attn_implementation": "sdpa"})
    transformer.model = _random(ModernBertModel, shape.config, device, seed)
    transformer.max_seq_length = MAX_LENGTH
    width = shape.config.hidden_size
    modules = [
        transformer,
        Pooling(width, pooling_mode="cls"),
        Dense(width, width, bias=False, activation_function=nn.GELU()),
        LayerNorm(width),
        Dense(width, 1, activation_function=nn.Identity(), module_output_name="scores"),
    ]
    return CrossEncoder(
        modules=modules, activation_fn=nn.Identity(), keep_in_fp32_modules=["4.linear"], device=device
    ).eval()


def classifier(model: CrossEncoder, shape: Shape, device: str) -> CrossEncoder:
    """A padded sequence classifier with the weights, and so the scores, of a modular model."""
    dense, norm, last = model[2].linear, model[3].norm, model[4].linear
    padded = CrossEncoder(str(ENCODER), num_labels=1, activation_fn=nn.Identity(), device=device, max_length=MAX_LENGTH)
    config = ModernBertConfig(**shape.config.to_dict() | {"num_labels": 1, "classifier_pooling": "cls"})
    inner = _random(ModernBertForSequenceClassification, config, device, seed=12)
    inner.model.load_state_dict(model[0].model.state_dict())
    with torch.no_grad():
        inner.head.dense.weight.copy_(dense.weight)
        inner.head.norm.weight.copy_(norm.weight)
        inner.classifier.weight.copy_(last.weight)
        inner.classifier.bias.copy_(last.bias + last.weight @ norm.bias)
    padded[0].model = inner
    return padded.eval()


def _random(kind: Any, config: ModernBertConfig, device: str, seed: int) -> Any:
    """A model with random weights; wider than usual, so that different pairs get clearly different scores."""
    torch.manual_seed(seed)
    config = type(config)(**config.to_dict() | {"initializer_range": 0.04, "attn_implementation": "sdpa"})
    with torch.device(device):
        return kind(config)
