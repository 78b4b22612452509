"""The records `export` and `verify`: every form of a released model against the trained one, before and after publishing."""

from __future__ import annotations

from dataclasses import dataclass

from release.results.ranges import Amount, Change, Count, Logit, Positive, Sha256, Share, Word


@dataclass(frozen=True)
class FormParity:
    """One form: the largest difference of its scores to the trained model's, and what is allowed, in logits."""

    form: Word
    max_score_difference: Amount
    tolerance: Amount


@dataclass(frozen=True)
class ExportedForm(FormParity):
    """A form with the file that it is loaded by, and the bytes of its weights to download."""

    file: Word
    bytes: Count


@dataclass(frozen=True)
class NarrowMeasurement:
    """An ONNX file in a narrower type beside the one in float32.

    Attributes:
        file, bytes: The file, by its name in the export, and its size.
        max_score_difference: In logits.
        collection: What NDCG@10 is measured on, in words, over `queries` queries.
        float32_ndcg, ndcg: NDCG@10 of both.
        change: `ndcg` - `float32_ndcg`, with its 95 % interval from `ci_low` to `ci_high`.
    """

    file: Word
    bytes: Count
    max_score_difference: Amount
    collection: Word
    queries: Count
    float32_ndcg: Share
    ndcg: Share
    change: Change
    ci_low: Change
    ci_high: Change


@dataclass(frozen=True)
class NarrowExport:
    """Whether a narrower form is released; `reason` says why not, `measured` is None where it could not be measured."""

    released: bool
    reason: str | None
    measured: NarrowMeasurement | None


@dataclass(frozen=True)
class Architecture:
    """The shape of a model, from the configuration of what is released.

    Attributes:
        modules: In their order, as Sentence Transformers calls them, with the pooling's mode.
        local_attention: Tokens on which the layers without global attention look; every `global_every`-th one has it.
    """

    modules: tuple[str, ...]
    layers: Positive
    hidden: Positive
    heads: Positive
    intermediate: Positive
    vocabulary: Positive
    local_attention: Positive
    global_every: Positive


@dataclass(frozen=True)
class ExportResult:
    """The export, compared on real pairs.

    Attributes:
        pairs: How many were scored.
        score_range: The least and the greatest score of the trained model.
        max_length: Tokens of a pair that the export reads.
        int8, fp16: With 8-bit weights, and with everything in 16 bits.
        sha256: Over the names and contents of the exported files.
        architecture: None where a card shows none.
    """

    pairs: Count
    score_range: tuple[Logit, Logit]
    max_length: Positive
    forms: tuple[ExportedForm, ...]
    int8: NarrowExport
    fp16: NarrowExport
    sha256: Sha256
    architecture: Architecture | None = None


@dataclass(frozen=True)
class ExportSubject:
    """The type that every form was compared in, and the config that the pairs come from."""

    dtype: Word
    pairs: Word


@dataclass(frozen=True)
class PulledRepository:
    """A repository as it was pulled back: its commit, and how many files of how many bytes were the same."""

    commit: str
    files: Count
    bytes: Count


@dataclass(frozen=True)
class VerifyResult:
    """A release as it came back from the Hub.

    Attributes:
        repositories: By their id.
        pairs: How many were scored in every form.
        snippets: How many code snippets of the cards were run.
    """

    repositories: dict[str, PulledRepository]
    pairs: Count
    forms: tuple[FormParity, ...]
    snippets: Count


@dataclass(frozen=True)
class VerifySubject:
    """The Hub that it was pulled back from."""

    endpoint: Word
