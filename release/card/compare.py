"""`make compare`: a family beside its teacher, other rerankers and its first stages, as one page of tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from release import options
from release.card import beside, page, plots, render, tables
from release.card.comparison import OURS, Comparison, gather
from release.card.formatting import MISSING
from release.compared import measure_missing
from release.console import print_json, table
from release.family import Family, load
from release.files import atomic_directory, write_atomic
from release.preflight.machine import has_device


def command(
    family_file: options.Family = options.ETTIN,
    measure: Annotated[bool, typer.Option(help="Measure what no record shows yet, on the family's device.")] = True,
) -> None:
    """Measure what is missing, and write the family's tables and plots to build/<family>/compare: README.md, index.html."""
    family = load(family_file)
    if measure and has_device(family):
        measure_missing(family)
    elif measure:
        print(f"nothing is measured here: a card of this family shows {family.speed.device}")
    comparison = gather(family)
    path = write(family, comparison)
    for line in comparison.left_out:
        print(f"left out: {line}")
    rows = [[model.name, model.reranked_ndcg, model.pairs_per_second, model.parameters] for model in comparison.models]
    shown = [[MISSING if cell is None else cell for cell in row] for row in rows]
    table(f"{family.about.title}: mean NDCG@10", ["model", "reranked", "pairs/s", "parameters"], shown)
    keys = ["name", "quality", "pairs_per_second", "parameters"]
    models = [dict(zip(keys, row, strict=True)) for row in rows]
    report = {"report": str(path), "page": str(path.with_name(page.FILE))}
    print_json({"models": models, "left_out": len(comparison.left_out), **report})


def write(family: Family, comparison: Comparison) -> Path:
    """Draw the plots and render tables, page and what cards show into build/<family>/compare; returns the table's path."""
    with atomic_directory(family.build / "compare") as folder:
        drawn = plots.draw(comparison, family.about.title, folder)
        shown = text(family, comparison, drawn)
        write_atomic(folder / "README.md", shown)
        page.write(folder, family.about.title, shown)
        beside.write(folder, beside.of(comparison, [name for name, _ in drawn]))
    return family.build / "compare/README.md"


def text(family: Family, comparison: Comparison, drawn: list[tuple[str, str]]) -> str:
    """The comparison as Markdown.

    Args:
        drawn: (file name without variant and ending, what it shows) of every plot beside it.
    """
    evaluate, speed = comparison.evaluate, comparison.speed
    means = [model.means for model in comparison.models if model.means]
    return render.banner() + render.render(
        "compare.md.j2",
        family=family,
        comparison=comparison,
        drawn=drawn,
        tasks=list(dict.fromkeys(row.task for row in evaluate.measured.tasks)) if evaluate else [],
        marked=any(mean.in_domain and mean.out_of_domain for mean in means),
        speed_on=tables.device(speed.machine) if speed else None,
        teacher_linked=tables.teacher(family, linked=True),
        link=tables.link,
        missing=MISSING,
        ours=OURS,
    )
