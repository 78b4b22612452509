"""A fine-tuned model is a release like any other: every form compared, a card from records, private until pulled back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard
from sentence_transformers import CrossEncoder

from benchmarks import finetuned_lies, hub_lies
from release import records, results
from release.agents import check
from release.card import finetuned as cards
from release.card.finetuned import FinetunedRelease
from release.errors import ReleaseError
from release.evaluation import paired, queries
from release.finetuning import release_model
from release.finetuning.finetune import Finetuned
from release.hub import anywhere, finetuned, pulled
from release.localhub import Account, running_hub
from release.results.finetuning import FinetuneScores
from release.truth import manifest
from tests.finetuning.desk import Desk

TOKEN = "hf_" + "finetune" * 4


@pytest.fixture(scope="module")
def hub(fast_folder: Path) -> Generator[str]:
    with running_hub(fast_folder / "finetuned", [Account("user", TOKEN, ())]) as (endpoint, _):
        yield endpoint


@pytest.fixture(scope="module")
def staged(tuned: tuple[Path, Finetuned], tmp_path_factory: pytest.TempPathFactory) -> FinetunedRelease:
    """One release, exported and staged, called a gain whatever a tiny model gained."""
    folder = Path(shutil.copytree(tuned[0], tmp_path_factory.mktemp("release") / "tuned"))
    release = FinetunedRelease(folder, "user/own-reranker", "v1", "apache-2.0")
    rewrite(release, first_stage=0.25, score=0.625)
    release_model.stage(release)
    return release


def rewrite(release: FinetunedRelease, *, first_stage: float, score: float) -> None:
    """Let the 15 test queries give these means, of a base that has 0.5, by a command without paths of this machine."""
    folder = release.output / "records"
    record = records.read(folder, results.FINETUNE)
    scores = queries.read_scores(folder, FinetuneScores, record.measured.queries_sha256, "finetune")
    tuned = tuple(score + 0.01 * (index % 5 - 2) for index in range(15))
    models = {"0": (0.5,) * 15, paired.share(record.measured.ratio): tuned, "1": tuned}
    test = replace(scores.test, first_stage=(first_stage,) * 15, models=models)
    compared, named = paired.of_share(test, 1.0), queries.write(folder, replace(scores, test=test))
    measured = replace(record.measured, test=compared, tuned=compared, queries_sha256=named)
    subject = replace(record.subject, base="user/base-reranker", base_revision="c" * 40)
    records.write(replace(record, measured=measured, subject=subject, command="python finetune.py"), folder)


def card(release: FinetunedRelease) -> str:
    return cards.card(release, release_model.read(release))


def test_the_staged_folder_holds_every_form_and_its_records(staged: FinetunedRelease) -> None:
    names = finetuned.repository(staged).files
    for name in (
        "modules.json",
        "model.safetensors",
        "onnx/model.onnx",
        "records/finetune.json",
        "records/export.json",
        "records/queries.json",
        "release.json",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("pairs", "model/", "guard"))]


def test_release_json_names_every_file_and_what_the_model_was_made_of(staged: FinetunedRelease) -> None:
    made, record = manifest.read(staged.folder), release_model.read(staged).finetune
    assert not list(manifest.differences(made, staged.folder)) and made.finetuned
    assert (made.finetuned.base, made.finetuned.base_revision) == ("user/base-reranker", "c" * 40)
    assert made.finetuned.data_sha256 == record.subject.data_sha256 and made.finetuned.license == "apache-2.0"
    assert made.commits == (record.commit,) and made.versions["python"] and not made.family


def test_the_card_names_base_data_baseline_interval_and_guard(staged: FinetunedRelease) -> None:
    card = ModelCard.load(staged.output / "repo/README.md")
    record = release_model.read(staged).finetune
    assert card.data.base_model == "user/base-reranker"
    assert card.data.to_dict()["base_model_relation"] == ("finetune" if record.measured.ratio == 1 else "merge")
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "text-ranking"
    for text in (
        "WIN: NDCG@10 0.500 → 0.625 (+0.125, 95 % interval +0.118 to +0.132) on 15 test queries",
        "data.jsonl",
    ):
        assert text in card.text
    assert f"guard: {record.subject.guard}" in card.text and "worse than" not in card.text
    assert "alone orders" not in card.text


def test_staging_twice_gives_the_same_bytes_and_exports_once(staged: FinetunedRelease) -> None:
    def bytes_of() -> dict[str, bytes]:
        return {name: (staged.folder / name).read_bytes() for name in finetuned.repository(staged).files}

    before, made = bytes_of(), (staged.output / "records/export.json").stat().st_mtime_ns
    release_model.stage(staged)
    assert bytes_of() == before and (staged.output / "records/export.json").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("sealed", "says"),
    [
        (False, "records/finetune.json: edited since it was measured"),
        (True, "test.delta: 0.125, and what it comes from gives"),
    ],
)
def test_a_record_that_lies_is_not_staged(staged: FinetunedRelease, tmp_path: Path, sealed: bool, says: str) -> None:
    liar = replace(staged, output=Path(shutil.copytree(staged.output, tmp_path / "liar")))
    path = liar.output / "records/finetune.json"
    value = json.loads(path.read_bytes())
    value["measured"]["test"]["score"] = 0.9
    path.write_text(json.dumps(records.sealed(value) if sealed else value), encoding="utf-8")
    with pytest.raises(ReleaseError, match=says):
        release_model.stage(liar)


def test_a_regression_is_published_only_anyway_and_the_card_says_it(staged: FinetunedRelease, tmp_path: Path) -> None:
    worse = replace(staged, output=Path(shutil.copytree(staged.output, tmp_path / "worse")))
    rewrite(worse, first_stage=0.75, score=0.25)
    with pytest.raises(ReleaseError, match=r"worse than its base: VERDICT: REGRESSION .*--publish-anyway"):
        release_model.check_verdict(worse, anyway=False)
    release_model.check_verdict(worse, anyway=True)
    said = card(worse)
    assert "ranks the test queries worse than its base model" in said
    assert "**BM25 (English) alone orders the test queries better** (0.750) than this model." in said
    release_model.check_verdict(staged, anyway=False)


def test_names_and_licences_that_no_hub_takes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is no repository id"):
        FinetunedRelease(tmp_path, "own reranker", "v1", "apache-2.0")
    with pytest.raises(ReleaseError, match="names no organization"):
        FinetunedRelease(tmp_path, "reranker", "v1", "apache-2.0")
    for version, says in (("v 1..", "is no name that the Hub takes"), ("main", "is no name of a tag")):
        with pytest.raises(ReleaseError, match=rf"{says}; in --version"):
            FinetunedRelease(tmp_path, "user/reranker", version, "apache-2.0")
    with pytest.raises(ReleaseError, match="unknown licence 'free'"):
        FinetunedRelease(tmp_path, "user/reranker", "v1", "free")
    for name, link, says in (
        (None, None, "needs license_name and license_link.*--license-name my-licence"),
        ("mine", None, "needs license_name and license_link"),
        ("My Licence", "https://a.org/l", "cannot be the name of a licence.*--license-name"),
        ("mine", "javascript:alert(1)", "no address of a page.*--license-link"),
    ):
        with pytest.raises(ReleaseError, match=says):
            FinetunedRelease(tmp_path, "user/reranker", "v1", "other", name, link)
    with pytest.raises(ReleaseError, match="are for the licence `other`, not for mit"):
        FinetunedRelease(tmp_path, "user/reranker", "v1", "mit", "mine", "https://a.org/l")


def test_a_licence_that_the_hub_has_no_id_for_is_named_and_linked(staged: FinetunedRelease) -> None:
    link = "https://example.org/licence"
    text = card(replace(staged, license="other", license_name="my-licence-1.0", license_link=link))
    assert f"license: other\nlicense_name: my-licence-1.0\nlicense_link: {link}\n" in text
    assert f"| Licence | [my-licence-1.0]({link}) |" in text and "BM25 (English)" in text


def test_publish_shows_the_plan_and_refuses_what_cannot_be_published(
    staged: FinetunedRelease, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    folder = staged.output.parent
    shutil.copytree(check.folder(), folder / ".agents/skills" / check.NAME, dirs_exist_ok=True)
    publish = Desk(folder, capsys, monkeypatch)
    words = ("publish", "user/own-reranker", "--output", staged.output.name, "--license", "apache-2.0")
    status, lines, error = publish(*words)
    said = json.loads(lines[-1])
    assert status == 0 and said["steps"] == ["create", "upload", "tag", "make public"], error
    assert said["verdict"] == "WIN" and said["published"] is False and said["commit"] is None
    status, lines, error = publish(*words, "--push")
    assert status == 1 and "no Hub is named" in error
    assert "the base model's card names no licence" in publish(*words[:-2])[2]
    assert "unknown licence 'free'" in publish(*words[:-1], "free")[2]


def test_it_is_private_until_pulled_back_then_public_and_tagged_and_publishing_again_does_nothing(
    staged: FinetunedRelease,
    hub: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(ReleaseError, match="no Hub is named"):
        release_model.publish_verified(staged, None)
    assert [step.verb for step in release_model.show_plan(staged, hub)] == ["create", "upload", "tag", "make public"]
    commits = release_model.publish_verified(staged, hub)
    api = HfApi(endpoint=hub, token=TOKEN)
    info = api.model_info("user/own-reranker")
    assert not info.private and info.sha == commits["user/own-reranker"]
    assert [tag.name for tag in api.list_repo_refs("user/own-reranker").tags] == ["v1"]
    capsys.readouterr()
    assert release_model.show_plan(staged, hub) == []
    monkeypatch.setattr(pulled, "elsewhere", lambda *_: [])  # six seconds for what came back well above
    assert release_model.publish_verified(staged, hub) == commits
    proofs = anywhere.verify(staged.id, HfApi(endpoint=hub, token=False))
    assert "rendered again to the same" in proofs["card"] and proofs["verdict"].startswith("WIN | score=0.6250")
    assert "15 of test" in proofs["figures"] and proofs["base"] == "user/base-reranker is not there for this token"
    assert "which texts they learnt from" in proofs["not proved"] and "no signature" in proofs["not proved"]
    other = replace(staged, output=Path(shutil.copytree(staged.output, tmp_path / "other")), license="mit")
    release_model.stage(other)
    with pytest.raises(
        ReleaseError, match=r"v1 is finished, and README\.md.* would change.*publish it under another name"
    ):
        release_model.show_plan(other, hub)
    with pytest.raises(ReleaseError, match=r"what a release of v2 did not put there: README.*choose another name"):
        release_model.show_plan(replace(other, tag="v2"), hub)
    lies = (finetuned_lies.EDITED, finetuned_lies.THOROUGH)
    some = {"a VERDICT", "scores of queries", "a better score", "a base model on the card"}
    some |= {"a licence in release.json", "nothing that it was made of in release.json", "scores of one model more"}
    told = {f"{begin}: {name}" for begin in ("own", "own, with release.json") for name in some}
    caught = hub_lies.tell(api, staged.id, staged.folder, told, lies, "own")
    assert len(caught) == 9 and all(caught.values()), caught


def test_the_export_scores_as_the_fine_tuned_model(staged: FinetunedRelease) -> None:
    pairs = [("where does the fox sleep", "the fox of the river sleeps by day"), ("owl", "the owl hunts")]
    one, two = (
        CrossEncoder(str(staged.output / name), device="cpu").predict(pairs, show_progress_bar=False)
        for name in ("model", "repo")
    )
    assert abs(one - two).max() == 0
