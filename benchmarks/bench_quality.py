"""Is the recipe good? Losses and samplings at equal compute, judged on collections that people judged.

    python -m benchmarks.bench_quality --data FOLDER [--minutes 10] [--variants mse listwise ...] [--encoder demo]

FOLDER holds real text: `pairs/{boolq,medquad,debian_descriptions}/*.gz` and `collections/{scifact,cranfield}` in BEIR's form.
The project does not ship it; without it this benchmark says so and stops. Every variant starts from the same encoder, learns
from the stand-in teacher's logits of the same candidates (8 documents per query) for the same CPU seconds of one thread, and
reranks the top 100 of BM25 and of MiniLM. What is finished is kept under build/quality, so the same command continues.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from sentence_transformers import CrossEncoder
from torch import Tensor
from torch.nn import functional

from recipes import distill
from release import beir, bm25
from release.bm25 import CorpusStatistics
from release.console import Bar
from release.evaluation import first_stage, metrics, rerankers, tasks, two_stage
from release.files import write_json
from release.runtime import unpadded
from release.runtime.precision import has_fast_bf16
from release.teachers.hybrid import HybridStandIn
from release.teachers.minilm import minilm_folder

QUERIES = 4_000  # per source of pairs
HARD, RANDOM = 4, 3  # documents beside a query's own one: from BM25's best 50, and from anywhere in its source
HELD_OUT = 400  # queries whose pairs nobody trains on: agreement with the teacher
FIELDS = {
    "boolq": ("question", "passage"),
    "medquad": ("question", "answer"),
    "debian_descriptions": ("synopsis", "description"),
}


@dataclass(frozen=True)
class Start:
    """How an encoder is trained.

    Attributes:
        rate: Peak learning rate.
        queries: A batch has so many queries with 8 documents each.
        tokens: A pair is cut there.
    """

    rate: float
    queries: int = 8
    tokens: int = 256


ENCODERS = {  # MiniLM is slow on a CPU: small batches of short pairs, or few steps fit the minutes
    "demo": Start(4e-4),
    "minilm": Start(3e-4, queries=2, tokens=128),
    "minilm-3-layers": Start(3e-4, queries=2, tokens=128),
}


# --- What a batch is, and what it is worth ----------------------------------------------------------------------------


def mse(scores: Tensor, logits: Tensor) -> Tensor:
    """The published loss: squared error of the raw logit."""
    return functional.mse_loss(scores, logits)


def margin_mse(scores: Tensor, logits: Tensor) -> Tensor:
    """Squared error of all differences within a query; the level of its scores is free."""
    return functional.mse_loss(scores[:, :, None] - scores[:, None], logits[:, :, None] - logits[:, None])


def margin_and_level(scores: Tensor, logits: Tensor) -> Tensor:
    """The same, and a little of the squared error, so that the level is learnt too."""
    return margin_mse(scores, logits) + mse(scores, logits) / 2


def listwise(scores: Tensor, logits: Tensor) -> Tensor:
    """Cross-entropy of the distributions over a query's documents: Kullback-Leibler but for a constant."""
    return functional.cross_entropy(scores, logits.softmax(1))


def mixed(scores: Tensor, logits: Tensor) -> Tensor:
    """Level and order: squared error, and the listwise loss with the weight that makes them alike in size at the end."""
    return mse(scores, logits) + listwise(scores, logits)


@dataclass(frozen=True)
class Variant:
    """One way to learn from the same logits.

    Attributes:
        loss: Of scores and logits, both (queries, documents).
        grouped: A batch is some queries with all their documents, else as many pairs drawn from everything.
        warmup: Share of the budget in which the learning rate rises.
        documents: Columns of a query's candidates to learn from: 0 is its own, 1-4 hard, 5-7 random.
        standardised: Whether the logits are brought to mean 0 and deviation 1 first.
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    grouped: bool = True
    warmup: float = 0.03
    documents: tuple[int, ...] = tuple(range(1 + HARD + RANDOM))
    standardised: bool = False


VARIANTS = {
    "mse": Variant(mse, grouped=False),
    "mse-grouped": Variant(mse),
    "margin-mse": Variant(margin_mse),
    "margin-mse-level": Variant(margin_and_level),
    "listwise": Variant(listwise),
    "mixed": Variant(mixed),
    "mse-standardised": Variant(mse, grouped=False, standardised=True),
    "mse-warmup-20": Variant(mse, grouped=False, warmup=0.2),
    "mse-hard-only": Variant(mse, grouped=False, documents=(0, 1, 2, 3, 4)),
    "mse-random-only": Variant(mse, grouped=False, documents=(0, 5, 6, 7)),
}


# --- The text and the teacher -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pool:
    """Training queries with 8 candidates each, the own document first, and the teacher's logits of them.

    queries: (n,) strings. documents: strings. candidates: (n, 8) int, places in `documents`. logits: (n, 8) float32.
    """

    queries: list[str]
    documents: list[str]
    candidates: np.ndarray
    logits: np.ndarray


def sources(data: Path) -> list[tuple[list[str], list[str], list[int]]]:
    """Of every source: queries, documents, and the place of each query's own document."""
    tables = []
    for name, (asks, answers) in FIELDS.items():
        (path,) = (data / "pairs" / name).glob("*.jsonl.gz")
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            rows = {row[answers]: row[asks] for row in map(json.loads, stream)}  # one query per distinct document
        order = np.random.default_rng(12).permutation(len(rows))[:QUERIES]
        documents = [list(rows)[index] for index in order]
        tables.append(([rows[document] for document in documents], documents, list(range(len(documents)))))
    folder = data / "collections" / "scifact"
    corpus = {key: f"{title} {text}".strip() for key, title, text in beir.texts(folder / "corpus.jsonl.gz")}
    indices = {key: index for index, key in enumerate(corpus)}
    claims = {key: text for key, _, text in beir.texts(folder / "queries.train.jsonl")}
    judged = beir.judgements(folder / "qrels.train.tsv")
    own = {query: indices[next(iter(documents))] for query, documents in judged.items()}
    tables.append(([claims[query] for query in own], list(corpus.values()), list(own.values())))
    return tables


def make_pool(data: Path, folder: Path) -> Pool:
    """The pool, made once: candidates from BM25 and at random, logits by the stand-in teacher."""
    path = folder / "pool.npz"
    rng = np.random.default_rng(12)
    queries, documents, chosen, offset = [], [], [], 0
    for own_queries, texts, own in sources(data):
        if not path.is_file():
            for index, scores in zip(own, bm25.Bm25Index(texts).scores(own_queries), strict=True):
                best = bm25.best(scores, 51).tolist()
                hard = rng.choice([other for other in best if other != index], HARD, replace=False).tolist()
                taken = {index, *hard}
                easy = [other for other in rng.choice(len(texts), 20, replace=False).tolist() if other not in taken]
                chosen.append([offset + other for other in (index, *hard, *easy[:RANDOM])])
        queries, documents, offset = [*queries, *own_queries], [*documents, *texts], offset + len(texts)
    if not path.is_file():
        candidates = np.array(chosen, np.int32)
        teacher = HybridStandIn(CorpusStatistics.of(documents))
        pairs = [
            (query, documents[index]) for query, row in zip(queries, candidates, strict=True) for index in row.tolist()
        ]
        with Bar("teacher: pairs", len(pairs)) as bar:
            logits = teacher.predict(pairs, progress=bar.advance).reshape(candidates.shape)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new.npz")
        np.savez(temporary, candidates=candidates, logits=logits)
        temporary.replace(path)
    with np.load(path) as saved:
        order = rng_order(len(queries))
        return Pool([queries[i] for i in order], documents, saved["candidates"][order], saved["logits"][order])


def rng_order(count: int) -> np.ndarray:
    """A fixed mix of the sources, so that the held-out queries at its end come from all of them."""
    return np.random.default_rng(7).permutation(count)


# --- Training by the clock --------------------------------------------------------------------------------------------


def starting_encoder(name: str, folder: Path) -> str:
    """The folder of an encoder: the demo's, MiniLM's published weights, or their first three layers."""
    if name == "demo":
        return "recipes/encoder"
    if name == "minilm":
        return str(minilm_folder())
    target = folder / name
    if not (target / "config.json").is_file():
        from transformers import AutoModel, AutoTokenizer

        AutoModel.from_pretrained(minilm_folder(), num_hidden_layers=3).save_pretrained(target)
        AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(target)
    return str(target)


def batches(pool: Pool, variant: Variant, size: int, rng: np.random.Generator) -> Any:
    """Endless epochs of (rows, columns) into the pool, (size, documents) each; (size, 8) where they are not grouped."""
    rows = len(pool.queries) - HELD_OUT
    columns = np.array(variant.documents)
    while True:
        if variant.grouped:
            order = rng.permutation(rows)
            for first in range(0, rows - size + 1, size):
                part = order[first : first + size]
                yield np.repeat(part[:, None], len(columns), 1), np.repeat(columns[None], size, 0)
        else:
            order = rng.permutation(rows * len(columns))
            for first in range(0, len(order) - 8 * size + 1, 8 * size):
                part = order[first : first + 8 * size].reshape(size, 8)
                yield part // len(columns), columns[part % len(columns)]


def train(pool: Pool, variant: Variant, encoder: str, start: Start, minutes: float) -> tuple[Any, dict]:
    """Train for `minutes` CPU minutes of this process; returns the model and what the table says of the run."""
    torch.manual_seed(12)
    model = unpadded.unpad(distill.build_model(encoder, start.tokens))
    model.train()
    half = has_fast_bf16()
    logits = torch.from_numpy(pool.logits)
    if variant.standardised:
        logits = (logits - logits.mean()) / logits.std()
    optimizer = torch.optim.AdamW(model.parameters(), lr=start.rate, weight_decay=0.0, fused=True)
    losses, pairs, budget = [], 0, 60 * minutes
    begin = time.process_time()
    supply = batches(pool, variant, start.queries, np.random.default_rng(12))
    with Bar("train: CPU seconds", int(budget)) as bar:
        told = 0
        while (spent := time.process_time() - begin) < budget:
            rows, columns = next(supply)
            texts = [
                (pool.queries[row], pool.documents[pool.candidates[row, column]])
                for row, column in zip(rows.ravel().tolist(), columns.ravel().tolist(), strict=True)
            ]
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                scores = model(model.preprocess(texts))["scores"]
            loss = variant.loss(scores.float().view(rows.shape), logits[rows, columns])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            progress = spent / budget
            for group in optimizer.param_groups:
                group["lr"] = start.rate * min(progress / variant.warmup, 1.0, (1 - progress) / (1 - variant.warmup))
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            pairs += rows.size
            bar.advance(int(spent) - told)
            told = int(spent)
    last = losses[-max(1, len(losses) // 20) :]
    return model, {"pairs": pairs, "loss": float(np.mean(last)), "cpu_minutes": minutes}


# --- Judgement --------------------------------------------------------------------------------------------------------


def agreement(model: CrossEncoder, pool: Pool) -> dict[str, float]:
    """With the teacher on held-out pairs: rank correlation over all of them and within queries, and squared error."""
    logits = pool.logits[-HELD_OUT:]
    rows = zip(pool.queries[-HELD_OUT:], pool.candidates[-HELD_OUT:], strict=True)
    pairs = [(query, pool.documents[index]) for query, row in rows for index in row.tolist()]
    scores = np.asarray(unpadded.predict(model, pairs, token_budget=2048)).reshape(logits.shape)
    within = [spearmanr(left, right).statistic for left, right in zip(scores, logits, strict=True)]
    return {
        "spearman": float(spearmanr(scores.ravel(), logits.ravel()).statistic),
        "spearman_within": float(np.nanmean(within)),
        "mse": float(((scores - logits) ** 2).mean()),
    }


def some(task: tasks.Task, count: int) -> tasks.Task:
    """The task with its first `count` queries only."""
    loaded = task.fresh()
    first = dict(list(task.judgements.items())[:count])
    for splits in loaded.dataset.values():
        for split in splits.values():
            split["queries"] = split["queries"].filter(lambda row: row["id"] in first)
            split["relevant_docs"] = first
    return tasks.Task(task.name, task.revision, loaded)


def judge(
    model: CrossEncoder, data: Path, folder: Path, top_k: int, queries: int | None
) -> dict[str, dict[str, float]]:
    """NDCG@10 after each first stage of each collection, through the same code as a release's evaluation."""
    model.save_pretrained(str(folder / "model"))
    dtype = "bfloat16" if has_fast_bf16() else "float32"
    reranker = rerankers.load(str(folder / "model"), name=folder.name, dtype=dtype)
    stages = [first_stage.first_stage(name) for name in ("bm25", "sentence-transformers/all-MiniLM-L6-v2")]
    figures = {}
    for collection in ("scifact", "cranfield"):
        task = tasks.from_folder(data / "collections" / collection)
        if queries:
            for stage in stages:  # of all queries, because runs are shared
                first_stage.retrieve(stage, task, folder.parent / "runs")
            task = some(task, queries)
        for row in two_stage.evaluate_task(
            reranker, task, stages, top_k=top_k, runs=folder.parent / "runs", cache_dir=folder / "kept"
        ):
            where = f"{collection}, {row.result.first_stage.split('/')[-1]}"
            keys = ("first_stage_ndcg", "reranked_ndcg", "gain", "ci_low", "ci_high")
            figures[where] = {key: getattr(row.result, key) for key in keys}
    return figures


def against(base: Path, other: Path) -> dict[str, tuple[float, float, float]]:
    """After each first stage the mean difference of NDCG@10 to `base`, query by query, with its 95 % interval."""
    both: list[dict[str, np.ndarray]] = []
    for folder in (base, other):
        rows = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((folder / "kept/rows").glob("*.json"))]
        names = [f"{row['result']['task']}, {row['result']['first_stage'].split('/')[-1]}" for row in rows]
        both.append({name: np.array(row["gains"]) for name, row in zip(names, rows, strict=True)})
    differences = {name: gains - both[0][name] for name, gains in both[1].items()}
    return {
        name: (float(gain.mean()), *metrics.interval(metrics.bootstrap(gain))) for name, gain in differences.items()
    }


def folder_of(name: str, options: argparse.Namespace) -> Path:
    """Where a row of the table is kept."""
    parts = [options.encoder, name, f"{options.minutes:g}min"]
    parts += [f"{options.queries}-queries"] if options.queries else []
    parts += [f"rate-{options.rate:g}"] if options.rate else []
    parts += [f"top-{options.top_k}"] if options.top_k != 100 else []
    return options.output / "-".join(parts)


def run(name: str, options: argparse.Namespace, pool: Pool) -> dict[str, Any]:
    """One row of the table: trained and judged now, or kept from before."""
    folder = folder_of(name, options)
    path = folder / "result.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    encoder, start = starting_encoder(options.encoder, options.output), ENCODERS[options.encoder]
    start = replace(start, rate=options.rate or start.rate)
    model, about = train(pool, VARIANTS[name], encoder, start, options.minutes)
    model.eval()
    parameters = sum(weight.numel() for weight in model.parameters())
    result = {"encoder": options.encoder, "variant": name, "parameters": parameters, "start": asdict(start), **about}
    result |= {
        "agreement": agreement(model, pool),
        "ndcg": judge(model, options.data, folder, options.top_k, options.queries),
    }
    write_json(path, result)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("QUALITY_DATA", "../shared/data")))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--encoder", choices=list(ENCODERS), default="demo")
    parser.add_argument("--rate", type=float, help="peak learning rate; by the encoder if left out")
    parser.add_argument("--minutes", type=float, default=10, help="CPU minutes of training per variant")
    parser.add_argument("--top-k", type=int, default=100)
    parser.add_argument("--queries", type=int, help="of each collection, the first ones; all if left out")
    parser.add_argument("--output", type=Path, default=Path("build/quality"))
    options = parser.parse_args()
    if not (options.data / "collections" / "scifact").is_dir():
        sys.exit(f"skipped: no text and collections in {options.data}; hint: --data FOLDER (see --help)")
    torch.set_num_threads(1)  # CPU seconds of one thread are the budget
    pool = make_pool(options.data, options.output)
    results = [run(name, options, pool) for name in options.variants]

    collections = list(results[0]["ndcg"])
    table = Table(title=f"{options.encoder}: {options.minutes:g} CPU minutes each, NDCG@10 of the top {options.top_k}")
    for column in ("variant", "pairs", "Spearman", "within query", "MSE", *collections):
        table.add_column(column, justify="left" if column == "variant" else "right")
    first = [f"{results[0]['ndcg'][each]['first_stage_ndcg']:.3f}" for each in collections]
    table.add_row("first stage alone", "", "", "", "", *first)
    for row in results:
        agrees = [f"{row['agreement'][key]:.3f}" for key in ("spearman", "spearman_within", "mse")]
        ndcg = [f"{row['ndcg'][each]['reranked_ndcg']:.3f}" for each in collections]
        table.add_row(row["variant"], f"{row['pairs']:,}", *agrees, *ndcg)
    Console(width=160).print(table)
    base, *others = (folder_of(name, options) for name in options.variants)
    differences = {each.name: against(base, each) for each in others}
    table = Table(title=f"NDCG@10 beyond {base.name}, query by query, with the 95 % interval")
    for column in ("variant", *collections):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, row in differences.items():
        table.add_row(name, *("{:+.3f} ({:+.3f} to {:+.3f})".format(*row[each]) for each in collections))
    Console(width=160).print(table)
    print(json.dumps({"minutes": options.minutes, "results": results, "beyond_the_first": differences}), flush=True)


if __name__ == "__main__":
    main()
