"""A fine-tuned model as a release like any other: exported and compared, with a card, staged, planned, published, verified."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from release import console, mode, records, results
from release.card import formatting, render, tables
from release.errors import ReleaseError
from release.export import checkpoint, quantize
from release.export.pairs import PAIRS_FILE, read_pairs
from release.files import atomic_directory, copy_file, list_files, sha256_folder, write_atomic
from release.finetuning import possible
from release.hub import checks, plan, publish, state, verify
from release.names import LicenseName, WebAddress, hub_licenses, language_name, licence_mistake
from release.records import Record
from release.results.export import ExportResult, ExportSubject, NarrowExport, VerifySubject
from release.results.finetuning import FinetuneResult, FinetuneSubject
from release.schema import parse

KINDS = ("finetune", "export")  # records/*.json of the repository


@dataclass(frozen=True)
class FinetunedRelease:
    """One fine-tuned model on its way to a Hub.

    Attributes:
        output: The folder that finetune wrote.
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
        if not re.fullmatch(r"\w+([.-]\w+)*", self.tag, re.ASCII):
            raise ReleaseError(
                f"{self.tag!r} is no version", hint="letters, digits, '-', '_' and '.', such as v1 or v1.2"
            )
        if self.license not in hub_licenses():
            raise ReleaseError(f"unknown licence {self.license!r}", hint="take an id of the Hub, such as apache-2.0")
        if mistake := licence_mistake(self.license, self.license_name, self.license_link):
            what, _ = mistake
            hint = "pass --license other with --license-name my-licence and --license-link https://..., or neither of the two"
            raise ReleaseError(what, where="--license", hint=hint)
        given: tuple[tuple[Any, str | None, str], ...] = (
            (LicenseName, self.license_name, "--license-name"),
            (WebAddress, self.license_link, "--license-link"),
        )
        for kind, value, option in given:
            if value is not None:
                parse(cast(Any, kind), value, option, hint="as the Hub takes it")

    @property
    def repo(self) -> state.DesiredRepo:
        """The repository as it should be."""
        return state.DesiredRepo(self.id, "model", self.output / "repo", self.tag)

    def record(self) -> Record[FinetuneResult, FinetuneSubject]:
        """What was measured of the model in `output`.

        Raises:
            ReleaseError: There is none, or it was measured on another model.
        """
        sha256 = records.model_hash(self.output / "model")
        return records.read(self.output / "records", results.FINETUNE, model_sha256=sha256)


def open_release(
    output: Path,
    repo: str,
    version: str,
    license_id: str | None,
    license_name: str | None = None,
    license_link: str | None = None,
) -> FinetunedRelease:
    """What `output` holds as a release; without a licence the base model's is taken.

    Raises:
        ReleaseError: No model or record is there, a name is none, or nothing names a licence.
    """
    if not (output / "records/finetune.json").is_file():
        raise ReleaseError("no fine-tuned model", where=str(output), hint="run finetune.py first, or name its --output")
    known = license_id or records.read(output / "records", results.FINETUNE).subject.base_license
    if known is None:
        hint = "pass --license, an id of the Hub such as apache-2.0, that the base model and your data allow"
        raise ReleaseError("the base model's card names no licence", where=str(output), hint=hint)
    return FinetunedRelease(output, repo, version, known, license_name, license_link)


def check_verdict(release: FinetunedRelease, *, anyway: bool) -> None:
    """Refuse to publish a model that is worse than its base, unless the user says so.

    Raises:
        ReleaseError: It is a REGRESSION.
    """
    test = release.record().measured.test
    if test.verdict == "REGRESSION" and not anyway:
        hint = "keep the base model; or pass --publish-anyway, and the card says it"
        raise ReleaseError(f"worse than its base: {test.line}", where=str(release.output), hint=hint)


def export(release: FinetunedRelease) -> None:
    """Make `export/` from `model/`, compare every form, and write its record; one that is current is kept.

    Raises:
        ReleaseError: A form's scores differ; then nothing is left of it.
    """
    model, made = release.output / "model", release.output / "export"
    sha256 = records.model_hash(model)
    try:
        previous = records.read(release.output / "records", results.EXPORT, model_sha256=sha256)
        if made.is_dir() and sha256_folder(made) == previous.measured.sha256:
            return
    except ReleaseError:
        pass  # it is made now
    pairs = read_pairs(release.output / PAIRS_FILE)
    with console.quiet(), atomic_directory(made) as folder:
        scores, forms = checkpoint.assemble(model, folder, pairs)
        unmeasured = NarrowExport(False, "not made for a fine-tuned model", None)
        result = checkpoint.summary(folder, scores, forms, dict.fromkeys(quantize.FILES, unmeasured))
    subject = ExportSubject(dtype="float32", pairs="the test queries")
    record = records.new(results.EXPORT, family="", model_sha256=sha256, measured=result, subject=subject)
    records.write(record, release.output / "records")


def stage(release: FinetunedRelease) -> Path:
    """Put export, card and records into `repo/`, exactly as the Hub will hold them.

    Raises:
        ReleaseError: A record is missing or of another model.
    """
    export(release)
    text = card(release)
    with atomic_directory(release.output / "repo") as folder:
        for name in list_files(release.output / "export"):
            copy_file(release.output / "export" / name, folder / name)
        for kind in KINDS:
            copy_file(release.output / f"records/{kind}.json", folder / f"records/{kind}.json")
        write_atomic(folder / "README.md", text)
    if problems := list(_problems(folder := release.output / "repo")):
        what = f"{len(problems)} problem(s) in what would be published, the first: {problems[0]}"
        raise ReleaseError(what, where=str(folder), hint="run it from the folder of your data, with relative paths")
    return folder


def _problems(folder: Path) -> Iterator[str]:
    required = (*checks.MODEL_FILES, *(f"records/{kind}.json" for kind in KINDS))
    yield from checks.folder_problems(folder, required, checks.ALLOWED["model"])
    if all((folder / name).is_file() for name in checks.MODEL_FILES):
        yield from checkpoint.problems(folder)
    yield from checks.rehearsed(folder)
    for kind in KINDS:
        if not records.is_sealed(folder / f"records/{kind}.json"):
            yield f"records/{kind}.json: edited since it was measured"
    record, exported = (records.read(folder / "records", kind) for kind in (results.FINETUNE, results.EXPORT))
    yield from possible.problems(record, exported)


def card(release: FinetunedRelease) -> str:
    """README.md of the model, from its records alone."""
    record = release.record()
    exported = records.read(release.output / "records", results.EXPORT, model_sha256=record.model_sha256)
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
    body = render.render("finetuned.md.j2", **_context(release, record, exported.measured, name))
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
    base = f"[{subject.base}](/{subject.base})" if subject.base_revision else f"`{subject.base}`"
    return {
        "title": name,
        "model_id": release.id,
        "headline": headline,
        "in_words": verdicts[test.verdict],
        "base_linked": base,
        "first_stage": f"BM25 ({language_name(subject.language)})"
        if subject.first_stage == "bm25"
        else f"`{subject.first_stage}`",
        "data_name": f"`{subject.data}`",
        "result": record.measured,
        "subject": subject,
        "export": exported,
        "trained_on": tables.device(record.machine),
        "license_linked": render.license_linked(release.license, release.license_name, release.license_link),
    }


# --- On a Hub ---------------------------------------------------------------------------------------------------------


def show_plan(release: FinetunedRelease, endpoint: str | None) -> list[plan.PlanStep]:
    """Print what is to be done on the given Hub, or on an empty one without any; nothing is written there."""
    url = state.given_endpoint(endpoint)
    push, public, tags = _steps(release, state.connect(url, write=False) if url else None)
    plan.show([*push, *public, *tags], url)
    return [*push, *public, *tags]


def _steps(release: FinetunedRelease, api: Any) -> tuple[list[plan.PlanStep], list[plan.PlanStep], list[plan.PlanStep]]:
    return plan.repo_steps([release.repo], api, "--repo and --version")


def publish_verified(release: FinetunedRelease, endpoint: str | None) -> dict[str, str]:
    """Upload privately, pull back and compare, make public, tag; running it again continues. Repository -> its commit.

    Raises:
        ReleaseError: No endpoint or token, a Hub that fails, or a model that comes back different: it stays private.
    """
    api = state.connect(endpoint)
    record = release.record()
    mode.check_endpoint(str(api.endpoint), mode.active() or record.subject.smoke)
    push, _, _ = _steps(release, api)
    publish.carry_out(api, push)
    pulled = verify.pulled_back(
        [release.repo],
        release.id,
        release.output / "export",
        read_pairs(release.output / PAIRS_FILE),
        api,
    )
    subject = VerifySubject(str(api.endpoint))
    verified = records.new(
        results.VERIFY, family="", model_sha256=record.model_sha256, measured=pulled, subject=subject
    )
    records.write(verified, release.output / "records")
    commits = {name: repo.commit for name, repo in pulled.repositories.items()}
    publish.check_commits([release.repo], api, commits)
    _, public, tags = _steps(release, api)
    publish.carry_out(api, [*tags, *public])
    publish.check_finished([release.repo], api, commits)
    return commits
