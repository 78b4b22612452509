"""What arrives from outside is read right or refused, and never anything else: the parsers, with made-up input."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from release.localhub.errors import HubError
from release.localhub.history import Entry
from release.localhub.metadata import BadMetadata, split_card, validate
from release.localhub.names import check_path
from release.localhub.operations import CommitLine, Operation, apply, prepare, read_lines
from release.localhub.pages.render import card_html
from release.localhub.responses import parse_range
from release.localhub.service import Hub
from tests.localhub.hub_fixtures import ACCOUNTS, ALICE

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.text(max_size=30) | st.from_regex(r"bytes=[0-9]{0,5}-[0-9]{0,5}", fullmatch=True), st.integers(0, 5000))
def test_a_range_lies_within_the_content(header: str, size: int) -> None:
    try:
        part = parse_range(header, size)
    except HubError as error:
        assert error.status == 416 and (error.headers or {})["Content-Range"] == f"bytes */{size}"
        return
    assert part is None or 0 <= part[0] < part[1] <= size


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=5-", (5, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=2-99", (2, 10)),
    ]
    + [(header, None) for header in ("", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,3-4", "items=0-1", "bytes=a-b")],
)
def test_ranges_mean_what_http_says(header: str, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 10) == part


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_line_of_a_commit_breaks_the_reader(line: bytes) -> None:
    with suppress(ValidationError):
        parsed = CommitLine.model_validate_json(line)
        assert parsed.key in ("header", "file", "lfsFile", "deletedFile", "deletedFolder")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Hub:
    made = Hub(tmp_path_factory.mktemp("hub"), ACCOUNTS)
    made.create("model", "acme/m", ALICE, private=False)
    return made


@given(
    st.sampled_from(["file", "lfsFile", "deletedFile", "deletedFolder", "header"]),
    st.dictionaries(st.sampled_from(["path", "content", "encoding", "oid", "size", "algo"]), json_values),
)
def test_no_operation_breaks_a_commit(hub: Hub, key: str, value: dict[str, Any]) -> None:
    rows = [{"key": "header", "value": {"summary": "s"}}, {"key": key, "value": value}]
    (hub.root / "commit").write_text("\n".join(map(json.dumps, rows)))
    try:
        _, line = read_lines(hub.root / "commit")
        operation = prepare(line, hub, hub.find("model", "acme/m", ALICE))
        assert check_path(operation.path) == operation.path
        apply({"a/b.txt": Entry(1, "0" * 40, "0" * 64)}, [operation])
    except HubError as error:
        assert error.status in (400, 404)
    except ValidationError:
        pass


@given(st.text(max_size=60) | st.text(alphabet="./\\ag\0", max_size=12))
def test_a_path_that_passes_stays_inside(path: str) -> None:
    with suppress(ValueError):
        checked = check_path(path)
        inside = Path("/repo", checked)
        assert checked == path and str(inside) == f"/repo/{path}" and ".." not in inside.parts


def test_operations_happen_in_order() -> None:
    entry = Entry(1, "0" * 40, "0" * 64)
    files = {"a/1": entry, "a/2": entry, "b": entry}
    after = apply(files, [Operation("a", folder=True), Operation("a", entry), Operation("b")])
    assert list(after) == ["a"]
    assert list(files) == ["a/1", "a/2", "b"], "the parent's files were changed"


def test_a_long_commit_is_read_line_by_line(tmp_path: Path) -> None:
    lines = [{"key": "header", "value": {"summary": "s", "description": "d", "parentCommit": "p"}}]
    lines += [{"key": "deletedFile", "value": {"path": str(number)}} for number in range(1000)]
    (tmp_path / "commit").write_text("\n\n".join(map(json.dumps, lines)))
    header, *rows = read_lines(tmp_path / "commit")
    assert header.model_dump() == {"summary": "s", "description": "d", "parentCommit": "p"}
    assert [row.model_dump()["path"] for row in rows] == [str(number) for number in range(1000)]


@given(st.text(max_size=200), st.sampled_from(["", "---\n", "---\nlicense: mit\n", "\ufeff---\n- "]), st.booleans())
def test_no_card_breaks_the_reader(text: str, start: str, end: bool) -> None:
    card = start + text + ("\n---\nbody" if end else "")
    for kind in ("model", "dataset"):
        errors, warnings = validate(card, kind)
        assert all(isinstance(message, str) for message in errors + warnings)
    try:
        data, body = split_card(card)
        assert isinstance(data, dict) and body in card
    except BadMetadata:
        assert validate(card, "model")[0]
    assert "<script" not in card_html(card, "/acme/m", "main").lower()


@given(
    st.dictionaries(st.sampled_from(["license", "tags", "language", "model-index", "configs", "datasets"]), json_values)
)
def test_no_metadata_breaks_the_rules(data: dict[str, Any]) -> None:
    errors, _ = validate(f"---\n{json.dumps(data)}\n---\n", "dataset")
    assert all(isinstance(message, str) for message in errors)


def test_a_card_is_split_where_its_metadata_ends() -> None:
    assert split_card("---\na: 1\n---\n# hi\n---\nmore") == ({"a": 1}, "# hi\n---\nmore")
    assert split_card("---\r\na: 1\r\n---\r\nhi") == ({"a": 1}, "hi")
    assert split_card("# hi\n---\na: 1\n---\n") == ({}, "# hi\n---\na: 1\n---\n")
    assert split_card("---\n---\nhi") == ({}, "hi")
