"""The smallest real parts: a ModernBERT with its own tokenizer, and the recipe's modular CrossEncoder on it."""

from __future__ import annotations

from pathlib import Path

SENTENCES = [
    "what is the capital of france ? paris is the capital of france .",
    "how many calories in an egg ? there are about 70 calories in an egg .",
    "berlin is the capital of germany and its population is 3.5 million .",
    "mars is known as the red planet , venus is called earth 's twin .",
    "the quick brown fox jumps over the lazy dog near the river bank .",
]
PAIRS = [
    ("what is the capital of france ?", "paris is the capital of france ."),
    ("capital of germany", "berlin is the capital of germany and its population is 3.5 million ."),
    ("egg calories", "there are about 70 calories in an egg . " * 9),
    ("red planet", "mars"),
    ("", "the quick brown fox jumps over the lazy dog"),
    ("river bank", ""),
]


def tiny_encoder(folder: Path, *, hidden: int = 64, layers: int = 3, heads: int = 4, max_length: int = 512) -> Path:
    """Write a ModernBERT with random weights (seed 0, sliding window 32, every third layer global) to `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=max_length,
        pad_token_id=ids["[PAD]"],
        cls_token_id=ids["[CLS]"],
        sep_token_id=ids["[SEP]"],
        bos_token_id=ids["[CLS]"],
        eos_token_id=ids["[SEP]"],
        local_attention=32,
        initializer_range=0.2,  # so that different pairs get clearly different scores
    )
    ModernBertModel(config).save_pretrained(folder)
    return folder


def tiny_reranker(folder: Path, encoder: Path) -> Path:
    """Write the recipe's modular CrossEncoder (random head, seed 1) on `encoder` to `folder`."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
    from torch import nn

    torch.manual_seed(1)
    transformer = Transformer(str(encoder))
    width = transformer.get_embedding_dimension()
    norm = LayerNorm(width)
    nn.init.normal_(norm.norm.weight, 1.0, 0.2)  # a trained norm has a scale and a bias: so has this one
    nn.init.normal_(norm.norm.bias, 0.0, 0.2)
    modules = [
        transformer,
        Pooling(width, pooling_mode="cls"),
        Dense(width, width, bias=False, activation_function=nn.GELU()),
        norm,
        Dense(width, 1, activation_function=nn.Identity(), module_output_name="scores"),
    ]
    model = CrossEncoder(modules=modules, activation_fn=nn.Identity(), keep_in_fp32_modules=["4.linear"], device="cpu")
    model.save_pretrained(str(folder))
    return folder
