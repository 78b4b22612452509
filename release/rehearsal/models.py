"""Stand-ins of the models that a family names: each in the form in which it is published, with few random weights.

Encoders alone have their true shape (release/shapes.toml), because training, export and memory depend on it. All
else is tiny. The same name gives the same weights on every machine.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from torch import nn, randn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    Gemma3TextConfig,
    Gemma3TextModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    NomicBertConfig,
    NomicBertModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from release.rehearsal import tokenization
from release.shapes import published

Role = Literal["encoder", "teacher", "embedder", "compared"]
WIDTH, HEADS, LAYERS = 32, 2, 2  # of everything but encoders
TINY: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}
CAUSAL: dict[str, Any] = TINY | {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True}
LEAST_LAYERS = 4  # of an encoder: attention to all, twice to neighbours, and to all again
PUBLISHED_VOCABULARY = 50_368  # of the Ettin encoders; the tokenizer knows fewer tokens, as theirs does

RELEVANCE = (  # mxbai-rerank v2 asks for "1" or "0"
    "<|im_start|>system\nYou judge documents.<|im_end|>\n<|im_start|>user\n"
    "query: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}\n"
    "document: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}\n"
    "Is the document relevant to the query? Answer 1 or 0.<|im_end|>\n<|im_start|>assistant\n"
)
YES_NO = (  # Qwen3-Reranker is instructed, and asks for "yes" or "no"
    '<|im_start|>system\nAnswer only "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | first"
    " | default('Find passages that answer the query') }}\n"
    "<Query>: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}\n"
    "<Document>: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}"
    "<|im_end|>\n<|im_start|>assistant\n"
)


def form_of(name: str, role: Role) -> str:
    """The form in which the model `name` is published, by forms.toml."""
    forms = tomllib.loads(Path(__file__).with_name("forms.toml").read_text(encoding="utf-8"))
    fits = (form for pattern, form in forms["patterns"].items() if fnmatch(name, pattern))
    return next(fits, forms["roles"][role])


def build(name: str, role: Role, folder: Path, *, most: int | None = None) -> Path:
    """Write the stand-in of the model `name` into `folder`.

    Args:
        most: Parameters beyond which an encoder has fewer layers than published, see `shape`.
    """
    torch.manual_seed(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    folder.mkdir(parents=True, exist_ok=True)
    form = form_of(name, role)
    if form == "modernbert":
        encoder(name, folder, most)
    else:
        FORMS[form](folder)
    return folder


# --- Encoders ---------------------------------------------------------------------------------------------------------


def encoder(name: str, folder: Path, most: int | None = None) -> None:
    """A ModernBERT in its published shape, saved as the masked language model that it is, for both generations of transformers."""
    tokenizer = tokenization.modern_bert(7_999)
    tokenizer.save_pretrained(folder)
    config = ModernBertConfig(**shape(name, most), max_position_embeddings=7_999, **_special(tokenizer))
    ModernBertForMaskedLM(config).save_pretrained(folder)
    _edit(folder / "config.json", _both_generations)


def shape(name: str, most: int | None = None) -> dict[str, Any]:
    """The configuration that shapes.toml gives; a small one for an encoder that it does not list.

    Args:
        most: Parameters beyond which layers are left out, down to the first LEAST_LAYERS; vocabulary, widths and heads stay.
    """
    known = published()
    if name not in known["encoders"]:
        return TINY | {"vocab_size": PUBLISHED_VOCABULARY, "local_attention": 128, "global_attn_every_n_layers": 3}
    config = known["common"] | known["encoders"][name]
    if most is not None:
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        of_a_layer = width * (4 * width + 3 * config["intermediate_size"])
        fitting = (most - config["vocab_size"] * width) // of_a_layer
        config["num_hidden_layers"] = min(layers, max(LEAST_LAYERS, fitting))
    return config


def _special(tokenizer: Any) -> dict[str, int]:
    first, last, pad = (tokenizer.convert_tokens_to_ids(name) for name in ("[CLS]", "[SEP]", "[PAD]"))
    ids = {"cls_token_id": first, "bos_token_id": first, "sep_token_id": last, "eos_token_id": last}
    return ids | {"pad_token_id": pad}


def _both_generations(config: dict[str, Any]) -> None:
    """The keys of transformers 4 beside those of 5, as the published configurations have them."""
    theta = {kind: value["rope_theta"] for kind, value in config["rope_parameters"].items()}
    config |= {"global_rope_theta": theta["full_attention"], "local_rope_theta": theta["sliding_attention"]}
    config |= {"global_attn_every_n_layers": 3, "torch_dtype": config.get("dtype", "float32")}


# --- Rerankers --------------------------------------------------------------------------------------------------------


def causal_reranker(
    folder: Path, family: Literal["qwen2", "qwen3"], template: str, true: str, false: str | None
) -> None:
    """A causal model that compares two tokens, through the chat template and modules.json of its repository."""
    tokenizer = tokenization.qwen(32_768, template)
    tokenizer.save_pretrained(folder)
    ids: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    options: dict[str, Any] = (
        CAUSAL | ids | {"vocab_size": len(tokenizer), "max_position_embeddings": 32_768, "initializer_range": 0.3}
    )
    if family == "qwen2":
        options.pop("head_dim")
        model: Any = Qwen2ForCausalLM(Qwen2Config(**options))
    else:
        model = Qwen3ForCausalLM(Qwen3Config(**options))
    model.save_pretrained(folder)
    body = Transformer(str(folder), transformer_task="text-generation")
    answers = [None if token is None else tokenizer.convert_tokens_to_ids(token) for token in (true, false)]
    modules = [body, LogitScore(answers[0], answers[1])]  # ty: ignore[invalid-argument-type]
    CrossEncoder(modules=modules, activation_fn=nn.Identity(), device="cpu").save_pretrained(str(folder))


def classifier(folder: Path, kind: str) -> None:
    """A sequence classification with one label: `kind` is bert, deberta, xlm-roberta or modernbert."""
    kinds: dict[str, tuple[Any, Any, Any]] = {
        "bert": (lambda: tokenization.word_pieces(512), BertConfig, BertForSequenceClassification),
        "deberta": (
            lambda: tokenization.unigrams("deberta", 512),
            DebertaV2Config,
            DebertaV2ForSequenceClassification,
        ),
        "xlm-roberta": (
            lambda: tokenization.unigrams("xlm-roberta", 512),
            XLMRobertaConfig,
            XLMRobertaForSequenceClassification,
        ),
        "modernbert": (lambda: tokenization.modern_bert(8_192), ModernBertConfig, ModernBertForSequenceClassification),
    }
    tokenizer, config, model = kinds[kind]
    own_tokenizer = tokenizer()
    own_tokenizer.save_pretrained(folder)
    more: dict[str, Any] = {"num_labels": 1, "vocab_size": len(own_tokenizer), "initializer_range": 0.3}
    more["pad_token_id"] = own_tokenizer.pad_token_id
    more |= {
        "deberta": {
            "relative_attention": True,
            "position_buckets": 32,
            "pos_att_type": ["p2c", "c2p"],
            "type_vocab_size": 0,
        }
        | {
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "max_position_embeddings": 512,
        },
        "xlm-roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
        "modernbert": {"local_attention": 32, "global_attn_every_n_layers": 3, "classifier_pooling": "mean"},
    }.get(kind, {})
    if kind == "modernbert":
        more |= _special(own_tokenizer)
    model(config(**TINY, **more)).save_pretrained(folder)


def bert_reranker(folder: Path) -> None:
    """ms-marco-MiniLM's form: its configuration says that scores have no activation."""
    classifier(folder, "bert")
    activation = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0.dev0"}
    _edit(folder / "config.json", lambda config: config.update(sentence_transformers=activation))


def jina_m0(folder: Path) -> None:
    """jina-reranker-m0: a Qwen2-VL with a head in code of its own, which is not run here."""
    tokenization.qwen(32_768).save_pretrained(folder)
    text = {key: value for key, value in CAUSAL.items() if key != "head_dim"}
    config = {"architectures": ["JinaVLForRanking"], "model_type": "qwen2_vl", **text}
    config |= {"auto_map": {"AutoModel": "modeling.JinaVLForRanking"}, "vocab_size": tokenization.WORDS}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {"score.0.weight": randn(WIDTH, WIDTH), "score.2.weight": randn(1, WIDTH)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


# --- Embedders --------------------------------------------------------------------------------------------------------


def static_embedder(folder: Path) -> None:
    """A table of token vectors, without a model."""
    table = StaticEmbedding(tokenization.word_pieces(512).backend_tokenizer, embedding_dim=WIDTH)
    SentenceTransformer(modules=[table], device="cpu").save_pretrained(str(folder))


def embedder(
    folder: Path,
    tokenizer: Any,
    model: Any,
    pooling: str,
    *,
    limit: int,
    prompts: dict[str, str] | None = None,
    dense: bool = False,
    normalize: bool = True,
) -> None:
    """A transformer with pooling and, where the published model has them, two dense layers, a norm and prompts."""
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    modules: list[Any] = [Transformer(str(folder), max_seq_length=limit), Pooling(WIDTH, pooling_mode=pooling)]
    if dense:
        modules += [Dense(a, b, bias=False, activation_function=nn.Identity()) for a, b in ((WIDTH, 64), (64, WIDTH))]
    if normalize:
        modules.append(Normalize())
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save_pretrained(str(folder))


def bert_embedder(folder: Path, pooling: str = "mean", limit: int = 256) -> None:
    """all-MiniLM-L6-v2's form, and with `pooling` "cls" that of bge-small."""
    tokenizer = tokenization.word_pieces(512)
    model = BertModel(BertConfig(**TINY, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id))
    embedder(folder, tokenizer, model, pooling, limit=limit)


def nomic_embedder(folder: Path) -> None:
    """nomic-embed-text-v1.5: transformers knows the model by itself; the repository also names code of its own."""
    tokenizer = tokenization.word_pieces(8_192)
    model = NomicBertModel(NomicBertConfig(**TINY, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id))
    embedder(folder, tokenizer, model, "mean", limit=8_192, normalize=False)
    remote = "nomic-ai/nomic-bert-2048"
    code = {
        "AutoConfig": f"{remote}--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": f"{remote}--modeling_hf_nomic_bert.NomicBertModel",
    }
    _edit(folder / "config.json", lambda config: config.update(auto_map=code))


def gemma3_embedder(folder: Path) -> None:
    """embeddinggemma-300m: attention in both directions, two dense layers, a prompt for each task."""
    tokenizer = tokenization.gemma(2_048)
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    options: dict[str, Any] = (
        CAUSAL | ids | {"query_pre_attn_scalar": 16, "sliding_window": 32, "use_bidirectional_attention": True}
    )
    layers: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"], "max_position_embeddings": 2_048}
    model = Gemma3TextModel(Gemma3TextConfig(**options, **layers, vocab_size=len(tokenizer)))
    query = "task: search result | query: "
    prompts = {"query": query, "document": "title: none | text: ", "Retrieval-query": query}
    prompts["Retrieval-document"] = prompts["document"]
    embedder(folder, tokenizer, model, "mean", limit=2_048, prompts=prompts, dense=True)


def qwen3_embedder(folder: Path) -> None:
    """jina-embeddings-v5-text-small-retrieval: a Qwen3 whose last token is the embedding, with prompts."""
    tokenizer = tokenization.qwen(32_768)
    options: dict[str, Any] = CAUSAL | {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 32_768,
    }
    model = Qwen3Model(Qwen3Config(**options))
    prompts = {"query": "Query: ", "document": "Document: "}
    embedder(folder, tokenizer, model, "lasttoken", limit=32_768, prompts=prompts)


FORMS: dict[str, Callable[[Path], None]] = {
    "qwen2-logit-score": lambda folder: causal_reranker(folder, "qwen2", RELEVANCE, "1", "0"),
    "qwen3-yes-no": lambda folder: causal_reranker(folder, "qwen3", YES_NO, "yes", "no"),
    "qwen3-yes": lambda folder: causal_reranker(folder, "qwen3", YES_NO, "Yes", None),
    "deberta-reranker": lambda folder: classifier(folder, "deberta"),
    "xlm-roberta-reranker": lambda folder: classifier(folder, "xlm-roberta"),
    "modernbert-reranker": lambda folder: classifier(folder, "modernbert"),
    "bert-reranker": bert_reranker,
    "jina-m0": jina_m0,
    "static-embedder": static_embedder,
    "bert-embedder": bert_embedder,
    "bert-cls-embedder": lambda folder: bert_embedder(folder, "cls", 512),
    "nomic-embedder": nomic_embedder,
    "gemma3-embedder": gemma3_embedder,
    "qwen3-embedder": qwen3_embedder,
}


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
