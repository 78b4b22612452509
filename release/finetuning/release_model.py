"""A fine-tuned model as a release like any other: exported and compared, staged, planned, published, verified."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from release import console, mode, records, results
from release.card import finetuned as cards
from release.card.finetuned import FinetunedRecords, FinetunedRelease
from release.errors import ReleaseError
from release.export import checkpoint, portable, quantize
from release.export.pairs import PAIRS_FILE, read_pairs
from release.files import atomic_directory, sha256_folder
from release.hub import committed, finetuned, plan, publish, state, verify
from release.hub import stage as stages
from release.hub.steps import PlanStep, Ways
from release.results.export import ExportSubject, NarrowExport, VerifySubject

WAYS = Ways(another="publish it under another name: what is released never changes")


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


def check_verdict(release: FinetunedRelease, *, anyway: bool) -> str:
    """Refuse to publish a model that is worse than its base, unless the user says so. Returns the verdict.

    Raises:
        ReleaseError: It is a REGRESSION.
    """
    record = records.read(
        release.output / "records", results.FINETUNE, model_sha256=records.model_hash(release.output / "model")
    )
    test = record.measured.test
    if test.verdict == "REGRESSION" and not anyway:
        hint = "keep the base model; or pass --publish-anyway, and the card says it"
        raise ReleaseError(f"worse than its base: {test.line}", where=str(release.output), hint=hint)
    return test.verdict


def export(release: FinetunedRelease) -> None:
    """Make `export/` from `model/`, compare every form, and write its record; one that is current is kept.

    Raises:
        ReleaseError: A form's scores differ; then nothing is left of it.
    """
    model, made = release.output / "model", release.output / "export"
    sha256 = records.model_hash(model)
    try:
        previous = records.read(release.output / "records", results.EXPORT, model_sha256=sha256)
        current = made.is_dir() and sha256_folder(made) == previous.measured.sha256
        if current and not any(portable.problems(made)):  # which an older version of this project may have written
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
        ReleaseError: A record is missing or of another model, or something must not be published.
    """
    export(release)
    measured = read(release)
    stages.write(finetuned.contents(release, measured), release.folder)
    if problems := list(finetuned.problems(release, measured)):
        what = f"{len(problems)} problem(s) in what would be published, the first: {problems[0]}"
        raise ReleaseError(
            what, where=str(release.folder), hint="run it from the folder of your data, with relative paths"
        )
    return release.folder


def read(release: FinetunedRelease) -> FinetunedRecords:
    """What was measured of the model in `output`.

    Raises:
        ReleaseError: A record is missing, damaged, or of another model.
    """
    return cards.read(release.output / "records", records.model_hash(release.output / "model"))


def show_plan(release: FinetunedRelease, endpoint: str | None) -> list[PlanStep]:
    """Print what is to be done on the given Hub, or on an empty one without any; nothing is written there."""
    url = state.given_endpoint(endpoint)
    push, finish = _steps(release, state.connect(url, write=False) if url else None)
    plan.show([*push, *finish], url)
    return [*push, *finish]


def _steps(release: FinetunedRelease, api: HfApi | None) -> tuple[list[PlanStep], list[PlanStep]]:
    """What is to be pushed before the model is pulled back, and what is to be done after it."""
    push, public, tags = plan.repo_steps([finetuned.repository(release)], api, WAYS)
    return push, [*tags, *public]


def publish_verified(release: FinetunedRelease, endpoint: str | None) -> dict[str, str]:
    """Upload privately, pull back and compare, tag, make public; running it again continues. Repository -> its commit.

    Raises:
        ReleaseError: No endpoint or token, a Hub that fails, or a model that comes back different: it stays private.
    """
    api, repo, measured = state.connect(endpoint), finetuned.repository(release), read(release)
    mode.check_endpoint(str(api.endpoint), mode.active() or measured.finetune.subject.smoke)
    committed.check([release.folder], str(api.endpoint))
    for line in finetuned.problems(release, measured):
        raise ReleaseError(line, where=str(release.folder), hint="publish.py makes that folder anew")
    publish.carry_out(api, _steps(release, api)[0])
    pairs = read_pairs(release.output / PAIRS_FILE)
    pulled = verify.pulled_back([repo], release.id, release.output / "export", pairs, api)
    subject, sha256 = VerifySubject(str(api.endpoint)), measured.finetune.model_sha256
    verified = records.new(results.VERIFY, family="", model_sha256=sha256, measured=pulled, subject=subject)
    records.write(verified, release.output / "records")
    commits = {name: each.commit for name, each in pulled.repositories.items()}
    publish.check_commits([repo], api, commits)
    publish.carry_out(api, _steps(release, api)[1], saw=verify.saw(pulled))
    publish.check_finished([repo], api, commits)
    return commits
