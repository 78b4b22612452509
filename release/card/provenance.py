"""Where a model comes from: its training log, the commands that made and measured it, and what it asks to be cited."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment

from release.card import tables
from release.card.acceptance import CardRecords
from release.errors import ReleaseError
from release.family import Family
from release.records import Record
from release.results.training import TrainingRun


def training_log(run: TrainingRun) -> list[dict[str, Any]]:
    """One row per evaluation during training: losses, None where none was logged, and both figures of the nano sets."""
    losses: list[tuple[Any, Any]] = [(entry["step"], entry["loss"]) for entry in run.log_history if "loss" in entry]
    held_out = {checkpoint.step: checkpoint.eval_loss for checkpoint in run.checkpoints}
    return [
        {
            **vars(figures),
            "loss": next((loss for step, loss in reversed(losses) if step <= figures.step), None),
            "eval_loss": held_out.get(figures.step),
        }
        for figures in run.nano
    ]


def steps(measured: CardRecords) -> list[dict[str, str]]:
    """Every measurement in the order of the stages: which command, at which commit, on what and when."""
    named: dict[str, Record[Any, Any]] = {
        **{"score": measured.data, "train": measured.run, "select": measured.choice, "evaluate": measured.evaluate},
        **{"speed": measured.speed, "export": measured.export},
    }
    rows = [*named.items(), *(("speed", record) for record in measured.further_speeds)]
    return [
        {
            "stage": stage,
            "command": record.command,
            "commit": commit(record),
            "on": tables.device(record.machine),
            "when": record.created[:10],
        }
        for stage, record in rows
    ]


def commit(record: Record[Any, Any]) -> str:
    """At which commit a record was measured, for people; "" where there was none."""
    return record.commit[:12] + (" with changes" if record.commit.endswith("+changes") else "")


def citation(family: Family, size: str, measured: CardRecords, templates: Environment) -> str:
    """BibTeX of this model and its data, then of what the family file names, then of the library.

    Raises:
        ReleaseError: The family names an entry that is not there.
    """
    title, taken = family.about.title, family.data.mixture
    own = [
        _entry(family.model_id(size), f"{title} {size} {family.about.version}", measured.run.created[:4]),
        _entry(  # a mixture that others published is theirs, of a year that nothing here says
            family.data_id,
            taken.split("/")[1] if taken else f"{title} training data",
            None if taken else measured.data.created[:4],
            "datasets/",
        ),
    ]
    known = {
        name.split("/")[1].removesuffix(".bib") for name in templates.list_templates() if name.startswith("citations/")
    }
    for name in family.card.citations:
        if name not in known:
            hint = f"one of {', '.join(sorted(known))}, or add cards/citations/{name}.bib"
            raise ReleaseError(f"no citation {name!r}", where=f"{family.path}, key card.citations", hint=hint)
    cited = dict.fromkeys([*family.card.citations, "sentence-transformers"])
    return "\n\n".join([*own, *(templates.get_template(f"citations/{name}.bib").render().strip() for name in cited)])


def _entry(repository: str, title: str, year: str | None, kind: str = "") -> str:
    organization, key = repository.split("/")
    fields = {"title": title, "author": f"{{{organization}}}", "year": year}
    fields["url"] = f"https://huggingface.co/{kind}{repository}"
    return f"@misc{{{key},\n" + ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value) + "\n}"


def notice(family: Family, templates: Environment) -> str | None:
    """The notice that the encoders' licence asks to be kept, None where it is the models' own licence or asks for none."""
    name = f"notices/{family.card.encoder_license}.txt"
    if family.card.encoder_license == family.about.license or name not in templates.list_templates():
        return None
    if not family.card.encoder_copyright:
        hint = 'add encoder_copyright = "Copyright (c) ...", as the encoders\' licence file has it'
        raise ReleaseError("the encoders' licence has to be kept", where=f"{family.path}, table card", hint=hint)
    return templates.get_template(name).render(family=family).strip()
