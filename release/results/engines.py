"""The record `engines`: what each engine makes of the exported files, against the trained model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from release.results.ranges import Amount, Change, Count, Logit, Positive, Sha256, Share, Word
from release.results.speed import Latency

Verdict = Literal["equal", "rounding", "option", "wrong", "not_run"]
# Of NDCG@10 that an engine may lose by rounding and be called "rounding", the figure on its card. Over the 60 judged queries
# one that finds its document second instead of first costs .006; in bf16 -.0002, -.0024 and +.0005 were seen of three models.
ROUNDING = 0.01


@dataclass(frozen=True)
class EngineResult:
    """One engine.

    Attributes:
        name, title: As in release/engines/engines.toml, the title with its version.
        core: Whether a release stops where it is not equal.
        verdict: "equal" (fp32 within what is allowed), "rounding" (narrower than fp32, NDCG@10 falls by at most `ROUNDING`),
            "option" (equal with the option that its snippet sets), "wrong", or "not_run".
        reason: Why it was not run, or what it stopped with.
        option: What has to be set, in words.
        max_score_difference: To the trained model's scores, in logits.
        rank_agreement: Spearman's correlation with them.
        unequal: Kinds of pairs that are left out of both, because this engine reads them differently, as the option says.
        default_difference: `max_score_difference` without the option, where that was run; None where it stopped, or was not run.
        ndcg, ndcg_change: NDCG@10 on the judged pairs, and how much that is above fp32's; only of "rounding" rows.
        versions: Package -> version of the engine's environment.
        language, snippet: What was run.
    """

    name: Word
    title: str
    core: bool
    verdict: Verdict
    reason: str | None
    option: str | None
    max_score_difference: Amount | None
    rank_agreement: Change | None
    unequal: tuple[str, ...]
    default_difference: Amount | None
    ndcg: Share | None
    ndcg_change: Change | None
    versions: dict[str, str]
    language: str
    snippet: str


@dataclass(frozen=True)
class CpuSpeed:
    """Pairs per second of two snippets, timed one after the other: loading is taken out, every other step is in.

    Attributes:
        name: The fast snippet's engine.
        pairs_per_second, default_pairs_per_second: Of it, and of Sentence Transformers' default.
        pairs: How many were timed, real ones of their natural lengths.
    """

    name: Word
    pairs_per_second: Amount
    default_pairs_per_second: Amount
    pairs: Count


@dataclass(frozen=True)
class EngineLatency:
    """How long one query waits on a CPU engine (release/runtime/cpu_engines.py), on the texts of `make speed`, without loading.

    Attributes:
        engine: With the type of its matrix products.
        threads: Batches worked on at once.
        latency: By the number of documents.
    """

    engine: Word
    threads: Positive
    latency: tuple[Latency, ...]


@dataclass(frozen=True)
class EnginesResult:
    """Every engine on the same pairs.

    Attributes:
        pairs, cut: How many pairs were scored, and how many of them are longer than the model reads.
        score_range: The least and the greatest score of the trained model.
        allowed: The largest difference of a score that is called equal, in logits.
        judged: What NDCG@10 of a "rounding" row was measured on, None where nothing was judged.
        speed: On a CPU; None where it was not measured.
        latency: Of one query, of the fastest CPU engines; empty where the texts of `make speed` were not to be had.
    """

    pairs: Count
    cut: Count
    score_range: tuple[Logit, Logit]
    allowed: Amount
    judged: str | None
    engines: tuple[EngineResult, ...]
    speed: CpuSpeed | None
    latency: tuple[EngineLatency, ...] = ()  # records of before have none


@dataclass(frozen=True)
class EnginesSubject:
    """The files that were run: `sha256` of the record "export"."""

    export_sha256: Sha256
