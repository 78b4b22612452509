"""A training plan counts on the meta device what nobody should have to guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release.__main__ import main
from release.errors import ReleaseError
from release.shapes import count, shape

ROOT = Path(__file__).resolve().parents[2]
ETTIN = ["--family", str(ROOT / "recipes/ettin.toml")]


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["plan-train", *ETTIN, *words]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_the_smallest_size_has_exactly_the_published_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, "--size", "17m", "--world", "32", "--pairs-per-second", "100")
    assert plan["encoder_parameters"] == 16_797_440
    assert plan["parameters"] == 16_797_440 + 66_305
    assert (plan["per_device_batch"], plan["steps"]) == (32, -(-143_393_475 // 1024))
    assert plan["hours"] == pytest.approx(143_393_475 / 3200 / 3600)
    assert plan["state_gb_per_device"] == pytest.approx(plan["parameters"] * 16e-9)
    kept = count(shape("jhu-clsp/ettin-encoder-17m"))["kept_per_token"]
    assert plan["activation_gb_per_device"] == pytest.approx(1.2 * kept * 256 * 32 / 1e9)  # 1.2 as measured on a GPU


@pytest.mark.parametrize(("size", "millions"), [("32m", 32), ("68m", 68), ("150m", 150), ("400m", 400), ("1b", 1000)])
def test_every_size_is_as_large_as_its_name(capsys: pytest.CaptureFixture[str], size: str, millions: int) -> None:
    assert planned(capsys, "--size", size)["parameters"] == pytest.approx(millions * 1e6, rel=0.05)


def test_more_devices_keep_less_each(capsys: pytest.CaptureFixture[str]) -> None:
    one, four = (planned(capsys, "--size", "17m", "--world", world) for world in ("1", "4"))
    assert one["activation_gb_per_device"] == pytest.approx(4 * four["activation_gb_per_device"])
    assert one["state_gb_per_device"] == four["state_gb_per_device"] and one["steps"] == four["steps"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--size", "150m", "--world", "5"), "192 does not divide by 5 devices"),
        (("--size", "2b"), "unknown size '2b'"),
        (("--size", "17m", "--world", "0"), "'--world': Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    assert main(["plan-train", *ETTIN, *words]) != 0
    shown = capsys.readouterr()
    assert says in shown.err and shown.err.count("\n") == 1 and not shown.out


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('{"model_type": "bert", "vocab_size": 250002}', "encoder of type 'bert' are not counted"),
        ('{"vocab_size": 250002}', "encoder of type None are not counted"),
        ('{"model_type": "modernbert", "hidden_size": "x"}', "no settings of a ModernBERT"),
        ('{"model_type": ', "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_an_encoder_of_another_kind_is_not_counted_as_a_modernbert(tmp_path: Path, settings: str, says: str) -> None:
    (tmp_path / "config.json").write_text(settings, encoding="utf-8")
    with pytest.raises(ReleaseError, match=says):
        shape(str(tmp_path))
