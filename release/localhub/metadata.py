"""The rules for the YAML at the head of a card, as far as the real Hub's are public.

Errors refuse the card, and a commit that holds it; warnings are only shown. Documented at
https://huggingface.co/docs/hub/model-cards, .../datasets-cards and .../repositories-licenses.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from release.localhub.errors import validation_messages

_RULES = tomllib.loads((Path(__file__).parent / "card_rules.toml").read_text())
LICENSES, PIPELINE_TAGS = frozenset(_RULES["licenses"].split()), frozenset(_RULES["pipeline_tags"].split())
REPO_ID = re.compile(r"(?:[\w.-]+/)?[\w.-]+")
FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[-+0-9_:.]+")
MAX_YAML, MAX_DEPTH, MAX_NUMBER = 300_000, 40, 400
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it was built


class BadMetadata(ValueError):
    """The head of a card is not YAML, or not a mapping."""


def as_list(value: Any) -> list[Any]:
    """One or many, as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _license(value: str) -> str:
    if value not in LICENSES:
        raise ValueError(f"must be one of [{', '.join(sorted(LICENSES))}]")
    return value


def _once(configs: list[DatasetConfig]) -> list[DatasetConfig]:
    names = [config.config_name for config in configs]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"repeats the config_name {min(repeated)}")
    return configs


Text = Annotated[str, Field(min_length=1)]
License = Annotated[str, AfterValidator(_license)]
Language = Annotated[str, Field(pattern=r"^(?:[a-z]{2,3}(?:[-_][A-Za-z0-9]+)*|code|multilingual)$")]
RepoId = Annotated[str, Field(pattern=f"^{REPO_ID.pattern}$")]
Paths = Annotated[list[str], BeforeValidator(as_list), Field(min_length=1)]


class IndexedMetric(BaseModel):
    """One number of a model-index."""

    type: Text
    value: bool | float | str | list[Any] | dict[str, Any]


class IndexedTask(BaseModel):
    """What was measured."""

    type: Text


class IndexedDataset(BaseModel):
    """On what it was measured."""

    type: Text
    name: Text


class IndexedResult(BaseModel):
    """The numbers of one task on one dataset."""

    task: IndexedTask
    dataset: IndexedDataset
    metrics: Annotated[list[IndexedMetric], Field(min_length=1)]


class IndexedModel(BaseModel):
    """An entry of a model-index."""

    name: Text
    results: Annotated[list[IndexedResult], Field(min_length=1)]


class DataSplit(BaseModel):
    """The files of one split."""

    split: Text
    path: Paths


class DatasetConfig(BaseModel):
    """One config of a dataset."""

    config_name: Text
    data_files: Paths | DataSplit | Annotated[list[DataSplit], Field(min_length=1)] | None = None


class CardMetadata(BaseModel):
    """What has a form in any card; the rest is free."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    license: Annotated[list[License], BeforeValidator(as_list), Field(min_length=1)] | None = None
    license_name: str | None = None
    library_name: str | None = None
    pipeline_tag: str | None = None
    pretty_name: str | None = None
    tags: list[str] | None = None
    language: Annotated[list[Language], BeforeValidator(as_list)] | None = None
    datasets: Annotated[list[RepoId], BeforeValidator(as_list)] | None = None
    base_model: Annotated[list[RepoId], BeforeValidator(as_list)] | None = None
    index: Annotated[list[IndexedModel], Field(min_length=1)] | None = Field(None, alias="model-index")


class DatasetCardMetadata(CardMetadata):
    """A dataset's card."""

    configs: Annotated[list[DatasetConfig], Field(min_length=1), AfterValidator(_once)] | None = None


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """The metadata and the body of a card; `{}` where it has no metadata.

    Raises:
        BadMetadata: The YAML is malformed, repeats itself through aliases, is too deep or too large, or no mapping.
    """
    match = FRONT_MATTER.match(text)
    return (_load(match[1]), text[match.end() :]) if match else ({}, text)


def _load(text: str) -> dict[str, Any]:
    depth = 0
    try:
        if len(text) > MAX_YAML:
            raise BadMetadata(f"the metadata is larger than {MAX_YAML} characters")
        for event in yaml.parse(text, LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            # An alias lets a few lines stand for gigabytes ("billion laughs"), and no card needs one.
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                raise BadMetadata(f"the metadata has YAML aliases, or is nested more than {MAX_DEPTH} deep")
            # Reading a number takes time that grows with the square of its length ("1:1:1:..." counts by sixties).
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_NUMBER and NUMBER.fullmatch(event.value):
                raise BadMetadata(f"the metadata has a number of more than {MAX_NUMBER} characters")
        value = yaml.load(text, LOADER)
        if not isinstance(value, dict | None):
            raise BadMetadata("the metadata is not a mapping")
        plain = {str(key): item for key, item in (value or {}).items()}
        # JSON has no .nan, and no answer could hold it.
        return json.loads(json.dumps(plain, default=str, allow_nan=False))
    except BadMetadata:
        raise
    # The last two are what the parser makes of `!!int ""` and the like.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, LookupError, AttributeError) as error:
        raise BadMetadata(f"the metadata cannot be read: {[*str(error).splitlines(), ''][0]}") from error


def validate(content: str, kind: str) -> tuple[list[str], list[str]]:
    """The errors and the warnings for a card of a "model", "dataset" or "space"."""
    try:
        data, _ = split_card(content)
        (DatasetCardMetadata if kind == "dataset" else CardMetadata).model_validate(data)
    except (BadMetadata, ValidationError) as error:
        return validation_messages(error) or [str(error)], []
    if not data:
        return [], ["empty or missing yaml metadata in repo card"]
    warnings = []
    for task in as_list(data.get("pipeline_tag" if kind == "model" else "task_categories")):
        if isinstance(task, str) and task not in PIPELINE_TAGS:
            warnings.append(f'The task "{task}" is not in the official list')
    if data.get("license") == "other" and not data.get("license_name"):
        warnings.append('"license: other" should come with "license_name" and "license_link"')
    return [], warnings
