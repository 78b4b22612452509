"""Names that people choose and that become folders, configs, splits and repositories, refused where they are read."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from huggingface_hub.utils import HFValidationError, validate_repo_id
from pydantic import AfterValidator, Field

from release.schema import closest, problem

LONGEST = 1000  # characters of a line: a title, a sentence, a path
RESERVED = {"default", "manifest.json", "teacher.json"}  # the card's config of all rows, and files beside the configs
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no file can be called so on Windows
# The Hub's own lists; the embedded Hub checks cards with them.
CARD_RULES = Path(__file__).parent / "localhub/card_rules.toml"


def _file_name(name: str) -> str:
    """A name that becomes a file, a folder and a config: what load_dataset, the Hub and every file system take literally."""
    if (
        not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_-])?", name)
        or ".." in name
        or DEVICES.fullmatch(name)
    ):
        what = f"{name!r} cannot be the name of a folder and of a config"
        raise problem(what, "use letters, digits, '_', '-' and '.' (source.config may hold any name that upstream has)")
    return name


def _config_name(name: str) -> str:
    if name.lower() in RESERVED:
        raise problem(f"a config cannot be called {name!r}: that name is taken", "choose another name")
    return _file_name(name)


def _split_name(name: str) -> str:
    if not re.fullmatch(r"\w{1,96}", name, re.ASCII) or name.lower() in ("train", "all"):
        raise problem(f"rows cannot be held out as {name!r}", "use letters, digits and '_', such as `validation`")
    return name


def _repository(name: str) -> str:
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise problem(f"{name!r} is no repository id", "write organization/name") from error
    return name


def _hub_name(name: str) -> str:
    """One part of a repository id: a repository's name, an organisation, or a piece that becomes a part of a name."""
    try:
        validate_repo_id(name)
        whole = "/" not in name
    except HFValidationError:
        whole = False
    if not whole:
        hint = "use letters, digits, '-', '_' and '.'; neither '--' nor '..', and letters or digits at both ends"
        raise problem(f"{name!r} is no name that the Hub takes", hint)
    return name


def _license(name: str) -> str:
    if not name.strip():
        raise problem("empty licence", "name it, or write `unknown`")
    return _line(name)


@cache
def hub_licenses() -> frozenset[str]:
    """The ids of licences that the Hub knows."""
    return frozenset(tomllib.loads(CARD_RULES.read_text(encoding="utf-8"))["licenses"].split())


def _hub_license(name: str) -> str:
    if name not in hub_licenses():
        hint = closest(name.lower(), hub_licenses())
        raise problem(
            f"unknown licence {name!r}", hint if "mean" in hint else "take an id of the Hub, such as apache-2.0"
        )
    return name


def _license_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9.-]+", name):
        raise problem(
            f"{name!r} cannot be the name of a licence", "use small letters, digits, '-' and '.', as the Hub does"
        )
    return name


def _web_address(address: str) -> str:
    if not re.fullmatch(r"https?://[\w.-]+(:\d+)?([/?#][^\s()<>\"]*)?", address) or not address.isprintable():
        raise problem(f"{address!r} is no address of a page", "write https://...")
    return address


def licence_mistake(license: str, name: str | None, link: str | None) -> tuple[str, str] | None:
    """What is wrong with a licence and its name and link, and a hint: `other` needs both, any other id takes neither."""
    if license == "other" and not (name and link):
        hint = 'add license_name = "my-licence" and license_link = "https://..."'
        return "the licence `other` needs license_name and license_link", hint
    if license != "other" and (name or link):
        return f"license_name and license_link are for the licence `other`, not for {license}", "remove them"
    return None


def language_name(code: str) -> str | None:
    """The English name of a language by its ISO 639 code of two or three letters, or None where there is no such code."""
    from iso639 import Lang  # late, because it reads its tables
    from iso639.exceptions import DeprecatedLanguageValue, InvalidLanguageValue

    try:
        return Lang(code).name if re.fullmatch(r"[a-z]{2,3}", code) else None
    except (InvalidLanguageValue, DeprecatedLanguageValue):
        return None


def _language(code: str) -> str:
    if language_name(code) is None:
        raise problem(f"{code!r} is no ISO 639 code of a language", "write two or three small letters, such as en")
    return code


def _nano_set(name: str) -> str:
    if not re.fullmatch(r"Nano\w+", name, re.ASCII):
        raise problem(f"{name!r} is no name of a NanoBEIR set", "write it as its split is called, such as NanoNQ")
    return name


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a list that names something twice: a mean over it would count that twice."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise problem(f"{twice!r} is named twice", "remove one")
    return names


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > LONGEST:
        what = f"expected a line of text, found {text[:100]!r}"
        raise problem(what, f"write 1 to {LONGEST:,} characters, without line breaks")
    return text


def _tag_name(name: str) -> str:
    taken = name.lower() in ("head", "main") or name.endswith(".lock") or re.fullmatch("[0-9a-f]{40}", name)
    if taken:
        raise problem(
            f"{name!r} is no name of a tag", "write a version such as v1; not main, HEAD or the id of a commit"
        )
    return _hub_name(name)


def _path(path: Path) -> Path:
    if not path.name:
        raise problem("expected a path, found none", "name a file or folder")
    _line(str(path))
    return path


FileName = Annotated[str, AfterValidator(_file_name)]
ConfigName = Annotated[str, AfterValidator(_config_name)]
SplitName = Annotated[str, AfterValidator(_split_name)]
RepositoryId = Annotated[str, AfterValidator(_repository)]
License = Annotated[str, AfterValidator(_license)]
HubName = Annotated[str, AfterValidator(_hub_name)]
TagName = Annotated[str, AfterValidator(_tag_name)]
LicenseName = Annotated[str, AfterValidator(_license_name)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
HubLicense = Annotated[str, AfterValidator(_hub_license)]
LanguageCode = Annotated[str, AfterValidator(_language)]
NanoSet = Annotated[str, AfterValidator(_nano_set)]
Line = Annotated[str, AfterValidator(_line)]
MaybeLine = Annotated[str, AfterValidator(lambda text: text and _line(text))]  # or nothing
CollectionTitle = Annotated[str, Field(max_length=60), AfterValidator(_line)]  # as long as the Hub takes
LinePath = Annotated[Path, AfterValidator(_path)]
