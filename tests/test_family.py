"""The family file is the single source of facts, and says clearly what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from release import family
from release.errors import ReleaseError

ROOT = Path(__file__).resolve().parent.parent
ETTIN = ROOT / "recipes/ettin.toml"


def test_every_ettin_size_trains_with_the_published_facts() -> None:
    published = {
        "17m": (2.4e-4, 1024),
        "32m": (1.2e-4, 512),
        "68m": (3e-5, 256),
        "150m": (1.5e-5, 192),
        "400m": (7e-6, 256),
        "1b": (3e-6, 512),
    }
    ettin = family.load(ETTIN)
    assert {name: (s.learning_rate, s.global_batch_size) for name, s in ettin.sizes.items()} == published
    assert {name: s.encoder for name, s in ettin.sizes.items()} == {
        name: f"jhu-clsp/ettin-encoder-{name}" for name in published
    }


def test_names_follow_from_the_family() -> None:
    ettin = family.load(ETTIN)
    assert ettin.model_id("68m") == "cross-encoder/ettin-reranker-68m-v1"
    assert ettin.data_id == "cross-encoder/ettin-reranker-v1-data"
    assert ettin.folder("68m") == Path("build/ettin-reranker/68m")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('license = "apache-2.0"', "", "missing key 'license'"),
        ("epochs = 1", "epoch = 1", "unknown key 'epoch'.*did you mean 'epochs'"),
        ("epochs = 1", 'epochs = "1"', "expected int, found str '1'.*\\[training\\] epochs"),
        ('loss = "mse"', 'loss = "mae"', "unknown value 'mae'.*\\[training\\] loss.*one of mse, margin-mse"),
        ("epochs = 1", "epochs = true", "expected int, found bool"),
        ("learning_rate = 3e-5", 'learning_rate = "small"', "\\[sizes.68m\\] learning_rate"),
        ("embedders = [", "embedders = [3,", "embedders\\[0\\]"),
        ("[speed]", "[sped]", "unknown table 'sped'.*did you mean 'speed'"),
        ("[family]", "[family", "not a TOML file"),
    ],
)
def test_a_wrong_family_file_is_refused_by_key(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = ETTIN.read_text()
    assert old in text
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace(old, new))
    with pytest.raises(ReleaseError, match=says):
        family.load(wrong)


def test_an_unknown_size_or_file_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="17m, 32m, 68m, 150m, 400m, 1b"):
        family.load(ETTIN).size("69m")
    with pytest.raises(ReleaseError, match="no family file"):
        family.load(tmp_path / "absent.toml")
