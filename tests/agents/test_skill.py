"""The skill is valid by the public specification, its pages lead somewhere, and its commands are those of its scripts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from release.agents import bundle, check, pages
from release.errors import ReleaseError

pytest.importorskip("skills_ref")


@pytest.fixture(autouse=True, scope="module")
def each_script_is_asked_once() -> Generator[None]:
    """What --help says of a script with the same contents: most tests change a page, and four processes would say it again."""
    ask, known = check._options, {}

    def options(script: Path) -> set[str]:
        text = script.read_bytes()
        return known[text] if text in known else known.setdefault(text, ask(script))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "_options", options)
        yield


def test_the_skill_has_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    check.command()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["lines"] <= 150 and said["evals"] >= 8 and said["commands"] >= 8


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The skill in a folder of its own, with an installed package beside it as always."""
    return Path(shutil.copytree(check.folder(), tmp_path / check.NAME))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: finetune-ettin-reranker", "name: Finetune", "must be lowercase"),
        ("license: Apache-2.0", "licence: Apache-2.0", "Unexpected fields in frontmatter: licence"),
        ("(references/data.md)", "(references/absent.md)", "SKILL.md: dead link references/absent.md"),
        ("losses.md#the-scale-of-the-scores", "losses.md#no-such", "dead link references/losses.md#no-such"),
        ("--drop-leaks", "--drop-leeks", "prepare.py has no option --drop-leeks"),
        ("scripts/evaluate.py", "scripts/measure.py", "no script measure.py"),
        ("```sh account", "```sh acount", "unknown tag 'acount'"),
        ("pip install 'ettin", "curl 'ettin", "neither a script of the skill nor pip"),
        ("# Fine-tune an Ettin", "\n" * 40 + "# Fine-tune an Ettin", "150 are allowed"),
    ],
)
def test_a_fault_of_the_page_is_one_line(copy: Path, old: str, new: str, says: str) -> None:
    text = (copy / "SKILL.md").read_text()
    assert old in text
    (copy / "SKILL.md").write_text(text.replace(old, new))
    assert says in "\n".join(check.problems(copy))


def test_a_script_without_its_header_or_with_an_error_is_one_line(copy: Path) -> None:
    script = copy / "scripts/prepare.py"
    script.write_text(script.read_text().replace("# dependencies", "# dependences"))
    assert "scripts/prepare.py: no inline metadata" in "\n".join(check.problems(copy))
    script.write_text("raise SystemExit(1)")
    assert "scripts/prepare.py --help fails" in "\n".join(check.problems(copy))


def test_comments_and_continued_lines_are_no_commands_of_their_own(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "---\nname: x\n---\n\n```sh gpu\n# first\nmake demo   # everything\nrun a \\\n  b\n```\n\n```python\nx\n```\n"
    )
    shell, python = pages.blocks(page)
    assert shell.commands == ["make demo", "run a    b"] and shell.tags == ("gpu",) and shell.line == 5
    assert python.commands == []


def test_the_bundle_is_what_a_bucket_of_skills_holds(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.json"
    theirs.write_text(
        json.dumps({"name": "s", "plugins": [{"name": "other"}, {"name": check.NAME, "source": "./old"}]})
    )
    folder = bundle.write(tmp_path / "bundle", theirs)
    index = json.loads((folder / "marketplace.json").read_text())
    assert index["name"] == "s" and [plugin["name"] for plugin in index["plugins"]] == ["other", check.NAME]
    assert (folder / index["plugins"][1]["source"] / "SKILL.md").is_file()
    assert check.NAME in (folder / "OFFER.md").read_text()
    assert not [path for path in folder.rglob("*") if "__pycache__" in path.parts]
    theirs.write_text("[]")
    with pytest.raises(ReleaseError, match=r"no marketplace\.json"):
        bundle.write(tmp_path / "other", theirs)
    assert not (tmp_path / "other").exists()


def test_other_tools_find_it_where_they_look() -> None:
    """`npx skills add owner/repository` reads skills/<name>/SKILL.md; a copy of the folder is all that agents need."""
    root = Path(__file__).resolve().parents[2]
    assert [path.parent.name for path in root.glob("skills/*/SKILL.md")] == [check.NAME]
    assert not [path for path in (root / "skills").rglob("*") if path.is_symlink()]
