"""Speed as a record: the protocol is kept, types are read from the tensors, and what cannot run here is named with its reason."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import shutil
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from release import records, results
from release.__main__ import main
from release.errors import CannotRun, ReleaseError
from release.evaluation import rerankers
from release.family import ModelConfig
from release.results.speed import ConfigurationSpeed, folder_for
from release.speed import benchmark, configurations, latency, machine, timing
from release.speed.benchmark import SpeedRecord
from release.speed.configurations import Configuration
from release.speed.machine import EnergyReading
from tests import built

PAIRS = 48
WORDS = ["speed", "--family", str(built.DEMO), "--size", built.SIZE, "--pairs", str(PAIRS)]
HALF = Configuration("bf16", "bfloat16", "unpadded", False)


@pytest.fixture(scope="module")
def project_folder(tmp_path_factory: pytest.TempPathFactory, reranker: Path) -> Path:
    """A working folder with the embedded family's pairs and a model that was trained to read fewer tokens than it can."""
    root = tmp_path_factory.mktemp("speed")
    with contextlib.chdir(root):
        family = built.family()
        built.write_collection(family.build / "data/collections/docstrings", longest=2_000)
        built.write_model(family.folder(built.SIZE), reranker)
        settings = family.folder(built.SIZE) / "model/tokenizer_config.json"
        built.edit(settings, lambda value: value.update(model_max_length=family.training.max_length))
    return root


@pytest.fixture
def quick_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that look at something else: latency is half of the work."""
    monkeypatch.setattr(latency, "DOCUMENTS", (2,))


@pytest.fixture(scope="module")
def measured(project_folder: Path) -> tuple[SpeedRecord, str]:
    """The record of one run through the command line, and what it printed."""
    shown = io.StringIO()
    with contextlib.chdir(project_folder), contextlib.redirect_stdout(shown), pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "REPEATS", 5)
        assert main(WORDS) == 0
        model = built.family().folder(built.SIZE)
        record = records.read(model / "records", results.SPEED, model_sha256=records.model_hash(model / "model"))
    return record, shown.getvalue()


def test_the_protocol_is_kept(measured: tuple[SpeedRecord, str]) -> None:
    result = measured[0].measured
    assert result.pairs == PAIRS
    for row in result.configurations:
        tried = row.batches
        assert [each.batch for each in tried] == [8 << index for index in range(len(tried))]
        assert all(each.pairs_per_second == statistics.median(each.passes) for each in tried)
        assert {len(each.passes) for each in tried} == {3}
        assert row.pairs_per_second == max(each.pairs_per_second for each in tried)
        assert row.peak_memory_mb > 50
    assert result.best == max(result.configurations, key=lambda row: row.pairs_per_second)


def test_the_record_says_what_was_measured_on_what(measured: tuple[SpeedRecord, str]) -> None:
    record = measured[0]
    lengths = record.measured.lengths
    assert sum(bin.pairs for bin in lengths.histogram) == PAIRS
    assert lengths.histogram[-1].first <= lengths.max <= lengths.histogram[-1].last
    assert record.machine.device == "CPU" and record.machine.cpu
    assert record.subject.threads == torch.get_num_threads()
    assert record.subject.driver is None and record.subject.cuda is None
    assert {"torch", "transformers", "sentence-transformers", "python"} <= set(record.versions)
    types = {row.name: (row.dtype, row.scores_dtype) for row in record.measured.configurations}
    assert types["fp32, unpadded"] == ("float32", "float32")
    assert types.get("bf16, unpadded", ("bfloat16", "float32")) == ("bfloat16", "float32")  # the head stays in fp32
    energy = record.measured.energy
    assert energy.joules_per_pair is not None or "not readable" in energy.source


def test_the_latency_of_one_query(measured: tuple[SpeedRecord, str]) -> None:
    latencies = measured[0].measured.latency
    assert [one.documents for one in latencies] == [10, 50, 100]
    assert all(0 < one.p50_ms <= one.p95_ms and one.repeats >= 5 for one in latencies)


def test_full_length_is_the_models_not_the_one_it_was_trained_on(measured: tuple[SpeedRecord, str]) -> None:
    result = measured[0].measured
    assert result.lengths.max > 256
    assert result.full_length is not None and result.full_length.max_length == 512
    assert result.full_length.truncated < result.lengths.truncated


def test_the_last_line_is_for_programs(measured: tuple[SpeedRecord, str]) -> None:
    record, shown = measured
    line = json.loads(shown.splitlines()[-1])
    assert line["best"]["pairs_per_second"] == record.measured.best.pairs_per_second
    assert line["latency"] == [asdict(one) for one in record.measured.latency]
    assert line["record"].endswith("mini/records/speed.json")


def test_help_says_every_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for parameter in inspect.signature(benchmark.command, eval_str=True).parameters.values():
        (option,) = parameter.annotation.__metadata__
        assert option.help in shown  # rich would take [words in brackets] for markup


def test_a_run_that_is_stopped_leaves_the_earlier_record(
    project_folder: Path, measured: tuple[SpeedRecord, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_folder)
    folder = built.family().folder(built.SIZE) / "records"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    measure_one, done = benchmark._configuration_speed, []

    def stop(*arguments: Any) -> ConfigurationSpeed:
        if done:
            raise KeyboardInterrupt
        done.append(arguments)
        return measure_one(*arguments)

    monkeypatch.setattr(benchmark, "_configuration_speed", stop)
    assert main(WORDS) == 130
    assert done and {path: path.read_bytes() for path in folder.iterdir()} == before


def test_weights_of_another_type_than_the_configuration_says_are_refused(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers import CrossEncoder

    model = str(project_folder / built.family().folder(built.SIZE) / "model")
    assert configurations.load(HALF, model, 64).weights == "bfloat16"
    # A library that ignores the wish: so it was in the CPU table that the published cards had to correct.
    monkeypatch.setattr(
        "sentence_transformers.CrossEncoder", lambda source, model_kwargs, **rest: CrossEncoder(source, **rest)
    )
    with pytest.raises(ReleaseError, match="the weights are float32, not bfloat16"):
        configurations.load(HALF, model, 64)


def test_what_this_machine_cannot_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    runnable, skipped = configurations.candidates("CPU")
    assert {each.dtype for each in runnable} == {"float32"}
    assert skipped == {"bf16, unpadded": "this CPU has no bf16 instructions"}
    for package in ("flash_attn_2", "kernels"):
        monkeypatch.setattr(f"transformers.utils.is_{package}_available", lambda: False)
    runnable, skipped = configurations.candidates("NVIDIA H100 80GB HBM3")
    assert all("flash" not in each.name for each in runnable)
    assert set(skipped.values()) == {"neither flash-attn nor kernels is installed"} and len(skipped) == 2
    monkeypatch.setattr("transformers.utils.is_kernels_available", lambda: True)
    runnable, skipped = configurations.candidates("NVIDIA H100 80GB HBM3")
    assert len([each for each in runnable if each.attention == "flash_attention_2"]) == 2 and not skipped


@pytest.mark.usefixtures("quick_latency")
def test_a_public_reranker_by_the_familys_protocol(
    tmp_path: Path,
    project_folder: Path,
    encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    monkeypatch.chdir(tmp_path)
    config = BertConfig(
        vocab_size=600, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_labels=1
    )
    BertForSequenceClassification(config).save_pretrained("public/bert")
    AutoTokenizer.from_pretrained(encoder).save_pretrained("public/bert")
    shutil.copytree(project_folder / "build/docstring-reranker/data", "build/docstring-reranker/data")
    text = built.DEMO.read_text().replace("compared = []", 'compared = ["public/bert"]')
    Path("family.toml").write_text(text)
    words = ["speed", "--family", "family.toml", "--model", "public/bert", "--pairs", "16"]
    assert main(words) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["record"] == "build/docstring-reranker/compared/public--bert/records/speed.json"
    record = records.read(Path(line["record"]).parent, results.SPEED)
    assert [row.padded for row in record.measured.configurations] == [True]
    assert "modular CrossEncoder" in record.measured.skipped["fp32, unpadded"]  # another architecture, and said so
    assert record.subject.model == "public/bert" and record.model_sha256

    Path("family.toml").write_text(text.replace('compared = ["public/bert"]', "compared = []"))
    assert main([*words, "--output", "mine.json"]) == 0
    assert json.loads(Path("mine.json").read_text())["measured"]["best"]["pairs_per_second"] > 0
    assert main(["speed", "--family", "family.toml", "--model", "nowhere"]) == 1
    assert main(["speed", "--family", "family.toml"]) == 1
    assert "--size mini, or --model" in capsys.readouterr().err


def scorer(limit: int, error: Exception) -> timing.Predict:
    """Scores batches below `limit`; from there on `error`."""

    def predict(pairs: timing.Pairs, batch: int) -> np.ndarray:
        if batch >= limit:
            raise error
        sum(range(3000 * len(pairs) // batch))  # larger batches are faster
        return np.zeros(len(pairs))

    return predict


def test_batches_double_until_the_memory_is_full() -> None:
    pairs = [("a", "b")] * 256
    for error in (MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")):
        tried, stopped = timing.batches(scorer(64, error), pairs, 8, 3, until_memory_ends=True)
        assert [row.batch for row in tried] == [8, 16, 32] and stopped == "out of memory at 64 pairs"
        with pytest.raises(configurations.CannotRun, match="out of memory at 8 pairs"):
            timing.batches(scorer(8, error), pairs, 8, 3, until_memory_ends=True)
    for other in ("shapes do not match", "CUDA error: an illegal memory access was encountered"):
        with pytest.raises(RuntimeError, match=other):
            timing.batches(scorer(16, RuntimeError(other)), pairs, 8, 3, until_memory_ends=True)


def test_a_stop_rule_of_our_own_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, rates = [("a", "b")] * 256, {8: 100.0, 16: 120.0, 32: 90.0, 64: 91.0, 128: 92.0, 256: 93.0}
    monkeypatch.setattr(timing, "rates", lambda predict, pairs, batch, passes: [rates[batch]] * passes)
    tried, stopped = timing.batches(scorer(999, MemoryError()), pairs, 8, 3, until_memory_ends=False)
    assert [row.batch for row in tried] == [8, 16, 32] and stopped == "our rule: the rate fell below 0.9 of the best"
    tried, stopped = timing.batches(scorer(999, MemoryError()), pairs, 8, 3, until_memory_ends=True)
    assert (
        tried[-1].batch == 256 and stopped == "our rule: a batch is at most all of the pairs"
    )  # a slower one ends nothing


def test_peak_memory_is_that_of_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr(timing, "reset_peak", used.clear)
    monkeypatch.setattr(timing, "peak_memory_mb", lambda: float(max(used)))

    def predict(pairs: timing.Pairs, batch: int) -> np.ndarray:
        used.append(1000 - batch)  # falling, so that a peak that is kept shows
        return np.zeros(len(pairs))

    tried, _ = timing.batches(predict, [("a", "b")] * 64, 8, 3, until_memory_ends=True)
    assert [row.peak_memory_mb for row in tried] == [992, 984, 968, 936]


@pytest.mark.usefixtures("quick_latency")
def test_one_failing_configuration_ends_nothing(project_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised: one configuration does not load, one does not run, one fails while it is timed, and so does latency."""
    monkeypatch.chdir(project_folder)
    real_load, real_speed = benchmark.load, benchmark._configuration_speed
    family = built.family()
    variants = [Configuration("broken", "float32", None, True), *configurations.candidates("CPU")[0][:2]]
    variants[1:1] = [Configuration(name, "float32", None, True) for name in ("does not run", "breaks later")]
    model_configs = []

    def load(configuration: Configuration, source: str, limit: int, how: ModelConfig) -> Any:
        model_configs.append(how)
        if configuration.name == "broken":
            raise ImportError("no kernel for this GPU\nmore lines")
        loaded = real_load(configuration, source, limit, how)
        return replace(loaded, predict=fails) if configuration.name == "does not run" else loaded

    def fails(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    def speed(loaded: Any, *rest: Any) -> ConfigurationSpeed:
        if loaded.configuration.name == "breaks later":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return real_speed(loaded, *rest)

    monkeypatch.setattr(benchmark, "candidates", lambda device: (list(variants), {}))
    monkeypatch.setattr(benchmark, "load", load)
    monkeypatch.setattr(benchmark, "_configuration_speed", speed)
    monkeypatch.setattr(benchmark, "latencies", fails)
    source = str(family.folder(built.SIZE) / "model")
    how = ModelConfig(max_length=77)
    family = replace(family, models={source: how})
    result = benchmark.measure(source, family, size=built.SIZE, name="x", sha256="0" * 64, count=16).measured
    assert [row.name for row in result.configurations] == [each.name for each in variants[3:]]
    assert model_configs and set(map(id, model_configs)) == {id(how)} and result.latency == ()
    assert result.skipped == {
        "broken": "ImportError: no kernel for this GPU",
        "does not run": "RuntimeError: CUDA out of memory",
        "latency": "RuntimeError: CUDA out of memory",
        "breaks later": "RuntimeError: CUDA error: an illegal memory access was encountered",
    }
    assert result.published is not None and not result.published.ours
    monkeypatch.setattr(benchmark, "candidates", lambda device: (variants[:1], {}))
    with pytest.raises(CannotRun, match=r"no configuration runs .*no kernel for this GPU"):
        benchmark.measure(source, family, size=built.SIZE, name="x", sha256="0" * 64, count=16)


def test_a_public_model_is_timed_at_the_commit_and_with_the_code_that_the_family_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}

    def away(source: str, **options: Any) -> None:
        given.update(options)
        raise OSError("no Hub here")

    monkeypatch.setattr("sentence_transformers.CrossEncoder", away)
    name, how = "jinaai/jina-reranker-m0", ModelConfig(revision="a" * 40, remote_code=True)
    with pytest.raises(CannotRun, match="no Hub here"):
        configurations.load(HALF, name, 64, how)
    assert (given["revision"], given["trust_remote_code"]) == ("a" * 40, True)
    with pytest.raises(CannotRun, match="only where the family names its commit"):
        configurations.load(HALF, name, 64)


def test_a_model_without_scaled_dot_product_attention_runs_with_what_it_has(tmp_path: Path, encoder: Path) -> None:
    from transformers import AutoTokenizer, DebertaV2Config, DebertaV2ForSequenceClassification

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = DebertaV2Config(vocab_size=600, num_labels=1, **shape)
    DebertaV2ForSequenceClassification(config).save_pretrained(tmp_path / "deberta")
    AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "deberta")
    plain = configurations.candidates("CPU")[0][0]
    loaded = configurations.load(plain, str(tmp_path / "deberta"), 64)
    assert loaded.attention == "eager" and np.isfinite(loaded.predict([("a", "b")], 8)).all()
    assert rerankers.load(str(tmp_path / "deberta")).attention == "eager, padded"


@pytest.mark.usefixtures("quick_latency")
def test_a_record_from_another_device_than_the_cards_require_lies_beside_theirs(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_folder)
    family = built.family()
    official = replace(family, speed=replace(family.speed, device="H100"))
    path = family.folder(built.SIZE) / "records/speed.json"
    before = path.read_bytes()
    _, other = benchmark.measure_size(official, built.SIZE, count=16)
    assert other.parent.parent == path.parent / "devices" and other.parent.name.startswith("cpu-")
    assert path.read_bytes() == before
    for device, folder in (
        ("NVIDIA GeForce RTX 3090", "records/devices/nvidia-geforce-rtx-3090"),
        ("NVIDIA H100 PCIe", "records"),
    ):
        assert folder_for(Path("records"), device, "", "H100") == Path(folder)
    assert folder_for(Path("records"), "CPU", "", None) == Path("records")  # a rehearsal's figures nobody reads


def counter(folder: Path, microjoules: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")
    return folder


def test_energy_is_read_where_there_is_a_counter(tmp_path: Path) -> None:
    first, second = counter(tmp_path / "intel-rapl:0", 1_000_000), counter(tmp_path / "intel-rapl:1", 9_000_000)
    counter(tmp_path / "intel-rapl:0:0", 5)  # a part of the first package

    def work() -> None:
        counter(first, 3_000_000)
        counter(second, 500_000)  # the counter began again at 0

    assert machine.energy(work, "CPU", powercap=tmp_path) == EnergyReading(3.5, "RAPL, 2 package(s)")
    for damaged in ("", "no number"):
        (first / "energy_uj").write_text(damaged)
        reading = machine.energy(lambda: None, "CPU", powercap=tmp_path)
        assert reading == EnergyReading(None, "not readable here: the energy counter (ValueError)")
    reading = machine.energy(lambda: pytest.fail("nothing to read"), "CPU", powercap=tmp_path / "none")
    assert reading == EnergyReading(None, "not readable here: no energy counter")


def test_a_gpus_energy_is_its_mean_power_times_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi, started = tmp_path / "nvidia-smi", tmp_path / "started"
    smi.write_text(
        f'#!/bin/sh\necho 200.0\ncase "$*" in *loop*) echo "[N/A]"; echo 400.0; touch {started}; exec sleep 60;; esac\n'
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    seconds = iter([10.0, 12.0])
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(seconds))

    def work() -> None:
        while not started.exists():
            pass

    assert machine.energy(work, "NVIDIA H100") == EnergyReading(600.0, "nvidia-smi, power every 100 ms")
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.energy(work, "NVIDIA H100").source == "not readable here: nvidia-smi gives no power"
