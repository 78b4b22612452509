"""The comparison as plots, each for light and dark pages, as PNG and SVG; the same records give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from release.compare import COMPARED, OURS, TEACHER, Comparison, Model

MARKS = {OURS: "o", TEACHER: "D", COMPARED: "s"}
SIZES = {OURS: 42, TEACHER: 40, COMPARED: 24}
PANELS = 3  # first stages beside each other


@dataclass(frozen=True)
class Look:
    """The colours of one variant: they stand on a transparent ground."""

    text: str
    grid: str
    colours: dict[str, str]


LOOKS = {
    "light": Look("#1f2328", "#d8dee4", {OURS: "#0a58ca", TEACHER: "#b54708", COMPARED: "#6e7781"}),
    "dark": Look("#e6edf3", "#3d444d", {OURS: "#58a6ff", TEACHER: "#f0883e", COMPARED: "#9198a1"}),
}


def draw(found: Comparison, title: str, folder: Path) -> list[tuple[str, str]]:
    """Write every plot that the records allow to `folder`.

    Args:
        title: What the family is called in the legends.

    Returns:
        (file name without variant and ending, what it shows) of each plot: `<name>-light.svg` is one of its four files.
    """
    against_speed = [model for model in found.models if model.quality is not None and model.pairs_per_second]
    against_parameters = [model for model in found.models if model.quality is not None and model.parameters]
    plots: list[tuple[str, str, Callable[[Look], Figure]]] = []
    if found.alone:
        caption = "NDCG@10 behind every first stage, with the gain's 95 % interval; dashed: the first stage alone"
        plots.append(("first-stages", caption, lambda look: _first_stages(found, title, look)))
    if against_speed:
        caption = "Mean NDCG@10 against pairs per second; the line is the Pareto front"
        plots.append(("speed", caption, lambda look: _speed(found, against_speed, title, look)))
    if against_parameters:
        caption = "Mean NDCG@10 against parameters"
        plots.append(("parameters", caption, lambda look: _parameters(found, against_parameters, title, look)))
    for name, _, make in plots:
        for variant, look in LOOKS.items():
            with matplotlib.rc_context(_settings(look)):
                _save(make(look), folder / f"{name}-{variant}")
    return [(name, caption) for name, caption, _ in plots]


def _settings(look: Look) -> Any:  # the keys are matplotlib's: its own type lists them all
    lines = ("axes.edgecolor", "grid.color", "xtick.color", "ytick.color", "legend.edgecolor")
    words = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor", "axes.titlecolor")
    return {
        **dict.fromkeys(lines, look.grid),
        **dict.fromkeys(words, look.text),
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
    figure.savefig(path.with_suffix(".svg"), transparent=True, bbox_inches="tight", metadata={"Date": None})
    figure.savefig(
        path.with_suffix(".png"), transparent=True, bbox_inches="tight", dpi=160, metadata={"Software": None}
    )


def _first_stages(found: Comparison, title: str, look: Look) -> Figure:
    """A panel per first stage, a row per model: points with intervals, and the first stage alone as a dashed line."""
    models = [model for model in reversed(found.models) if model.stages]
    across = min(PANELS, len(found.alone))
    down = -(-len(found.alone) // across)
    figure = Figure(figsize=(2.2 + 2.7 * across, down * (0.9 + 0.22 * len(models))), layout="constrained")
    panels = figure.subplots(down, across, sharey=True, squeeze=False).flatten()
    for panel, (stage, alone) in zip(panels, found.alone.items(), strict=False):
        for place, model in enumerate(models):
            _interval(panel, place, model, stage, look)
        panel.axvline(alone, color=look.text, linestyle="--", linewidth=1)
        panel.set_title(stage.split("/")[-1], fontsize=9, loc="left")
        panel.set_yticks(range(len(models)), [model.label for model in models])
        panel.set_ylim(-0.6, len(models) - 0.4)
        panel.margins(x=0.08)
    for panel in panels[len(found.alone) :]:
        panel.set_visible(False)
    figure.supxlabel("NDCG@10", fontsize=9)
    _legend(figure, panels[0], models, title, look, "first stage alone")
    return figure


def _interval(panel: Axes, place: int, model: Model, stage: str, look: Look) -> None:
    measured, colour = model.stages[stage], look.colours[model.role]
    ends = [measured["first_stage"] + measured[end] for end in ("ci_low", "ci_high")]
    panel.plot(ends, [place, place], color=colour, linewidth=1.4, alpha=0.6, solid_capstyle="round")
    panel.scatter(
        measured["reranked"], place, marker=MARKS[model.role], s=0.7 * SIZES[model.role], color=colour, zorder=3
    )


def _speed(found: Comparison, models: list[Model], title: str, look: Look) -> Figure:
    figure, panel = _points(found, models, lambda model: model.pairs_per_second, look)
    best = front([(model.pairs_per_second or 0.0, model.quality or 0.0) for model in models])
    panel.plot(*zip(*best, strict=True), color=look.text, linewidth=1, alpha=0.5, zorder=1, label="Pareto front")
    panel.set_xlabel("pairs per second")
    _legend(figure, panel, models, title, look, "first stages alone")
    return figure


def _parameters(found: Comparison, models: list[Model], title: str, look: Look) -> Figure:
    figure, panel = _points(found, models, lambda model: model.parameters, look)
    ours = [(model.parameters, model.quality) for model in models if model.role == OURS]
    if len(ours) > 1:
        panel.plot(*zip(*sorted(ours), strict=True), color=look.colours[OURS], linewidth=1, alpha=0.5, zorder=1)
    panel.set_xlabel("parameters")
    _legend(figure, panel, models, title, look, "first stages alone")
    return figure


def front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front: points that no other beats in one coordinate without losing in the other, by the first."""
    kept: list[tuple[float, float]] = []
    for point in sorted(set(points), reverse=True):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept[::-1]


def _points(
    found: Comparison, models: list[Model], along: Callable[[Model], float | None], look: Look
) -> tuple[Figure, Axes]:
    """Quality against something on a logarithmic scale, each point with its label."""
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    panel = figure.add_subplot()
    panel.set_xscale("log")
    points = [(along(model) or 0.0, model.quality or 0.0, model) for model in models]
    for x, y, model in points:
        panel.scatter(x, y, marker=MARKS[model.role], s=SIZES[model.role], color=look.colours[model.role], zorder=3)
    if found.alone_mean is not None:
        panel.axhline(found.alone_mean, color=look.text, linestyle="--", linewidth=1)
    panel.margins(x=0.16, y=0.12)
    panel.set_ylabel("mean NDCG@10")
    _name_ticks(panel, [x for x, _, _ in points])
    _labels(figure, panel, points, look)
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


def _labels(figure: Figure, panel: Axes, points: list[tuple[float, float, Model]], look: Look) -> None:
    """A label at each point, ours first, each at the first place around its point that is still free."""
    figure.draw_without_rendering()
    spots = panel.transData.transform([(x, y) for x, y, _ in points])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in spots]
    order = sorted(points, key=lambda point: [OURS, TEACHER, COMPARED].index(point[2].role))
    for x, y, model in order:
        weight = "bold" if model.role == OURS else "normal"
        words: dict[str, Any] = {"fontsize": 8, "color": look.colours[model.role], "fontweight": weight}
        for (right, up), (horizontal, vertical) in _AROUND:
            label = panel.annotate(
                model.label, (x, y), (right, up), textcoords="offset points", ha=horizontal, va=vertical, **words
            )
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
            label.remove()
        else:
            continue  # a crowd: the table names it
        taken.append(box)


_AROUND = [  # offsets in points, with the corner of the label that lies there
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


def _legend(figure: Figure, panel: Axes, models: list[Model], title: str, look: Look, dashed: str) -> None:
    """Only what the plot shows, above it."""
    words = {OURS: title, TEACHER: "teacher", COMPARED: "other rerankers"}
    for role in dict.fromkeys(model.role for model in models):
        panel.scatter([], [], marker=MARKS[role], s=SIZES[role], color=look.colours[role], label=words[role])
    panel.plot([], [], color=look.text, linestyle="--", linewidth=1, label=dashed)
    handles, names = panel.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=5, fontsize=8)
