"""The benchmarks of random weights measure three ways to score that give the same scores, and refuse to time anything else."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from benchmarks import bench_unpadded, matrix_rate, padded_varlen, shapes

PAIRS = shapes.question_pairs(40)


def test_the_last_line_holds_every_side(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(matrix_rate, "gemm_rate", lambda dtype: 1e12)  # seconds of measuring
    bench_unpadded.main(["--shape", "tiny", "--pairs", "24", "--batch", "4", "8", "--rounds", "1"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [name[:3] for name in line["sides"]] == ["(a)", "(b)", "(c)"]
    assert line["ratio"] > 0 and line["peak_mb"] > 0 and line["max_score_difference_float32"] < 1e-6
    assert all(side["cpu_seconds"] > 0 and side["batch"] in (4, 8) for side in line["sides"].values())
    if not torch.cuda.is_available():
        assert (
            line["ratio_one_thread"] > 0
            and 0 < line["share"] < 1
            and line["sides_one_thread"].keys() == line["sides"].keys()
        )
    with pytest.raises(SystemExit, match="2"):
        bench_unpadded.main(["--shape", "tiny", "--rounds", "0"])
    assert line["device"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU")


def test_another_score_is_no_speed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = shapes.classifier

    def wrong(*given: object) -> object:
        model = right(*given)  # ty: ignore[invalid-argument-type]
        torch.nn.init.normal_(model[0].model.classifier.weight)
        return model

    monkeypatch.setattr(shapes, "classifier", wrong)
    with pytest.raises(SystemExit, match="1"):
        bench_unpadded.main(["--shape", "tiny", "--pairs", "24", "--rounds", "1"])
    assert "float32 scores are" in capsys.readouterr().err


def test_pairs_are_as_long_as_questions_with_their_passages() -> None:
    pairs = shapes.question_pairs(2000)
    model = shapes.modular(shapes.tiny_shapes()["tiny"], "cpu")
    ids = model.tokenizer(*map(list, zip(*pairs, strict=True)), truncation=True)["input_ids"]
    assert np.mean([len(row) for row in ids]) == pytest.approx(shapes.mean_tokens(pairs), rel=0.01)
    assert shapes.mean_tokens(pairs) == pytest.approx(133, rel=0.03)
    assert shapes.question_pairs(40) == PAIRS


def test_the_six_shapes_are_the_familys() -> None:
    published = shapes.published_shapes()
    assert {name: shape.batch for name, shape in published.items()} == {
        "17m": 1024, "32m": 512, "68m": 256, "150m": 192, "400m": 256, "1b": 512,
    }  # fmt: skip
    assert published["1b"].config.hidden_size == 1792 and published["150m"].config.num_hidden_layers == 22


def test_padding_taken_out_for_attention_alone_changes_no_score() -> None:
    shape = shapes.tiny_shapes()["tiny"]
    padded_varlen.register()
    plain = shapes.classifier(shapes.modular(shape, "cpu"), shape, "cpu")
    scores = plain.predict(PAIRS, batch_size=8)
    plain[0].model.set_attn_implementation(padded_varlen.NAME)
    np.testing.assert_allclose(plain.predict(PAIRS, batch_size=8), scores, atol=1e-6)
