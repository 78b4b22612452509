"""Tokenizers of stand-in models, each of its family's kind, trained in a moment on generated text."""

from __future__ import annotations

from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from release.rehearsal.text import passages

WORDS = 1_500  # of a stand-in's vocabulary, whatever its configuration says
ANSWERS = ("yes", "no", "Yes", "No", "0", "1")  # single tokens of the causal rerankers


@cache
def _text() -> tuple[str, ...]:
    return tuple(text for each in passages("tokenizers", 400, sentences=5) for text in (each.text, each.question))


def _fast(tokenizer: Tokenizer, **special: Any) -> Any:
    inputs = special.pop("model_input_names", ["input_ids", "attention_mask"])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **special)


def _pairs(tokenizer: Tokenizer, first: str, last: str, between: str = "", *, types: bool = False) -> None:
    """Let a pair be `first` A `last` `between` B `last`."""
    second = int(types)
    names = list(dict.fromkeys([first, last, *([between] if between else [])]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first}:0 $A:0 {last}:0 {between}{':0 ' if between else ''}$B:{second} {last}:{second}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
    )


def word_pieces(max_length: int) -> Any:
    """BERT's: lower case, WordPiece, [CLS] A [SEP] B [SEP] with token types."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(
        _text(), trainers.WordPieceTrainer(vocab_size=WORDS, special_tokens=special, show_progress=False)
    )
    _pairs(tokenizer, "[CLS]", "[SEP]", types=True)
    names = {"pad_token": special[0], "unk_token": special[1], "cls_token": special[2], "sep_token": special[3]}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    return _fast(tokenizer, **names, mask_token=special[4], model_max_length=max_length, model_input_names=inputs)


def unigrams(kind: str, max_length: int) -> Any:
    """SentencePiece's unigrams as XLM-R (`kind` "xlm-roberta": <s> A </s> </s> B </s>) or DeBERTa-v2 has them."""
    roberta = kind == "xlm-roberta"
    first, last, unknown = ("<s>", "</s>", "<unk>") if roberta else ("[CLS]", "[SEP]", "[UNK]")
    pad, mask = ("<pad>", "<mask>") if roberta else ("[PAD]", "[MASK]")
    special = [first, pad, last, unknown, mask] if roberta else [pad, first, last, unknown, mask]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=WORDS, special_tokens=special, unk_token=unknown, show_progress=False)
    tokenizer.train_from_iterator(_text(), trainer)
    _pairs(tokenizer, first, last, last if roberta else "", types=not roberta)
    names = {"cls_token": first, "sep_token": last, "pad_token": pad, "unk_token": unknown, "mask_token": mask}
    inputs = ["input_ids", "attention_mask"] if roberta else ["input_ids", "token_type_ids", "attention_mask"]
    more = {"bos_token": first, "eos_token": last} if roberta else {}
    return _fast(tokenizer, **names, **more, model_max_length=max_length, model_input_names=inputs)


def bytes_of_text(special: list[str], max_length: int, *, pairs: tuple[str, str] | None = None, **names: Any) -> Any:
    """Byte-level BPE, as ModernBERT (`pairs` its first and last token) and the Qwen models have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((*_text(), *ANSWERS * 500), trainer)
    if pairs:
        _pairs(tokenizer, *pairs)
    return _fast(tokenizer, model_max_length=max_length, **names)


def modern_bert(max_length: int) -> Any:
    """ModernBERT's: byte-level BPE with BERT's special tokens."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return bytes_of_text(special, max_length, pairs=("[CLS]", "[SEP]"), mask_token="[MASK]", **names)


def qwen(max_length: int, chat_template: str | None = None) -> Any:
    """Qwen's: byte-level BPE without a token at the beginning; padded on the left, as a causal model is."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    names: dict[str, Any] = {"pad_token": special[0], "eos_token": special[2], "padding_side": "left"}
    tokenizer = bytes_of_text(special, max_length, **names)
    tokenizer.chat_template = chat_template
    return tokenizer


def gemma(max_length: int) -> Any:
    """Gemma's: BPE over SentencePiece's words, <bos> before and <eos> after a text."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Replace("▁", " ")
    tokenizer.train_from_iterator(
        _text(), trainers.BpeTrainer(vocab_size=WORDS, special_tokens=special, show_progress=False)
    )
    _pairs(tokenizer, "<bos>", "<eos>")
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return _fast(tokenizer, **names, model_max_length=max_length)
