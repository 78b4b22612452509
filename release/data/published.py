"""A mixture beside the one that was published: its rows by config, and what is known, unknown and assumed of how that was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from release import console, data_manifest
from release.errors import ReleaseError
from release.spec import ConfigSpec, MixtureSpec

UNKNOWN = "?"
Made = Mapping[str, dict[str, Any]]  # config -> its manifest


def most_rows(config: ConfigSpec) -> int | None:
    """How many rows the declaration can give at most, as far as it says so."""
    if config.cap:
        return config.cap.rows
    return config.queries * config.sampling.keep if config.queries and config.sampling else None


def check(mixture: MixtureSpec, made: Made) -> None:
    """Stop where all configs together have other rows than were published, unless the declaration says `go on`.

    Raises:
        ReleaseError: They have.
    """
    if mixture.published is None or mixture.published.otherwise == "go on":
        return
    rows, known = _train_rows(made), mixture.published.rows
    if rows != known:
        what = f"{rows:,} pairs to train on, where {known:,} were published ({rows - known:+,})"
        hint = "make plan-data shows the configs; write `otherwise: go on` there to mix other data, which its card then says"
        raise ReleaseError(what, where=f"{mixture.path}, key published", hint=hint)


def described(mixture: MixtureSpec) -> dict[str, Any]:
    """For manifest and card: how many rows were published, and the notes; nothing for a mixture that repeats no other."""
    if mixture.published is None:
        return {}
    return {"published": asdict(mixture.published), "notes": asdict(mixture.notes)}


def show(mixture: MixtureSpec, made: Made) -> None:
    """Print the table and the notes; nothing for a mixture that repeats no other."""
    if mixture.published is None:
        return
    columns = ["config", "published", "here", "difference"]
    console.table("Against the published mixture", columns, list(_rows(mixture, made)))
    for kind, notes in asdict(mixture.notes).items():
        if notes:
            print(f"{kind}:")
        for note in notes:
            print(*console.wrapped(note, indent="  "), sep="\n")


def _train_rows(made: Made) -> int:
    return sum(data_manifest.rows(config, "train") for config in made.values())


def _rows(mixture: MixtureSpec, made: Made) -> list[list[str]]:
    assert mixture.published is not None
    rows = [_row(config, made.get(name)) for name, config in mixture.configs.items()]
    known = [config.rows for config in mixture.configs.values() if config.rows]
    there = _train_rows(made)
    whole = len(made) == len(mixture.configs)
    rows.append([f"known of {len(known)}, made of {len(made)}", f"{sum(known):,}", f"{there:,}", ""])
    total = mixture.published.rows
    rows.append(
        ["total", f"{total:,}", f"{there:,}" if whole else UNKNOWN, f"{there - total:+,}" if whole else UNKNOWN]
    )
    return rows


def _row(config: ConfigSpec, made: dict[str, Any] | None) -> list[str]:
    here, most = data_manifest.rows(made, "train") if made else None, most_rows(config)
    shown = f"{here:,}" if here is not None else f"at most {most:,}" if most else UNKNOWN
    known = f"{config.rows:,}" if config.rows else UNKNOWN
    difference = f"{here - config.rows:+,}" if here is not None and config.rows else UNKNOWN
    return [config.name, known, shown, difference]
