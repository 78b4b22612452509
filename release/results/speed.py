"""The record `speed`: pairs per second, memory, latency and energy by the family's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from release.results.ranges import Amount, Count, Positive, Sha256, Share, Word

DEVICES = "devices"  # records/devices/<device>/speed.json: what was measured on other hardware than the family's cards require


def folder_for(records: Path, device: str, cpu: str, required: str | None) -> Path:
    """Where a speed record of this hardware is: in `records` itself on the required device, else in a folder of its own.

    Args:
        device: The accelerator's name, or "CPU", of which `cpu` tells one from another.
        required: A part of the name of the device that the family's cards show; None where any does (a rehearsal).
    """
    if required is None or required.lower() in device.lower():
        return records
    name = "".join(letter if letter.isalnum() else " " for letter in (f"CPU {cpu}" if device == "CPU" else device))
    return records / DEVICES / "-".join(name.lower().split())


@dataclass(frozen=True)
class BatchSpeed:
    """One batch size in pairs.

    Attributes:
        pairs_per_second: The median of its `passes`.
        peak_memory_mb: The most memory in use meanwhile, in MB (10^6 bytes): allocated on the GPU, or resident in the process.
    """

    batch: Positive
    pairs_per_second: Amount
    passes: tuple[Amount, ...]
    peak_memory_mb: Amount


@dataclass(frozen=True)
class ConfigurationSpeed(BatchSpeed):
    """One configuration at its best batch size.

    Attributes:
        name: For people.
        dtype, scores_dtype: Of the weights, and of the scores as the model gives them.
        attention: What really ran, read from the model: transformers' name, a kernel's on the Hub, or "unpadded".
        padded: Whether the pairs of a batch are padded to one length.
        ours: Whether it needs code of this project; the others need the public libraries only.
        max_score_difference: The largest difference to the first configuration's scores, in logits.
        batches: Every batch size that was tried.
        stopped: Why no larger one was tried: out of memory, as in the published protocol, or a rule of this project.
    """

    name: Word
    dtype: Word
    scores_dtype: str
    attention: Word
    padded: bool
    ours: bool
    max_score_difference: Amount
    batches: tuple[BatchSpeed, ...]
    stopped: str

    @property
    def largest(self) -> int:
        """The largest batch that was tried and fitted."""
        return max((tried.batch for tried in self.batches), default=self.batch)


@dataclass(frozen=True)
class Latency:
    """How long one query waits for the scores of `documents` documents, in milliseconds over `repeats` trials."""

    documents: Positive
    p50_ms: Amount
    p95_ms: Amount
    repeats: Positive


@dataclass(frozen=True)
class EnergyPerPair:
    """Joules per pair of the best configuration, None where nothing can be read; `source` says what was read, or why not."""

    joules_per_pair: Amount | None
    source: str


@dataclass(frozen=True)
class LengthBin:
    """Pairs of `first` to `last` tokens, both included."""

    first: Count
    last: Count
    pairs: Count


@dataclass(frozen=True)
class TokenLengths:
    """Tokens per pair before anything is cut; `truncated` is the share of pairs that the protocol cuts."""

    mean: Amount
    median: Amount
    p95: Amount
    max: Count
    truncated: Share
    histogram: tuple[LengthBin, ...]


@dataclass(frozen=True)
class FullLength:
    """The best configuration on pairs cut only where the model's positions end.

    Attributes:
        batch: Pairs; smaller than at the protocol's length where memory ran out.
        max_length: Tokens of a pair that are read.
        truncated: Share of pairs that are longer.
    """

    name: Word
    batch: Positive
    max_length: Positive
    truncated: Share
    pairs_per_second: Amount


@dataclass(frozen=True)
class SpeedResult:
    """Every configuration that this machine can run.

    Attributes:
        best: The configuration with most pairs per second.
        published: The same by the published rule, among those that need the public libraries only; None where none ran.
        skipped: Configuration -> why it did not run here.
        pairs: How many were timed; `lengths` are theirs.
        full_length: None where no pair is cut, or the model reads no further than the protocol.
    """

    best: ConfigurationSpeed
    published: ConfigurationSpeed | None
    configurations: tuple[ConfigurationSpeed, ...]
    skipped: dict[str, str]
    latency: tuple[Latency, ...]
    energy: EnergyPerPair
    lengths: TokenLengths
    pairs: Count
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

    model: Word
    pairs: Word
    pairs_sha256: Sha256
    max_length: Positive
    first_batch: Positive
    passes: Positive
    threads: Positive
    cuda: str | None
    driver: str | None
    required_device: str
