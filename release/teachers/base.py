"""What labels pairs: the interface that every teacher has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

Progress = Callable[[int], None]  # called with how many more pairs are done


class Teacher(Protocol):
    """Scores pairs. Two teachers with the same `identity` give the same scores."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides a score: model, kind, revision, dtype, max_length, ..."""
        ...

    def predict(self, pairs: Sequence[tuple[str, str]], progress: Progress | None = None) -> np.ndarray:
        """Raw logits of (query, document) pairs, float32 of shape (len(pairs),)."""
        ...
