"""A CrossEncoder as a teacher on a device with little memory, which a stand-in plays: it fails beyond a number of pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from release.teachers.cross_encoder import CrossEncoderTeacher


class Small:
    """Scores by the length of the document, and has memory for at most `most` pairs at a time."""

    def __init__(self, most: int) -> None:
        self.most, self.tried = most, list[int]()

    def predict(self, pairs: list[tuple[str, str]], *, batch_size: int, **_: Any) -> np.ndarray:
        self.tried.append(batch_size)
        if batch_size > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return np.array([len(document) for _, document in pairs], np.float32)


def teacher(most: int) -> CrossEncoderTeacher:
    made = CrossEncoderTeacher.__new__(CrossEncoderTeacher)
    made.model, made.batch = Small(most), 128
    return made


def test_batches_are_halved_until_memory_suffices_and_stay_so() -> None:
    pairs = [("a query", "x" * length) for length in (3, 1, 2)]
    judge = teacher(40)
    for _ in range(2):
        assert judge.predict(pairs).tolist() == [3, 1, 2]
    assert judge.model.tried == [128, 64, 32, 32]


def test_memory_for_no_pair_at_all_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        teacher(0).predict([("a", "b")])
