"""What the benchmarks on natural text share: a model of the smallest published shape, and docstrings."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

from recipes.distill import build_model
from release.data.docstrings import pairs

MAX_LENGTH = 512
SHAPE_17M = {
    "vocab_size": 50368,
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "local_attention": 128,
    "global_attn_every_n_layers": 3,
    "max_position_embeddings": 7999,
}
SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def natural_pairs(count: int, seed: int = 12) -> list[tuple[str, str]]:
    """Docstrings of the standard library and torch as (summary, body), in a seeded order: text of natural lengths."""
    documented = pairs(("stdlib", "torch"), workers=1)
    order = np.random.default_rng(seed).permutation(len(documented))[:count]
    return [(documented[index].summary, documented[index].body) for index in order]


def tokenizer(texts: list[str], folder: Path) -> None:
    """Train a byte-level BPE of 16,384 tokens on `texts` and save it, so that lengths in tokens are natural too."""
    bpe = Tokenizer(models.BPE(unk_token="[UNK]"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=16384, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    ends = [(token, bpe.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    bpe.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        **names,
    ).save_pretrained(folder)


def write_encoder(folder: Path, texts: list[str]) -> None:
    """An encoder of the 17m shape with random weights (seed 12) and a tokenizer for `texts`."""
    tokenizer(texts, folder)
    torch.manual_seed(12)
    ids = {f"{token}_token_id": index for token, index in [("cls", 1), ("sep", 2), ("pad", 3), ("bos", 1), ("eos", 2)]}
    ModernBertModel(ModernBertConfig(**SHAPE_17M, **ids, initializer_range=0.04)).save_pretrained(folder)


def reranker(encoder: Path, max_length: int = MAX_LENGTH) -> CrossEncoder:
    """The recipe's model with a random head (seed 12), as Sentence Transformers runs it by default: with padding.

    It is saved and loaded, because the recipe's page takes the padding out of the model that it builds.
    """
    torch.manual_seed(12)
    folder = encoder / "reranker"
    build_model(str(encoder), max_length, device="cpu").save_pretrained(str(folder))
    model = CrossEncoder(str(folder), device="cpu", max_length=max_length, model_kwargs={"dtype": "float32"})
    if model.preprocess([("one", "pair"), ("and", "another one")])["input_ids"].shape[0] != 2:
        raise RuntimeError("the plain side has no padding: it would be measured against itself")
    return model
