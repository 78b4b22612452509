"""Both sides of a benchmark are measured in wall and CPU seconds, and held against what the machine can do."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks import matrix_rate, shapes, timing
from release.runtime.unpadded import unpad


def _work() -> None:
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass


def test_cpu_seconds_count_work_and_not_waiting() -> None:
    waiting = timing.cost(lambda: time.sleep(0.2))
    working = timing.cost(_work)
    assert waiting.wall >= 0.2 and waiting.cpu < 0.1
    assert working.cpu >= 0.1
    costs = {"slow": [timing.Cost(4.0, 2.0)], "fast": [timing.Cost(1.0, 1.0)]}
    assert timing.ratio(costs["slow"], costs["fast"]) == 2.0
    assert timing.ratio(costs["slow"], costs["fast"], "wall") == 4.0


def test_the_judge_is_cpu_seconds_with_one_thread(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, int]] = []
    sides = {name: lambda name=name: seen.append((name, torch.get_num_threads())) for name in ("plain", "ours")}
    before = torch.get_num_threads()
    timing.compare(sides, 2, most=2)
    assert seen == [("plain", 1), ("ours", 1)] * 3 + [("plain", 2), ("ours", 2)] * 3  # the first of three warms up
    assert torch.get_num_threads() == before
    taken = {1: {"plain": (6.0, 3.0), "ours": (1.0, 1.0)}, 2: {"plain": (8.0, 8.0), "ours": (1.0, 2.0)}}
    costs = {count: {side: [timing.Cost(*each)] for side, each in sides.items()} for count, sides in taken.items()}
    line = timing.SideTimings(costs, load_before=0.5).as_json("ours", 30, "pairs")
    assert (line["ratio"], line["ratio_wall"]) == (3.0, 6.0)
    assert (line["ratio_all_threads"], line["ratio_wall_all_threads"]) == (4.0, 8.0)
    assert (line["ours"], line["theirs"], line["unit"]) == (30.0, 10.0, "pairs per CPU second, one thread")
    timing.SideTimings(costs, load_before=0.5).show("A table", 30, "pairs")
    assert all(len(text.rstrip()) <= 80 for text in capsys.readouterr().out.splitlines())


def test_a_pairs_work_is_that_of_its_matrices_with_attention() -> None:
    shape = shapes.tiny_shapes()["tiny"]
    model, pairs = unpad(shapes.modular(shape, "cpu")), shapes.question_pairs(20)
    width, middle, layers, tokens = 64, 96, 4, shapes.mean_tokens(pairs)
    linear = 2 * (4 * width * width + 3 * width * middle)  # of a token in one layer
    least = (layers - 1) * linear * tokens  # in the last layer one token counts, but its keys and values are needed
    counted = matrix_rate.flops_per_pair(model, pairs)
    squares = sum(min(len(f"{query} {text}".split()) + 3, 512) ** 2 for query, text in pairs) / len(pairs)
    attention = (layers - 1) * 4 * width * squares
    assert least + attention < counted < least + attention + linear * tokens


def test_the_rate_of_matrix_products_is_this_machines() -> None:
    with timing.threads(1):
        assert 1e8 < matrix_rate.gemm_rate("fp32", sides=(256,)) < 1e13


def test_the_share_is_that_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_rate, "gemm_rate", lambda dtype: 1e11 * torch.get_num_threads())
    assert matrix_rate.share(50, 1e9, half=False)["share"] == 0.5
