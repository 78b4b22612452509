"""Scoring survives a kill, refuses to mix teachers, sets poisoned rows aside, and never writes a label that is no number."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from recipes import score, shards
from release import family, records
from release.errors import ReleaseError
from release.files import sha256_folder, write_json

ROOT = Path(__file__).resolve().parent.parent
SHARDS, ROWS = 6, 40


class Lengths:
    """A real teacher's interface with a score that is easy to check: the document's length minus the query's."""

    def __init__(self, revision: str = "1", scores: Any = None) -> None:
        self.identity: dict[str, Any] = {"model": "lengths", "revision": revision}
        self.scores, self.asked = scores, 0

    def predict(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        self.asked += len(pairs)
        found = np.array([len(document) - len(query) for query, document in pairs], np.float32)
        return found if self.scores is None else self.scores(found)


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> family.Family:
    monkeypatch.chdir(tmp_path)
    loaded = family.load(ROOT / "recipes/demo.toml")
    make_pairs(loaded)
    return loaded


def make_pairs(facts: family.Family) -> None:
    folder = facts.build / "data/pairs/docstrings"
    found = []
    for number in range(SHARDS):
        rows = [(f"query {number} {row}", "word " * (row + 1)) for row in range(ROWS)]
        name = f"train-{number:05d}-of-{SHARDS:05d}.parquet"
        shards.write_table(folder / name, shards.tables(rows))
        found.append(shards.describe(folder / name).as_dict())
    entry = {"key": "k", "shards": found, "overlaps_declared": ["docstrings", "elsewhere"]}
    write_json(facts.build / "data/pairs/manifest.json", {"name": "n", "configs": {"docstrings": entry}})


def mixture(facts: family.Family) -> Path:
    return facts.build / "data/mixture"


def test_every_pair_gets_the_teachers_logit_and_a_record(facts: family.Family) -> None:
    score.run(facts, Lengths())
    table = pq.read_table(mixture(facts) / "docstrings/train-00002-of-00006.parquet")
    assert table.schema.field("label").type == "float"
    labels = [len(d) - len(q) for q, d in zip(table["query"].to_pylist(), table["document"].to_pylist(), strict=True)]
    assert table["label"].to_pylist() == labels
    manifest = json.loads((mixture(facts) / "manifest.json").read_text())
    assert manifest["teacher"] == {"model": "lengths", "revision": "1"}
    assert manifest["in_domain"] == ["docstrings"]  # declared of the same origin, and one of the family's collections
    assert records.read(facts.build / "records", "data").measured["rows"] == SHARDS * ROWS


def test_a_second_run_asks_the_teacher_nothing(facts: family.Family) -> None:
    score.run(facts, Lengths())
    before, again = sha256_folder(mixture(facts)), Lengths()
    score.run(facts, again)
    assert again.asked == 0
    assert sha256_folder(mixture(facts)) == before


def test_another_teacher_is_refused_and_changes_nothing(facts: family.Family) -> None:
    score.run(facts, Lengths())
    before = sha256_folder(mixture(facts))
    with pytest.raises(ReleaseError, match="begun with another revision"):
        score.run(facts, Lengths(revision="2"))
    assert sha256_folder(mixture(facts)) == before


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (lambda found: np.where(found > 0, np.nan, found), "not a number.*row"),
        (lambda found: found * np.float32(np.inf), "not a number"),
        (lambda found: found[1:], "39 scores for 40 pairs"),
    ],
)
def test_a_label_that_is_no_number_stops_the_shard(facts: family.Family, scores: Any, says: str) -> None:
    with pytest.raises(ReleaseError, match=says):
        score.run(facts, Lengths(scores=scores))
    assert not list(mixture(facts).glob("**/*.parquet"))
    score.run(facts, Lengths())  # with the teacher mended, the same command goes on
    assert len(list(mixture(facts).glob("**/*.parquet"))) == SHARDS


def test_poisoned_rows_are_set_aside_with_their_reason(facts: family.Family) -> None:
    folder = facts.build / "data/pairs/docstrings"
    rows = [("good", "document"), ("", "document"), ("query", " "), ("query", "x" * (score.LONGEST + 1))]
    shards.write_table(folder / "train-00000-of-00006.parquet", shards.tables(rows))
    score.run(facts, Lengths())
    kept = pq.read_table(mixture(facts) / "docstrings/train-00000-of-00006.parquet")
    assert kept["query"].to_pylist() == ["good"]
    lines = (mixture(facts) / "docstrings/train-00000-of-00006.quarantine.jsonl").read_text().splitlines()
    reasons = {line["row"]: line["reason"] for line in map(json.loads, lines)}
    assert reasons == {1: "empty query", 2: "empty document", 3: f"document of {score.LONGEST + 1} characters"}
    assert score.poison("a\ud800", "b") == "invalid unicode in the query"


def test_killed_anywhere_it_ends_with_the_same_shards(facts: family.Family, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from recipes import score
        from release import family
        from tests.test_score import Lengths
        class Slow(Lengths):
            def predict(self, pairs):
                time.sleep(0.05)
                return super().predict(pairs)
        score.run(family.load(Path(sys.argv[1])), Slow())
        """
    )
    command = [sys.executable, "-c", program, str(ROOT / "recipes/demo.toml")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = 0
    for moment in (1, 3, 5):  # kill once that many shards are there
        process = subprocess.Popen(command, env=environment)
        while process.poll() is None and len(list(mixture(facts).glob("*/train-*.parquet"))) < moment:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed
    score.run(facts, Lengths())
    disturbed = {path.name: path.read_bytes() for path in mixture(facts).glob("*/train-*.parquet")}
    other = tmp_path / "undisturbed"
    other.mkdir()
    os.chdir(other)
    make_pairs(facts)
    score.run(facts, Lengths())
    assert disturbed == {path.name: path.read_bytes() for path in mixture(facts).glob("*/train-*.parquet")}


def test_a_teacher_that_is_not_here_is_one_clear_line(facts: family.Family) -> None:
    absent = dataclasses.replace(facts.teacher, model="nobody/nothing", kind="cross-encoder")
    with pytest.raises(ReleaseError, match=r"cannot load the teacher.*nobody/nothing"):
        score.run(dataclasses.replace(facts, teacher=absent))
    assert not mixture(facts).exists()
