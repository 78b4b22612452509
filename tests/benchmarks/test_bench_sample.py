"""Sampling keeps what it should on both sides, and the last line says how near it is to sorting alone."""

from __future__ import annotations

import json

import pytest

from benchmarks import bench_sample


def test_the_last_line_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    bench_sample.main(["--queries", "60", "--rounds", "1"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["ratio"] > 1 and line["share"] > 0 and line["unit"] == "queries per CPU second, one thread"
    assert set(line["seconds"]["1"]) == {"plain", "vectorised", "sorting alone"}
