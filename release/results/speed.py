"""The record `speed`: pairs per second, memory, latency and energy by the family's protocol."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BatchSpeed:
    """One batch size in pairs: the median of its passes, and each pass, in pairs per second."""

    batch: int
    pairs_per_second: float
    passes: tuple[float, ...]


@dataclass(frozen=True)
class ConfigurationSpeed(BatchSpeed):
    """One configuration at its best batch size.

    Attributes:
        name: For people.
        dtype, scores_dtype: Of the weights, and of the scores as the model gives them.
        attention: transformers' name, or "unpadded".
        padded: Whether the pairs of a batch are padded to one length.
        peak_memory_mb: In MB (10^6 bytes): allocated on the GPU, or resident in the process.
        max_score_difference: The largest difference to the first configuration's scores, in logits.
        batches: Every batch size that was tried.
    """

    name: str
    dtype: str
    scores_dtype: str
    attention: str
    padded: bool
    peak_memory_mb: float
    max_score_difference: float
    batches: tuple[BatchSpeed, ...]


@dataclass(frozen=True)
class Latency:
    """How long one query waits for the scores of `documents` documents, in milliseconds over `repeats` trials."""

    documents: int
    p50_ms: float
    p95_ms: float
    repeats: int


@dataclass(frozen=True)
class EnergyPerPair:
    """Joules per pair of the best configuration, None where nothing can be read; `source` says what was read, or why not."""

    joules_per_pair: float | None
    source: str


@dataclass(frozen=True)
class LengthBin:
    """Pairs of `first` to `last` tokens, both included."""

    first: int
    last: int
    pairs: int


@dataclass(frozen=True)
class TokenLengths:
    """Tokens per pair before anything is cut; `truncated` is the share of pairs that the protocol cuts."""

    mean: float
    median: float
    p95: float
    max: int
    truncated: float
    histogram: tuple[LengthBin, ...]


@dataclass(frozen=True)
class FullLength:
    """The best configuration on pairs cut only where the model's positions end.

    Attributes:
        batch: Pairs; smaller than at the protocol's length where memory ran out.
        max_length: Tokens of a pair that are read.
        truncated: Share of pairs that are longer.
    """

    name: str
    batch: int
    max_length: int
    truncated: float
    pairs_per_second: float


@dataclass(frozen=True)
class SpeedResult:
    """Every configuration that this machine can run.

    Attributes:
        best: The configuration with most pairs per second.
        skipped: Configuration -> why it cannot run here.
        pairs: How many were timed; `lengths` are theirs.
        full_length: None where no pair is cut, or the model reads no further than the protocol.
    """

    best: ConfigurationSpeed
    configurations: tuple[ConfigurationSpeed, ...]
    skipped: dict[str, str]
    latency: tuple[Latency, ...]
    energy: EnergyPerPair
    lengths: TokenLengths
    pairs: int
    full_length: FullLength | None


@dataclass(frozen=True)
class SpeedSubject:
    """The protocol, and what else a speed depends on.

    Attributes:
        model: Hub id or folder, for a size the name of its repository.
        pairs: The collection or dataset that the pairs come from; `pairs_sha256` is of their text.
        max_length: Tokens of a pair that are read.
        first_batch: The smallest batch, in pairs; `passes` are timed at each size.
        threads: That torch uses on the CPU.
        cuda, driver: Versions, None on a CPU.
        required_device: The device (a part of its name) that the family's cards show.
    """

    model: str
    pairs: str
    pairs_sha256: str
    max_length: int
    first_batch: int
    passes: int
    threads: int
    cuda: str | None
    driver: str | None
    required_device: str
