"""`make skill-bundle`: the skill as a Hub's bucket of skills holds it, and the text that offers it there. Nothing is sent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from skills_ref import read_properties

from release.agents import check
from release.console import print_json, say
from release.errors import ReleaseError
from release.files import atomic_directory, check_replaceable, list_files, write_atomic

INDEX = "marketplace.json"
BUCKET = "huggingface/skills"  # the only one in which `hf skills add NAME` looks
OFFER = """\
# Add the skill `{name}`

{description}

- `{index}`: one entry, after the others.
- `skills/{name}/`: {count} files, {bytes:,} bytes, licence {license}.

It passes `skills-ref validate`; `hf skills add {name}` was tried with huggingface_hub's own client against a bucket on 127.0.0.1.
"""


def command(
    output: Annotated[Path, typer.Option(help="The folder that is written.")] = Path("build/skill-bundle"),
    onto: Annotated[Path | None, typer.Option(help="The bucket's present marketplace.json, to add to.")] = None,
) -> None:
    """Prepare what a pull request to the bucket of skills holds; nothing is sent."""
    write(output, onto)
    say(f"written: {output}; nothing was sent")
    say(f"next: look at {output}/OFFER.md, and offer the rest to the bucket {BUCKET} from an account of yours")
    print_json({"folder": str(output), "skill": check.NAME, "files": len(list_files(output / "skills"))})


def write(output: Path, onto: Path | None = None) -> Path:
    """Write `marketplace.json`, `skills/<name>/` and `OFFER.md` to the folder `output`.

    Args:
        onto: A marketplace.json whose other entries are kept.

    Raises:
        ReleaseError: The skill has a fault, or `onto` is no marketplace.json.
    """
    check_replaceable(output, INDEX)
    skill = check.folder()
    if faults := [*check.problems(skill)]:
        raise ReleaseError(faults[0], where=str(skill), hint="make skill shows all")
    about = read_properties(skill)
    index = _index(onto)
    entry = {
        "name": about.name,
        "source": f"./skills/{about.name}",
        "skills": "./",
        "description": about.description,
    }
    others = [plugin for plugin in index["plugins"] if plugin.get("name") != about.name]
    with atomic_directory(output) as folder:
        target = folder / "skills" / about.name
        shutil.copytree(skill, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
        text = json.dumps({**index, "plugins": [*others, entry]}, indent=2, ensure_ascii=False)
        write_atomic(folder / INDEX, text + "\n")
        names = list_files(target)
        size = sum((target / name).stat().st_size for name in names)
        offer = OFFER.format(
            name=about.name,
            description=about.description,
            index=INDEX,
            count=len(names),
            bytes=size,
            license=about.license,
        )
        write_atomic(folder / "OFFER.md", offer)
    return output


def _index(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {"plugins": []}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(index["plugins"], list):
            raise TypeError("`plugins` is no list")
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"no marketplace.json ({type(error).__name__}: {error})"
        raise ReleaseError(what, where=str(path), hint="fetch the bucket's own, or leave --onto out") from error
    return index
