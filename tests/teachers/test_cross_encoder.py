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
        self.says = "CUDA out of memory. Tried to allocate 2 GiB"

    def predict(self, pairs: list[tuple[str, str]], *, batch_size: int, **_: Any) -> np.ndarray:
        self.tried.append(batch_size)
        if batch_size > self.most:
            raise RuntimeError(self.says)
        return np.array([len(document) for _, document in pairs], np.float32)


def teacher(most: int) -> CrossEncoderTeacher:
    made = CrossEncoderTeacher.__new__(CrossEncoderTeacher)
    made.model, made.batch = Small(most), 128
    return made


def test_batches_are_halved_until_memory_suffices_for_a_shard_and_the_next_one_does_not_depend_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("release.teachers.cross_encoder.BLOCK", 2)
    pairs = [("a query", "x" * length) for length in (3, 1, 2)]
    judge = teacher(40)
    for _ in range(2):
        assert judge.predict(pairs).tolist() == [3, 1, 2]
    assert judge.model.tried == [128, 64, 32, 32] * 2


def test_memory_for_no_pair_at_all_is_an_error_and_so_is_anything_else() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        teacher(0).predict([("a", "b")])
    broken = teacher(40)
    broken.model.says = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(RuntimeError, match="illegal"):
        broken.predict([("a", "b")])
    assert broken.model.tried == [128]


@pytest.mark.parametrize(
    "says",
    [
        "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in NVIDIA's documentation",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    ],
)
def test_every_way_to_say_that_memory_is_out_is_understood(says: str) -> None:
    judge = teacher(64)
    judge.model.says = says
    assert judge.predict([("a", "b")]).tolist() == [1]
    assert judge.model.tried == [128, 64]
