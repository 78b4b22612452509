"""Prediction, unpadded against the published path on the same pairs: `python benchmarks/bench_predict.py`.

Theirs is `CrossEncoder.predict` as it comes: padded batches of 32 sorted by length, single precision. Ours is
`release.runtime.unpadded.predict`, in single precision and in bfloat16 where the CPU has it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from sentence_transformers import CrossEncoder

from benchmarks.common import MAX_LENGTH, natural_pairs, reranker, write_encoder
from benchmarks.matrix_rate import flops_per_pair, share
from benchmarks.timing import compare, positive
from release.console import print_json
from release.runtime.precision import has_fast_bf16
from release.runtime.unpadded import predict, unpad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--pairs", type=positive, default=256)
    parser.add_argument("--budget", type=positive, default=2048, help="tokens per unpadded batch")
    parser.add_argument("--tokens", type=positive, help="long documents of so many tokens, joined from the same text")
    parser.add_argument("--model", help="a trained CrossEncoder instead of random weights in the 17m shape")
    options = parser.parse_args()
    scores: dict[str, np.ndarray] = {}
    sides: dict[str, Callable[[], None]] = {}

    def side(name: str, score: Callable[[], np.ndarray]) -> None:
        sides[name] = lambda: scores.update({name: score()})

    with tempfile.TemporaryDirectory() as folder:
        pairs = natural_pairs(options.pairs)
        if not options.model:
            write_encoder(Path(folder), [" ".join(pair) for pair in pairs])
        if options.tokens:
            text = " ".join(" ".join(pair) for pair in natural_pairs(4096))  # cut by the tokenizer
            size = 8 * options.tokens  # characters, more than so many tokens have
            starts = [size * (start % (len(text) // size)) for start in range(len(pairs))]
            pairs = [(query, text[start:][:size]) for start, (query, _) in zip(starts, pairs, strict=True)]

        def load() -> CrossEncoder:
            if options.model:
                return CrossEncoder(options.model, device="cpu", max_length=options.tokens)
            return reranker(Path(folder), options.tokens or MAX_LENGTH)

        padded, single = load(), unpad(load())
        side("padded, fp32", lambda: padded.predict(pairs, batch_size=32))
        side("unpadded, fp32", lambda: predict(single, pairs, options.budget))
        if has_fast_bf16():
            half = unpad(load(), torch.bfloat16)
            side("unpadded, bf16", lambda: predict(half, pairs, options.budget))
        measured = compare(sides, options.rounds)
        needed = flops_per_pair(single, pairs)

    theirs, exact, *half_precision = sides
    ours = half_precision[0] if half_precision else exact  # where the CPU has no bf16
    agreement = {name: float(spearmanr(scores[theirs], each).statistic) for name, each in scores.items()}
    difference = {name: float(np.abs(each - scores[theirs]).max()) for name, each in scores.items()}
    subject = options.model or "17m shape with random weights"
    measured.show(f"Prediction, {subject}, {options.pairs} pairs", options.pairs, "pairs")
    for name, apart in difference.items():
        print(f"scores of {name}: {apart:.1e} apart, Spearman {agreement[name]:.5f}")
    line = measured.as_json(ours, options.pairs, "pairs")
    print_json(
        line
        | share(line["ours"], needed, ours != exact)
        | {
            "ratio_fp32": round(measured.times(exact), 2),
            "max_score_difference": difference[exact],
            "max_score_difference_bf16": difference[ours],
            "score_range": float(np.ptp(scores[theirs])),
            "rank_agreement": agreement[ours],
            "model": subject,
        }
    )


if __name__ == "__main__":
    main()
