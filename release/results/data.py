"""The record `data`: the labelled mixture of a family."""

from __future__ import annotations

from dataclasses import dataclass

from release.results.ranges import Amount, Count, Logit, Sha256, TeacherIdentity


@dataclass(frozen=True)
class LabelRange:
    """The teacher's raw logits in one config: least, mean and greatest."""

    min: Logit
    mean: Logit
    max: Logit


@dataclass(frozen=True)
class ConfigLabels:
    """One config: labelled rows, their labels, and the rows that the teacher could not read."""

    rows: Count
    label: LabelRange
    quarantined: Count


@dataclass(frozen=True)
class DataResult:
    """The mixture as it is on the disk, and how fast its last run labelled.

    Attributes:
        rows: Labelled pairs in all shards.
        rows_scored_now: Those that this run labelled; the others were finished before.
        seconds: Wall-clock time of this run's labelling.
        pairs_per_second: `rows_scored_now` over `seconds`, None where nothing was left to label.
        configs: By the config's name.
    """

    rows: Count
    rows_scored_now: Count
    seconds: Amount
    pairs_per_second: Amount | None
    configs: dict[str, ConfigLabels]


@dataclass(frozen=True)
class DataSubject:
    """What the labels depend on.

    Attributes:
        teacher: All that decides its scores (`identity`), empty where every label came with the sources.
        declaration_sha256: Of what the declaration of the sources says, comments aside, None for pairs that were mixed without one.
    """

    teacher: TeacherIdentity
    declaration_sha256: Sha256 | None
