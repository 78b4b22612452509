"""The rules for the YAML at the head of a card, as far as the real Hub's are public.

Errors refuse the card, and a commit that holds it; warnings are only told. Documented at
https://huggingface.co/docs/hub/model-cards, .../datasets-cards and .../repositories-licenses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import yaml

LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
    other
    """.split()  # noqa: SIM905 - read better as words than as a page of quotes
)
PIPELINE_TAGS = frozenset(
    """
    text-classification token-classification table-question-answering question-answering zero-shot-classification
    translation summarization feature-extraction text-generation fill-mask sentence-similarity text-to-speech
    text-to-audio automatic-speech-recognition audio-to-audio audio-classification audio-text-to-text
    voice-activity-detection depth-estimation image-classification object-detection image-segmentation text-to-image
    image-to-text image-to-image image-to-video unconditional-image-generation video-classification
    reinforcement-learning robotics tabular-classification tabular-regression tabular-to-text table-to-text
    multiple-choice text-ranking text-retrieval time-series-forecasting text-to-video image-text-to-text
    image-text-to-image image-text-to-video visual-question-answering document-question-answering
    zero-shot-image-classification graph-ml mask-generation zero-shot-object-detection text-to-3d image-to-3d
    image-feature-extraction video-text-to-text keypoint-detection visual-document-retrieval any-to-any
    video-to-video other
    """.split()  # noqa: SIM905 - read better as words than as a page of quotes
)
LANGUAGE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z0-9]+)*|code|multilingual")
REPO_ID = re.compile(r"(?:[\w.-]+/)?[\w.-]+")
FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$\n?", re.DOTALL | re.MULTILINE)
MAX_YAML, MAX_DEPTH = 1 << 20, 40
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it was built


class BadMetadata(ValueError):
    """The head of a card is not YAML, or not a mapping."""


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """The metadata and the body of a card; `{}` where it has no metadata.

    Raises:
        BadMetadata: The YAML is malformed, repeats itself through aliases, is too deep or too large, or no mapping.
    """
    match = FRONT_MATTER.match(text)
    return (_load(match[1]), text[match.end() :]) if match else ({}, text)


@lru_cache(256)
def _load_json(text: str) -> str:
    if len(text) > MAX_YAML:
        raise BadMetadata("the metadata is larger than 1 MB")
    try:
        _check_shape(text)
        value = yaml.load(text, LOADER)
        if not isinstance(value, dict | None):
            raise BadMetadata("the metadata is not a mapping")
        return json.dumps({str(key): item for key, item in (value or {}).items()}, default=str)
    except BadMetadata:
        raise
    except yaml.YAMLError as error:
        raise BadMetadata(f"the metadata is no valid YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise BadMetadata(f"the metadata cannot be read: {error}") from error


def _check_shape(text: str) -> None:
    """Refuse what would take the parser long or the memory whole, and what no card needs."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.AliasEvent):  # lets a few lines stand for gigabytes ("billion laughs")
            raise BadMetadata("YAML aliases are not allowed")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise BadMetadata(f"the metadata is nested more than {MAX_DEPTH} deep")


def _load(text: str) -> dict[str, Any]:
    return json.loads(_load_json(text))


def validate(content: str, kind: str) -> tuple[list[str], list[str]]:
    """The errors and the warnings for a card of a "model", "dataset" or "space"."""
    try:
        data, _ = split_card(content)
    except BadMetadata as error:
        return [str(error)], []
    if not data:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = [message for key, rule in RULES.items() if data.get(key) is not None for message in rule(key, data[key])]
    if kind == "dataset" and data.get("configs") is not None:
        errors += _configs("configs", data["configs"])
    return errors, list(_warnings(data, kind))


def _warnings(data: dict[str, Any], kind: str) -> Iterator[str]:
    tasks = [data.get("pipeline_tag")] if kind == "model" else _as_list(data.get("task_categories"))
    for task in tasks:
        if isinstance(task, str) and task not in PIPELINE_TAGS:
            yield f'The task "{task}" is not in the official list'
    if data.get("license") == "other" and not data.get("license_name"):
        yield '"license: other" should come with "license_name" and "license_link"'


def _license(key: str, value: Any) -> Iterator[str]:
    if not all(isinstance(item, str) and item in LICENSES for item in _as_list(value)) or not _as_list(value):
        yield f'"{key}" must be one of [{", ".join(sorted(LICENSES))}]'


def _text(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, str):
        yield f'"{key}" must be a string'


def _strings(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield f'"{key}" must be an array'
        return
    yield from (f'"{key}[{at}]" must be a string' for at, item in enumerate(value) if not isinstance(item, str))


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str, Any], Iterator[str]]:
    def rule(key: str, value: Any) -> Iterator[str]:
        for at, item in enumerate(_as_list(value)):
            if not isinstance(item, str) or not pattern.fullmatch(item):
                place = f"{key}[{at}]" if isinstance(value, list) else key
                yield f'"{place}" with value "{item}" is not valid. It must be {what}'

    return rule


def _model_index(key: str, value: Any) -> Iterator[str]:
    for at, model in _objects(key, value):
        yield from _required(at, model, "name")
        for place, result in _objects(f"{at}.results", model.get("results")):
            for part, fields in (("task", ["type"]), ("dataset", ["type", "name"])):
                if not isinstance(result.get(part), dict):
                    yield f'"{place}.{part}" is required'
                else:
                    yield from _required(f"{place}.{part}", result[part], *fields)
            for metric_place, metric in _objects(f"{place}.metrics", result.get("metrics")):
                yield from _required(metric_place, metric, "type")
                if metric.get("value") is None:
                    yield f'"{metric_place}.value" is required'
        yield from _not_objects(f"{at}.results", model.get("results"))
        for number, result in enumerate(_as_list(model.get("results"))):
            if isinstance(result, dict):
                yield from _not_objects(f"{at}.results[{number}].metrics", result.get("metrics"))
    yield from _not_objects(key, value)


def _configs(key: str, value: Any) -> Iterator[str]:
    yield from _not_objects(key, value)
    seen = set()
    for place, config in _objects(key, value):
        yield from _required(place, config, "config_name")
        name, files = config.get("config_name"), config.get("data_files")
        if isinstance(name, str) and name in seen:
            yield f'"{place}.config_name" repeats "{name}"'
        seen.add(name if isinstance(name, str) else None)
        splits = [item for item in _as_list(files) if isinstance(item, dict)]
        if any(not isinstance(item.get("split"), str) or not _paths(item.get("path")) for item in splits):
            yield f'"{place}.data_files" must name a "split" and a "path" in every entry'
        if files is not None and not splits and not _paths(files):
            yield f'"{place}.data_files" must be a path, a list of paths, or a list of splits'
        if splits and len(splits) < len(_as_list(files)):
            yield f'"{place}.data_files" mixes paths and splits'


def _paths(value: Any) -> bool:
    items = _as_list(value)
    return bool(items) and all(isinstance(item, str) for item in items)


def _objects(key: str, value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    items = value if isinstance(value, list) else []
    return ((f"{key}[{at}]", item) for at, item in enumerate(items) if isinstance(item, dict))


def _not_objects(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        yield f'"{key}" must be a non-empty array of objects'


def _required(place: str, value: dict[str, Any], *fields: str) -> Iterator[str]:
    for field in fields:
        if not isinstance(value.get(field), str) or not value[field]:
            yield f'"{place}.{field}" is required and must be a string'


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


RULES: dict[str, Callable[[str, Any], Iterator[str]]] = {
    "license": _license,
    "license_name": _text,
    "library_name": _text,
    "pipeline_tag": _text,
    "pretty_name": _text,
    "tags": _strings,
    "language": _matching(LANGUAGE, 'an ISO 639 code in lowercase, or "code" or "multilingual"'),
    "datasets": _matching(REPO_ID, "a dataset id"),
    "base_model": _matching(REPO_ID, "a model id"),
    "model-index": _model_index,
}
