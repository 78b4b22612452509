"""The text that every machine has: real pairs, a split that never moves, nothing held out with a near-copy in training."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.data import docstrings

MODULE = '''
class Index:
    """Find the documents that share words with a query.

    The index keeps, for every word, the list of documents that hold it together with how often they do so.
    """

    def add(self, text):
        """Add one document to the index.

        Its words are counted at once, and the counts are kept in memory until the index is closed again.
        """

    def short(self):
        """Nothing to say."""
'''


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.py").write_text(MODULE)
    return tmp_path


def test_summary_and_body_come_from_the_source_without_importing_it(packages: Path) -> None:
    (packages / "first/broken.py").write_text("raise RuntimeError('imported')\ndef (")
    examples = docstrings.pairs((), more=packages, workers=1)
    assert {pair.summary for pair in examples} == {
        "Find the documents that share words with a query.",
        "Add one document to the index.",
    }
    assert all("for every word" in pair.body or "counted at once" in pair.body for pair in examples)


def test_near_copies_are_kept_once_and_a_held_out_one_wins(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docstrings, "split_of", lambda name: "heldout" if name.startswith("second") else "train")
    examples = docstrings.pairs((), more=packages, workers=1)
    assert [pair.split for pair in examples] == ["heldout", "heldout"]


def test_the_split_depends_on_the_name_alone() -> None:
    names = [f"package.module.function_{number}" for number in range(2000)]
    held_out = [name for name in names if docstrings.split_of(name) == "heldout"]
    assert held_out == [name for name in reversed(names) if docstrings.split_of(name) == "heldout"][::-1]
    assert 0.12 < len(held_out) / len(names) < 0.18


def test_markup_becomes_plain_words() -> None:
    assert docstrings.clean("See :class:`~a.B` and ``x`` or `y`.\n>>> f(1)\n-----") == "See a.B and x or y. f(1)"
