"""The comparison as plots, each for light and dark pages, as PNG and SVG; the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from release.card.comparison import COMPARED, OURS, TEACHER, ComparedModel, FamilyComparison
from release.files import write_atomic
from release.results.evaluation import MeanResult

MARKS = {OURS: "o", TEACHER: "D", COMPARED: "s"}
SIZES = {OURS: 42, TEACHER: 40, COMPARED: 24}
PANELS = 3  # first stages beside each other
Point = tuple[float, float, ComparedModel]


@dataclass(frozen=True)
class Look:
    """The colours of one variant: they stand on a transparent ground."""

    text: str
    grid: str
    colours: dict[str, str]


LOOKS = {
    "light": Look("#1f2328", "#e1e6eb", {OURS: "#0a58ca", TEACHER: "#b54708", COMPARED: "#6e7781"}),
    "dark": Look("#e6edf3", "#30363d", {OURS: "#58a6ff", TEACHER: "#f0883e", COMPARED: "#9198a1"}),
}


def draw(comparison: FamilyComparison, title: str, folder: Path) -> list[tuple[str, str]]:
    """Write every plot that the records allow to `folder`.

    Args:
        title: What the family is called in the legends.

    Returns:
        (file name without variant and ending, what it shows) of each plot: `<name>-light.svg` is one of its four files.
    """
    compared = [model for model in comparison.models if model.reranked_ndcg is not None]
    against_speed = [model for model in compared if model.published_pairs_per_second]
    against_parameters = [model for model in compared if model.parameters]
    plots: list[tuple[str, str, Callable[[Look], Figure]]] = []
    if comparison.first_stages:
        caption = "NDCG@10 over every first stage, with the gain's 95 % interval; dashed: the first stage itself"
        plots.append(("first-stages", caption, lambda look: _first_stages(comparison, title, look)))
    if against_speed:
        caption = "Mean NDCG@10 against pairs per second with the public libraries alone; the line is the Pareto front"
        plots.append(("speed", caption, lambda look: _speed(comparison, against_speed, title, look)))
    if against_parameters:
        caption = "Mean NDCG@10 against parameters"
        plots.append(("parameters", caption, lambda look: _parameters(comparison, against_parameters, title, look)))
    for name, _, make in plots:
        for variant, look in LOOKS.items():
            with matplotlib.rc_context(_settings(look)):
                _save(make(look), folder / f"{name}-{variant}")
    return [(name, caption) for name, caption, _ in plots]


def _settings(look: Look) -> Any:  # the keys are matplotlib's: its own type lists them all
    lines = ("axes.edgecolor", "grid.color", "xtick.color", "ytick.color", "legend.edgecolor")
    keys = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor", "axes.titlecolor")
    return {
        **dict.fromkeys(lines, look.grid),
        **dict.fromkeys(keys, look.text),
        "font.size": 9,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "svg.fonttype": "none",  # labels stay text: searchable, and small
        "svg.hashsalt": "compare",  # otherwise ids, and with them the bytes, differ from run to run
    }


def _save(figure: Figure, path: Path) -> None:
    for form, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 160, "metadata": {"Software": None}})):
        drawn = BytesIO()
        figure.savefig(drawn, format=form, transparent=True, **options)
        write_atomic(path.with_suffix(f".{form}"), drawn.getvalue())


def _first_stages(comparison: FamilyComparison, title: str, look: Look) -> Figure:
    """A panel per first stage, a row per model: points with intervals, and the first stage as a dashed line."""
    models = [model for model in reversed(comparison.models) if model.means]
    across = min(PANELS, len(comparison.first_stages))
    down = -(-len(comparison.first_stages) // across)
    # Space, so that a panel's title is not taken for the name of the axis above it.
    layout = ConstrainedLayoutEngine(hspace=0.04)
    figure = Figure(figsize=(2.2 + 2.7 * across, down * (0.9 + 0.22 * len(models))), layout=layout)
    panels = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for panel, (stage, mean) in zip(panels, comparison.first_stages.items(), strict=False):
        for row, model in enumerate(models):
            assert model.means is not None
            _interval(panel, row, model.means.first_stages[stage], model.role, look)
        panel.axvline(mean.first_stage_ndcg, color=look.text, linestyle="--", linewidth=1)
        panel.set_title(stage.split("/")[-1], fontsize=9, loc="left")
        panel.set_yticks(range(len(models)), [model.label for model in models])
        panel.set_ylim(-0.6, len(models) - 0.4)
        panel.margins(x=0.08)
    for panel in panels[len(comparison.first_stages) :]:
        panel.set_visible(False)
    figure.supxlabel("NDCG@10", fontsize=9)
    _legend(figure, panels[0], models, title, look, "first stage")
    return figure


def _interval(panel: Axes, row: int, mean: MeanResult, role: str, look: Look) -> None:
    colour = look.colours[role]
    ends = [mean.first_stage_ndcg + mean.ci_low, mean.first_stage_ndcg + mean.ci_high]
    panel.plot(ends, [row, row], color=colour, linewidth=1.4, alpha=0.6, solid_capstyle="round")
    panel.scatter(mean.reranked_ndcg, row, marker=MARKS[role], s=0.7 * SIZES[role], color=colour, zorder=3)


def _speed(comparison: FamilyComparison, models: list[ComparedModel], title: str, look: Look) -> Figure:
    """By the published rule for every model: what this project makes faster is no merit of a model."""
    points = [(model.published_pairs_per_second or 0.0, model.reranked_ndcg or 0.0, model) for model in models]
    figure, panel = _points(comparison, points, "pairs per second, public libraries alone", look)
    best = pareto_front([(x, y) for x, y, _ in points])
    panel.plot(*zip(*best, strict=True), color=look.text, linewidth=1, alpha=0.5, zorder=1, label="Pareto front")
    _legend(figure, panel, models, title, look, "first stages")
    _labels(figure, panel, points, best, look)
    return figure


def _parameters(comparison: FamilyComparison, models: list[ComparedModel], title: str, look: Look) -> Figure:
    points = [(float(model.parameters or 0), model.reranked_ndcg or 0.0, model) for model in models]
    figure, panel = _points(comparison, points, "parameters", look)
    ours = sorted((x, y) for x, y, model in points if model.role == OURS)
    if len(ours) > 1:
        panel.plot(*zip(*ours, strict=True), color=look.colours[OURS], linewidth=1, alpha=0.5, zorder=1)
    _legend(figure, panel, models, title, look, "first stages")
    _labels(figure, panel, points, ours, look)
    return figure


def pareto_front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front: points that no other beats in one coordinate without losing in the other, by the first."""
    best: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best[::-1]


def _points(comparison: FamilyComparison, points: list[Point], along: str, look: Look) -> tuple[Figure, Axes]:
    """Quality against something on a logarithmic scale."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    panel = figure.add_subplot()
    panel.set_xscale("log")
    for x, y, model in points:
        panel.scatter(x, y, marker=MARKS[model.role], s=SIZES[model.role], color=look.colours[model.role], zorder=3)
    if comparison.evaluate:
        panel.axhline(
            comparison.evaluate.measured.means.all.first_stage_ndcg, color=look.text, linestyle="--", linewidth=1
        )
    panel.margins(x=0.16, y=0.12)
    panel.set_xlabel(along)
    panel.set_ylabel("mean NDCG@10")
    _name_ticks(panel, [x for x, _, _ in points])
    return figure, panel


def _name_ticks(panel: Axes, values: list[float]) -> None:
    """Ticks at 1, 2 and 5 of every decade (all of them where the values lie close), in words that people read."""
    near = max(values) < 8 * min(values)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if near else (1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    panel.xaxis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """A large number for an axis: 17M, 1.5B, 300."""
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}"


def _labels(figure: Figure, panel: Axes, points: list[Point], line: list[tuple[float, float]], look: Look) -> None:
    """A label at each point, ours first, each at the first position around its point that is free and inside the panel.

    Args:
        line: Where a line runs from point to point; no label is written across it.
    """
    figure.draw_without_rendering()  # only now are the panel's pixels known
    pixels = panel.transData.transform
    taken = [_around(spot, 5) for spot in pixels([(x, y) for x, y, _ in points])]
    for start, end in pairwise(pixels(line) if len(line) > 1 else []):
        steps = max(2, int(np.hypot(*(end - start)) / 3))
        taken += [_around(spot, 1.5) for spot in np.linspace(start, end, steps)]
    for x, y, model in sorted(points, key=lambda point: list(MARKS).index(point[2].role)):
        weight = "bold" if model.role == OURS else "normal"
        style: dict[str, Any] = {"fontsize": 8, "color": look.colours[model.role], "fontweight": weight}
        for (right, up), (horizontal, vertical) in _AROUND:
            label = panel.annotate(
                model.label, (x, y), (right, up), textcoords="offset points", ha=horizontal, va=vertical, **style
            )
            box = label.get_window_extent()
            inside = panel.bbox.x0 <= box.x0 and box.x1 <= panel.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()  # where no position is free, only the table names the point


def _around(spot: np.ndarray, half: float) -> Bbox:
    return Bbox([spot - half, spot + half])


_AROUND = [  # offsets in points, with the corner of the label that is there
    ((6, 0), ("left", "center")),
    ((0, 6), ("center", "bottom")),
    ((0, -6), ("center", "top")),
    ((-6, 0), ("right", "center")),
    ((5, 5), ("left", "bottom")),
    ((5, -5), ("left", "top")),
    ((-5, 5), ("right", "bottom")),
    ((-5, -5), ("right", "top")),
    ((0, 16), ("center", "bottom")),
    ((0, -16), ("center", "top")),
    ((12, 12), ("left", "bottom")),
    ((12, -12), ("left", "top")),
]


def _legend(figure: Figure, panel: Axes, models: list[ComparedModel], title: str, look: Look, dashed: str) -> None:
    """Only what the plot shows, above it."""
    labels, shown = {OURS: title, TEACHER: "teacher", COMPARED: "other rerankers"}, {model.role for model in models}
    for role in (role for role in MARKS if role in shown):
        panel.scatter([], [], marker=MARKS[role], s=SIZES[role], color=look.colours[role], label=labels[role])
    panel.plot([], [], color=look.text, linestyle="--", linewidth=1, label=dashed)
    handles, names = panel.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=5, fontsize=8)
