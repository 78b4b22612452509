"""The nano sets on a card: both figures under their names, marked sets, and the dtype of each."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from release.card import render
from release.results.evaluation import NanoMeans, NanoResult

EVERY, FOUND = NanoMeans(0.61, {"NanoA": 0.6, "NanoB": 0.62}), NanoMeans(0.81, {"NanoA": 0.8, "NanoB": 0.82})
NANO = NanoResult(
    "nano",
    "f" * 40,
    FOUND.sets,
    FOUND.mean,
    0.5,
    "100 candidates; NDCG@10 over the positives among them; not comparable with base",
    always_rerank_positives=False,
    all_positives=EVERY,
    retrieved_positives=FOUND,
    in_domain=("NanoB",),
    dtype="float32",
)


def shown(nano: NanoResult, *others: NanoResult) -> str:
    trained = SimpleNamespace(always_rerank_positives=True)  # as of the run, whatever the evaluation says
    return render.render("sections/nano.md.j2", nano=nano, nano_other_dtypes=others, trained=trained)


def test_both_figures_stand_under_their_names_and_sets_of_the_same_origin_are_marked() -> None:
    text = shown(NANO)
    assert "Mean 0.610 (True), 0.810 (False) over 2 sets" in text
    assert "| NanoA | 0.600 | 0.800 |" in text and "| NanoB † | 0.620 | 0.820 |" in text
    assert "Measured in float32.\n\n†" in text and "`True` chose the checkpoint" in text


def test_another_dtype_stands_beside_the_familys() -> None:
    every, retrieved = replace(EVERY, mean=0.607), replace(FOUND, mean=0.809)
    coarse = replace(NANO, dtype="bfloat16", all_positives=every, retrieved_positives=retrieved)
    assert "In bfloat16 the means are 0.607 (True) and 0.809 (False).\n\n" in shown(NANO, coarse)


def test_a_record_from_before_shows_its_one_figure() -> None:
    old = NanoResult("nano", "f" * 40, FOUND.sets, FOUND.mean, 0.5, "100 candidates")
    text = shown(old)
    assert "Mean 0.810 over 2 sets" in text and "Measured in" not in text
