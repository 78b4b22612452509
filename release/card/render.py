"""Cards and collection from a family and its records, and from nothing else: no torch, no network, no clock."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import DatasetCardData, EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from release import options, records, results
from release.card import acceptance, formatting, tables
from release.errors import ReleaseError
from release.family import Family, load
from release.files import sha256_file, write_atomic
from release.records import Record
from release.results import Kind, Result, Subject
from release.results.data import DataResult, DataSubject
from release.results.evaluation import EvaluationResult, EvaluationSubject
from release.results.export import ExportResult, ExportSubject
from release.results.speed import SpeedResult, SpeedSubject
from release.results.training import CheckpointChoice, ChoiceSubject, RunSubject, TrainingRun

TEMPLATES = Path(__file__).resolve().parents[2] / "cards"
LICENSES = {  # how a licence is named and linked on a card; the ids are the Hub's
    "apache-2.0": "the [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0)",
    "mit": "the [MIT License](https://opensource.org/license/mit)",
}
LANGUAGES = {"en": "English"}


@dataclass(frozen=True)
class Evidence:
    """Every record that a model's card rests on, and the manifest of the data it was trained on."""

    data: Record[DataResult, DataSubject]
    run: Record[TrainingRun, RunSubject]
    choice: Record[CheckpointChoice, ChoiceSubject]
    evaluate: Record[EvaluationResult, EvaluationSubject]
    speed: Record[SpeedResult, SpeedSubject]
    export: Record[ExportResult, ExportSubject]
    manifest: dict[str, Any]


def command(size: options.Size, family: options.Family = options.ETTIN) -> None:
    """Render the model's card, the dataset's card and the collection, to look at before anything is staged."""
    facts = load(family)
    folder = facts.folder(size)
    found = evidence(facts, size)
    write_atomic(facts.build / "data/README.md", dataset_card(facts, found.data, found.manifest))
    write_atomic(folder / "collection.yaml", collection_text(facts, size, found))
    print(write_atomic(folder / "README.md", model_card(facts, size, found)))


def evidence(family: Family, size: str) -> Evidence:
    """Read the records of one size and check that each belongs to this model and this family.

    Raises:
        ReleaseError: One is missing, damaged, of another model, size, protocol or device; the command that makes it.
    """
    folder = family.folder(size)
    sha256 = records.model_hash(folder / "model")

    def read(kind: Kind[Result, Subject]) -> Record[Result, Subject]:
        record = records.read(folder / "records", kind, model_sha256=sha256)
        acceptance.belonging(record, family, size, folder / "records" / f"{kind.name}.json")
        return record

    run, evaluate, speed = read(results.RUN), read(results.EVALUATE), read(results.SPEED)
    choice, export = read(results.CHOICE), read(results.EXPORT)
    acceptance.evaluation(evaluate, family, folder / "records/evaluate.json")
    acceptance.speed(speed, family, folder / "records/speed.json")
    data, manifest = data_evidence(family)
    _check_data(family, run.subject, folder / "records/run.json")
    return Evidence(data, run, choice, evaluate, speed, export, manifest)


def data_evidence(family: Family) -> tuple[Record[DataResult, DataSubject], dict[str, Any]]:
    """The record and the manifest of the family's training data.

    Raises:
        ReleaseError: One is missing, damaged or of another family.
    """
    data = records.read(family.build / "records", results.DATA)
    path = family.build / "data/mixture/manifest.json"
    if data.family != family.about.name:
        raise ReleaseError(
            f"a record of {data.family}", where=str(family.build / "records/data.json"), hint="make data"
        )
    try:
        return data, json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReleaseError("no readable manifest of the data", where=str(path), hint="make data") from error


def _check_data(family: Family, subject: RunSubject, path: Path) -> None:
    """The mixture that lies here must be the one that the model learnt from; one from a Hub is named by its commit."""
    mixture = family.build / "data/mixture"
    if Path(subject.data) != mixture:
        return
    if subject.data_revision != sha256_file(mixture / "manifest.json"):
        what = "the model was trained on other data than lies here now"
        raise ReleaseError(what, where=f"{path}, {mixture}", hint="remove the record, then make train")


def environment() -> Environment:
    """Jinja with strict names and the filters of `figures`: a misspelt name is an error, not an empty place."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    found.filters |= formatting.FILTERS
    return found


def render(template: str, **context: Any) -> str:
    """Fill a template of `cards/`.

    Raises:
        ReleaseError: A record lacks what the template shows.
    """
    try:
        return environment().get_template(template).render(**context)
    except (TemplateError, TypeError) as error:  # TypeError: a filter met null where a number belongs
        hint = "make again what is missing: train, evaluate, speed or export"
        raise ReleaseError(
            f"a card shows what no record holds ({error})", where=f"cards/{template}", hint=hint
        ) from error


def context(family: Family, size: str, found: Evidence) -> dict[str, Any]:
    """What the templates of a model may name."""
    evaluate = found.evaluate.measured
    return {
        "family": family,
        "size": size,
        "title": f"{family.about.title} {size} {family.about.version}",
        "model_id": family.model_id(size),
        "headline": tables.headline(evaluate),
        "rows": tables.results(evaluate),
        "means": evaluate.means,
        "tally": tables.tally(evaluate),
        "run": found.run.measured,
        "choice": found.choice.measured,
        "trained": found.run.subject,
        "trained_on": tables.device(found.run.machine),
        "speed": found.speed.measured,
        "speed_on": tables.device(found.speed.machine),
        "export": found.export.measured,
        "nano": evaluate.nano,
        "calibration": evaluate.calibration,
        "data": tables.data(found.manifest),
        "base_model": tables.base_model(found.run.subject.encoder),
        "teacher": tables.teacher(family, linked=False),
        "teacher_linked": tables.teacher(family, linked=True),
        "stand_in": tables.is_stand_in(family),
        "language": LANGUAGES.get(family.about.language, family.about.language),
        "license_linked": LICENSES.get(family.about.license, family.about.license),
        "citation": (TEMPLATES / "citation.bib").read_text(encoding="utf-8").strip(),
    }


def model_card(family: Family, size: str, found: Evidence) -> str:
    """README.md of a model: YAML front matter and body."""
    encoder = found.run.subject.encoder
    front = ModelCardData(
        language=family.about.language,
        license=family.about.license,
        library_name="sentence-transformers",
        pipeline_tag="text-ranking",
        tags=["cross-encoder", "reranker", "distillation"],
        base_model=encoder if tables.is_hub_id(encoder) else None,
        datasets=[family.data_id],
        model_name=family.model_name(size),
        eval_results=eval_results(family, found.evaluate.measured),
    )
    return f"---\n{front.to_yaml()}\n---\n\n{render('model.md.j2', **context(family, size, found))}"


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
                dataset_name=f"{row.task} (a local collection)" if local else f"MTEB {row.task}",
                metric_type="ndcg_at_10",
                metric_name=f"NDCG@10, top {row.top_k} of {row.first_stage} reranked",
                metric_value=round(row.reranked_ndcg, 4),
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
        where = str(family.build / "data/mixture/manifest.json")
        raise ReleaseError(f"the manifest lacks {error}", where=where, hint="remove it, then make data") from error
    other = family.data.license == "other"
    front = DatasetCardData(
        language=family.about.language,
        license=family.data.license,
        license_name="each-source-keeps-its-own" if other else None,
        license_link="README.md" if other else None,
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
        license_linked=LICENSES.get(family.data.license, family.data.license),
    )
    return f"---\n{front.to_yaml()}\n---\n\n{body}"


def collection_text(family: Family, size: str, found: Evidence) -> str:
    """The collection as YAML text: title, description and the items of this release with their notes."""
    return render("collection.yaml.j2", **context(family, size, found))


def collection(text: str) -> dict[str, Any]:
    """The collection as publishing needs it: `title`, `description`, `items` of `type`, `id` and `note`."""
    return yaml.safe_load(text)
