"""What the numbers and texts of a record can be: a reader refuses all others. NaN and infinity are never among them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)  # passed on to the dataclasses inside
ROUNDING = 1e-6  # a mean of shares may lie this far above 1
LARGEST = 2**63 - 1
IDENTITY = {  # of a teacher, whatever its kind
    *("model", "kind", "revision", "template_sha256", "statistics_sha256", "dtype", "max_length", "form"),
}


def _from(low: float, high: float = math.inf, rounding: float = 0) -> AfterValidator:
    """A check of a number's range; the numbers themselves are finite (release/records.py)."""

    def check(value: float) -> float:
        if not low - rounding <= value <= high + rounding:
            raise PydanticCustomError("range", "it lies from {low} to {high}", {"low": f"{low:g}", "high": f"{high:g}"})
        return value

    return AfterValidator(check)


Count = Annotated[int, _from(0, LARGEST)]
Positive = Annotated[int, _from(1, LARGEST)]
Amount = Annotated[float, _from(0)]  # seconds, pairs per second, memory, logits that something is off: never below zero
Share = Annotated[float, _from(0, 1, ROUNDING)]  # NDCG@10, recall, a part of a whole
Change = Annotated[float, _from(-1, 1, ROUNDING)]  # the difference of two shares, a correlation
Logit = float  # any finite number
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _word(text: str) -> str:
    if not text.strip():
        raise ValueError("a name is empty")
    return text


def _time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


def _log_entry(entry: dict[str, int | float | None]) -> dict[str, int | float | None]:
    if not isinstance(entry.get("step"), int):
        raise ValueError("an entry without its step")
    return entry


def _identity(identity: dict[str, str | int]) -> dict[str, str | int]:
    for key, value in identity.items():
        if key not in IDENTITY:
            raise ValueError(f"unknown key {key!r}")
        if isinstance(value, int) != (key == "max_length") or not value:
            raise ValueError(f"{key} cannot be {value!r}")
    if identity and "model" not in identity:
        raise ValueError("no key 'model'")
    return identity


Word = Annotated[str, AfterValidator(_word)]  # a name: at least one letter
Time = Annotated[str, AfterValidator(_time)]  # ISO 8601, with its zone
LogEntry = Annotated[
    dict[Word, Count | Amount | None], AfterValidator(_log_entry)
]  # of a trainer: its keys, the step among them
TeacherIdentity = Annotated[dict[str, str | Count], AfterValidator(_identity)]
