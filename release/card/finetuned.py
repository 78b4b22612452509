"""The card of a fine-tuned model, from its records alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from release import records, results
from release.card import formatting, provenance, render, tables
from release.errors import ReleaseError
from release.evaluation import queries
from release.names import LicenseName, TagName, WebAddress, hub_licenses, language_name, licence_mistake
from release.records import Record
from release.results.export import ExportResult, ExportSubject
from release.results.finetuning import FinetuneResult, FinetuneScores, FinetuneSubject
from release.schema import parse


@dataclass(frozen=True)
class FinetunedRelease:
    """One fine-tuned model on its way to a Hub.

    Attributes:
        output: The folder that finetune wrote; what the repository will hold is `folder`.
        id: Its repository, `organization/name`.
        tag: Its version.
        license: A licence id of the Hub; `other` has a name and a link of its own.
    """

    output: Path
    id: str
    tag: str
    license: str
    license_name: str | None = None
    license_link: str | None = None

    def __post_init__(self) -> None:
        try:
            validate_repo_id(self.id)
        except HFValidationError as error:
            raise ReleaseError(f"{self.id!r} is no repository id", hint="write organization/name") from error
        if "/" not in self.id:
            raise ReleaseError(f"{self.id!r} names no organization or user", hint="write organization/name")
        if self.license not in hub_licenses():
            raise ReleaseError(f"unknown licence {self.license!r}", hint="take an id of the Hub, such as apache-2.0")
        if mistake := licence_mistake(self.license, self.license_name, self.license_link):
            what, _ = mistake
            hint = "pass --license other with --license-name my-licence and --license-link https://..., or neither of the two"
            raise ReleaseError(what, where="--license", hint=hint)
        given: tuple[tuple[Any, str | None, str], ...] = (
            (TagName, self.tag, "--version"),
            (LicenseName, self.license_name, "--license-name"),
            (WebAddress, self.license_link, "--license-link"),
        )
        for kind, value, option in given:
            if value is not None:
                parse(cast(Any, kind), value, option, hint="as the Hub takes it")

    @property
    def folder(self) -> Path:
        """Exactly what the repository will hold, once it is staged."""
        return self.output / "repo"


@dataclass(frozen=True)
class FinetunedRecords:
    """What was measured of one fine-tuned model: the two records, and NDCG@10 of every query."""

    finetune: Record[FinetuneResult, FinetuneSubject]
    export: Record[ExportResult, ExportSubject]
    scores: FinetuneScores


def read(folder: Path, model_sha256: str) -> FinetunedRecords:
    """The records of a model in the folder `records`.

    Raises:
        ReleaseError: One is missing, damaged, or was measured on another model.
    """
    record = records.read(folder, results.FINETUNE, model_sha256=model_sha256)
    exported = records.read(folder, results.EXPORT, model_sha256=model_sha256)
    scores = queries.read_scores(folder, FinetuneScores, record.measured.queries_sha256, "finetune")
    return FinetunedRecords(record, exported, scores)


def card(release: FinetunedRelease, measured: FinetunedRecords) -> str:
    """README.md of the model."""
    record = measured.finetune
    result, subject, name = record.measured, record.subject, release.id.split("/")[1]
    on_hub = subject.base_revision is not None
    front = ModelCardData(
        license=release.license,
        license_name=release.license_name,
        license_link=release.license_link,
        library_name="sentence-transformers",
        pipeline_tag="text-ranking",
        tags=["cross-encoder", "reranker", "fine-tuned"],
        base_model=subject.base if on_hub else None,
        base_model_relation=("finetune" if result.ratio == 1 else "merge") if on_hub else None,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="text-ranking",
                dataset_type="local-test-queries",
                dataset_name=f"{subject.data} (test queries)",
                metric_type="ndcg_at_10",
                metric_name=f"NDCG@10, top {subject.top_k} of {subject.first_stage} reranked",
                metric_value=round(result.test.score, 4),
            )
        ],
    )
    body = render.render("finetuned.md.j2", **_context(release, record, measured.export.measured, name))
    return f"---\n{front.to_yaml()}\n---\n\n{render.banner()}{body}"


def _context(
    release: FinetunedRelease, record: Record[FinetuneResult, FinetuneSubject], exported: ExportResult, name: str
) -> dict[str, Any]:
    test, subject = record.measured.test, record.subject
    verdicts = {
        "WIN": "the whole interval lies above zero",
        "MARGINAL": "the interval spans zero, so on these queries no gain is shown",
        "REGRESSION": "it is worse than its base on these queries",
    }
    headline = (
        f"{test.verdict}: NDCG@10 {formatting.score(test.baseline)} → {formatting.score(test.score)} "
        f"({formatting.signed(test.delta)}, 95 % interval {formatting.signed(test.ci_low)} to {formatting.signed(test.ci_high)}) "
        f"on {formatting.count(test.queries)} test queries."
    )
    base = f"[{subject.base}](/{subject.base})" if subject.base_revision else formatting.code(subject.base)
    return {
        "title": name,
        "model_id": release.id,
        "headline": headline,
        "in_words": verdicts[test.verdict],
        "base_linked": base,
        "first_stage": f"BM25 ({language_name(subject.language)})"
        if subject.first_stage == "bm25"
        else formatting.code(subject.first_stage),
        "data_name": formatting.code(subject.data),
        "guard": formatting.cell(subject.guard),
        "command": formatting.code(record.command),
        "record": record,
        "commit": provenance.commit(record),
        "result": record.measured,
        "subject": subject,
        "export": exported,
        "trained_on": tables.device(record.machine),
        "license_linked": render.license_linked(release.license, release.license_name, release.license_link),
    }
