"""`make compare`: a table and plots that rest on records alone, each record comparable with the others or left out and named."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from release import family, mode, records, results
from release.__main__ import main
from release.card import beside, compare, comparison, plots
from release.errors import ReleaseError
from release.family import Family
from release.files import write_json
from release.hub import checks, stage
from tests import built
from tests.browser import browse
from tests.card.test_render import numbers

ETTIN = built.DEMO.parent / "ettin.toml"
TEACHER = "mixedbread-ai/mxbai-rerank-large-v2"
FILES = {
    f"{name}-{look}.{kind}"
    for name in ("first-stages", "speed", "parameters")
    for look in plots.LOOKS
    for kind in ("png", "svg")
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the Ettin family's hand-made records of all sizes, the teacher and three public rerankers."""
    root = tmp_path_factory.mktemp("measured")
    with contextlib.chdir(root):
        built.write_comparison(family.load(ETTIN))
    return root


@pytest.fixture
def ettin(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The Ettin family in a copy of that folder."""
    monkeypatch.chdir(shutil.copytree(measured, tmp_path, dirs_exist_ok=True))
    return family.load(ETTIN)


def rows(text: str) -> list[list[str]]:
    """The cells of the first table, without its heading."""
    lines = [line for line in text.split("\n\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def everything(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("records/*.json"))]


def test_sizes_teacher_and_public_rerankers_stand_in_one_table(ettin: Family) -> None:
    family_comparison = comparison.gather(ettin)
    table = rows(compare.text(ettin, family_comparison, []))
    names = [re.sub(r"[*\[\]]|\(http\S+\)", "", row[0]) for row in table]
    assert names[:7] == [*(f"ettin-reranker-{size}-v1" for size in ettin.sizes), f"{TEACHER} (teacher)"]
    assert set(names[7:]) == set(ettin.evaluation.compared[:3])
    quality = [float(row[2]) for row in table]
    assert quality[7:] == sorted(quality[7:], reverse=True)
    assert family_comparison.unmeasured == list(ettin.evaluation.compared[3:]) and not family_comparison.left_out
    assert table[0][1] == f"{17_000_001 + 66_305:,}"  # counted, encoder and head
    assert [row[-1] for row in (table[0], table[6])] == ["8,001", "387"]


def test_the_teacher_stands_among_those_of_which_it_is_said_how_they_were_run(ettin: Family) -> None:
    path = ettin.folder("17m") / "records/evaluate.json"
    how = {"revision": "c" * 40, "form": "Qwen2ForCausalLM", "dtype": "bfloat16", "max_length": 8192}
    built.edit(path, lambda record: record["measured"]["teacher"].update(how))
    text = compare.text(ettin, comparison.gather(ettin), [])
    assert "(teacher) | `cccccccccccc` | Qwen2ForCausalLM, bfloat16, at most 8,192 tokens |" in text


def test_every_number_comes_from_a_record_or_the_family(ettin: Family) -> None:
    text = compare.text(ettin, comparison.gather(ettin), [])
    known = numbers(everything(ettin.build)) | numbers([vars(ettin.evaluation), vars(ettin.speed)])
    known |= {
        f"{sum(record['measured']['parameters'].values()):,}"
        for record in everything(ettin.build)
        if record["kind"] == "run"
    }
    known |= {"95", "10", "6"}  # the interval's, the measure's, and the first stages counted
    prose = re.sub(r"`[^`]*`|https?://\S+|\*\*.*?\*\*|\[[^\]]*\]|\| Model .*|- Not measured.*", " ", text)
    assert not set(re.findall(r"\d[\d.,]*\d|\d", prose)) - known


def test_figures_of_the_nano_sets_are_all_of_the_rule_that_the_family_names(ettin: Family) -> None:
    """Also where a record was made under the other one, and none of a record that knows no rule."""
    built.edit(
        ettin.folder("17m") / "records/evaluate.json",
        lambda record: record["measured"]["nano"].update(mean=0.999, always_rerank_positives=True),
    )
    older = dict.fromkeys(("always_rerank_positives", "all_positives", "retrieved_positives"))
    built.edit(ettin.folder("32m") / "records/evaluate.json", lambda record: record["measured"]["nano"].update(older))
    for every, expected in ((False, 0.67461), (True, 0.78578)):
        asking = replace(ettin, evaluation=replace(ettin.evaluation, always_rerank_positives=every))
        family_comparison = comparison.gather(asking)
        first, second, *_ = family_comparison.models
        assert (first.nano, second.nano) == (pytest.approx(expected), None)
        assert f"with `always_rerank_positives={every}`, as chose the checkpoints, in float32" in compare.text(
            asking, family_comparison, []
        )


def change(path: str, edit: Callable[[dict[str, Any]], object]) -> Callable[[Family], None]:
    return lambda model_family: built.edit(model_family.build / path, edit)


ANOTHER = {
    "another device": (
        change("32m/records/speed.json", lambda record: record["machine"].update(device="CPU")),
        "32m/records/speed.json; hint: make speed on a machine with H100",
    ),
    "another GPU": (
        change("32m/records/speed.json", lambda record: record["machine"].update(device="NVIDIA H100 PCIe")),
        "speed was measured on NVIDIA H100 PCIe, not on NVIDIA H100 80GB HBM3",
    ),
    "another protocol": (
        change("32m/records/speed.json", lambda record: record["subject"].update(max_length=8192)),
        "max_length 8192, but the family's protocol says 512",
    ),
    "another depth": (
        change(
            "32m/records/evaluate.json", lambda record: [row.update(top_k=10) for row in record["measured"]["tasks"]]
        ),
        "no evaluation of ArguAna over BAAI/bge-small-en-v1.5 with top_k 100",
    ),
    "another type": (
        change("32m/records/evaluate.json", lambda record: record["subject"].update(dtype="float32")),
        "made in float32, not bfloat16",
    ),
    "a task that moved": (
        change("32m/records/evaluate.json", lambda record: record["subject"]["tasks"].update(SCIDOCS="2" * 40)),
        "another revision of SCIDOCS than 17m",
    ),
    "a first stage that moved": (
        change("32m/records/evaluate.json", lambda record: record["subject"]["first_stages"].update(bm25="2")),
        "another revision of bm25 than 17m",
    ),
    "nano sets that moved": (
        change("32m/records/evaluate.json", lambda record: record["subject"].update(nano={"nano": "2"})),
        "another revision of nano than 17m",
    ),
    "another model": (
        change("32m/records/speed.json", lambda record: record.update(model_sha256="3" * 64)),
        "'speed' was measured on another model (333333333333)",
    ),
    "another family": (
        change("32m/records/evaluate.json", lambda record: record.update(family="other")),
        "a record of other 32m, not of 32m",
    ),
    "damaged": (
        lambda model_family: (model_family.build / "32m/records/evaluate.json").write_text("{"),
        "damaged record",
    ),
}


@pytest.mark.parametrize("case", ANOTHER)
def test_what_may_not_stand_beside_the_others_is_left_out_with_its_reason(case: str, ettin: Family) -> None:
    alter, says = ANOTHER[case]
    alter(ettin)
    family_comparison = comparison.gather(ettin)
    (line,) = family_comparison.left_out
    assert says in line and "32m/records" in line
    text = compare.text(ettin, family_comparison, [])
    assert line in text
    row = next(row for row in rows(text) if "32m" in row[0])
    kind = "evaluate" if "evaluate" in line else "speed"
    missing = [2, 3, 4, 5, 6] if kind == "evaluate" else [7, 8]
    assert [column for column, cell in enumerate(row) if cell == "not measured"] == missing


def test_records_of_a_model_that_was_trained_again_are_left_out(ettin: Family, reranker: Path) -> None:
    built.write_model(ettin.folder("68m"), reranker)
    family_comparison = comparison.gather(ettin)
    assert len(family_comparison.left_out) == 3 and all(
        "on another model" in line for line in family_comparison.left_out
    )
    assert "ettin-reranker-68m-v1" in family_comparison.unmeasured


def test_nothing_to_compare_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "--family", str(ETTIN)]) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "nothing to compare" in line and "make evaluate" in line
    built.write_comparison(family.load(ETTIN), device="CPU")
    with pytest.raises(
        ReleaseError, match=r"nothing to compare \(speed was measured on CPU, but a card of this family shows H100"
    ):
        for path in Path("build").rglob("evaluate.json"):
            path.unlink()
        comparison.gather(family.load(ETTIN))
    assert not Path("build/ettin-reranker/compare").exists()


def test_without_speeds_there_is_no_plot_of_them_and_no_number(ettin: Family) -> None:
    for path in Path("build").rglob("speed.json"):
        path.unlink()
    family_comparison = comparison.gather(ettin)
    assert {row[-1] for row in rows(compare.text(ettin, family_comparison, []))} == {"not measured"}
    assert all(model.pairs_per_second is None for model in family_comparison.models)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for the Ettin family's hand-made records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("drawn"))
        built.write_comparison(family.load(ETTIN), compared=1)
        assert main(["compare", "--family", str(ETTIN)]) == 0
        return Path("build/ettin-reranker/compare").resolve()


def test_plots_are_there_in_both_forms_for_light_and_dark(drawn: Path) -> None:
    assert {path.name for path in drawn.iterdir()} == FILES | {"README.md", "index.html", "comparison.json"}
    shown = (drawn / "README.md").read_text()
    assert all(
        f"{name}-{look}.png" in shown for name in ("first-stages", "speed", "parameters") for look in plots.LOOKS
    )
    for name in FILES:
        if name.endswith("png"):
            with Image.open(drawn / name) as image:
                assert image.width > 1000 and image.getpixel((0, 0))[3] == 0  # the page's own ground shows through
        else:
            text, look = (drawn / name).read_text(), plots.LOOKS[name.split("-")[-1].removesuffix(".svg")]
            others = [other for other in plots.LOOKS.values() if other != look]
            assert look.text in text and not any(other.text in text for other in others)
            labels = set(re.findall(r">([^<>\n]+)</text>", text))
            assert {*family.load(ETTIN).sizes, "mxbai-rerank-large-v2", "Qwen3-Reranker-4B", "teacher"} <= labels


def test_the_same_records_give_the_same_bytes(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(drawn.parent.parent.parent)
    loaded = family.load(ETTIN)
    again = replace(comparison.gather(loaded), first_stages={})  # two of the three plots: the first one takes seconds
    plots.draw(again, loaded.about.title, tmp_path)
    drawn_again = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(drawn_again) == 8
    assert drawn_again == {name: (drawn / name).read_bytes() for name in drawn_again}


def test_the_front_holds_what_nothing_else_beats() -> None:
    points = [(1.0, 9.0), (2.0, 5.0), (3.0, 7.0), (4.0, 7.0), (5.0, 1.0), (2.0, 5.0)]
    assert plots.pareto_front(points) == [(1.0, 9.0), (4.0, 7.0), (5.0, 1.0)]
    assert [plots.short(value) for value in (17e6, 1.5e9, 300, 2000)] == ["17M", "1.5B", "300", "2k"]


def with_others() -> Family:
    """The embedded family, compared with a reranker that was measured and with one that cannot be run."""
    model_family = built.family()
    return replace(
        model_family, evaluation=replace(model_family.evaluation, compared=("acme/other", "jinaai/jina-reranker-m0"))
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, reranker: Path) -> Path:
    """A working folder of that family with every record, and what `make compare` wrote."""
    root = tmp_path_factory.mktemp("written")
    with pytest.MonkeyPatch.context() as patch:
        built.workspace(root, reranker, patch)
        write_compared(with_others())
    return root


@pytest.fixture
def compared(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Family:
    """The family in a copy of that folder."""
    monkeypatch.chdir(shutil.copytree(written, tmp_path, dirs_exist_ok=True))
    return with_others()


def write_compared(model_family: Family) -> None:
    own = records.read(model_family.folder(built.SIZE) / "records", results.EVALUATE)
    other = replace(own, size="", model_sha256="9" * 40)
    records.write(other, model_family.compared_folder("acme/other") / "records")
    write_json(
        model_family.compared_folder("jinaai/jina-reranker-m0") / comparison.CANNOT_RUN,
        {"reason": "it has its own <code>"},
    )
    compare.write(model_family, comparison.gather(model_family))
    beside.take(model_family, built.SIZE)


def test_a_card_shows_the_comparison_that_was_written_and_its_files_are_published(compared: Family) -> None:
    stage.stage_dataset(compared)
    repo = stage.stage_model(compared, built.SIZE)
    text = (repo / "README.md").read_text()
    section = text.partition("## Beside other rerankers")[2].partition("\n## ")[0]
    assert (
        "| [acme/other](https://huggingface.co/acme/other) |" in section
        and "| **docstring-reranker-mini-v1** (this model) |" in section
    )
    assert "jinaai/jina-reranker-m0 cannot be run" in section
    shown = json.loads((repo / "records/comparison.json").read_text())
    assert [row["model_sha256"] for row in shown["rows"] if row["name"] == "acme/other"] == ["9" * 40]
    assert checks.problems(compared, built.SIZE) == []
    named = set(re.findall(r'(?:src|srcset)="([^"]+)"', section))
    assert all((repo / name).is_file() for name in named)


def test_a_comparison_that_knows_another_state_of_the_model_is_not_shown(compared: Family) -> None:
    path = compared.folder(built.SIZE) / "records/evaluate.json"
    built.edit(path, lambda record: record["measured"]["means"]["all"].update(reranked_ndcg=0.7))
    repo = stage.stage_model(compared, built.SIZE)
    assert "Beside other rerankers" not in (repo / "README.md").read_text()
    assert not (repo / "records/comparison.json").exists() and not (repo / "compare").exists()


def test_a_rehearsed_or_damaged_comparison_is_refused(compared: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compared.folder(built.SIZE) / "compare/comparison.json"
    monkeypatch.delenv(mode.VARIABLE, raising=False)
    built.edit(path, lambda value: value.update(rehearsal=True))
    with pytest.raises(ReleaseError, match=r"measured in a rehearsal.*remove it, then make compare card"):
        stage.stage_model(compared, built.SIZE)
    path.write_text("{}")
    with pytest.raises(ReleaseError, match=r"damaged comparison.*make compare"):
        stage.stage_model(compared, built.SIZE)


def test_a_later_comparison_changes_no_card_that_is_made(compared: Family) -> None:
    stage.stage_dataset(compared)
    stage.stage_model(compared, built.SIZE)
    built.edit(compared.build / "compare/comparison.json", lambda value: value.update(not_run=["later"]))
    assert checks.problems(compared, built.SIZE) == []
    beside.take(compared, built.SIZE)  # as make card does
    assert any(
        "records/comparison.json: not what its sources give" in line for line in checks.problems(compared, built.SIZE)
    )
    shutil.rmtree(compared.build / "compare")
    beside.take(compared, built.SIZE)
    assert not (compared.folder(built.SIZE) / "compare").exists()


class Reader(HTMLParser):
    """What a browser would see of a page: headings, cells, links, and where images come from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "source", "br", "hr"):
            self.open.append(tag)
        for name, value in attrs:
            self.seen.setdefault(name, []).append(value or "")
        self.seen.setdefault(tag, [])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.seen.setdefault(self.open[-1], []).append(data)


def test_the_page_of_the_family_needs_nothing_beside_it(drawn: Path) -> None:
    page = Reader((drawn / "index.html").read_text())
    assert page.seen["title"] == ["Ettin Reranker: comparison"]
    assert {"Over every first stage", "How each was run"} <= set(page.seen["h2"])
    images = [*page.seen["src"], *page.seen["srcset"]]
    assert len(images) == 6 and all(image.startswith("data:image/svg+xml;base64,") for image in images)
    assert {f"ettin-reranker-{size}-v1" for size in family.load(ETTIN).sizes} <= set(page.seen["strong"])
    assert all(link.startswith("https://huggingface.co/") for link in page.seen["href"])
    for image in images:
        assert b"</svg>" in base64.b64decode(image.partition(",")[2])


SEEN = """<script>addEventListener("load", () => {
  const drawn = [...document.images].map(image => image.complete && image.naturalWidth > 500)
  const fits = document.documentElement.scrollWidth <= innerWidth
  document.title = JSON.stringify({drawn, fits, rows: document.querySelectorAll("table")[0].rows.length})
})</script>"""


def test_a_browser_draws_the_page_of_the_family_with_its_plots(drawn: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text((drawn / "index.html").read_text() + SEEN)
    dom = browse(tmp_path / "home", page.as_uri(), "--dump-dom")
    seen = json.loads(html.unescape(dom.partition("<title>")[2].partition("</title>")[0]))
    assert seen["drawn"] == [True] * 3 and seen["fits"]
    assert seen["rows"] > len(family.load(ETTIN).sizes)


def test_what_a_model_says_is_text_on_the_page(compared: Family) -> None:
    page = (compared.build / "compare/index.html").read_text()
    assert "&lt;code&gt;" in page and "own <code>" not in page
