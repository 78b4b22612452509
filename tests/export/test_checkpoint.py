"""A release loads the same in every form, in older readers too, and after a difference nothing is left."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from release import records, results
from release.card import acceptance, render
from release.errors import ReleaseError
from release.export import checkpoint, dual_root, graph, parity, quantize
from release.files import write_json
from release.hub import checks
from release.results.export import NarrowExport
from release.runtime.cpu_engines import onnxruntime
from tests import built


@pytest.fixture(scope="module")
def folder(reranker: Path) -> Path:
    """What belongs to one size in a build folder, with an exported model."""
    return built.template(reranker) / built.family().folder(built.SIZE)


def test_every_form_scores_like_the_trained_model(folder: Path) -> None:
    record = records.read(folder / "records", results.EXPORT, model_sha256=records.model_hash(folder / "model"))
    rows = {row.form: row for row in record.measured.forms}
    assert set(rows) == set(parity.SCORERS)
    assert all(row.max_score_difference <= row.tolerance for row in rows.values())
    low, high = record.measured.score_range
    assert record.measured.pairs == 64 and high - low > 0.1  # scores that differ, or equality says nothing


def test_the_onnx_file_takes_any_batch_and_length(folder: Path) -> None:
    pairs = [("tar", "archive"), ("a b c " * 60, "d " * 200), ("x", "y")]
    expected = parity.cross_encoder(str(folder / "model"), pairs)
    assert parity.onnx(str(folder / "export"), pairs) == pytest.approx(expected, abs=1e-4)
    assert b".py" not in (folder / "export/onnx/model.onnx").read_bytes()  # no stack traces of this machine


def test_a_reranker_that_pools_the_mean_of_all_tokens_is_exported_too(reranker: Path, tmp_path: Path) -> None:
    model, output = shutil.copytree(reranker, tmp_path / "model"), tmp_path / "export"
    pooling = json.loads((model / "1_Pooling/config.json").read_text(encoding="utf-8"))
    write_json(model / "1_Pooling/config.json", pooling | {"pooling_mode": "mean"})
    result = checkpoint.export_any(str(model), output)
    assert all(form.max_score_difference <= form.tolerance for form in result.forms)
    assert "Pooling (mean of all tokens)" in result.architecture.modules
    assert list(checkpoint.problems(output)) == list(checkpoint.changes(model, output)) == []
    pairs = [("tar", "archive"), ("a b c " * 60, "d " * 200)]
    expected = parity.cross_encoder(str(model), pairs)
    assert parity.onnx(str(output), pairs) == pytest.approx(expected, abs=1e-4)
    assert expected != pytest.approx(parity.cross_encoder(str(reranker), pairs), abs=1e-2)


def test_a_form_that_differs_stops_the_chain_and_leaves_nothing(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    family = built.family()
    built.write_mixture(family.build / "data")
    built.write_model(family.folder(built.SIZE), reranker)
    fold = dual_root.folded_head
    forgotten = lambda *given: fold(*given) | {"classifier.bias": given[2]["linear.bias"]}  # noqa: E731
    monkeypatch.setattr(dual_root, "folded_head", forgotten)
    monkeypatch.setattr(graph, "whole_onnx", lambda folder: (folder / "onnx").mkdir())
    monkeypatch.setattr(graph, "changed_weights", lambda _: ())
    with pytest.raises(ReleaseError, match=r"AutoModelForSequenceClassification scores differ .* by 0\.\d+"):
        checkpoint.export(family, built.SIZE)
    assert [path.name for path in family.folder(built.SIZE).iterdir()] == ["model"]


def test_what_is_missing_is_named_with_its_command(
    tmp_path: Path, reranker: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    family = built.family()
    with pytest.raises(ReleaseError, match=r"no model.*make train"):
        checkpoint.export(family, built.SIZE)
    built.write_model(family.folder(built.SIZE), reranker)
    with pytest.raises(ReleaseError, match=r"no scored pairs.*make score"):
        checkpoint.export(family, built.SIZE)
    with pytest.raises(ReleaseError, match=r"no modules\.json.*make train"):
        dual_root.dual_root(encoder, tmp_path / "out")


def test_narrower_files_are_released_only_if_their_measured_ndcg_allows_it(
    tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = built.workspace(tmp_path, reranker, monkeypatch)
    records_, folder = family.folder(built.SIZE) / "records", family.folder(built.SIZE) / "export"
    unmeasured = NarrowExport(False, "'docstrings' is not here to measure NDCG@10 on", None)
    measured = records.read(records_, results.EXPORT).measured
    assert measured.int8 == unmeasured and measured.fp16 == unmeasured
    built.write_collection(family.build / "data/collections/docstrings")
    unjudged = quantize.add_narrow(family, folder, 0.0)["fp16"]
    why = "not judged: NDCG@10 on 797 pairs would take about "
    assert unjudged.reason is not None and unjudged.reason.startswith(why) and not unjudged.released
    assert [path.name for path in folder.glob("onnx/*")] == ["model.onnx"]
    monkeypatch.setattr(quantize, "ALLOWED", -1.0)  # it would have to gain 1
    for narrow in quantize.add_narrow(family, folder).values():
        assert not narrow.released and narrow.reason is not None and narrow.reason.startswith("NDCG@10 changes by ")
    assert [path.name for path in folder.glob("onnx/*")] == ["model.onnx"]

    monkeypatch.setattr(quantize, "ALLOWED", 1.0)
    narrow, pairs = quantize.add_narrow(family, folder), built.docstrings()[:16]
    for dtype, share, largest in (("int8", 0.5, 1.0), ("fp16", 0.6, 0.05)):
        quality = narrow[dtype].measured
        assert narrow[dtype].released and quality is not None and quality.queries == 80
        assert quality.change == pytest.approx(quality.ndcg - quality.float32_ndcg)
        assert quality.ci_low <= quality.change <= quality.ci_high
        assert quality.bytes < share * (folder / "onnx/model.onnx").stat().st_size
        difference = onnxruntime(folder, dtype).predict(pairs) - onnxruntime(folder, "fp32").predict(pairs)
        assert 0 < abs(difference).max() < largest
    assert not list(graph.problems(folder))

    shutil.rmtree(family.build / "data/collections")  # the hand-made evaluation is of another one
    entries = {"int8": asdict(narrow["int8"]), "fp16": asdict(unjudged)}
    built.edit(records_ / "export.json", lambda record: record["measured"].update(entries))
    shown = checks.split_card(render.model_card(family, built.SIZE, acceptance.card_records(family, built.SIZE)))[1]
    assert "`onnx/model_quantized.onnx` is the ONNX file with 8-bit weights" in shown
    assert f"No ONNX file in 16 bits is released: {why}" in shown
