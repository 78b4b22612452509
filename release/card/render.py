"""Cards and collection from a family and its records, and from nothing else: no torch, no network, no clock."""

from __future__ import annotations

import traceback
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from release import mode, options
from release.card import acceptance, beside, claims, engines, formatting, origins, provenance, tables
from release.card.acceptance import CardRecords
from release.errors import ReleaseError
from release.family import Family, load
from release.files import RESOURCES, write_atomic
from release.names import language_name
from release.records import Record
from release.results.data import DataResult, DataSubject
from release.results.evaluation import EvaluationResult

TEMPLATES = RESOURCES / "cards"
LICENSES = {  # how a licence is named and linked on a card; the ids are the Hub's
    "apache-2.0": "the [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0)",
    "mit": "the [MIT License](https://opensource.org/license/mit)",
}


def command(size: options.Size, family_file: options.Family = options.ETTIN) -> None:
    """Render the model's card, the dataset's card and the collection, to look at before anything is staged."""
    family = load(family_file)
    folder = family.folder(size)
    measured = acceptance.card_records(family, size)
    beside.take(family, size)
    if family.data.mixture is None:  # another one has a card of its own
        write_atomic(family.build / "data/README.md", dataset_card(family, measured.data, measured.manifest))
    write_atomic(folder / "collection.yaml", collection_text(family, size, measured))
    print(write_atomic(folder / "README.md", model_card(family, size, measured)))


def environment() -> Environment:
    """Jinja with strict names and the filters of `formatting`: a misspelt name is an error, not an empty place."""
    return _environment(TEMPLATES)


@cache
def _environment(templates: Path) -> Environment:
    """Kept with its compiled templates, which take as long as everything else about a card."""
    filled = Environment(
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    filled.filters |= formatting.FILTERS | engines.FILTERS
    filled.policies["json.dumps_kwargs"] = {
        "ensure_ascii": False
    }  # YAML reads an escaped pair of surrogates as two characters
    return filled


def render(template: str, **context: Any) -> str:
    """Fill a template of `cards/`.

    Raises:
        ReleaseError: A record lacks what the template shows.
    """
    try:
        return environment().get_template(template).render(**context)
    except (TemplateError, TypeError) as error:  # TypeError: a filter met null where a number belongs
        files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
        named = [file.relative_to(TEMPLATES) for file in files if file.is_relative_to(TEMPLATES)]
        where = f"cards/{named[-1] if named else template}"
        hint = "make again what is missing: train, evaluate, speed or export"
        raise ReleaseError(f"a card shows what no record holds ({error})", where=where, hint=hint) from error


def context(family: Family, size: str, measured: CardRecords) -> dict[str, Any]:
    """What the templates of a model may name."""
    evaluate, templates = measured.evaluate.measured, environment()
    compared = origins.traced(beside.read(family, size, measured), f"records/{beside.FILE}")
    claims.check(family, size, compared)
    return {
        "family": family,
        "size": size,
        "title": f"{family.about.title} {size} {family.about.version}",
        "model_id": family.model_id(size),
        "headline": tables.headline(evaluate),
        "rows": tables.results(evaluate),
        "means": evaluate.means,
        "tally": tables.tally(evaluate),
        "bm25": measured.evaluate.subject.first_stages.get("bm25"),
        "run": measured.run.measured,
        "choice": measured.choice.measured,
        "trained": measured.run.subject,
        "trained_on": tables.device(measured.run.machine),
        "speeds": [
            {"on": tables.device(record.machine), **vars(record.measured)}
            for record in (measured.speed, *measured.further_speeds)
        ],
        "export": measured.export.measured,
        "engines": measured.engines.measured,
        "engines_on": tables.device(measured.engines.machine),
        "beside": compared,
        "link": tables.link,
        "nano": evaluate.nano,
        "nano_other_dtypes": evaluate.nano_other_dtypes,
        "calibration": evaluate.calibration,
        "data": tables.data(measured.manifest),
        "base_model": tables.base_model(measured.run.subject.encoder),
        "teacher": tables.teacher(family, linked=False),
        "teacher_linked": tables.teacher(family, linked=True),
        "stand_in": tables.is_stand_in(family),
        "language": language_name(family.about.language),
        "license_linked": license_linked(family.about.license, family.about.license_name, family.about.license_link),
        "encoder_license_linked": license_linked(family.card.encoder_license or ""),
        "notice": provenance.notice(family, templates),
        "retriever": next(filter(tables.is_hub_id, family.evaluation.embedders), None),
        "evaluated": measured.evaluate.subject,
        "log": provenance.training_log(measured.run.measured),
        "steps": provenance.steps(measured),
        "versions": measured.run.versions,
        "missing": formatting.MISSING,
        "citation": provenance.citation(family, size, measured, templates),
    }


def model_card(family: Family, size: str, measured: CardRecords) -> str:
    """README.md of a model: YAML front matter and body."""
    encoder = measured.run.subject.encoder
    front = ModelCardData(
        language=family.about.language,
        license=family.about.license,
        license_name=family.about.license_name,
        license_link=family.about.license_link,
        library_name="sentence-transformers",
        pipeline_tag="text-ranking",
        tags=["cross-encoder", "reranker", "distillation"],
        base_model=encoder if tables.is_hub_id(encoder) else None,
        base_model_relation="finetune" if tables.is_hub_id(encoder) else None,
        metrics=["ndcg_at_10"],
        datasets=[family.data_id],
        model_name=family.model_name(size),
        eval_results=eval_results(family, measured.evaluate.measured),
    )
    body = render("model.md.j2", **context(family, size, measured))
    return f"---\n{front.to_yaml()}\n---\n\n{banner()}{body}"


def eval_results(family: Family, evaluate: EvaluationResult) -> list[EvalResult]:
    """NDCG@10 per task and first stage for `model-index`.

    A dataset on the Hub goes by its id there if the record knows it; no id is invented for any other task.
    """
    entries = []
    for row in evaluate.tasks:
        local = row.task in family.evaluation.collections
        invented = f"{'local' if local else 'mteb'}-{row.task.lower()}"
        entries.append(
            EvalResult(
                task_type="text-ranking",
                dataset_type=row.dataset if row.dataset and tables.is_hub_id(row.dataset) else invented,
                dataset_revision=row.task_revision,
                dataset_name=f"{row.task} (a local collection)" if local else f"MTEB {row.task}",
                metric_type="ndcg_at_10",
                metric_name=f"NDCG@10, top {row.top_k} of {row.first_stage} reranked",
                metric_value=float(f"{row.reranked_ndcg:.4f}"),
            )
        )
    return entries


def dataset_card(family: Family, data: Record[DataResult, DataSubject], manifest: dict[str, Any]) -> str:
    """README.md of the training data: every config with its files, source and licence.

    Raises:
        ReleaseError: The manifest lacks what the card shows.
    """
    try:
        shown, info = tables.data(manifest), tables.dataset_info(manifest)
    except KeyError as error:
        where = str(family.mixture_folder / "manifest.json")
        raise ReleaseError(f"the manifest lacks {error}", where=where, hint="remove it, then make score") from error
    own = family.data.license == "other" and family.data.license_name is None  # each source has its own
    front = DatasetCardData(
        language=family.about.language,
        license=family.data.license,
        license_name="each-source-keeps-its-own" if own else family.data.license_name,
        license_link="README.md" if own else family.data.license_link,
        pretty_name=f"{family.about.title} training data",
        task_categories=["text-ranking"],
        tags=["sentence-transformers", "distillation", "reranking"],
        size_categories=[tables.size_category(shown["rows"])],
        configs=tables.configs(manifest),
        dataset_info=info,
    )
    body = render(
        "dataset.md.j2",
        family=family,
        data=shown,
        manifest=manifest,
        record=data,
        made_on=tables.device(data.machine),
        teacher_linked=tables.teacher(family, linked=True),
        stand_in=tables.is_stand_in(family),
        each_its_own=own,
        license_linked=license_linked(family.data.license, family.data.license_name, family.data.license_link),
    )
    return f"---\n{front.to_yaml()}\n---\n\n{banner()}{body}"


def license_linked(license: str, name: str | None = None, link: str | None = None) -> str:
    """A licence as a card names it, with a link where it is known; `other` has a name and a link of its own."""
    return f"[{name}]({link})" if name else LICENSES.get(license, license)


def banner() -> str:
    """What stands above every card of a rehearsal: nothing that was rehearsed is taken for a measurement."""
    return f"{mode.BANNER}\n" if mode.active() else ""


def collection_text(family: Family, size: str, measured: CardRecords) -> str:
    """The collection as YAML text: title, description and the items of this release with their notes."""
    note = data_note(family, measured.manifest)
    return render("collection.yaml.j2", **context(family, size, measured), data_note=note)


def data_note(family: Family, manifest: dict[str, Any]) -> str:
    """What the collection says of the data."""
    shown, teacher = tables.data(manifest), tables.teacher(family, linked=False)
    return render("data_note.j2", data=shown, teacher=teacher).strip()


def collection(text: str) -> dict[str, Any]:
    """The collection as publishing needs it: `title`, `description`, `items` of `type`, `id` and `note`."""
    return yaml.safe_load(text)
