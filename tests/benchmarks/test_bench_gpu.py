"""The nine minutes on a GPU: the same path on a CPU with tiny shapes, and no job takes the others with it."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import bench_gpu, gpu_jobs, shapes, worker
from benchmarks.worker import Worker
from release.shapes import count

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, Any]]]:
    """What one run on tiny shapes printed and wrote."""
    folder, shown = tmp_path_factory.mktemp("bench-gpu"), io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "CONTEXT", multiprocessing.get_context("fork"))  # it has the libraries already
        bench_gpu.main(["--tiny", "--sizes", "tiny", "--seconds", "300", "--output", str(folder)])
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return shown.getvalue(), [json.loads(line) for line in lines]


def test_every_setup_of_this_machine_is_measured(measured: tuple[str, list[dict[str, Any]]]) -> None:
    shown, rows = measured
    assert not [row for row in rows if "skipped" in row]
    assert [row["kind"] for row in rows][:4] == ["machine", "check", "speed", "train"]
    missing = rows[0]["unavailable"]
    names = [row["name"] for row in rows if row["kind"] == "speed"]
    assert sorted(names) == sorted(setup.name for setup in gpu_jobs.SETUPS if setup.name not in missing)
    assert "padded" not in names[0]
    for name, reason in missing.items():
        assert f"not here: {name}: {reason}" in shown


def test_three_passes_and_memory_for_every_batch(measured: tuple[str, list[dict[str, Any]]]) -> None:
    for row in (row for row in measured[1] if row["kind"] == "speed"):
        assert all(len(batch["passes"]) == 3 and batch["pairs"] >= 2 * batch["batch"] for batch in row["batches"])
        assert row["best"] in row["batches"] and row["best"]["peak_mb"] >= 0 and row["stopped"]


def test_training_is_held_against_the_plan(measured: tuple[str, list[dict[str, Any]]]) -> None:
    (row,) = (row for row in measured[1] if row["kind"] == "train")
    shape = shapes.tiny_shapes()["tiny"]
    assert row["batch"] == row["micro_batch"] == shape.batch and row["steps"] >= 1
    assert row["planned_state_mb"] == pytest.approx(row["parameters"] * 16e-6)
    tokens = shape.batch * shapes.mean_tokens(gpu_jobs.pool()[: shape.batch])
    activations = 1.2 * count(shape.config)["kept_per_token"] * tokens / 1e6
    assert row["planned_mb"] - row["planned_state_mb"] == pytest.approx(activations)
    assert row["loss_last"] < row["loss_first"]


def test_the_last_line_is_for_programs(measured: tuple[str, list[dict[str, Any]]]) -> None:
    shown, rows = measured
    line = json.loads(shown.splitlines()[-1])
    assert line["correct"] is True and line["skipped"] == [] and list(line["sizes"]) == ["tiny"]
    best = max(row["best"]["pairs_per_second"] for row in rows if row["kind"] == "speed")
    assert line["sizes"]["tiny"]["pairs_per_second"] == best
    tables = shown[shown.index("Pairs per second") :].splitlines()[:-1]
    assert len(tables) > 15 and all(len(text.rstrip()) <= 80 for text in tables)


def test_an_attention_with_another_window_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = gpu_jobs.unpadded.in_buckets

    def wider(*given: Any, sliding_window: int | None, **rest: Any) -> Any:
        return right(*given, sliding_window=sliding_window and sliding_window + 1, **rest)

    shape = shapes.tiny_shapes()["tiny"]
    assert gpu_jobs.check(shape, {})["correct"]
    monkeypatch.setattr(gpu_jobs.unpadded, "in_buckets", wider)
    rows = gpu_jobs.check(shape, {})["rows"]
    assert {row["window"]: row["correct"] for row in rows} == {None: True, gpu_jobs.WINDOW: False}


def test_a_wrong_attention_is_an_error_at_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_gpu, "Worker", contextlib.nullcontext)
    monkeypatch.setattr(bench_gpu, "jobs", lambda sizes, rows: iter(()))
    monkeypatch.setattr(bench_gpu, "summary", lambda *_: {"correct": False})
    with pytest.raises(SystemExit, match=r"^error: an attention gives other values"):
        bench_gpu.main(["--tiny", "--output", str(tmp_path)])


def test_memory_that_runs_out_halves_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = gpu_jobs._steps

    def small(shape: shapes.Shape, micro: int, job: dict[str, Any]) -> dict[str, Any]:
        if micro > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return steps(shape, micro, job)

    monkeypatch.setattr(gpu_jobs, "_steps", small)
    job = {"setup": gpu_jobs.as_json(gpu_jobs.Setup("buckets", "float32", False)), "until": 0.0}
    row = gpu_jobs.train(shapes.tiny_shapes()["tiny"], job)
    assert (row["batch"], row["micro_batch"]) == (16, 4)


def test_memory_that_runs_out_at_the_first_batch_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    passes, tried = gpu_jobs._passes, list[int]()

    def small(predict: Any, batch: int, count: float) -> dict[str, Any]:
        tried.append(batch)
        if batch > 8:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return passes(predict, batch, 1)

    monkeypatch.setattr(gpu_jobs, "_passes", small)
    job = {"setup": gpu_jobs.as_json(gpu_jobs.Setup("buckets", "float32", False)), "until": time.time() + 60}
    row = gpu_jobs.speed(shapes.tiny_shapes()["tiny"], job | {"first_batch": 32, "pass_seconds": 1.0})
    assert tried == [32, 16, 8, 16] and [each["batch"] for each in row["batches"]] == [8]
    assert row["stopped"] == "memory is out at 16 pairs"
    tried.clear()
    row = gpu_jobs.speed(shapes.tiny_shapes()["tiny"], job | {"first_batch": 4096, "pass_seconds": 0.001})
    assert tried[0] == gpu_jobs.LEAST_FIRST  # two large batches would take long


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^not measured: no CUDA device here; hint: --tiny"):
        bench_gpu.main(["--output", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


def test_what_was_measured_before_is_kept_and_nothing_is_measured_that_could_not_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--tiny", "--seconds", "1", "--output", str(tmp_path)]
    (tmp_path / "results.jsonl").write_text("a GPU's\n", encoding="utf-8")
    bench_gpu.main(given)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["device"] is None  # time sufficed for nothing
    (kept,) = tmp_path.glob("results-*.jsonl")
    assert kept.read_text(encoding="utf-8") == "a GPU's\n"
    with pytest.raises(SystemExit, match=r"^error: nothing can be written .*; in .*hint: another --output$"):
        bench_gpu.main([*given[:-1], str(kept)])
    with pytest.raises(SystemExit, match="2"):
        bench_gpu.main([*given, "--seconds", "nan"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("kind", ["speed", "train"])
def test_no_other_attention_is_measured_under_a_name(kind: str) -> None:
    job = {"kind": kind, "size": "tiny", "setup": gpu_jobs.as_json(gpu_jobs.SETUPS[0])}
    assert gpu_jobs.run(job)["skipped"] == "torch's varlen kernel needs CUDA"


def test_what_time_does_not_suffice_for_is_named() -> None:
    job = {"kind": "speed", "size": "1b", "name": "bf16 varlen"}
    with Worker(abs) as idle:
        row = bench_gpu.measure(idle, job, time.time() + 1)
    assert bench_gpu.line_of(row) == "speed 1b bf16 varlen: not measured: no time is left"


def test_a_job_that_kills_its_process_or_hangs_does_not_take_the_others_with_it() -> None:
    with Worker(os._exit) as ends:
        assert ends.run(3, 60) == (None, "the process ended with status 3")
        assert ends.run(4, 60) == (None, "the process ended with status 4")
    with Worker(abs) as idle:
        assert idle.run(-1, 60) == (1, None)
        idle._process.kill()
        idle._process.join()
        assert idle.run(-2, 60) == (2, None)
    with Worker(time.sleep) as sleeps:
        assert sleeps.run(0, 60) == (None, None)
        assert sleeps.run(60, 0.2) == (None, "no answer within 0 s")
        assert sleeps.run("no number", 60)[1] == "TypeError: 'str' object cannot be interpreted as an integer"
        assert sleeps.run(0, 60) == (None, None)


def imported(module: str, seen: set[str]) -> set[str]:
    """The packages of other people that a module of ours imports when it is imported, directly or through ours."""
    file = ROOT / (module.replace(".", "/") + ".py")
    file = file if file.is_file() else ROOT / module.replace(".", "/") / "__init__.py"
    seen.add(module)
    if not file.is_file():
        return set()
    names = {module.rpartition(".")[0]} - {""}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    ours = {name for name in names if name.split(".")[0] in ("release", "benchmarks", "recipes")}
    packages = {name.split(".")[0] for name in names - ours} - sys.stdlib_module_names
    return packages.union(*(imported(name, seen) for name in ours - seen))


def test_a_machine_with_little_installed_can_run_it() -> None:
    allowed = {"huggingface_hub", "numpy", "rich", "sentence_transformers", "torch", "transformers"}
    assert imported("benchmarks.bench_gpu", set()) <= allowed
