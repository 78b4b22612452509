"""The rules of cards: what is refused, what is only warned about, and what is shown."""

from __future__ import annotations

import resource

import pytest

from release.localhub.pages.limited import render_card
from tests.localhub.hub_fixtures import Http

pytestmark = pytest.mark.usefixtures("nothing_changes")


@pytest.mark.parametrize(
    "card",
    [
        "---\nlicense: not-a-license\n---\n",
        "---\nlicense: [mit\n---\n",
        "---\na: &a [x]\nb: *a\n---\n",
        "---\n- a list\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "---\nlicense: !!python/object/apply:os.system ['true']\n---\n",
        "---\nmodel-index: {}\n---\n",
        "---\nmodel-index:\n- name: m\n  results:\n  - task: {type: x}\n---\n",
        "---\nlanguage: English\n---\n",
        "---\ntags: a\n---\n",
        "---\nscore: .nan\n---\n",
        '---\na: !!int ""\n---\n',
        "---\na: !!bool x\n---\n",
        "---\na: !!timestamp x\n---\n",
    ],
)
def test_bad_metadata_is_refused(hub: Http, card: str) -> None:
    answer = hub("POST", "/api/validate-yaml", {"content": card, "repoType": "model"})
    assert answer.status == 400 and answer.json["errors"]
    assert hub.commit("acme/open", {"README.md": card.encode()}).status == 400
    assert hub.commit_lfs("acme/open", "README.md", hub.lfs("acme/open", card.encode())).status == 400


def test_a_million_errors_are_told_in_short(hub: Http) -> None:
    card = {"content": f"---\ntags: [{'1, ' * 1000}]\n---\n"}
    for path, body in (("/api/validate-yaml", card), ("/api/buckets/a/b/paths-info", {"paths": [1] * 100_000})):
        answer = hub("POST", path, body)
        assert answer.status == 400 and len(answer.body) < 1000


HOSTILE = {
    "code that a lexer reads in quadratic time": "```perl\n" + "s{" * 25_000 + "\n```",
    "a hundred thousand brackets": "[" * 100_000,
    "a wide table": "|".join("a" * 30_000) + "\n" + "|".join("-" * 30_000) + "\n" + "|".join("b" * 30_000),
    "lines without end": "line\n" * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_card_is_shown_in_time(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    html = render_card(HOSTILE[name], "/acme/m", "main")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, which a busy machine does not change; the limit is one second, and the kernel counts roughly.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert len(html) >= len(HOSTILE[name]) * 0.9, "the text is not there"


def test_a_card_that_cannot_be_rendered_in_time_is_text() -> None:
    html = render_card("```perl\n" + "s{" * 25_000 + "\n```\n<script>x</script>", "/acme/m", "main")
    assert "shown as plain text" in html and "&lt;script&gt;" in html and "<script" not in html


@pytest.mark.parametrize("value", ["1:" * 100_000 + "1", "9" * 100_000, "[" + "9" * 4000 + "]"])
def test_a_number_without_end_is_refused_at_once(hub: Http, value: str) -> None:
    answer = hub("POST", "/api/validate-yaml", {"content": f"---\na: {value}\n---\n", "repoType": "model"})
    assert answer.status == 400 and "number" in answer.json["errors"][0]["message"]


def test_a_card_without_end_is_read_in_part(hub: Http) -> None:
    hub.create("acme/long")
    assert hub.commit("acme/long", {"README.md": b"line\n" * 250_000 + b"the end"}).status == 200
    page = hub("GET", "/acme/long")
    assert page.status == 200 and 1_000_000 < len(page.body) < 1_100_000 and b"the end" not in page.body


@pytest.mark.parametrize(
    "configs",
    [
        "configs: default",
        "configs:\n- data_files: x",
        "configs:\n- config_name: a\n  data_files: 3",
        "configs:\n- config_name: a\n  data_files: [{split: train}]",
        "configs:\n- config_name: a\n- config_name: a",
    ],
)
def test_configs_of_datasets_have_their_structure(hub: Http, configs: str) -> None:
    body = {"content": f"---\n{configs}\n---\n", "repoType": "dataset"}
    assert hub("POST", "/api/validate-yaml", body).status == 400


def test_good_metadata_passes(hub: Http) -> None:
    configs = "configs:\n- config_name: a\n  data_files:\n  - {split: train, path: a/*}\n- config_name: b\n"
    answer = hub(
        "POST", "/api/validate-yaml", {"content": f"---\nlicense: odc-by\n{configs}---\n", "repoType": "dataset"}
    )
    assert (answer.status, answer.json["errors"]) == (200, [])
    odd = hub("POST", "/api/validate-yaml", {"content": "---\npipeline_tag: odd\n---\n", "repoType": "model"})
    assert odd.status == 200 and "odd" in odd.json["warnings"][0]["message"]
