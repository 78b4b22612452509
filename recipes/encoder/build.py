"""Make the embedded encoder of the demo family, once: a small ModernBERT from docstrings, in CPU minutes.

    pip install --no-deps --target build/pretrain/packages -r recipes/encoder/sources.txt
    python -m recipes.encoder.build --packages build/pretrain/packages --minutes 17 68 75

A cross-encoder from random weights learns nothing in a demo's minutes, so this gives it (1) its own tokenizer, (2) token
embeddings that start as the projection of what all-MiniLM-L6-v2 says about each token, (3) masked language modelling over
(summary, body) pairs, where a masked summary word can be copied from the body, (4) listwise training to tell each summary's
own body from BM25's best other bodies, and (5) the same over BM25's and MiniLM's best bodies, with half of the target from the
stand-in teacher: it knows which of the others are good answers too. --minutes gives (3), (4) and (5) their time. Only the
encoder is kept; the head is the recipe's to learn. Objects that release/data/docstrings.py holds out are never seen.

Batches are sorted by length and cut into chunks of equal length (to the shortest in the chunk, a token or two), so there is no
padding and no mask. Progress is saved every few minutes; running again continues.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import AttentionInterface, ModernBertConfig, ModernBertModel, PreTrainedTokenizerFast

from release import bm25
from release.bm25 import CorpusStatistics
from release.data import docstrings
from release.teachers.hybrid import HybridStandIn
from release.teachers.minilm import minilm_folder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(5)
SHAPE: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
VOCABULARY, LONGEST, MODEL_MAX = 16_000, 112, 512
QUERIES, CANDIDATES, CHUNK, DEV = 16, 8, 32, 150
PEAK_RATES = (1.5e-3, 1.5e-3, 1e-3)

Example = tuple[list[int], list[int]]


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A lower-case WordPiece tokenizer that splits camelCase, snake_case and every digit run into plain words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    camel = normalizers.Replace(Regex(r"(?<=[a-z])(?=[A-Z])"), " ")
    tokenizer.normalizer = normalizers.Sequence([camel, normalizers.BertNormalizer(lowercase=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, min_frequency=3)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MODEL_MAX, model_input_names=inputs, **names
    )


def make_encoder(tokenizer: PreTrainedTokenizerFast, seed: int) -> ModernBertModel:
    """A ModernBERT whose tokens start with MiniLM's view of them and whose attention starts by looking for equal tokens."""
    torch.manual_seed(seed)
    config = ModernBertConfig(
        **SHAPE,
        vocab_size=len(tokenizer),
        max_position_embeddings=MODEL_MAX,
        local_attention=256,
        pad_token_id=PAD,
        cls_token_id=CLS,
        sep_token_id=SEP,
        bos_token_id=CLS,
        eos_token_id=SEP,
        mlp_dropout=0.0,
    )
    model = ModernBertModel(config)
    with torch.no_grad():
        model.embeddings.tok_embeddings.weight.copy_(static_embeddings(tokenizer, config.hidden_size))
        layers: Any = model.layers
        for layer in layers:
            # Queries and keys that start as the same projection attend to equal tokens (Trockman & Kolter, arXiv 2305.09828).
            query, key, _ = layer.attn.Wqkv.weight.chunk(3)
            for q, k in zip(
                query.chunk(config.num_attention_heads), key.chunk(config.num_attention_heads), strict=True
            ):
                q.copy_(nn.init.orthogonal_(torch.empty_like(q)) * 0.8)
                k.copy_(q)
    return model


def static_embeddings(tokenizer: PreTrainedTokenizerFast, width: int) -> Tensor:
    """(vocabulary, width): MiniLM's sentence embedding of each token's text on its own, centred, on its main axes."""
    words = [token.removeprefix("##") for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    minilm = SentenceTransformer(str(minilm_folder()), device="cpu")
    vectors = minilm.encode(words, batch_size=256, convert_to_tensor=True)
    centred = vectors - vectors.mean(0)
    _, _, axes = torch.pca_lowrank(centred, q=width, center=False, niter=4)
    projected = centred @ axes
    return 0.3 * projected / projected.std()


def equal_length_attention(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: None, **options: Any):
    """Attention over chunks of one length, none longer than the window: neither padding nor a mask."""
    out = F.scaled_dot_product_attention(query, key, value, scale=options.get("scaling"))
    return out.transpose(1, 2).contiguous(), None


def chunks(examples: list[Example]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield (positions, ids (chunk, length)) over `examples` in the order of their lengths, cut to the chunk's shortest."""
    rows = [[CLS, *query[:40], SEP, *document][: LONGEST - 1] for query, document in examples]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), CHUNK):
        part = order[start : start + CHUNK]
        length = len(rows[part[0]])
        yield part, torch.tensor([[*rows[i][:length], SEP] for i in part])


def scores(model: ModernBertModel, head: nn.Module, examples: list[Example]) -> Tensor:
    """(len(examples),) float32 scores of the pairs, through the CLS token."""
    parts, positions = [], []
    for part, ids in chunks(examples):
        with torch.autocast("cpu", torch.bfloat16):
            states = model(input_ids=ids, attention_mask=None).last_hidden_state[:, 0]
        parts.append(head(states.float())[:, 0])
        positions += part
    return torch.cat(parts)[torch.argsort(torch.tensor(positions))]


def masked_loss(model: ModernBertModel, examples: list[Example], generator: torch.Generator) -> Tensor:
    """Mean cross-entropy of 30 % masked tokens; the output layer is the embedding table."""
    total, count = torch.zeros(()), 0
    for _, ids in chunks(examples):
        chosen = (torch.rand(ids.shape, generator=generator) < 0.3) & (ids >= len(SPECIAL))
        with torch.autocast("cpu", torch.bfloat16):
            states = model(input_ids=ids.masked_fill(chosen, MASK), attention_mask=None).last_hidden_state[chosen]
            logits = states @ model.embeddings.tok_embeddings.weight.T
        total = total + F.cross_entropy(logits.float(), ids[chosen], reduction="sum")
        count += int(chosen.sum())
    return total / max(count, 1)


def hard_negatives(pairs: list[docstrings.DocstringPair], keep: int = 50) -> np.ndarray:
    """(len(pairs), keep) int32: the bodies that BM25 ranks first for each summary, best first."""
    index = bm25.Bm25Index([" ".join(pair.body.split()[:120]) for pair in pairs])
    ranked = [bm25.best(scores, keep) for scores in index.scores([pair.summary for pair in pairs])]
    return np.array(ranked, np.int32)


def teach(
    pairs: list[docstrings.DocstringPair], negatives: np.ndarray, keep: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    """The stand-in teacher's view of each summary.

    Returns:
        Candidates, int32 of shape (len(pairs), 1 + 2 * keep): the own body, BM25's best (`negatives`), MiniLM's best; and the
        teacher's logits of them, float32 of the same shape.
    """
    summaries, bodies = [pair.summary for pair in pairs], [pair.body for pair in pairs]
    teacher = HybridStandIn(CorpusStatistics.of(bodies), max_length=128)
    print("MiniLM reads all summaries and bodies ...", flush=True)
    left, right = (torch.from_numpy(teacher.minilm.encode(texts)) for texts in (summaries, bodies))
    near = np.concatenate([(part @ right.T).topk(keep).indices.numpy() for part in left.split(512)])
    own = np.arange(len(pairs), dtype=np.int32)[:, None]
    candidates = np.concatenate([own, negatives, near.astype(np.int32)], axis=1)
    logits = np.empty(candidates.shape, np.float32)
    for start in range(0, len(pairs), 1024):
        rows = range(start, min(start + 1024, len(pairs)))
        texts = [(summaries[row], bodies[i]) for row in rows for i in candidates[row].tolist()]
        logits[rows.start : rows.stop] = teacher.predict(texts).reshape(len(rows), -1)
    return candidates, logits


def dev_ndcg(model: ModernBertModel, head: nn.Module, data: Data) -> float:
    """NDCG@10 of reranking BM25's first 50 for the development summaries (training objects, not trained on)."""
    gains = []
    with torch.no_grad():
        for row in data.dev:
            candidates = data.negatives[row].tolist()
            logits = scores(model, head, [(data.summaries[row], data.bodies[i]) for i in candidates])
            ranked = [candidates[i] for i in logits.argsort(descending=True)[:10].tolist()]
            gains.append(1 / np.log2(ranked.index(row) + 2) if row in ranked else 0.0)
    return float(np.mean(gains))


class Data:
    """Tokenised pairs, BM25's candidates and the development rows; kept in `folder` between runs."""

    def __init__(self, packages: Path | None, folder: Path, seed: int) -> None:
        pairs = [pair for pair in docstrings.pairs(more=packages) if pair.split == "train"]
        path = folder / "tokenizer"
        if not path.is_dir():
            make_tokenizer([f"{pair.summary} {pair.body}" for pair in pairs]).save_pretrained(path)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
        self.summaries = self._ids([pair.summary for pair in pairs])
        self.bodies = self._ids([pair.body for pair in pairs])
        cached = folder / f"negatives-{len(pairs)}.npy"
        if not cached.is_file():
            np.save(cached, hard_negatives(pairs))
        self.negatives = np.load(cached)
        cached = folder / f"teacher-{len(pairs)}.npz"
        if not cached.is_file():
            candidates, logits = teach(pairs, self.negatives)
            np.savez(cached, candidates=candidates, logits=logits)
        with np.load(cached) as cache:
            self.candidates, self.logits = cache["candidates"], cache["logits"]
        order = random.Random(seed).sample(range(len(pairs)), len(pairs))
        own = [i for i in order if pairs[i].package in docstrings.PACKAGES]
        self.dev = own[:DEV]
        self.train = sorted(set(order) - set(self.dev))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, truncation=True, max_length=LONGEST)["input_ids"]

    def pairs(self, rng: random.Random) -> list[Example]:
        """QUERIES x 4 matching pairs for masked language modelling."""
        return [(self.summaries[i], self.bodies[i]) for i in rng.sample(self.train, QUERIES * 4)]

    def lists(self, rng: random.Random, hard: int) -> list[Example]:
        """QUERIES lists of CANDIDATES pairs: the matching one first, then `hard` of BM25's, then random ones."""
        examples = []
        for row in rng.sample(self.train, QUERIES):
            ranked = [i for i in self.negatives[row].tolist() if i != row]
            others = rng.sample(ranked, hard) + rng.sample(self.train, CANDIDATES - 1 - hard)
            examples += [(self.summaries[row], self.bodies[i]) for i in [row, *others]]
        return examples

    def taught(self, rng: random.Random) -> tuple[list[Example], Tensor]:
        """QUERIES lists as above, the others drawn from BM25's and MiniLM's best, and the teacher's logits of them."""
        examples, logits = [], []
        for row in rng.sample(self.train, QUERIES):
            drawn = rng.sample(range(1, self.candidates.shape[1]), 3 * CANDIDATES)
            _, first = np.unique(self.candidates[row, [0, *drawn]], return_index=True)
            chosen = [[0, *drawn][i] for i in sorted(first)][:CANDIDATES]  # both retrievers may have found a body
            examples += [(self.summaries[row], self.bodies[i]) for i in self.candidates[row, chosen].tolist()]
            logits.append(self.logits[row, chosen])
        return examples, torch.from_numpy(np.stack(logits))


def phase(spent: float, minutes: list[float]) -> tuple[int, float, float]:
    """Where `spent` seconds stand: the phase, the progress in it (0 to 1) and the learning rate.

    The first two phases share one course of the rate, the third has its own: 3 % warm-up, then a straight line to a fiftieth.
    """
    masked, lists, taught = (60 * part for part in minutes)
    if spent < masked:
        number, progress, course = 0, spent / masked, spent / (masked + lists)
    elif spent < masked + lists or not taught:
        number, progress, course = 1, (spent - masked) / lists, spent / (masked + lists)
    else:
        number, progress = 2, (spent - masked - lists) / taught
        course = progress
    return number, progress, PEAK_RATES[number] * min(course / 0.03, 1.0) * max(1 - course, 0.02)


def train(data: Data, folder: Path, minutes: list[float], seed: int) -> tuple[ModernBertModel, list[dict[str, float]]]:
    """The three objectives within their `minutes` of computing, saved every few minutes to `folder`/state.pt."""
    AttentionInterface.register("equal_length", equal_length_attention)
    model = make_encoder(data.tokenizer, seed)
    model.set_attn_implementation("equal_length")
    width = SHAPE["hidden_size"]
    head = nn.Sequential(nn.Linear(width, width, bias=False), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 1))
    both = nn.ModuleList([model, head])
    optimizer = torch.optim.AdamW(both.parameters(), lr=PEAK_RATES[0], weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    log: list[dict[str, float]] = []
    spent, step, state = 0.0, 0, folder / "state.pt"
    if state.is_file():
        saved = torch.load(state, weights_only=False)
        both.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        spent, step, log = saved["spent"], saved["step"], saved["log"]
    last, losses, noted = time.monotonic(), [], time.monotonic()
    while spent < sum(minutes) * 60:
        rng, generator = random.Random(seed * 1_000_003 + step), torch.Generator().manual_seed(step)
        number, progress, learning_rate = phase(spent, minutes)
        if number == 0:
            loss = masked_loss(model, data.pairs(rng), generator)
        elif number == 1:
            # From mostly random to mostly hard negatives: with hard ones only, nothing is learnt at first.
            hard = round(1 + 5 * min(progress / 0.4, 1))
            predicted = scores(model, head, data.lists(rng, hard)).view(QUERIES, CANDIDATES)
            loss = F.cross_entropy(predicted, torch.zeros(QUERIES, dtype=torch.long))
        else:
            examples, logits = data.taught(rng)
            target = 0.5 * logits.softmax(1)
            target[:, 0] += 0.5  # the own body is first
            loss = F.cross_entropy(scores(model, head, examples).view(QUERIES, CANDIDATES), target)
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        step += 1
        now = time.monotonic()
        spent, last = spent + now - last, now
        if now - noted > 240:
            ndcg = dev_ndcg(model, head, data)
            log.append({"minutes": round(spent / 60, 1), "step": step, "loss": float(np.mean(losses)), "dev": ndcg})
            print(json.dumps(log[-1]), flush=True)
            save_state(
                state,
                {
                    "model": both.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "spent": spent,
                    "step": step,
                    "log": log,
                },
            )
            losses, noted, last = [], time.monotonic(), time.monotonic()
    log.append(
        {
            "minutes": round(spent / 60, 1),
            "step": step,
            "loss": float(np.mean(losses or [0])),
            "dev": dev_ndcg(model, head, data),
        }
    )
    return model, log


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all: a run that is stopped while saving continues from the state before."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, help="a folder of further packages to read docstrings from")
    parser.add_argument("--minutes", type=float, nargs=3, default=[17, 68, 75], metavar=("MASKED", "LISTS", "TAUGHT"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path("recipes/encoder"))
    parser.add_argument("--work", type=Path, default=Path("build/pretrain"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    data = Data(options.packages, options.work, options.seed)
    print(f"{len(data.train):,} training objects, {len(data.tokenizer):,} tokens in the vocabulary", flush=True)
    model, log = train(data, options.work, options.minutes, options.seed)
    model.to(torch.bfloat16).save_pretrained(options.output)
    data.tokenizer.save_pretrained(options.output)
    counted = sum(parameter.numel() for parameter in model.parameters())
    summary = {"parameters": counted, "objects": len(data.train), "minutes": options.minutes, "log": log}
    (options.output / "pretraining.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps({"parameters": counted, "dev_ndcg@10": log[-1]["dev"]}))


if __name__ == "__main__":
    main()
