"""A family beside its teacher, other rerankers and its first stages, as one page of tables and plots."""

from __future__ import annotations

from pathlib import Path

from release.card import beside, page, plots, render, tables
from release.card.comparison import OURS, FamilyComparison
from release.card.formatting import MISSING
from release.family import Family
from release.files import atomic_directory, write_atomic


def write(family: Family, comparison: FamilyComparison) -> Path:
    """Draw the plots and render tables, page and what cards show into build/<family>/compare; returns the table's path."""
    with atomic_directory(family.build / "compare") as folder:
        drawn = plots.draw(comparison, family.about.title, folder)
        shown = text(family, comparison, drawn)
        write_atomic(folder / "README.md", shown)
        page.write(folder, family.about.title, shown)
        beside.write(folder, beside.of(comparison, [name for name, _ in drawn]))
    return family.build / "compare/README.md"


def text(family: Family, comparison: FamilyComparison, drawn: list[tuple[str, str]]) -> str:
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
