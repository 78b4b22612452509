"""Names that people choose and that become folders, configs, splits and repositories, refused where they are read."""

from __future__ import annotations

import re
from typing import Annotated

from huggingface_hub.utils import HFValidationError, validate_repo_id
from pydantic import AfterValidator

from release.schema import problem

RESERVED = {"default", "manifest.json", "teacher.json"}  # the card's config of all rows, and files beside the configs


def _file_name(name: str) -> str:
    """A name that becomes a file, a folder and a config: what load_dataset, the Hub and every file system take literally."""
    if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_-])?", name) or ".." in name:
        what = f"{name!r} cannot be the name of a folder and of a config"
        raise problem(what, "use letters, digits, '_', '-' and '.' (source.config may hold any name that upstream has)")
    return name


def _config_name(name: str) -> str:
    if name.lower() in RESERVED:
        raise problem(f"a config cannot be called {name!r}: that name is taken", "choose another name")
    return _file_name(name)


def _split_name(name: str) -> str:
    if not re.fullmatch(r"\w{1,96}", name, re.ASCII) or name in ("train", "all"):
        raise problem(f"rows cannot be held out as {name!r}", "use letters, digits and '_', such as `validation`")
    return name


def _repository(name: str) -> str:
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise problem(f"{name!r} is no repository id", "write organization/name") from error
    return name


def _license(name: str) -> str:
    if not name.strip():
        raise problem("empty licence", "name it, or write `unknown`")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]
ConfigName = Annotated[str, AfterValidator(_config_name)]
SplitName = Annotated[str, AfterValidator(_split_name)]
RepositoryId = Annotated[str, AfterValidator(_repository)]
License = Annotated[str, AfterValidator(_license)]
