"""The record `evaluate`: how much a reranker improves retrieval. NDCG@10, recall and gains are shares, 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import with_config

from release.results.ranges import STRICT, Amount, Change, Count, Logit, Positive, Sha256, Share, Word


@dataclass(frozen=True)
class Quality:
    """NDCG@10 of a first stage's candidates before and after reranking.

    Attributes:
        first_stage_ndcg: In the first stage's own order.
        reranked_ndcg: In the order of the reranker's scores.
        oracle_ndcg: In a perfect order of the same candidates, which is the most that any reranker can reach.
        gain: `reranked_ndcg` - `first_stage_ndcg`.
        ci_low, ci_high: The gain's 95 % interval, by a bootstrap over queries.
    """

    first_stage_ndcg: Share
    reranked_ndcg: Share
    oracle_ndcg: Share
    gain: Change
    ci_low: Change
    ci_high: Change


@dataclass(frozen=True)
class TaskResult(Quality):
    """One task over one first stage.

    Attributes:
        task: mteb's name, or that of a collection of the family; `task_revision` is its data's.
        dataset: The task's dataset on the Hub, None for a local collection.
        first_stage: "bm25", or an embedder's Hub id or folder.
        top_k: Candidates of each query.
        recall: Mean share of a query's relevant documents that are among its candidates.
        helped, hurt, unchanged: Queries whose NDCG@10 rose, fell or stayed; `queries` are all of them.
        pairs: Candidates of all queries; `pairs_scored` those that were not already scored for another first stage.
        seconds: Wall-clock time of the reranking.
        in_domain: Whether the training mixture holds text of the same origin, None where nothing says so.
    """

    task: Word
    task_revision: str
    dataset: str | None
    first_stage: str
    top_k: Positive
    recall: Share
    helped: Count
    hurt: Count
    unchanged: Count
    queries: Count
    pairs: Count
    pairs_scored: Count
    seconds: Amount
    in_domain: bool | None


@dataclass(frozen=True)
class MeanResult(Quality):
    """Means over `rows` (task x first stage), each of which weighs the same; `queries` counts those of all rows."""

    rows: Count
    queries: Count


@dataclass(frozen=True)
class Means:
    """Means over all rows, over those inside and outside the training data (None without any), and by first stage."""

    all: MeanResult
    in_domain: MeanResult | None
    out_of_domain: MeanResult | None
    first_stages: dict[str, MeanResult]


@dataclass(frozen=True)
class NanoMeans:
    """NDCG@10 by nano set, and its mean over the sets."""

    mean: Share
    sets: dict[str, Share]


@dataclass(frozen=True)
class NanoResult:
    """NDCG@10 on the sets that are watched during training.

    Two figures are published under one name. Of the second the best order of the relevant candidates counts as 1, and a query
    without any of them 0, so either may be the higher one. Never compare one with the other's number, and take a gain over
    `base` of the first only.

    Attributes:
        dataset: Hub id or folder of the sets; `revision` is a hash of queries, candidates and judgements.
        sets, mean: The figure by which the family chooses checkpoints, which `always_rerank_positives` names.
        base: NDCG@10 of the sets' own ranking, over all positives and not only those among the candidates.
        protocol: In a sentence, for people.
        always_rerank_positives: Whether `sets` and `mean` are those over all positives; None in records from before it.
        all_positives: Over every relevant document, also those that are no candidate (`always_rerank_positives` on).
        retrieved_positives: Over the relevant documents among the candidates (`always_rerank_positives` off).
        in_domain: The sets whose text has the same origin as a part of the training mixture, None where nothing says so.
        dtype: Of the reranker's weights, where it is another than that of the tasks.
    """

    dataset: str
    revision: str
    sets: dict[str, Share]
    mean: Share
    base: Share
    protocol: str
    always_rerank_positives: bool | None = None
    all_positives: NanoMeans | None = None
    retrieved_positives: NanoMeans | None = None
    in_domain: tuple[str, ...] | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class ReliabilityBin:
    """Pairs of one bin of predictions: their mean prediction, and the mean of what was to be predicted."""

    predicted: Share
    target: Share
    pairs: Count


@dataclass(frozen=True)
class Calibration:
    """The map sigmoid((score - offset) / temperature) to 0-1, fitted to the teacher's opinion.

    Attributes:
        target: What is predicted, in words.
        pairs_fitted, pairs_measured: Held-out pairs of the fit, and others that it was measured on.
        temperature, offset: In units of the score; None, like `brier`, where no rising map fits.
        brier, brier_sigmoid, brier_constant: Mean squared error of the map, the plain sigmoid and a constant.
        reliability: The map's predictions in ten bins, without the empty ones.
    """

    target: str
    pairs_fitted: Count
    pairs_measured: Count
    temperature: Amount | None
    offset: Logit | None
    brier: Share | None
    brier_sigmoid: Share
    brier_constant: Share
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class TeacherEvaluation:
    """The teacher on the same candidates.

    Attributes:
        name: Hub id, or that of a stand-in.
        kind: "cross-encoder" or "stand-in".
        parameters: None for a teacher that is no single model.
        revision: Its commit, or what a stand-in is made of; None in records from before it was kept, as the rest.
        form, dtype, max_length: As in `EvaluationSubject`.
    """

    name: Word
    kind: str
    parameters: Count | None
    tasks: tuple[TaskResult, ...]
    means: Means
    nano: NanoResult
    revision: Word | None = None
    form: str | None = None
    dtype: str | None = None
    max_length: Positive | None = None


@dataclass(frozen=True)
class QueryScores:
    """One task over one first stage, query by query, all of one length; NDCG@10 and recall as in `Quality` and `TaskResult`.

    Attributes:
        recall: None for a query without relevant documents, which no mean counts.
    """

    task: Word
    first_stage: str
    queries: tuple[str, ...]
    first_stage_ndcg: tuple[Share, ...]
    reranked_ndcg: tuple[Share, ...]
    oracle_ndcg: tuple[Share, ...]
    recall: tuple[Share | None, ...]


@with_config(STRICT)
@dataclass(frozen=True)
class ScoredQueries:
    """What every mean of an evaluation is over, in the order of its rows: records/queries.json."""

    model: tuple[QueryScores, ...]
    teacher: tuple[QueryScores, ...]


@dataclass(frozen=True)
class EvaluationResult:
    """A reranker over every task and first stage.

    Attributes:
        parameters: Counted on what was loaded, None for a reranker that is no single model.
        nano: None where a single collection was evaluated; `nano_other_dtypes` the same in other dtypes than the family's.
        teacher: Only beside the family's own sizes.
        calibration: Only for the family's own sizes, where the mixture has a validation split.
        queries_sha256: Of the scores of all queries, which are beside the record of a size as queries.json.
    """

    tasks: tuple[TaskResult, ...]
    means: Means
    parameters: Count | None
    nano: NanoResult | None
    teacher: TeacherEvaluation | None
    calibration: Calibration | None
    nano_other_dtypes: tuple[NanoResult, ...] = ()
    queries_sha256: Sha256 | None = None


@dataclass(frozen=True)
class EvaluationSubject:
    """What an evaluation depends on beside the model's weights.

    Attributes:
        model: What the reranker is called.
        dtype: Of its weights.
        max_length: Tokens of a pair that are read, None where nothing is cut.
        attention: transformers' name, or "unpadded".
        top_k: Candidates of each query.
        first_stages, tasks, nano: Name -> revision of each first stage, task and collection of nano sets.
        mteb: The version of mteb.
        form: What makes a score of the model's output (release/evaluation/forms.py), None in older records.
    """

    model: Word
    dtype: Word
    max_length: Positive | None
    attention: Word
    top_k: Positive
    first_stages: dict[str, str]
    tasks: dict[str, str]
    nano: dict[str, str]
    mteb: str
    form: str | None = None
