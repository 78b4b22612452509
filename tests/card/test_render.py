"""A card says what was measured and nothing else, and refuses missing or foreign records, and other devices."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml
from jinja2 import UndefinedError

from release import records, results
from release.card import acceptance, beside, claims, eval_results, formatting, render, tables
from release.engines import catalogue
from release.errors import ReleaseError
from release.family import Family, load
from release.hub import checks, stage
from release.results.speed import folder_for
from tests import built


@pytest.fixture
def family(tmp_path: Path, reranker: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    return built.workspace(tmp_path, reranker, monkeypatch)


def numbers(value: object) -> set[str]:
    """Every number in a JSON value or a family, as each filter of a card would print it."""
    if isinstance(value, dict):
        return {text for item in value.values() for text in numbers(item)}
    if isinstance(value, list | tuple):
        return {text for item in value for text in numbers(item)}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return set(re.findall(r"\d{4}-\d\d-\d\d|\d[\d.,]*\d|\d", str(value)))
    filters = (
        formatting.score,
        formatting.signed,
        formatting.rate,
        formatting.megabytes,
        formatting.share,
        formatting.plain,
    )
    shown = [
        *(function(value) for function in (*filters, formatting.difference, formatting.duration)),
        f"{round(value):,}",
    ]
    return {number for text in shown for number in re.findall(r"\d[\d.,e-]*\d|\d", text)}


def test_every_number_in_the_body_is_in_a_record_or_the_family(family: Family) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    _, body = checks.split_card(render.model_card(family, built.SIZE, model_records))
    kinds = [
        *(getattr(model_records, kind) for kind in ("run", "choice", "evaluate", "speed", "export", "engines")),
        model_records.manifest,
    ]
    known = numbers([kind if isinstance(kind, dict) else asdict(kind) for kind in kinds])
    known |= {
        f"{model_records.run.measured.parameters.total:,}",
        "95",
        "10",
        "0",
        "1",
        "5.4",
        "16",
        "2.0",
        "0001",
        "8",
    }  # names, not figures
    known |= numbers([vars(part) for part in (family.about, family.training, family.evaluation, family.speed)])
    known |= numbers(tables.data(model_records.manifest))
    prose = re.sub(r"```.*?```|`[^`]*`|https?://\S+|all-MiniLM-L6-v2|\(R\).*?Processor", " ", body, flags=re.DOTALL)
    unknown = {number for number in re.findall(r"\d[\d.,e-]*\d|\d", prose)} - known
    assert not unknown


def test_the_card_says_in_words_what_the_interval_says(family: Family) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    text = render.model_card(family, built.SIZE, model_records)
    assert "| 0.579 | 0.601 | +0.022 (+0.008 to +0.036) | 0.914 | 0.875 | 0.643 |" in text
    assert "over bm25: the whole interval lies above zero" in text
    assert "all-MiniLM-L6-v2: the interval spans zero" in text
    evaluation = model_records.evaluate.measured
    worse = replace(evaluation.means, all=replace(evaluation.means.all, ci_low=-0.03, ci_high=-0.01))
    model_records = replace(
        model_records, evaluate=replace(model_records.evaluate, measured=replace(evaluation, means=worse))
    )
    assert "In words: the whole interval lies below zero" in render.model_card(family, built.SIZE, model_records)
    assert "stand-in" in text and "not a trained reranker" in text


def test_many_rows_are_shown_as_means_with_the_rest_folded(family: Family) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    first, second = model_records.evaluate.measured.tasks
    more = [replace(first, task=f"Task{n}", in_domain=True) for n in range(5)]
    more.append(replace(second, task="ArguAna", dataset="mteb/arguana", in_domain=None))
    measured = replace(model_records.evaluate.measured, tasks=(first, second, *more))
    model_records = replace(model_records, evaluate=replace(model_records.evaluate, measured=measured))
    front, body = checks.split_card(render.model_card(family, built.SIZE, model_records))
    assert "Means over the 7 tasks" in body and "Of the 8 rows below, 6 show a gain" in body
    assert "Task4 †" in body and "† The training data holds" in body and "Nobody has recorded" in body
    types = [result["dataset"]["type"] for result in front["model-index"][0]["results"]]
    assert {"local-docstrings", "mteb-task0", "mteb/arguana"} <= set(types)


def test_a_measurement_that_changes_changes_the_card(family: Family) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    before = render.model_card(family, built.SIZE, model_records)
    faster = (replace(model_records.speed.measured.best, pairs_per_second=1234.4),)
    speed = replace(model_records.speed, measured=replace(model_records.speed.measured, configurations=faster))
    model_records = replace(model_records, speed=speed)
    after = render.model_card(family, built.SIZE, model_records)
    assert "| 1,234 |" in after and "| 1,234 |" not in before


def test_other_devices_are_further_tables_of_the_same_card(family: Family) -> None:
    folder = family.folder(built.SIZE) / "records"
    slower = built.speed_result(61.7)
    record = replace(records.read(folder, results.SPEED), measured=slower)
    record = replace(record, machine=replace(record.machine, device="NVIDIA GeForce RTX 3090"))
    path = records.write(record, folder_for(folder, record.machine.device, "", "CPU"))
    text = render.model_card(family, built.SIZE, acceptance.card_records(family, built.SIZE))
    assert (
        "<summary>On one NVIDIA GeForce RTX 3090: 38.3 pairs per second with the public libraries, 61.7 at best</summary>"
        in text
    )
    stage.stage_model(family, built.SIZE)
    assert (stage.model_repo(family, built.SIZE) / path.relative_to(family.folder(built.SIZE))).is_file()
    built.edit(path, lambda record: record["subject"].update(max_length=8192))
    with pytest.raises(ReleaseError, match=r"max_length 8192, but the family's protocol says 256.*rtx-3090/speed.json"):
        acceptance.card_records(family, built.SIZE)


def test_both_speeds_are_named(family: Family) -> None:
    text = render.model_card(family, built.SIZE, acceptance.card_records(family, built.SIZE))
    assert "With the public libraries alone it scores **268 pairs per second** (fp32, unpadded, padded" in text
    assert "`release/runtime`, 432 (fp32, unpadded, batches of 64)" in text
    assert "out of memory at 128 pairs" in text


def test_snippets_ask_the_familys_own_question(family: Family) -> None:
    text = render.model_card(family, built.SIZE, acceptance.card_records(family, built.SIZE))
    snippets = re.findall(r"```python[^\n]*\n(.*?)```", text, re.DOTALL)
    for snippet in snippets:
        compile(snippet, "README.md", "exec")
        assert "how do I read a file line by line" in snippet
    assert len(snippets) == 5 + len([engine for engine in catalogue.engines(every=False) if engine.snippet])
    ettin = load(built.DEMO.parent / "ettin.toml")
    other = replace(family, card=ettin.card)
    text = render.model_card(other, built.SIZE, acceptance.card_records(family, built.SIZE))
    assert "how many calories are in an egg" in text and "line by line" not in text


def test_what_a_model_rests_on_is_cited_and_the_encoders_notice_kept(family: Family) -> None:
    ettin = load(built.DEMO.parent / "ettin.toml")
    model_records = acceptance.card_records(family, built.SIZE)
    text = render.model_card(replace(family, card=ettin.card), built.SIZE, model_records)
    for paper in ("2507.11412", "2506.03487", "2604.04734", "blog/ettin-reranker", "@misc{docstring-reranker-mini-v1"):
        assert paper in text
    assert "Copyright (c) 2025 Johns Hopkins University" in text and "Permission is hereby granted" in text
    assert "Permission is hereby granted" not in render.model_card(
        family, built.SIZE, model_records
    )  # the models' own licence
    taken = replace(family, data=replace(family.data, mixture="acme/taken"))  # what others published is theirs
    text = render.model_card(
        replace(taken, card=replace(family.card, encoder_license="cc-by-4.0")), built.SIZE, model_records
    )
    theirs = "title = {taken},\n  author = {{acme}},\n  url = {https://huggingface.co/datasets/acme/taken}"
    assert theirs in text and "another licence, cc-by-4.0, which holds for them too." in text
    wrong = replace(family, card=replace(family.card, citations=("nobody",)))
    with pytest.raises(ReleaseError, match=r"no citation 'nobody'; in .*key card.citations; hint: one of .*modernbert"):
        render.model_card(wrong, built.SIZE, model_records)


def test_results_for_leaderboards_are_written_only_where_the_family_asks(family: Family) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    on_the_hub = replace(model_records.evaluate.measured.tasks[0], task="SCIDOCS", dataset="mteb/scidocs")
    measured = replace(model_records.evaluate.measured, tasks=(on_the_hub, *model_records.evaluate.measured.tasks))
    record = replace(model_records.evaluate, measured=measured)
    assert eval_results.files(family, built.SIZE, record) == {}
    publishing = replace(family, card=replace(family.card, eval_results=True))
    ((name, text),) = eval_results.files(publishing, built.SIZE, record).items()  # none for a collection of our own
    assert name == ".eval_results/SCIDOCS--bm25.yaml"
    (entry,) = yaml.safe_load(text)
    assert entry["dataset"] == {"id": "mteb/scidocs", "task_id": "SCIDOCS", "revision": "0" * 40}
    assert entry["value"] == 0.6013


def test_the_row_of_this_model_is_marked_among_its_sizes(family: Family) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    quality, sha256 = model_records.evaluate.measured.means.all.reranked_ndcg, model_records.evaluate.model_sha256
    own = beside.ModelRow(family.model_name(built.SIZE), "ours", sha256, 2_721_281, quality, 432.1, 267.9)
    larger = replace(own, name="docstring-reranker-maxi-v1", reranked_ndcg=0.71239, published_pairs_per_second=None)
    path = family.folder(built.SIZE) / "compare"
    path.mkdir()
    beside.write(path, beside.Beside((own, larger), 1, 2, "a CPU", (), False, False))
    text = render.model_card(family, built.SIZE, model_records)
    assert "| **docstring-reranker-mini-v1** (this one) | 2,721,281 | 0.605 | 268 |" in text
    assert "| docstring-reranker-maxi-v1 | 2,721,281 | 0.712 | not measured |" in text
    assert "**docstring-reranker-mini-v1** (this model) | 2,721,281 | 0.605 | 268 | 432 |" in text


def test_a_rank_is_claimed_only_where_the_comparison_shows_it(family: Family) -> None:
    proud = replace(family, about=replace(family.about, summary="The best small reranker for docstrings."))
    model_records = acceptance.card_records(family, built.SIZE)
    with pytest.raises(
        ReleaseError, match=r"the summary says 'best', and no comparison shows it of mini.*family\.summary"
    ):
        render.model_card(proud, built.SIZE, model_records)
    own = beside.ModelRow(family.model_name(built.SIZE), "ours", None, 1, 0.605, 432.1, 267.9)
    other = replace(own, name="acme/other", role="compared", reranked_ndcg=0.6)
    claims.check(proud, built.SIZE, beside.Beside((own, other), 1, 2, None, (), False, False))
    for figure in (0.7, None):  # better, or not measured
        rows = own, replace(other, reranked_ndcg=figure)
        with pytest.raises(ReleaseError, match="no comparison shows it"):
            claims.check(proud, built.SIZE, beside.Beside(rows, 1, 2, None, (), False, False))


def test_the_nano_sets_have_both_figures_and_the_marks_of_the_training_data(family: Family) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    text = render.model_card(family, built.SIZE, model_records)
    assert "<summary>Mean 0.628 (True), 0.712 (False) over 1 set</summary>" in text
    assert "| NanoDocstrings † | 0.628 | 0.712 |" in text and "| first stage | 0.500 | |" in text
    assert "100 candidates for each query" in text and "`False` chose the checkpoint" in text
    nano = model_records.evaluate.measured.nano
    assert nano is not None
    unknown = replace(model_records.evaluate.measured, nano=replace(nano, in_domain=None))
    text = render.model_card(
        family, built.SIZE, replace(model_records, evaluate=replace(model_records.evaluate, measured=unknown))
    )
    assert "| NanoDocstrings | 0.628" in text and "text of the same origin is not known" in text


def test_texts_of_others_cannot_break_a_table() -> None:
    assert formatting.cell("a | b\n<script> *c* `d` [e](f)") == r"a \| b \<script\> \*c\* \`d\` \[e\](f)"
    assert formatting.cell("x" * 300, most=10) == "xxxxxxxxx…"
    assert formatting.code("my data-1.jsonl") == "`my data-1.jsonl`" and formatting.code("a`b|c") == r"a\`b\|c"
    assert formatting.code("a\nb") == formatting.code("a \n b") == "a b"


def test_front_matter_names_only_what_exists(family: Family) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    front, _ = checks.split_card(render.model_card(family, built.SIZE, model_records))
    assert front["datasets"] == ["local/docstring-reranker-data"]
    assert "base_model" not in front  # the encoder is a folder of this project, not a model on the Hub
    (result,) = front["model-index"][0]["results"]
    revision = {"revision": "0" * 40}
    assert result["dataset"] == {"name": "docstrings (a local collection)", "type": "local-docstrings"} | revision
    assert front["metrics"] == ["ndcg_at_10"] and "base_model_relation" not in front
    assert [metric["value"] for metric in result["metrics"]] == [0.6013, 0.6091]
    subject = replace(model_records.run.subject, encoder="jhu-clsp/ettin-encoder-17m")
    model_records = replace(model_records, run=replace(model_records.run, subject=subject))
    front, _ = checks.split_card(render.model_card(family, built.SIZE, model_records))
    assert (front["base_model"], front["base_model_relation"]) == ("jhu-clsp/ettin-encoder-17m", "finetune")


@pytest.mark.parametrize(("labels", "asked"), [("teacher", True), ("source", False)])
def test_the_data_card_says_once_who_gave_the_labels(family: Family, labels: str, asked: bool) -> None:
    data, manifest = acceptance.data_records(family)
    for entry in manifest["configs"].values():
        entry["labels"] = labels
    text = render.dataset_card(family, data, manifest)
    by_teacher = (
        "that a teacher gave it",
        "lets the teacher score the pairs",
        "### The teacher",
    )
    by_source = ("that came with its source", "no teacher was asked", "came with the source and are its own claim")
    assert [part in text for part in by_teacher] == [asked] * len(by_teacher)
    assert [part in text for part in by_source] == [not asked] * len(by_source)


@pytest.mark.parametrize(("labels", "asked"), [("teacher", True), ("source", False)])
def test_neither_model_card_nor_collection_gives_the_teacher_labels_that_came_with_the_source(
    family: Family, labels: str, asked: bool
) -> None:
    measured = acceptance.card_records(family, built.SIZE)
    for entry in measured.manifest["configs"].values():
        entry["labels"] = labels
    body = render.model_card(family, built.SIZE, measured)
    assert ("Distilled from the raw scores of" in body, "no teacher was asked for them here" in body) == (
        asked,
        not asked,
    )
    assert "fitted to the teacher's own opinion" not in body or asked
    note = render.collection(render.collection_text(family, built.SIZE, measured))["items"][1]["note"]
    by = "labelled by the stand-in bm25-minilm-hybrid" if asked else "with the labels of their sources"
    assert note.endswith(f" scored pairs, {by}.")


def test_where_source_and_teacher_gave_labels_each_config_is_named(family: Family) -> None:
    data, manifest = acceptance.data_records(family)
    (entry,) = manifest["configs"].values()
    manifest["configs"]["upstream"] = entry | {"labels": "source"}
    text = render.dataset_card(family, data, manifest)
    assert "lets the teacher score the pairs of docstrings;" in text
    assert "The labels of upstream came with the source and are its own claim." in text


def test_the_same_records_give_the_same_bytes(family: Family) -> None:
    texts = {render.model_card(family, built.SIZE, acceptance.card_records(family, built.SIZE)) for _ in range(2)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("kind", "target"), [("run", "train"), ("choice", "select"), ("evaluate", "evaluate"), ("speed", "speed")]
)
def test_a_missing_or_foreign_record_stops_with_its_command(family: Family, kind: str, target: str) -> None:
    path = family.folder(built.SIZE) / "records" / f"{kind}.json"
    built.edit(path, lambda record: record.update(model_sha256="0" * 64))
    with pytest.raises(ReleaseError, match=rf"another model.*make {target}"):
        acceptance.card_records(family, built.SIZE)
    sha256 = records.model_hash(family.folder(built.SIZE) / "model")
    built.edit(path, lambda record: record.update(model_sha256=sha256, size="huge"))
    with pytest.raises(ReleaseError, match=rf"huge, not of mini.*make {target}"):
        acceptance.card_records(family, built.SIZE)
    path.unlink()
    with pytest.raises(ReleaseError, match=rf"no record of '{kind}'.*make {target}"):
        acceptance.card_records(family, built.SIZE)


def test_another_device_protocol_or_mixture_is_refused(family: Family) -> None:
    official = replace(family, speed=replace(family.speed, device="H100"))
    with pytest.raises(ReleaseError, match=r"measured on CPU.*shows H100.*make speed on a machine with H100"):
        acceptance.card_records(official, built.SIZE)
    deeper = replace(family, evaluation=replace(family.evaluation, top_k=100))
    with pytest.raises(ReleaseError, match=r"no evaluation of docstrings over bm25 with top_k 100.*make evaluate"):
        acceptance.card_records(deeper, built.SIZE)
    run, mixture = family.folder(built.SIZE) / "records/run.json", family.build / "data/mixture/manifest.json"
    there = str(mixture.parent)
    for data in ("/elsewhere/mixture", there):  # the same mixture, wherever it lay
        built.edit(run, lambda record, data=data: record["subject"].update(data=data))
        acceptance.card_records(family, built.SIZE)
    built.edit(mixture, lambda manifest: manifest.update(mixture="acme/taken", revision="a" * 40))
    with pytest.raises(ReleaseError, match=r"trained on other data.*make train"):
        acceptance.card_records(family, built.SIZE)
    built.edit(run, lambda record: record["subject"].update(data="acme/taken", data_revision="b" * 40))
    with pytest.raises(ReleaseError, match=r"trained on acme/taken, other data.*make train"):
        acceptance.card_records(family, built.SIZE)
    for data in ("/elsewhere/mixture", "acme/other", family.data_id):  # the recipe's --data
        built.edit(run, lambda record, data=data: record["subject"].update(data=data, data_revision="a" * 40))
        with pytest.raises(ReleaseError, match=rf"trained on {data}, other data than is here.*make train"):
            acceptance.card_records(family, built.SIZE)
    built.edit(run, lambda record: record["subject"].update(data="acme/taken"))
    card = render.model_card(family, built.SIZE, acceptance.card_records(family, built.SIZE))
    assert "docstring-reranker-data) at `aaaaaaaaaaaa` |" in card  # a mixture that was taken is named by its commit
    assert f"| training data: {family.data_id} | `{'a' * 40}` |" in card


def test_a_name_that_no_record_holds_is_an_error(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    model_records = acceptance.card_records(family, built.SIZE)
    with pytest.raises(UndefinedError):
        render.environment().from_string("{{ record.speeed }}").render(record=model_records.speed)
    templates = Path("cards").absolute()
    shutil.copytree(render.TEMPLATES / "citations", templates / "citations")
    (templates / "model.md.j2").write_text('{% include "section.md.j2" %}')
    (templates / "section.md.j2").write_text("{{ run.parameters.heads }}")
    monkeypatch.setattr(render, "TEMPLATES", templates)
    with pytest.raises(ReleaseError, match=r"no record holds.*'heads'.*cards/section\.md\.j2.*make again"):
        render.model_card(family, built.SIZE, model_records)


def test_a_record_that_lacks_what_the_card_shows_is_one_line_with_its_command(family: Family) -> None:
    path = family.folder(built.SIZE) / "records/run.json"
    built.edit(path, lambda record: record["measured"]["parameters"].pop("head"))
    with pytest.raises(ReleaseError, match=r"no key 'measured\.parameters\.head'; in .*run\.json; hint: .*make train$"):
        acceptance.card_records(family, built.SIZE)


def test_a_record_from_before_a_section_asks_for_what_is_cheap_and_trains_nothing_again(family: Family) -> None:
    folder = family.folder(built.SIZE) / "records"
    built.edit(folder / "run.json", lambda record: record["measured"].pop("hyperparameters"))
    text = render.model_card(family, built.SIZE, acceptance.card_records(family, built.SIZE))
    assert "were not recorded; those of the recipe stand above" in text
    built.edit(folder / "export.json", lambda record: record["measured"].pop("architecture"))
    with pytest.raises(ReleaseError, match=r"no key 'measured.architecture'.*export.json; hint: .*make export$"):
        acceptance.card_records(family, built.SIZE)


def test_the_dataset_card_lists_every_config_with_its_licence(family: Family) -> None:
    data, manifest = acceptance.data_records(family)
    front, body = checks.split_card(render.dataset_card(family, data, manifest))
    files = [
        [{"split": split, "path": f"{folder}/{split}-*.parquet"} for split in ("train", "validation")]
        for folder in ("*", "docstrings")
    ]
    assert front["configs"] == [
        {"config_name": name, "data_files": data_files}
        for name, data_files in zip(("default", "docstrings"), files, strict=True)
    ]
    assert (front["license"], front["size_categories"]) == ("other", ["n<1K"])
    assert "docstrings keep the licences of their packages" in body and "numpy 2.0.0" in body
    shards = manifest["configs"]["docstrings"]["shards"]
    assert f"{shards[0]['rows']} / {shards[1]['rows']}" in body


def test_the_dataset_card_of_a_mixture_that_repeats_a_published_one_says_what_is_assumed(family: Family) -> None:
    data, manifest = acceptance.data_records(family)
    assert "published mixture" not in render.dataset_card(family, data, manifest)
    (entry,) = manifest["configs"].values()
    trained = sum(shard["rows"] for shard in entry["shards"] if shard["split"] == "train")
    notes = {"known": ["39 configs."], "unknown": [], "assumed": ["Each pair once."]}
    manifest |= {"published": {"rows": trained + 1, "held_out": 0, "otherwise": "go on"}, "notes": notes}
    entry["labels_on_bf16_grid"] = True
    body = render.dataset_card(family, data, manifest)
    assert f"{trained + 1:,} rows to train on were published, here are {trained:,}: it is another mixture." in body
    assert "Assumed here:\n\n- Each pair once.\n" in body and "Unknown:" not in body
    assert "Every label of each config is a number that bf16 knows" in body


def test_the_dataset_card_says_how_it_was_made_and_what_repeats_a_benchmark(family: Family) -> None:
    data, manifest = acceptance.data_records(family)
    entry = manifest["configs"]["docstrings"]
    body = render.dataset_card(family, data, manifest)
    assert f"| docstrings | {entry['rows_in']} | 2 duplicates; 1 unreadable for the teacher |" in body
    assert f"`{data.command}`" in body and "e" * 64 in body  # the teacher's template
    assert "| docstrings | docstrings | none declared | 1 % | 2 % |" in body and "still in the files" in body
    manifest["overlap"] = "drop"
    assert "--drop-overlap" in render.dataset_card(family, data, manifest)
    manifest["overlap"], entry["overlap"], entry["overlaps_declared"] = "ignore", None, ["nq"]
    assert "| docstrings | nq | yes | not measured | not measured |" in render.dataset_card(family, data, manifest)
    licensed = replace(family, data=replace(family.data, license="apache-2.0"))
    body = render.dataset_card(licensed, data, manifest)
    assert "covers what was made here" in body and "cannot\ncover the texts" in body
    del entry["rows_in"]
    with pytest.raises(ReleaseError, match=r"lacks 'rows_in'.*make score"):
        render.dataset_card(family, data, manifest)


def test_dataset_info_is_what_the_library_finds_in_the_files(family: Family, tmp_path: Path) -> None:
    from datasets import load_dataset

    stage.stage_dataset(family)
    front, _ = checks.split_card((stage.dataset_repo(family) / "README.md").read_text())
    default, named = front["dataset_info"]
    assert [default | {"config_name": ""}, default["config_name"]] == [named | {"config_name": ""}, "default"]
    for name in (None, "docstrings"):
        dataset = load_dataset(str(stage.dataset_repo(family)), name, cache_dir=str(tmp_path / "cache"))
        assert {split: len(rows) for split, rows in dataset.items()} == {
            split["name"]: split["num_examples"] for split in default["splits"]
        }
    plain = load_dataset(
        "parquet", data_files={"train": str(stage.dataset_repo(family) / "docstrings/train-*.parquet")}, split="train"
    )
    assert plain.data.nbytes == default["splits"][0]["num_bytes"]
    assert [{"name": name, "dtype": kind.dtype} for name, kind in plain.features.items()] == default["features"]


def test_the_collection_fits_the_hub(family: Family) -> None:
    content = render.collection(render.collection_text(family, built.SIZE, acceptance.card_records(family, built.SIZE)))
    assert content["title"] == family.about.collection and len(content["description"]) <= 150
    assert [item["id"] for item in content["items"]] == [family.model_id(built.SIZE), family.data_id]
    assert all(0 < len(item["note"]) <= 500 for item in content["items"])
    assert "153,345 parameters" in content["items"][0]["note"]
    summary = 'A reranker 🚀 for "docs": <b>, ü & 中.'
    named = replace(family, about=replace(family.about, summary=summary))
    content = render.collection(render.collection_text(named, built.SIZE, acceptance.card_records(named, built.SIZE)))
    assert content["description"] == summary and content["description"].encode()


def test_rendering_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, release.hub.checks; print([name for name in ('torch', 'mteb') if name in sys.modules])"
    root = Path(render.__file__).resolve().parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_reason_for_which_mixing_leaves_a_row_out_has_its_words_on_the_card() -> None:
    from release.data import rejects

    texts = (b"", b"\xff", b"x" * (rejects.LONGEST + 1))
    reasons = [rejects.reject_reason(text, b"fine") for text in texts]
    reasons += [rejects.reject_reason(b"fine", text) for text in texts]
    assert len({rejects.kind_of(str(reason)) for reason in reasons}) == 6
    assert all(rejects.kind_of(str(reason)) in tables.LEFT_OUT for reason in reasons)
